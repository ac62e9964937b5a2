"""Messages of ROS with any values in their fields."""

import array
import struct

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")

from builtin_interfaces.msg import Duration
from hypothesis import given
from hypothesis import strategies as st
from redepth_interfaces.action import RefineDepth
from redepth_interfaces.srv import GetFrame
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField, RegionOfInterest
from std_msgs.msg import Header

from fuzz.harness import FLOATS, NUMBERS, SIZES, TEXTS, bytes_like, decode, mostly
from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.metric.anchors import anchors_from_points
from redepth_ros.core.refine.settings import preset_for
from redepth_ros.recordings.messages.images import ENCODINGS, encode_compressed_depth, image_from_fields
from redepth_ros.ros.msgs.anchor_image import anchors_from_msg
from redepth_ros.ros.msgs.camera_info import camera_from_msg
from redepth_ros.ros.msgs.images import depth_from_msg, image_from_compressed_msg, image_from_msg
from redepth_ros.ros.msgs.point_clouds import points_from_msg
from redepth_ros.ros.msgs.refine_depth import RefineRequest, RequestDefaults

HEIGHT, WIDTH = 6, 8
PIXELS = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
CAMERA = PinholeCamera(40.0, 42.0, 3.5, 2.5, WIDTH, HEIGHT)
DEFAULTS = RequestDefaults(lambda preset: preset_for(preset or "default", True), max_megapixels=1.0)
BIG_IMAGE = cv2.imencode(".png", np.zeros((9000, 9000, 3), np.uint8), [cv2.IMWRITE_PNG_COMPRESSION, 9])[1]

ENCODED = [cv2.imencode(suffix, PIXELS)[1].tobytes() for suffix in (".png", ".jpg", ".webp", ".tiff", ".bmp")]
DEPTH = encode_compressed_depth(np.full((HEIGHT, WIDTH), 2.0, np.float32))[1]

encodings = mostly(
    st.sampled_from(sorted(ENCODINGS)), st.sampled_from(["nv21", "64FC4", "8UC5", "16SC1"]) | TEXTS
)
headers = mostly(st.just("camera"), st.sampled_from(["lidar", ""])).map(
    lambda frame_id: Header(frame_id=frame_id)
)
small = st.integers(0, 9)
"""Sizes that fit the data now and then."""


