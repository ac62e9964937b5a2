"""Refined frames and the topics refined/*, of a node in this process."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("rclpy")

from fakes import CAMERA, FakeEngine, Graph, depth_array, header_at, image_at, sample_image
from rclpy.lifecycle import LifecycleNode
from redepth_interfaces.action import RefineDepth
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from redepth_ros.core.camera import OrthographicCamera
from redepth_ros.core.metric.scale import Scale
from redepth_ros.core.refine.settings import RefineSettings
from redepth_ros.nodes.refine_pipeline import request_defaults
from redepth_ros.nodes.refined_topics import RefinedFrame, RefinedTopics
from redepth_ros.nodes.settings import ServerSettings
from redepth_ros.ros.msgs.camera_info import camera_to_msg
from redepth_ros.ros.msgs.refine_depth import RefineRequest

UNSCALED = Scale()
TOPICS = ("image", "depth", "stddev", "normals", "compared")


def refined_frame(seconds=1.0, *, calibrated=True, scale=UNSCALED, members=1, metric=False, **parameters):
    """Return the frame of a fake refinement: depth 10 % nearer than the fast one."""
    settings = ServerSettings(**parameters)
    goal = RefineDepth.Goal(image=image_at(seconds))
    if calibrated:
        goal.camera_info = camera_to_msg(CAMERA, goal.image.header)
    request = RefineRequest.from_goal(goal, None, request_defaults(settings, True))
    run = FakeEngine(metric).start(
        request.image, RefineSettings(steps=1, ensemble_size=members), anchors=None, prompt=""
    )
    list(run.steps())
    return RefinedFrame.from_refinement(run.result(), request, scale, settings)


# The frame.


def test_maps_have_the_size_of_the_image():
    frame = refined_frame()
    for values in (frame.depth, frame.stddev, frame.fast, frame.unscaled_depth):
        assert values.shape == (24, 32)
        assert values.dtype == torch.float32
    np.testing.assert_array_equal(frame.image, sample_image())
    np.testing.assert_allclose((frame.fast / frame.depth).numpy(), 1.1, rtol=0.02)


def test_the_scale_applies_to_refined_and_fast_depth():
    plain, scaled = refined_frame(), refined_frame(scale=Scale(6.0, 0.4))
    for name in ("depth", "fast"):
        disparity = 1.0 / getattr(plain, name)
        torch.testing.assert_close(getattr(scaled, name), 6.0 / (disparity + 0.4), rtol=1e-3, atol=1e-5)


def test_without_an_ensemble_the_assumed_standard_deviation_is_used():
    frame = refined_frame(assumed_relative_stddev=0.3)
    torch.testing.assert_close(frame.stddev, 0.3 * frame.depth)
    frame = refined_frame(assumed_relative_stddev=0.3, scale=Scale(1.0, 0.0, (0.16, 0.0, 0.0)))
    torch.testing.assert_close(frame.stddev, 0.5 * frame.depth)


def test_an_ensemble_gives_the_standard_deviation():
    frame = refined_frame(members=3, assumed_relative_stddev=0.3)
    assert float((frame.stddev / frame.depth).max()) < 0.12


def test_depth_beyond_the_limits_is_masked():
    depth = refined_frame().depth
    limit = float(depth.median())
    frame = refined_frame(max_depth=limit)
    torch.testing.assert_close(frame.depth.isnan(), depth > limit)
    torch.testing.assert_close(frame.stddev.isnan(), depth > limit)
    assert bool(frame.fast.isnan().any())
    assert bool((frame.fast[~frame.fast.isnan()] <= limit).all())


def test_uncertain_depth_is_masked_but_the_fast_depth_is_not():
    frame = refined_frame(max_relative_stddev=0.05)
    assert bool(frame.depth.isnan().all())
    assert bool(frame.fast.isfinite().all())


def test_the_frame_of_the_refined_topics_is_a_parameter():
    assert refined_frame().header == header_at(1.0)
    frame = refined_frame(refined_frame_id="late")
    assert frame.header == header_at(1.0, "late")
    assert frame.camera_info.header == frame.header


def test_normals_of_a_calibrated_frame_are_those_of_its_camera():
    frame = refined_frame()
    torch.testing.assert_close(frame.normals(), CAMERA.normals(frame.depth))


def test_normals_without_a_calibration_are_orthographic():
    frame = refined_frame(calibrated=False, scale=Scale(6.0, 0.4))
    assert frame.camera is None
    torch.testing.assert_close(frame.normals(), OrthographicCamera().normals(frame.unscaled_depth))


# The topics.


class Setup:
    """The topics of an active lifecycle node, and a listener to all of them."""

    def __init__(self):
        self.node = LifecycleNode("refined", namespace="/late")
        self.graph = Graph(self.node)
        self.warnings = []
        self.topics = RefinedTopics(self.node, self.warnings.append)
        self.node.trigger_configure()
        self.node.trigger_activate()

    def listen(self):
        self.graph.listen(self.node, Image, *[f"refined/{name}" for name in TOPICS])
        self.graph.listen(self.node, CameraInfo, "refined/camera_info")
        self.graph.listen(self.node, PointCloud2, "refined/points")
        self.graph.listen(self.node, CompressedImage, "refined/depth/compressedDepth")
        assert self.graph.until(
            lambda: all(p.get_subscription_count() for p in self.node.publishers if "refined" in p.topic_name)
        )

    def set_time(self, seconds):
        now = SimpleNamespace(nanoseconds=int(seconds * 1e9))
        self.node.get_clock = lambda: SimpleNamespace(now=lambda: now)

    def one(self, topic):
        return self.graph.until(lambda: self.graph.received[topic])[0]


@pytest.fixture
def setup(ros):
    setup = Setup()
    yield setup
    setup.graph.close()


def test_all_topics_have_the_stamp_of_the_image(setup):
    setup.listen()
    frame = refined_frame()
    assert setup.topics.publish(frame, 0.0)
    for topic in (*[f"refined/{name}" for name in TOPICS], "refined/camera_info", "refined/points"):
        assert setup.one(topic).header == header_at(1.0), topic
    np.testing.assert_array_equal(depth_array(setup.one("refined/depth")), frame.depth.numpy())
    np.testing.assert_array_equal(depth_array(setup.one("refined/stddev")), frame.stddev.numpy())
    normals = depth_array(setup.one("refined/normals"))
    np.testing.assert_array_equal(normals, frame.normals().permute(1, 2, 0).numpy())
    assert (normals[5:-5, 5:-5, 2] < 0).all()  # towards the camera
    compressed = setup.one("refined/depth/compressedDepth")
    assert (compressed.header, compressed.format) == (header_at(1.0), "32FC1; compressedDepth png")
    compared = setup.one("refined/compared")
    assert (compared.encoding, compared.height, compared.width) == ("rgb8", 24, 96)
    image = np.frombuffer(compared.data, np.uint8).reshape(24, 96, 3)
    np.testing.assert_array_equal(image[:, :32], sample_image())
    assert setup.one("refined/image").encoding == "rgb8"
    points = np.frombuffer(setup.one("refined/points").data, np.float32).reshape(24, 32, 4)
    np.testing.assert_array_equal(points[..., 2], frame.depth.numpy())


def test_without_a_calibration_neither_camera_info_nor_points_are_published(setup):
    setup.listen()
    assert setup.topics.publish(refined_frame(calibrated=False), 0.0)
    assert setup.one("refined/normals")
    setup.graph.spin(0.1)
    assert not setup.graph.received["refined/camera_info"] + setup.graph.received["refined/points"]


def test_a_frame_older_than_max_age_is_not_published(setup):
    setup.set_time(10.0)
    assert not setup.topics.publish(refined_frame(1.9), 8.0)
    assert setup.topics.counts == {"too old": 1, "not in order": 0}
    assert "it is 8.1 s old, and max_age is 8 s; lower time_budget" in setup.warnings[0]
    assert setup.topics.publish(refined_frame(2.1), 8.0)
    assert setup.topics.publish(refined_frame(2.2), 0.0)


def test_stamps_of_the_refined_topics_increase(setup):
    setup.set_time(10.0)
    assert setup.topics.publish(refined_frame(3.0), 0.0)
    assert not setup.topics.publish(refined_frame(2.0), 0.0)
    assert not setup.topics.publish(refined_frame(3.0), 0.0)
    assert setup.topics.counts == {"too old": 0, "not in order": 2}
    assert "refined depth of stamp 2.000 s is not published" in setup.warnings[0]
    assert setup.topics.publish(refined_frame(3.1), 0.0)


def test_a_frame_that_is_too_old_does_not_count_for_the_order(setup):
    setup.set_time(10.0)
    assert not setup.topics.publish(refined_frame(1.0), 2.0)
    assert setup.topics.publish(refined_frame(0.5), 0.0)


def test_reset_accepts_any_stamp(setup):
    setup.set_time(10.0)
    assert setup.topics.publish(refined_frame(3.0), 0.0)
    setup.topics.reset()
    assert setup.topics.publish(refined_frame(2.0), 0.0)


def test_a_clock_that_jumps_back_restarts_the_order(setup):
    """A simulation that starts again."""
    setup.set_time(1000.0)
    assert setup.topics.publish(refined_frame(1000.0), 0.0)
    setup.set_time(999.5)
    assert not setup.topics.publish(refined_frame(999.0), 0.0)
    setup.set_time(10.0)
    assert setup.topics.publish(refined_frame(10.0), 0.0)


def test_a_camera_whose_clock_is_ahead_keeps_the_order(setup):
    setup.set_time(10.0)
    for stamp in (100.0, 100.1, 100.2):
        assert setup.topics.publish(refined_frame(stamp), 0.0)
    assert not setup.warnings


def test_a_stamp_far_in_the_future_does_not_silence_the_topics(setup):
    setup.set_time(10.0)
    assert setup.topics.publish(refined_frame(1e9), 0.0)
    assert setup.topics.publish(refined_frame(9.9), 0.0)
    assert not setup.topics.publish(refined_frame(9.8), 0.0)


def test_stamps_of_a_bag_that_restarts_are_followed(setup):
    """Without use_sim_time, the clock does not show the restart."""
    setup.set_time(1000.0)
    assert setup.topics.publish(refined_frame(60.0), 0.0)
    assert [setup.topics.publish(refined_frame(stamp), 0.0) for stamp in (1.0, 2.0)] == [False, False]
    assert [setup.topics.publish(refined_frame(stamp), 0.0) for stamp in (1.5, 2.5)] == [False, False]
    assert setup.topics.publish(refined_frame(3.0), 0.0)
    assert setup.topics.publish(refined_frame(3.5), 0.0)


def test_late_frames_between_others_stay_refused(setup):
    setup.set_time(1000.0)
    for number in range(4):
        assert setup.topics.publish(refined_frame(60.0 + number), 0.0)
        assert not setup.topics.publish(refined_frame(1.0 + number), 0.0)
