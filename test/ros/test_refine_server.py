"""The refine server in a process of its own, and its clients."""

import signal
import time

import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from builtin_interfaces.msg import Duration
from conftest import CAMERA, PATIENCE, Probe, depth_of, picture
from lifecycle_msgs.msg import Transition
from rclpy.action import ActionClient
from redepth_interfaces.action import RefineDepth
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from redepth_ros.ros.msgs.camera_info import camera_info
from redepth_ros.ros.msgs.images import encode_image
from redepth_ros.ros.node.qos import GOALS
from redepth_ros.ros.streams.message_cache import nanoseconds

Result = RefineDepth.Result
TINY = {"model": "tiny", "prior": "tiny", "members": 1, "steps": 4}


@pytest.fixture(scope="module")
def server(start):
    return start("refine_server", {**TINY, "policy": "latest"})


class Client(Probe):
    """A probe that also sends goals, and watches the refined topics."""

    def __init__(self):
        super().__init__("refine_server")
        self.refine = ActionClient(
            self, RefineDepth, "refine", goal_service_qos_profile=GOALS, result_service_qos_profile=GOALS
        )
        for name in ("image", "depth", "stddev", "normals", "compared"):
            self.listen(Image, f"refined/{name}")
        self.listen(CameraInfo, "refined/camera_info")
        self.feedback = []

    def goal(self, **fields):
        header = self.next_header()
        goal = RefineDepth.Goal(image=encode_image(picture(), "rgb8", header), **fields)
        goal.camera_info = camera_info(CAMERA, header)
        return goal

    def send_goal(self, goal=None, seconds=PATIENCE):
        """The goal's handle once it was judged."""
        assert self.until(self.refine.server_is_ready, seconds), "no action server"
        heard = self.feedback  # that of a goal of before may still come, and is kept with its own
        future = self.refine.send_goal_async(
            goal or self.goal(), feedback_callback=lambda m: heard.append(m.feedback)
        )
        assert self.until(future.done, seconds), "the goal was not judged"
        return future.result()

    def end_of(self, handle, seconds=PATIENCE):
        """Status and result of a goal."""
        future = handle.get_result_async()
        assert self.until(future.done, seconds), "the goal has no end"
        return future.result().status, future.result().result

    def refine_one(self, goal=None):
        handle = self.send_goal(goal)
        assert handle.accepted
        return self.end_of(handle)

    def send_when_active(self, goal=None, seconds=PATIENCE):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            handle = self.send_goal(goal)
            if handle.accepted:
                return handle
            self.spin(0.2)
        raise AssertionError("the server takes no goals")


@pytest.fixture
def client(ros, server):
    node = Client()
    topics = [topic for topic in node.received if topic.startswith("refined/")]

    def refine():
        assert node.end_of(node.send_when_active())[0] == GoalStatus.STATUS_SUCCEEDED

    # Most is published only where the server sees that somebody listens.
    assert node.until(lambda: all(node.received[topic] for topic in topics), meanwhile=refine)
    node.feedback = []
    yield node
    node.refine.destroy()
    node.executor_.shutdown()
    node.destroy_node()


def test_a_goal_is_refined_and_published_under_its_own_stamp(client):
    goal = client.goal(steps=6, ensemble_size=2)
    began = time.monotonic()
    status, result = client.refine_one(goal)
    took = time.monotonic() - began
    assert status == GoalStatus.STATUS_SUCCEEDED
    assert result.outcome == Result.OUTCOME_REFINED, result.message
    assert result.steps == 6
    assert "moved by" in result.message
    header = goal.image.header
    stamp = client._stamp
    for name in ("image", "depth", "camera_info", "stddev", "normals", "compared"):
        message = client.answer(stamp, f"refined/{name}")
        assert message is not None, name
        assert message.header == header
    depth = depth_of(client.answer(stamp, "refined/depth"))
    assert depth.shape == (CAMERA.height, CAMERA.width)
    np.testing.assert_array_equal(depth, depth_of(result.depth))
    assert np.isfinite(depth).all()
    assert not np.array_equal(depth, depth_of(result.fast_depth))
    assert depth_of(result.stddev).max() > 0
    assert result.camera_info.k[0] == pytest.approx(CAMERA.fx)
    assert client.answer(stamp, "refined/image").encoding == "rgb8"
    assert 0 < result.elapsed.sec + result.elapsed.nanosec * 1e-9 <= took


