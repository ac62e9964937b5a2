"""The transform buffer."""

import numpy as np
import pytest

from redepth_ros.core.errors import AnchorError
from redepth_ros.recordings.transforms import TransformBuffer, invert, transform_points

TURN = (0.0, 0.0, np.sin(np.pi / 4), np.cos(np.pi / 4))  # 90 degrees about z
NONE = (0.0, 0.0, 0.0, 1.0)


def make_buffer():
    buffer = TransformBuffer()
    buffer.add("map", "odom", 0, (10.0, 0.0, 0.0), NONE, static=True)
    buffer.add("odom", "base", 0, (0.0, 0.0, 0.0), NONE)
    buffer.add("odom", "base", 100, (2.0, 0.0, 0.0), TURN)
    buffer.add("base", "camera", 0, (0.0, 0.0, 1.0), NONE, static=True)
    buffer.add("base", "lidar", 0, (1.0, 0.0, 0.0), NONE, static=True)
    return buffer


def test_interpolates_along_the_chain():
    matrix = make_buffer().lookup("map", "camera", 50)
    assert matrix[:3, 3] == pytest.approx([11.0, 0.0, 1.0])
    assert matrix[:2, 0] == pytest.approx([np.cos(np.pi / 4), np.sin(np.pi / 4)])


def test_goes_up_and_down_the_tree():
    matrix = make_buffer().lookup("camera", "lidar", -5)  # static only: any time
    assert matrix[:3, 3] == pytest.approx([1.0, 0.0, -1.0])
    assert np.allclose(
        make_buffer().lookup("lidar", "map", 100) @ make_buffer().lookup("map", "lidar", 100), np.eye(4)
    )


def test_moves_through_a_fixed_frame():
    matrix = make_buffer().lookup_full("base", 100, "base", 0, "odom")
    # A point ahead at time 0 is 2 m behind, and to the right, once the base moved and turned left.
    assert matrix @ [1.0, 0.0, 0.0, 1.0] == pytest.approx([0.0, 1.0, 0.0, 1.0])


@pytest.mark.parametrize(("time", "where"), [(-1, "after"), (101, "before")])
def test_refuses_to_extrapolate(time, where):
    with pytest.raises(AnchorError, match=f"{where} this time, and not extrapolated"):
        make_buffer().lookup("odom", "base", time)


def test_names_unconnected_frames():
    with pytest.raises(AnchorError, match="does not connect 'gps' and 'map'"):
        make_buffer().lookup("map", "gps", 0)


def test_a_loop_of_frames_ends():
    buffer = TransformBuffer()
    buffer.add("a", "b", 0, (1.0, 0.0, 0.0), NONE, static=True)
    buffer.add("b", "a", 0, (1.0, 0.0, 0.0), NONE, static=True)
    with pytest.raises(AnchorError):
        buffer.lookup("c", "a", 0)


def test_history_is_bounded():
    buffer = TransformBuffer(keep=1.0)
    for at in range(10_000):
        buffer.add("odom", "base", at * 1_000_000, (at, 0.0, 0.0), NONE)
    assert len(buffer._edges["base"].times) <= 2_001
    assert buffer.lookup("odom", "base", 9_998_500_000)[0, 3] == pytest.approx(9998.5)


@pytest.mark.parametrize(
    ("translation", "rotation"),
    [
        ((np.nan, 0.0, 0.0), NONE),
        ((0.0, np.inf, 0.0), NONE),
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0)),
        ((0.0, 0.0, 0.0), (np.nan, 0.0, 0.0, 1.0)),
        ((0.0, 0.0, 0.0), (np.inf, 0.0, 0.0, 1.0)),
    ],
)
def test_a_transform_of_numbers_that_are_none_is_dropped(translation, rotation):
    buffer = make_buffer()
    buffer.add("odom", "base", 50, translation, rotation)
    np.testing.assert_allclose(buffer.lookup("odom", "base", 50)[:3, 3], (1.0, 0.0, 0.0))


def test_points_that_are_not_finite_stay_so_without_a_warning(recwarn):
    matrix = make_buffer().lookup("base", "camera", 0)
    points = np.array([(1.0, 2.0, 3.0), (np.nan, 0.0, 0.0), (np.inf, -np.inf, 1e308)])
    moved = transform_points(matrix, points)
    np.testing.assert_array_equal(moved[0], (1.0, 2.0, 4.0))
    assert not np.isfinite(moved[1:]).all(1).any()
    np.testing.assert_array_equal(transform_points(invert(matrix), moved[:1]), points[:1])
    assert not recwarn.list
