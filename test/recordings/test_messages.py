"""Fields of messages, decoded without ROS."""

import io
import struct

import numpy as np
import pytest
from bags import STORE, make_compressed, make_image, make_info, make_points
from PIL import Image

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.errors import ConfigError, ImageError
from redepth_ros.recordings.messages.calibration import camera_from_fields
from redepth_ros.recordings.messages.clouds import points_from_fields
from redepth_ros.recordings.messages.images import (
    depth_from_fields,
    encode_compressed_depth,
    image_from_compressed,
    image_from_fields,
)


def decode_compressed_depth(text, data):
    """Decode as compressed_depth_image_transport's codec does; PNG by Pillow, not by what encodes it."""
    encoding, transport = (part.strip() for part in text.split(";"))
    assert transport == "compressedDepth png"
    kind, a, b = struct.unpack("<iff", data[:12])
    assert kind == 0
    stored = np.asarray(Image.open(io.BytesIO(data[12:]))).astype(np.uint16)
    if encoding == "16UC1":
        return stored
    with np.errstate(divide="ignore"):
        return np.where(stored > 0, np.float32(a) / (stored.astype(np.float32) - np.float32(b)), np.nan)


@pytest.mark.parametrize("max_depth", [10.0, 100.0])
def test_compressed_depth_of_metres_is_decoded_by_the_formats_definition(max_depth):
    depth = np.linspace(0.2, 1.2 * max_depth, 48 * 64).reshape(48, 64).astype(np.float32)
    depth[0, :5] = (np.nan, 0.0, -1.0, np.inf, 0.05)
    decoded = decode_compressed_depth(*encode_compressed_depth(depth, max_depth=max_depth))
    valid = np.isfinite(depth) & (depth > 0) & (depth < max_depth)
    assert np.array_equal(np.isfinite(decoded), valid)
    valid[0, 4] = False
    # Half a step of the quantisation: z^2 / A, with A = q (q + 1).
    error = np.abs(decoded - depth)[valid]
    assert (error <= 0.51 * depth[valid] ** 2 / 10_100 + 1e-4 * depth[valid]).all()
    assert decoded[0, 4] < 0.2  # nearer than the format's nearest: still an obstacle


def test_compressed_depth_of_millimetres_is_lossless():
    depth = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) * 21
    text, data = encode_compressed_depth(depth)
    assert text == "16UC1; compressedDepth png"
    assert data[:12] == bytes(12)
    assert np.array_equal(decode_compressed_depth(text, data), depth)


def test_compressed_depth_refuses_other_types():
    with pytest.raises(ImageError, match="float64"):
        encode_compressed_depth(np.zeros((4, 4)))


RGB = np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("encoding", "stored"),
    [
        ("rgb8", RGB),
        ("bgr8", RGB[..., ::-1].copy()),
        ("rgba8", np.dstack((RGB, RGB[..., 0]))),
        ("bgra8", np.dstack((RGB[..., ::-1], RGB[..., 0]))),
        ("rgb16", RGB.astype(np.uint16) * 257),
    ],
)
def test_images_become_rgb(encoding, stored):
    assert np.array_equal(image_from_fields(make_image(stored, encoding, 0)), RGB)


def test_padded_rows_and_other_byte_orders_are_read():
    padded = np.zeros((6, 10, 3), np.uint8)
    padded[:, :8] = RGB
    message = make_image(padded, "rgb8", 0)
    message.width = 8
    assert np.array_equal(image_from_fields(message), RGB)
    depth = np.arange(48).reshape(6, 8).astype(">u2")
    message = make_image(depth, "16UC1", 0)
    message.is_bigendian = 1
    assert np.allclose(depth_from_fields(message)[1], 1e-3 * np.arange(8, 16))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"encoding": "h264"}, "is not known"),
        ({"height": 0}, "at least 1"),
        ({"step": 3}, "a step of 3"),
        ({"data": np.zeros(5, np.uint8)}, "truncated"),
    ],
)
def test_malformed_images_are_refused(changes, said):
    message = make_image(RGB, "rgb8", 0)
    for name, value in changes.items():
        setattr(message, name, value)
    with pytest.raises(ImageError, match=said):
        image_from_fields(message)


def test_compressed_images_are_read_and_damaged_ones_refused():
    message = make_compressed(RGB, 0)
    assert np.array_equal(image_from_compressed(message.data), RGB)
    for data in (b"", b"no image", bytes(message.data[:20])):
        with pytest.raises(ImageError, match="can't be decoded"):
            image_from_compressed(data)


def test_exif_turns_no_image_of_a_message():
    """The calibration is valid for the pixels as they are."""
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    stream = io.BytesIO()
    Image.fromarray(RGB).save(stream, "PNG", exif=exif)
    assert Image.open(stream).getexif()[0x0112] == 6
    assert np.array_equal(image_from_compressed(stream.getvalue()), RGB)
    stream = io.BytesIO()
    Image.fromarray(RGB).save(stream, "JPEG", exif=exif)
    assert image_from_compressed(stream.getvalue()).shape == RGB.shape


def test_points_are_read_with_padding_and_refused_if_malformed():
    points = np.arange(12.0).reshape(4, 3)
    message = make_points(points, 0)
    assert np.array_equal(points_from_fields(message), points)
    message.row_step = 0  # a common driver's
    assert np.array_equal(points_from_fields(message), points)
    message.width = 40
    with pytest.raises(ImageError, match="truncated"):
        points_from_fields(message)
    message.fields = message.fields[:2]
    with pytest.raises(ImageError, match="needs x, y and z"):
        points_from_fields(message)


def test_each_focal_length_and_centre_of_a_calibration_belongs_to_its_axis():
    info = make_info(24, 32, 0)
    info.p[[0, 2, 5, 6]] = 50.0, 15.0, 60.0, 11.0
    assert camera_from_fields(info, 24, 32) == PinholeCamera(50.0, 60.0, 15.0, 11.0, 32, 24)
    info.p[:] = 0.0
    info.k[[0, 2, 4, 5]] = 51.0, 15.0, 61.0, 11.0
    assert camera_from_fields(info, 24, 32) == PinholeCamera(51.0, 61.0, 15.0, 11.0, 32, 24)


def test_calibrations_of_other_sizes_are_refused():
    info = make_info(24, 32, 0)
    assert camera_from_fields(info, 24, 32).fx == 50.0
    info.binning_x = info.binning_y = 2
    assert camera_from_fields(info, 12, 16).fx == 25.0
    with pytest.raises(ConfigError, match="for 16x12 pixels, but the image has 32x24"):
        camera_from_fields(info, 24, 32)


def test_random_bytes_are_refused():
    """No error but the package's own, whatever a message holds."""
    rng = np.random.default_rng(1)
    for kind, read in (
        ("sensor_msgs/msg/Image", image_from_fields),
        ("sensor_msgs/msg/PointCloud2", points_from_fields),
    ):
        message = make_image(RGB, "rgb8", 0) if kind.endswith("Image") else make_points(np.ones((5, 3)), 0)
        raw = np.frombuffer(STORE.serialize_cdr(message, kind), np.uint8)
        for _ in range(300):
            damaged = raw.copy()
            places = rng.integers(28, len(damaged), 3)
            damaged[places] = rng.integers(0, 255, 3)
            try:
                decoded = STORE.deserialize_cdr(damaged.tobytes(), kind)
            except Exception:  # rosbags itself refuses it
                continue
            try:
                read(decoded)
            except ImageError:
                continue
