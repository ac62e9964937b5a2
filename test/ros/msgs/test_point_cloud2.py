"""The stand-in for sensor_msgs_py has the results of sensor_msgs_py."""

import numpy as np
import pytest

pytest.importorskip("rclpy")

from sensor_msgs.msg import PointField
from std_msgs.msg import Header

from redepth_ros.ros.msgs.point_cloud2 import create_cloud, read_points

FIELDS = [
    PointField(name="x", offset=0, datatype=PointField.FLOAT32, count=1),
    PointField(name="y", offset=8, datatype=PointField.FLOAT64, count=1),
    PointField(name="ring", offset=16, datatype=PointField.UINT16, count=1),
]
DTYPE = np.dtype({"names": ["x", "y", "ring"], "formats": ["f4", "f8", "u2"], "offsets": [0, 8, 16]})


def points():
    made = np.zeros(5, DTYPE)
    made["x"], made["y"], made["ring"] = np.arange(5), np.linspace(0, 1, 5), np.arange(5) * 1000
    return made


def test_stand_in_agrees_with_sensor_msgs_py():
    original = pytest.importorskip("sensor_msgs_py.point_cloud2")
    ours, theirs = (
        module(Header(frame_id="lidar"), FIELDS, points())
        for module in (
            create_cloud,
            original.create_cloud,
        )
    )
    assert ours == theirs
    for names in (["x", "y"], ["ring"], ["y", "x", "ring"]):
        expected, found = (
            original.read_points(theirs, field_names=names),
            read_points(ours, field_names=names),
        )
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


def test_read_points_returns_what_create_cloud_was_given():
    cloud = create_cloud(Header(frame_id="lidar"), FIELDS, points())
    assert (cloud.height, cloud.width, cloud.point_step, cloud.row_step) == (1, 5, 18, 90)
    assert cloud.header.frame_id == "lidar"
    for name in DTYPE.names:
        np.testing.assert_array_equal(read_points(cloud, [name])[name], points()[name])


def test_unknown_fields_and_other_dtypes_are_rejected():
    cloud = create_cloud(Header(), FIELDS, points())
    with pytest.raises(AssertionError, match="no such field"):
        read_points(cloud, ["intensity"])
    with pytest.raises(AssertionError, match="dtype and fields differ"):
        create_cloud(Header(), FIELDS[:2], points())
