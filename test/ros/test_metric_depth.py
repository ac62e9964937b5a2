"""Metres from a depth camera, with both nodes in one process: what the README promises."""

import numpy as np
import pytest

pytest.importorskip("rclpy")

from graph import depth_array, sample_image
from lifecycle_msgs.srv import GetState
from redepth_interfaces.action import RefineDepth
from sensor_msgs.msg import Image

from redepth_ros.models.depth_anything import DepthAnything
from redepth_ros.ros.msgs.images import image_to_msg
from redepth_ros.ros.msgs.time import time_from_nanoseconds

Result = RefineDepth.Result
SCALE, SHIFT = 6.0, 0.4


@pytest.fixture(scope="module")
def truth():
    """The metric depth of the sample image, if the network were right but for scale and shift."""
    disparity = DepthAnything.load("tiny", device="cpu").predict(sample_image()).numpy()
    return SCALE / (disparity + SHIFT)


def sparse(truth, count=200, outliers=0.1):
    """Return a depth image of some measured pixels, a share of them wrong."""
    rng = np.random.default_rng(0)
    measured = np.full(truth.size, np.nan, np.float32)
    chosen = rng.choice(truth.size, count, replace=False)
    measured[chosen] = truth.flat[chosen] * (1.0 + 0.01 * rng.standard_normal(count))
    measured[chosen[: int(outliers * count)]] = truth.max() * 2.0
    return measured.reshape(truth.shape)


@pytest.fixture(scope="module")
def sensor(robot):
    """Publishes a depth image and the image of its stamp; returns the stamp."""
    publisher = robot.create_publisher(Image, "anchors/depth", 10)
    assert robot.until(publisher.get_subscription_count)

    def send(measured, encoding="32FC1"):
        header = robot.next_header()
        publisher.publish(image_to_msg(measured, encoding, header))
        # The node has read its topics when it responds to a service.
        robot.call(GetState, "get_state", GetState.Request())
        return robot.send(header=header)

    return send


def test_depth_is_invalid_before_the_first_anchors_and_in_metres_after(robot, sensor, truth):
    stamp = robot.sent_until("depth/image")
    assert np.isnan(depth_array(robot.at_stamp("depth/image", stamp))).all()
    robot.diagnostics(lambda values: "no usable anchors yet" in values.get("depth", ""))
    depth = robot.depth_of(sensor(sparse(truth)))
    np.testing.assert_allclose(depth_array(depth), truth, rtol=0.02)
    values = robot.diagnostics(lambda values: values["depth"] == "in metres, by anchors")[2]
    assert float(values["scale"]) == pytest.approx(SCALE, rel=0.02)
    assert int(values["anchors"]) == 200
    assert 80 <= int(values["anchors agreeing (%)"]) <= 95


def test_sixteen_bit_anchors_are_millimetres(robot, sensor, truth):
    millimetres = np.nan_to_num(sparse(truth) * 1000.0).round().astype(np.uint16)
    depth = depth_array(robot.depth_of(sensor(millimetres, "16UC1")))
    np.testing.assert_allclose(depth, truth, rtol=0.03)


def test_uncertain_pixels_and_edges_are_masked_on_demand(robot, sensor, truth):
    assert np.isfinite(depth_array(robot.depth_of(sensor(sparse(truth))))).all()
    for name, limit in (("max_relative_stddev", 0.003), ("max_relative_gradient", 0.02)):
        assert robot.set_parameters(**{name: limit})[0]
        masked = depth_array(robot.depth_of(sensor(sparse(truth))))
        assert robot.set_parameters(**{name: 0.0})[0]
        assert np.isnan(masked).any(), name


def test_bad_anchors_leave_the_last_good_scale_with_a_warning(robot, sensor, truth):
    robot.depth_of(sensor(sparse(truth)))
    mirrored = (7.0 - np.clip(truth, 0.1, 6.9)).astype(np.float32)
    depths = [depth_array(robot.depth_of(sensor(mirrored))) for _ in range(2)]
    for depth in depths:
        np.testing.assert_allclose(depth, truth, rtol=0.05)
    robot.warns("anchors give no scale, the last good scale is kept: ", lambda: sensor(mirrored))


def test_a_goal_by_stamp_is_refined_with_the_anchors_of_its_frame(robot, sensor, truth):
    losses, errors = [], []
    for measured in (sparse(truth), np.full_like(truth, np.nan)):
        stamp = sensor(measured)
        assert robot.depth_of(stamp)
        robot.feedback = []
        goal = RefineDepth.Goal(stamp=time_from_nanoseconds(stamp), steps=25)
        goal.images = RefineDepth.Goal.IMAGES_INCLUDE
        handle = robot.send_goal(goal)
        assert robot.until(lambda: robot.feedback)
        _, result = robot.result_of(handle)
        # The fast depth is the truth here: the check at the anchors may prefer it.
        assert result.outcome in (Result.OUTCOME_REFINED, Result.OUTCOME_KEPT_FAST), result.message
        assert result.depth.header.stamp == time_from_nanoseconds(stamp)
        losses.append(robot.feedback[-1].loss_anchors)
        errors.append(np.abs(np.log(depth_array(result.depth) / truth)).mean())
    assert losses[0] > losses[1] == 0.0
    assert errors[0] < 0.8 * errors[1]
