"""Conversion of point clouds."""

import array
import copy
import importlib.util
import sys

import numpy as np
import pytest

pytest.importorskip("rclpy")

from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from redepth_ros.core.errors import ImageError
from redepth_ros.ros.msgs import point_clouds
from redepth_ros.ros.msgs.point_clouds import points_from_msg, points_to_msg

POINTS = np.random.default_rng(0).normal(size=(12, 3))


def cloud(*, height=1, number="f4", order="<", offset=0, padding=0, extra=()):
    """Make a cloud of `POINTS`, with `padding` bytes of 255 after each row."""
    names, size = ("x", "y", "z"), int(number[1])
    step = offset + 3 * size + 4
    dtype = np.dtype(
        {
            "names": names,
            "formats": [order + number] * 3,
            "offsets": [offset + size * axis for axis in range(3)],
            "itemsize": step,
        }
    )
    points = np.zeros(len(POINTS), dtype)
    for axis, name in enumerate(names):
        points[name] = POINTS[:, axis]
    rows = points.view(np.uint8).reshape(height, -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=255)
    kind = {"f4": PointField.FLOAT32, "f8": PointField.FLOAT64}[number]
    fields = [
        PointField(name=name, offset=offset + size * axis, datatype=kind, count=1)
        for axis, name in enumerate(names)
    ]
    msg = PointCloud2(height=height, width=len(POINTS) // height, fields=[*fields, *extra])
    msg.is_bigendian, msg.point_step, msg.row_step = order == ">", step, rows.shape[1]
    msg.data = array.array("B", rows.tobytes())
    return msg


MODULES = ["redepth_ros.ros.msgs.point_cloud2"]
if importlib.util.find_spec("sensor_msgs_py"):
    MODULES.append("sensor_msgs_py.point_cloud2")


@pytest.fixture(params=MODULES, autouse=True)
def implementation(request, monkeypatch):
    """Run every test with the stand-in and, if it is installed, with sensor_msgs_py."""
    module = importlib.import_module(request.param)
    monkeypatch.setattr(point_clouds, "create_cloud", module.create_cloud)
    monkeypatch.setattr(point_clouds, "read_points", module.read_points)


def test_points_to_msg_makes_an_organised_cloud_with_colours():
    points = np.random.default_rng(1).normal(size=(3, 2, 3)).astype(np.float32)
    image = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    header = Header(frame_id="camera")
    msg = points_to_msg(points, image, header)
    assert (msg.height, msg.width, msg.point_step, msg.row_step) == (2, 3, 16, 48)
    assert [(field.name, field.offset, field.datatype) for field in msg.fields] == [
        (name, 4 * index, PointField.FLOAT32) for index, name in enumerate(("x", "y", "z", "rgb"))
    ]
    assert (msg.header, msg.is_dense, bool(msg.is_bigendian)) == (header, True, sys.byteorder == "big")
    values = np.frombuffer(msg.data, np.float32).reshape(2, 3, 4)
    np.testing.assert_array_equal(values[..., :3], points.transpose(1, 2, 0))
    colours = np.frombuffer(msg.data, np.uint32).reshape(2, 3, 4)[..., 3]
    assert colours[1, 2] == 15 << 16 | 16 << 8 | 17
    np.testing.assert_array_equal(points_from_msg(msg), points.reshape(3, -1).T)


def test_points_to_msg_with_invalid_depth_is_not_dense():
    points = np.full((3, 1, 2), np.nan, np.float32)
    assert not points_to_msg(points, np.zeros((1, 2, 3), np.uint8), Header()).is_dense


@pytest.mark.parametrize("number", ["f4", "f8"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("height", "padding"), [(1, 0), (3, 0), (3, 20), (1, 20)])
def test_points_from_msg_reads_every_layout(number, order, height, padding):
    msg = cloud(number=number, order=order, height=height, padding=padding, offset=4)
    before = copy.deepcopy(msg)
    for _ in range(2):  # reading must not change the message
        np.testing.assert_allclose(points_from_msg(msg), POINTS, rtol=1e-6)
    assert msg == before


def test_big_endian_data_is_copied_because_sensor_msgs_py_swaps_it_in_place():
    msg = cloud(order=">")
    assert point_clouds._contiguous_rows(msg, msg.row_step) is not msg.data
    msg = cloud(order="<")
    assert point_clouds._contiguous_rows(msg, msg.row_step) is msg.data


def test_points_from_msg_accepts_a_row_step_of_zero_in_a_cloud_of_one_row():
    msg = cloud()
    msg.row_step = 0
    np.testing.assert_allclose(points_from_msg(msg), POINTS, rtol=1e-6)


def test_points_from_msg_accepts_a_last_row_without_padding():
    msg = cloud(height=3, padding=20)
    msg.data = msg.data[:-20]
    np.testing.assert_allclose(points_from_msg(msg), POINTS, rtol=1e-6)


def test_points_from_msg_ignores_other_fields():
    extra = [
        PointField(name="", offset=0, datatype=99, count=1),
        PointField(name="ring", offset=4000, datatype=PointField.UINT16, count=0),
        PointField(name="ring", offset=12, datatype=PointField.UINT16, count=2),
    ]
    np.testing.assert_allclose(points_from_msg(cloud(extra=extra)), POINTS, rtol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(1, 0), (0, 12), (2**32 - 1, 0)])
def test_points_from_msg_reads_an_empty_cloud(height, width):
    msg = cloud(order=">")
    msg.height, msg.width, msg.row_step, msg.data = height, width, 0, array.array("B")
    assert points_from_msg(msg).shape == (0, 3)


@pytest.mark.parametrize(
    ("change", "quoted"),
    [
        ({"fields": []}, "has the fields none; it needs x, y and z"),
        ({"fields": [PointField(name="x", datatype=PointField.INT16)]}, "has the fields x; it needs"),
        ({"point_step": 11}, "end at byte 12 of a point, but point_step is 11"),
        ({"row_step": 63}, "row_step of 63"),
        ({"row_step": 0}, "row_step of 0"),
        ({"row_step": 80}, "row_step of 80"),
        ({"height": 4}, "4x4 points"),
        ({"width": 2**31}, "2147483648x3 points"),  # no row_step can hold such a row
        ({"data": array.array("B", bytes(191))}, "191 bytes of data"),
    ],
)
def test_points_from_msg_rejects_inconsistent_messages(change, quoted):
    msg = cloud(height=3)
    for name, value in change.items():
        setattr(msg, name, value)
    with pytest.raises(ImageError, match=quoted):
        points_from_msg(msg)