def test_feedback_tells_how_far_it_is(client):
    client.set_parameter("preview_period", 0.05)
    handle = client.send_goal(client.goal(steps=40))
    # Before the result is asked for: with that, rclpy drops feedback that is still on its way.
    assert client.until(lambda: any(one.depth.data for one in client.feedback))
    client.end_of(handle)
    client.set_parameter("preview_period", 1.0)
    steps = [one.step for one in client.feedback]
    assert steps == sorted(steps)
    assert all(one.steps == 40 and one.members == 1 and one.member == 1 for one in client.feedback)
    assert np.isfinite([one.loss for one in client.feedback]).all()


def test_a_seed_gives_one_result(client):
    results = [client.refine_one(client.goal(seed=5))[1] for _ in range(2)]
    np.testing.assert_array_equal(*[depth_of(result.depth) for result in results])


def test_a_goal_without_calibration(client):
    goal = client.goal()
    goal.camera_info = CameraInfo()
    status, result = client.refine_one(goal)
    assert status == GoalStatus.STATUS_SUCCEEDED
    assert result.outcome == Result.OUTCOME_REFINED
    assert client.answer(client._stamp, "refined/depth") is not None
    client.spin(0.5)
    # Zeros would be taken for a calibration.
    assert client.of_stamp("refined/camera_info", client._stamp) is None
    assert result.camera_info.k[0] == 0.0


def test_a_goals_scale_is_that_of_its_depths(client):
    _, plain = client.refine_one(client.goal())
    _, metric = client.refine_one(client.goal(scale=6.0, shift=0.4, scale_covariance=[0.01, 0.0, 0.0]))
    disparity = 1.0 / depth_of(plain.fast_depth)
    np.testing.assert_allclose(depth_of(metric.fast_depth), 6.0 / (disparity + 0.4), rtol=1e-4)
    relative = depth_of(metric.stddev) / depth_of(metric.depth)
    # The scale's, and what is assumed of a depth without an ensemble.
    np.testing.assert_allclose(relative, np.hypot(0.1, 0.1), rtol=0.01)


def test_a_goals_anchors_give_metres_and_are_honoured(client):
    _, plain = client.refine_one(client.goal())
    truth = 6.0 / (1.0 / depth_of(plain.fast_depth) + 0.4)
    truth[:, 64:] *= 1.2
    sparse = np.full_like(truth, np.nan)
    sparse[::6, ::6] = truth[::6, ::6]
    goal = client.goal(steps=30)
    goal.anchors = encode_image(sparse, "32FC1", goal.image.header)
    status, result = client.refine_one(goal)
    assert status == GoalStatus.STATUS_SUCCEEDED, result.message
    fast, refined = (np.abs(depth_of(one) / truth - 1.0).mean() for one in (result.fast_depth, result.depth))
    assert refined < 0.9 * fast


def broken(**fields):
    message = encode_image(picture(), "rgb8", Header(frame_id="camera"))
    for name, value in fields.items():
        setattr(message, name, value)
    return message


def wide_anchors():
    return encode_image(np.ones((9, 99), np.float32), "32FC1", Header(frame_id="camera"))


@pytest.mark.parametrize(
    ("goal", "words"),
    [
        (RefineDepth.Goal(image=broken(encoding="h264")), "'h264' is not known"),
        (RefineDepth.Goal(image=broken(height=5000)), "bytes of data"),
        (RefineDepth.Goal(image=broken(), preset="slow"), "preset is 'slow'; it must be one of: fast, paper"),
        (RefineDepth.Goal(image=broken(), steps=4_000_000_000), "steps is 4000000000; it must be from 1"),
        (RefineDepth.Goal(image=broken(), ensemble_size=9999), "members is 9999"),
        (RefineDepth.Goal(image=broken(), scale=-1.0), "scale is -1.0 and shift 0.0; the scale must be"),
        (
            RefineDepth.Goal(image=broken(), anchors=broken(encoding="mono8")),
            "depth image with the encoding 'mono8'",
        ),
        (
            RefineDepth.Goal(image=broken(), anchors=wide_anchors()),
            "99x9 pixels, the image 128x96",
        ),
        (RefineDepth.Goal(), "no service /get_frame: send the image, or start redepth_node"),
    ],
)
def test_a_goal_that_can_not_be_refined_is_aborted_with_a_reason(goal, words, client):
    status, result = client.refine_one(goal)
    assert status == GoalStatus.STATUS_ABORTED
    assert result.outcome == Result.OUTCOME_FAILED
    assert words in result.message
    status, _ = client.refine_one()
    assert status == GoalStatus.STATUS_SUCCEEDED


