"""The demo's observer, given messages as the nodes send them."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy")

import rclpy
import rclpy.task
from action_msgs.msg import GoalStatus, GoalStatusArray
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParameters
from redepth_interfaces.action import RefineDepth
from std_msgs.msg import Header

from redepth_ros.cli.demo.records import Goal
from redepth_ros.cli.demo.watcher import MAX_PARTS, Watcher
from redepth_ros.core.camera import PinholeCamera
from redepth_ros.ros.msgs.camera_info import camera_to_msg
from redepth_ros.ros.msgs.images import image_to_msg
from redepth_ros.ros.msgs.time import time_from_nanoseconds

CAMERA = PinholeCamera.centered(20.0, 16, 12)
DEPTH = np.full((12, 16), 2.0, np.float32)


@pytest.fixture
def watcher():
    rclpy.init()
    node = Watcher(spacing=0.0)
    yield node
    node.destroy_node()
    rclpy.try_shutdown()


def header(watcher, seconds=0.5):
    """A header whose stamp lies some seconds in the past."""
    return Header(stamp=time_from_nanoseconds(watcher.get_clock().now().nanoseconds - int(seconds * 1e9)))


def image(head, value=50):
    return image_to_msg(np.full((12, 16, 3), value, np.uint8), "rgb8", head)


def send_frame(watcher, head, value=50):
    """Send the three messages of a frame, the image last."""
    watcher._on_frame("depth/camera_info", camera_to_msg(CAMERA, head))
    watcher._on_frame("depth/image", image_to_msg(DEPTH, "32FC1", head))
    watcher._on_frame("image", image(head, value))


def result(head, outcome=RefineDepth.Result.OUTCOME_REFINED, message="refined: by 5 %"):
    found = RefineDepth.Result(outcome=outcome, message=message, camera_info=camera_to_msg(CAMERA, head))
    found.depth.header = head  # without data, as in goals that name a stamp
    return SimpleNamespace(result=found, status=GoalStatus.STATUS_SUCCEEDED)


def test_latency_is_the_age_of_the_depth(watcher):
    send_frame(watcher, header(watcher, 0.5))
    assert watcher.images.total == watcher.latencies.total == 1
    assert 0.5 <= watcher.latencies.percentile(50) < 5.0


def test_each_image_is_one_scene(watcher):
    for value in (1, 2, 1):
        send_frame(watcher, header(watcher, value), value)
    assert [int(scene.image[0, 0, 0]) for scene in watcher.scenes] == [1, 2]
    np.testing.assert_array_equal(watcher.scenes[0].depth, DEPTH)
    assert watcher.scenes[0].camera == CAMERA


@pytest.mark.parametrize("image_first", [True, False])
def test_a_keyframe_is_its_image_and_its_result(image_first, watcher):
    head = header(watcher, 2.0)
    send_frame(watcher, head)

    def send_topics():
        watcher._on_refined("refined/image", image(head))
        watcher._on_refined("refined/depth", image_to_msg(1.1 * DEPTH, "32FC1", head))
        watcher._on_refined("refined/camera_info", camera_to_msg(CAMERA, head))

    arrivals = [send_topics, lambda: watcher._on_result(b"goal", result(head))]
    for arrive in arrivals if image_first else reversed(arrivals):
        arrive()
    (keyframe,) = watcher.keyframes
    assert (keyframe.outcome, keyframe.message) == ("refined", "refined: by 5 %")
    assert 2.0 <= keyframe.seconds < 10.0
    np.testing.assert_allclose(keyframe.refined, 1.1 * DEPTH)
    np.testing.assert_array_equal(keyframe.scene.depth, DEPTH)


def test_a_failed_goal_is_a_failure(watcher):
    failed = result(header(watcher), RefineDepth.Result.OUTCOME_FAILED, "no memory")
    watcher._on_result(b"goal", failed)
    assert watcher.keyframes == []
    assert watcher.goals == {b"goal": Goal("failed", "no memory")}


def test_a_result_without_its_image_has_an_outcome(watcher):
    watcher._on_result(b"goal", result(header(watcher)))
    assert watcher.keyframes == []
    assert watcher.goals[b"goal"].outcome == "refined"


def test_incomplete_frames_are_dropped(watcher):
    for number in range(2 * MAX_PARTS):
        watcher._on_frame("image", image(header(watcher, number)))
    assert len(watcher._frames) == MAX_PARTS


class Service:
    """A client of a service that records its calls, and responds when told."""

    def __init__(self):
        self.requests, self.futures = [], []

    def call_async(self, request):
        self.requests.append(request)
        self.futures.append(rclpy.task.Future())
        return self.futures[-1]


def goal_status(watcher, status):
    message = GoalStatus(status=status)
    message.goal_info.goal_id.uuid = list(range(16))
    watcher._on_status(GoalStatusArray(status_list=[message]))


def test_the_result_of_a_goal_is_requested_once_it_ended(watcher):
    watcher._results = service = Service()
    goal_status(watcher, GoalStatus.STATUS_EXECUTING)
    assert service.requests == []
    assert watcher.goals == {bytes(range(16)): Goal("not finished")}
    goal_status(watcher, GoalStatus.STATUS_SUCCEEDED)
    goal_status(watcher, GoalStatus.STATUS_SUCCEEDED)
    assert [list(request.goal_id.uuid) for request in service.requests] == [list(range(16))]
    service.futures[0].set_result(result(header(watcher)))
    goal_status(watcher, GoalStatus.STATUS_SUCCEEDED)
    assert len(service.requests) == 1


def test_a_result_that_does_not_arrive_is_requested_again(watcher):
    watcher._results = service = Service()
    goal_status(watcher, GoalStatus.STATUS_SUCCEEDED)
    watcher._call_again()
    assert service.requests[0] == service.requests[1]
    service.futures[1].set_result(result(header(watcher)))
    service.futures[0].set_result(RefineDepth.Impl.GetResultService.Response())  # late, and unknown by then
    assert [goal.outcome for goal in watcher.goals.values()] == ["refined"]
    watcher._call_again()
    assert len(service.requests) == 2


def test_a_result_that_the_server_has_no_more_is_lost(watcher):
    watcher._results = service = Service()
    goal_status(watcher, GoalStatus.STATUS_SUCCEEDED)
    unknown = RefineDepth.Impl.GetResultService.Response(status=GoalStatus.STATUS_UNKNOWN)
    service.futures[0].set_result(unknown)
    assert [goal.outcome for goal in watcher.goals.values()] == ["result lost"]
    watcher._call_again()
    assert len(service.requests) == 1


def test_keyframes_are_requested_until_the_node_responds(watcher):
    watcher._parameters = service = Service()
    watcher._call_again()
    assert service.requests == []
    watcher.begin_keyframes()
    watcher._call_again()
    assert [request.parameters[0].value.string_value for request in service.requests] == ["all", "all"]
    assert watcher.waits_for_keyframes
    accepted = SetParametersResult(successful=True)
    service.futures[1].set_result(SetParameters.Response(results=[accepted]))
    watcher._call_again()
    assert (len(service.requests), watcher.waits_for_keyframes, watcher.error) == (2, False, "")


def test_a_refusal_of_keyframes_is_an_error(watcher):
    watcher._parameters = service = Service()
    watcher.begin_keyframes()
    refused = SetParametersResult(successful=False, reason="keyframes is 'all'")
    service.futures[0].set_result(SetParameters.Response(results=[refused]))
    assert watcher.error == "redepth_node refuses keyframes: keyframes is 'all'"


def test_diagnostics_of_the_demos_nodes_are_kept(watcher):
    def diagnostics(name, level, message):
        values = [KeyValue(key="model", value=name)]
        status = DiagnosticStatus(name=name, level=level, message=message, values=values)
        watcher._on_diagnostics(DiagnosticArray(status=[status]))

    diagnostics("other: fast depth", DiagnosticStatus.ERROR, "has no model")
    diagnostics("redepth_demo/redepth_node: fast depth", DiagnosticStatus.WARN, "is slow")
    assert watcher.error == ""
    assert watcher.diagnostics["model"] == "redepth_demo/redepth_node: fast depth"
    diagnostics("redepth_demo/refine_server: refinement", DiagnosticStatus.ERROR, "has no model")
    assert watcher.error == "refine_server has no model"


def test_keyframes_begin_with_statistics_of_their_own(watcher):
    send_frame(watcher, header(watcher))
    watcher.begin_keyframes()
    assert watcher.latencies_alone.total == 1
    assert watcher.latencies.total == 0