@st.composite
def images(draw, kinds=encodings):
    """Consistent images of which mostly one field is wrong."""
    message = Image(header=draw(headers), encoding=draw(kinds), is_bigendian=draw(st.integers(0, 255)))
    dtype, channels, _ = ENCODINGS.get(message.encoding, (np.uint8, 3, None))
    message.height, message.width = draw(mostly(st.just(HEIGHT), small)), draw(mostly(st.just(WIDTH), small))
    message.step = message.width * channels * np.dtype(dtype).itemsize + draw(mostly(st.just(0), small))
    size = message.step * message.height
    data = draw(st.binary(min_size=1, max_size=16))
    if dtype is np.float32 and draw(st.booleans()):
        data = np.array(draw(st.lists(st.floats(width=32), min_size=1, max_size=4)), dtype).tobytes()
    short = draw(mostly(st.just(0), small))
    message.data = array.array("B", (data * (size // len(data) + 1))[: max(0, size - short)])
    wrong = draw(mostly(st.just(""), st.sampled_from(["height", "width", "step", "data"])))
    if wrong == "data":
        message.data = array.array("B", draw(st.binary(max_size=64)))
    elif wrong:
        setattr(message, wrong, draw(SIZES))
    return message


depths = images(mostly(st.sampled_from(["32FC1", "16UC1"]), st.just("mono16") | encodings))


@given(images())
def test_images(message):
    for decoder in (image_from_msg, image_from_fields):
        image = decode(decoder, message)
        if image is not None:
            assert (image.shape, image.dtype) == ((message.height, message.width, 3), np.uint8)


@given(depths)
def test_depth_images(message):
    depth = decode(depth_from_msg, message)
    assert depth is None or (depth.shape, depth.dtype) == ((message.height, message.width), np.float32)


@given(depths, headers, mostly(st.just(HEIGHT), st.integers(1, 9)), mostly(st.just(WIDTH), st.integers(1, 9)))
def test_anchor_images(message, header, height, width):
    anchors = decode(anchors_from_msg, message, header, height, width)
    if anchors is not None:
        check_anchors(anchors, height, width)


def check_anchors(anchors, height, width):
    assert (anchors.height, anchors.width) == (height, width)
    assert ((anchors.rows >= 0) & (anchors.rows < height)).all()
    assert ((anchors.columns >= 0) & (anchors.columns < width)).all()
    assert (np.isfinite(anchors.depth) & (anchors.depth > 0)).all()


@given(st.sampled_from([*ENCODED, DEPTH, DEPTH[12:]]).flatmap(bytes_like))
def test_compressed_images(data):
    image = decode(image_from_compressed_msg, data, 1.0)
    assert image is None or (image.ndim, image.dtype) == (3, np.uint8)


def test_compressed_bombs():
    """81 megapixels of one colour in 0.3 MB."""
    for data in (BIG_IMAGE.tobytes(), struct.pack("<iff", 0, 1.0, 1.0) + BIG_IMAGE.tobytes()):
        assert decode(image_from_compressed_msg, data, 10.0) is None


@st.composite
def clouds(draw):
    """Consistent clouds of which mostly one field is wrong."""
    double = draw(st.booleans())
    size, kind = (8, PointField.FLOAT64) if double else (4, PointField.FLOAT32)
    fields = [
        PointField(name=name, offset=size * at, datatype=kind, count=1) for at, name in enumerate("xyz")
    ]
    cloud = PointCloud2(header=draw(headers), is_bigendian=draw(st.booleans()))
    cloud.height, cloud.width, cloud.point_step = draw(small), draw(small), 3 * size + draw(small)
    cloud.row_step = draw(st.sampled_from([0, cloud.point_step * cloud.width])) + draw(
        mostly(st.just(0), small)
    )
    values = np.array(draw(st.lists(FLOATS, min_size=1, max_size=9)))
    needed = max(cloud.row_step, cloud.point_step * cloud.width) * cloud.height
    short = draw(mostly(st.just(0), small))
    cloud.data = array.array("B", (values.tobytes() * (needed // 8 + 1))[: max(0, needed - short)])
    wrong = draw(
        mostly(st.just(""), st.sampled_from(["height", "width", "point_step", "row_step", "fields"]))
    )
    if wrong == "fields":
        changed = draw(st.sampled_from(fields))
        changed.name, changed.offset = (
            draw(st.just(changed.name) | TEXTS),
            draw(st.just(changed.offset) | SIZES),
        )
        changed.datatype, changed.count = draw(st.integers(0, 255)), draw(SIZES)
        fields += draw(st.lists(st.sampled_from(fields), max_size=2))
    elif wrong:
        setattr(cloud, wrong, draw(SIZES))
    cloud.fields = fields
    return cloud


@given(clouds())
def test_clouds(cloud):
    points = decode(points_from_msg, cloud)
    assert points is None or points.shape == (cloud.width * cloud.height, 3)


@given(st.lists(st.tuples(FLOATS | st.floats(-1, 1), FLOATS | st.floats(-1, 1), NUMBERS), max_size=8))
def test_anchors_of_points(values):
    anchors = decode(anchors_from_points, np.array(values).reshape(-1, 3), CAMERA)
    if anchors is not None:
        check_anchors(anchors, HEIGHT, WIDTH)


@st.composite
def camera_infos(draw):
    valid = draw(mostly(st.just(True), st.just(False)))
    info = CameraInfo(header=draw(headers), distortion_model=draw(st.sampled_from(["plumb_bob"]) | TEXTS))
    info.d = draw(st.lists(FLOATS, max_size=9))
    info.height, info.width = (HEIGHT, WIDTH) if valid else (draw(SIZES), draw(SIZES))
    info.k, info.p = (draw(st.lists(NUMBERS, min_size=n, max_size=n)) for n in (9, 12))
    info.r = draw(st.lists(FLOATS, min_size=9, max_size=9))
    if not valid:
        info.binning_x, info.binning_y = draw(small | SIZES), draw(small | SIZES)
        region = {name: draw(small | SIZES) for name in ("x_offset", "y_offset", "height", "width")}
        info.roi = RegionOfInterest(**region, do_rectify=draw(st.booleans()))
    return info


@given(camera_infos())
def test_camera_infos(info):
    camera = decode(camera_from_msg, info, HEIGHT, WIDTH)
    if camera is not None:
        assert np.isfinite([camera.fx, camera.fy, camera.cx, camera.cy]).all()
        assert camera.rays().isfinite().all()


@st.composite
def goals(draw):
    """Goals whose fields are mostly empty: one that is wrong is enough to be refused."""
    goal = RefineDepth.Goal(prompt=draw(TEXTS))
    goal.preset = draw(mostly(st.sampled_from(["", "default", "paper"]), TEXTS))
    for name, top in (("steps", 2**32), ("ensemble_size", 2**32), ("seed", 2**64), ("images", 2**8)):
        setattr(goal, name, draw(mostly(st.integers(0, 3), SIZES)) % top)
    for name in ("time_budget", "max_age"):
        seconds = draw(mostly(st.integers(0, 3), st.integers(-(2**31), 2**31 - 1)))
        setattr(goal, name, Duration(sec=seconds, nanosec=draw(SIZES)))
    fill_frame(draw, goal)
    return goal


def fill_frame(draw, message):
    message.image = draw(images(st.sampled_from(sorted(ENCODINGS))))
    if draw(st.booleans()):
        message.anchors = draw(depths)
    if draw(st.booleans()):
        message.camera_info = draw(camera_infos())
    if draw(st.booleans()):
        message.scale, message.shift = draw(NUMBERS), draw(NUMBERS)
        message.scale_covariance = [draw(NUMBERS) for _ in range(3)]


@st.composite
def frames(draw):
    frame = GetFrame.Response()
    fill_frame(draw, frame)
    return frame


@given(goals(), st.none() | frames())
def test_goals(goal, frame):
    request = decode(RefineRequest.from_goal, goal, frame, DEFAULTS)
    if request is not None and request.scale is not None:
        assert np.isfinite([request.scale.scale, request.scale.shift, *request.scale.covariance]).all()