def test_cancelled_it_ends_with_the_best_so_far(client):
    handle = client.send_goal(client.goal(steps=100_000))
    assert client.until(lambda: client.feedback)
    cancel = handle.cancel_goal_async()
    assert client.until(cancel.done)
    status, result = client.end_of(handle)
    assert status == GoalStatus.STATUS_CANCELED
    assert result.outcome == Result.OUTCOME_STOPPED_EARLY
    assert "cancelled" in result.message
    assert np.isfinite(depth_of(result.depth)).all()


def test_cancelled_at_its_end_it_has_one_end(client):
    handle = client.send_goal(client.goal(steps=2))
    status, _ = client.end_of(handle)
    answer = handle.cancel_goal_async()
    assert client.until(answer.done)
    assert not answer.result().goals_canceling
    assert status == GoalStatus.STATUS_SUCCEEDED


def test_a_time_budget_ends_it_with_the_best_so_far(client):
    goal = client.goal(steps=100_000, time_budget=Duration(nanosec=300_000_000))
    status, result = client.refine_one(goal)
    assert status == GoalStatus.STATUS_SUCCEEDED
    assert result.outcome == Result.OUTCOME_STOPPED_EARLY
    assert "of 100000 steps" in result.message


def test_a_newer_goal_takes_the_place_of_the_one_at_work(client):
    old = client.send_goal(client.goal(steps=100_000))
    assert client.until(lambda: client.feedback)
    new = client.send_goal()
    status, result = client.end_of(old)
    assert status == GoalStatus.STATUS_ABORTED
    assert result.outcome == Result.OUTCOME_STOPPED_EARLY
    assert "a newer goal took its place" in result.message
    assert client.end_of(new)[0] == GoalStatus.STATUS_SUCCEEDED


def burst(client, count=50):
    """Goals sent at once; their handles."""
    futures = [client.refine.send_goal_async(client.goal(steps=2)) for _ in range(count)]
    assert client.until(lambda: all(future.done() for future in futures), 2 * PATIENCE)
    return [future.result() for future in futures]


@pytest.mark.parametrize("policy", ["latest", "queue", "reject"])
def test_a_burst_of_goals_leaves_none_without_an_end(policy, client):
    assert client.set_parameter("policy", policy)[0]
    try:
        handles = burst(client)
        ends = [client.end_of(handle, 2 * PATIENCE)[0] for handle in handles if handle.accepted]
    finally:
        client.set_parameter("policy", "latest")
    succeeded = ends.count(GoalStatus.STATUS_SUCCEEDED)
    assert succeeded >= 1
    assert set(ends) <= {GoalStatus.STATUS_SUCCEEDED, GoalStatus.STATUS_ABORTED}
    if policy == "latest":
        assert len(ends) == len(handles)
    else:
        assert succeeded == len(ends)
        assert len(ends) < len(handles)
    assert client.refine_one()[0] == GoalStatus.STATUS_SUCCEEDED


def test_cancelled_while_it_waits(client):
    client.set_parameter("policy", "queue")
    try:
        first = client.send_goal(client.goal(steps=100_000))
        waiting = client.send_goal()
        cancel = waiting.cancel_goal_async()
        assert client.until(cancel.done)
        status, result = client.end_of(waiting)
        assert status == GoalStatus.STATUS_CANCELED
        assert "before it began" in result.message
        cancel = first.cancel_goal_async()
        assert client.end_of(first)[0] == GoalStatus.STATUS_CANCELED
    finally:
        client.set_parameter("policy", "latest")


def test_an_old_image_is_returned_but_not_published(client):
    _, _, values = client.diagnosis()
    goal = client.goal(max_age=Duration(nanosec=1))
    status, result = client.refine_one(goal)
    assert status == GoalStatus.STATUS_SUCCEEDED
    assert result.depth.data
    counted = client.diagnosis(lambda now: int(now["too old"]) > int(values["too old"]))
    assert counted is not None
    assert client.of_stamp("refined/depth", client._stamp) is None


def test_stamps_on_the_refined_topics_only_grow(client):
    early, late = client.goal(), client.goal()
    first = nanoseconds(early.image.header.stamp)
    client.refine_one(late)
    client.refine_one(early)
    client.refine_one()
    assert client.answer(client._stamp, "refined/depth") is not None
    stamps = [nanoseconds(m.header.stamp) for m in client.received["refined/depth"]]
    stamps = [stamp for stamp in stamps if stamp >= first]  # the fixture's goal has one, too
    assert len(stamps) == 2
    assert stamps == sorted(stamps)


def test_a_client_that_vanishes_in_mid_goal(client):
    other = Client()
    other.send_goal(other.goal(steps=100_000))
    assert other.until(lambda: other.feedback)
    other.refine.destroy()
    other.executor_.shutdown()
    other.destroy_node()
    assert client.refine_one()[0] == GoalStatus.STATUS_SUCCEEDED


def test_deactivated_in_mid_goal_again_and_again(client):
    for cycle in range(50):
        handle = client.send_when_active(client.goal(steps=100_000))
        client.spin(0.1)
        assert client.change_state(Transition.TRANSITION_DEACTIVATE)
        status, result = client.end_of(handle)
        assert status == GoalStatus.STATUS_ABORTED
        assert "deactivated" in result.message
        assert not client.send_goal().accepted
        assert client.change_state(Transition.TRANSITION_CLEANUP)
        assert client.change_state(Transition.TRANSITION_CONFIGURE)
        assert client.change_state(Transition.TRANSITION_ACTIVATE)
        if cycle == 2:
            before = client.diagnosis(lambda values: "threads" in values)[2]

    def is_level(values):
        threads, memory = (int(values[name]) for name in ("threads", "memory (MiB)"))
        return threads <= int(before["threads"]) and memory < 1.2 * int(before["memory (MiB)"])

    assert client.diagnosis(is_level), (before, client.diagnosis())
    assert client.refine_one()[0] == GoalStatus.STATUS_SUCCEEDED


def test_interrupted_in_mid_goal_it_ends_cleanly(start, ros):
    process = start("refine_server", TINY, namespace="/other")
    node = Probe("/other/refine_server")
    refine = ActionClient(node, RefineDepth, "/other/refine")
    feedback = []
    try:
        assert node.until(lambda: node.state_is("active"))
        assert node.until(refine.server_is_ready)
        goal = RefineDepth.Goal(image=encode_image(picture(), "rgb8", node.next_header()), steps=100_000)
        future = refine.send_goal_async(goal, feedback_callback=feedback.append)
        assert node.until(future.done)
        answer = future.result().get_result_async()
        assert node.until(lambda: feedback)
        process.popen.send_signal(signal.SIGINT)
        assert node.until(answer.done), "the goal has no end"
        assert answer.result().status == GoalStatus.STATUS_ABORTED
        assert answer.result().result.outcome == Result.OUTCOME_STOPPED_EARLY
        assert depth_of(answer.result().result.depth).any()
        assert process.popen.wait(PATIENCE) == 0
        assert "Traceback" not in process.said()
    finally:
        refine.destroy()
        node.executor_.shutdown()
        node.destroy_node()


def test_simulated_time_that_jumps_back(start, ros):
    """A simulation that began again: its keyframes are published again."""
    start("refine_server", {**TINY, "use_sim_time": "true"}, namespace="/sim")
    node = Probe("/sim/refine_server", namespace="/sim")
    node.listen(Image, "refined/depth")
    clock = node.create_publisher(Clock, "/clock", 10)
    refine = ActionClient(node, RefineDepth, "refine")

    def refine_at(seconds, patience=PATIENCE):
        header = Header(frame_id="camera")
        header.stamp.sec = seconds

        def has_come():  # diagnostics are stamped by the server's clock
            return any(message.header.stamp == header.stamp for message in node.received["/diagnostics"])

        assert node.until(has_come, meanwhile=lambda: clock.publish(Clock(clock=header.stamp)), period=0.05)
        future = refine.send_goal_async(RefineDepth.Goal(image=encode_image(picture(), "rgb8", header)))
        assert node.until(future.done)
        assert future.result().accepted
        answer = future.result().get_result_async()
        assert node.until(answer.done)
        assert answer.result().status == GoalStatus.STATUS_SUCCEEDED
        return node.answer(seconds * 10**9, "refined/depth", patience)

    try:
        assert node.until(lambda: node.state_is("active"))
        assert node.until(refine.server_is_ready)
        assert refine_at(1000) is not None
        assert refine_at(999, patience=5.0) is None  # out of order
        assert refine_at(10) is not None
    finally:
        refine.destroy()
        node.executor_.shutdown()
        node.destroy_node()
