"""The client of the action, against a fake server in this process."""

import pytest

pytest.importorskip("rclpy")

import rclpy
import rclpy.task
from fakes import FakeActionServer, Graph
from rclpy.action.client import ClientGoalHandle
from redepth_interfaces.action import RefineDepth

from redepth_ros.ros.streams.refine_client import PATIENCE, RefineClient

FAILED = RefineDepth.Result.OUTCOME_FAILED


class Setup:
    """A client and a server in one executor."""

    def __init__(self):
        self.node = rclpy.create_node("keyframes", namespace="/keyframes")
        self.other = rclpy.create_node("server", namespace="/keyframes")
        self.graph = Graph(self.node, self.other)
        self.warnings, self.lost = [], 0
        self.client = RefineClient(self.node, self.warnings.append, self.lose)
        self.server = None

    def lose(self):
        self.lost += 1

    def serve(self):
        self.server = FakeActionServer(self.other)
        assert self.graph.until(lambda: self.client.ready)

    def close(self):
        self.client.destroy()
        if self.server is not None:
            self.server.destroy()
        self.graph.close()

    def watch(self, times=1):
        for _ in range(times):
            self.client.watch()

    def send(self, prompt="a"):
        reservation = self.client.reserve()
        reservation.send(RefineDepth.Goal(prompt=prompt))
        return reservation


@pytest.fixture
def setup(ros):
    setup = Setup()
    yield setup
    setup.close()


@pytest.fixture
def served(setup):
    setup.serve()
    return setup


def test_without_a_server_nothing_is_reserved(setup):
    assert not setup.client.ready
    assert setup.client.reserve() is None


def test_one_place_is_reserved_at_a_time(served):
    reservation = served.client.reserve()
    assert served.client.busy
    assert not served.client.ready
    assert served.client.reserve() is None
    reservation.release()
    assert served.client.ready
    assert served.client.reserve() is not None


def test_a_goal_is_sent_and_its_result_recorded(served):
    served.send()
    assert served.graph.until(lambda: served.server.goals)
    assert (served.client.sent, served.client.ended, served.client.busy) == (1, 0, True)
    served.server.end(message="refined: moved")
    assert served.graph.until(lambda: not served.client.busy)
    assert served.client.last == "succeeded: refined: moved"
    assert (served.client.ended, served.lost) == (1, 0)
    assert not served.warnings


def test_release_keeps_the_place_of_a_goal_that_was_sent(served):
    reservation = served.send()
    reservation.release()
    assert served.client.busy
    assert served.client.reserve() is None


def test_only_the_owner_releases_a_reservation(served):
    """A goal that is rejected while another reservation exists does not free that one's place."""
    served.server.accept = False
    first = served.send()
    assert served.graph.until(lambda: not served.client.busy)
    assert (served.client.last, served.lost) == ("rejected by the server", 1)
    second = served.client.reserve()
    first.release()
    assert served.client.busy
    served.server.accept = True
    second.send(RefineDepth.Goal(prompt="second"))
    assert served.graph.until(lambda: served.server.goals)
    assert served.server.goals[0].prompt == "second"


def test_a_reservation_sends_one_goal_only(served):
    reservation = served.send()
    with pytest.raises(RuntimeError, match="sent once"):
        reservation.send(RefineDepth.Goal())
    assert served.client.sent == 1


def test_a_released_reservation_sends_nothing(served):
    reservation = served.client.reserve()
    reservation.release()
    reservation.release()
    assert served.lost == 1
    with pytest.raises(RuntimeError, match="not released"):
        reservation.send(RefineDepth.Goal())
    assert served.client.sent == 0


def test_a_failed_goal_is_a_warning(served):
    served.send()
    assert served.graph.until(lambda: served.server.goals)
    served.server.end(FAILED, "no memory")
    assert served.graph.until(lambda: not served.client.busy)
    assert (served.client.last, served.lost) == ("aborted: no memory", 0)
    assert served.warnings == ["a keyframe could not be refined: no memory"]


def test_watch_gives_up_a_goal_whose_server_is_gone(served):
    served.send()
    assert served.graph.until(lambda: served.server.goals)
    served.client.watch()
    assert served.client.busy
    served.server.destroy()
    served.server = None
    assert served.graph.until(lambda: served.client.watch() or not served.client.busy)
    assert (served.client.last, served.lost) == ("lost with its server", 1)
    assert "is gone, and with it the keyframe" in served.warnings[0]
    served.serve()  # and is there again
    served.send("again")
    assert served.graph.until(lambda: served.server.goals)


def test_watch_gives_up_a_goal_that_the_server_does_not_answer(served, monkeypatch):
    """DDS loses a request that meets a server which is starting."""
    monkeypatch.setattr(served.client._client, "send_goal_async", lambda goal, **options: rclpy.task.Future())
    served.send()
    served.watch(PATIENCE - 1)
    assert served.client.busy
    served.watch()
    assert (served.client.last, served.client.busy, served.lost) == ("no response of the server", False, 1)
    assert "did not respond to a keyframe within 10 s" in served.warnings[0]


def test_a_goal_that_is_given_up_is_cancelled_where_only_the_response_was_lost(served, monkeypatch):
    responses = []
    monkeypatch.setattr(served.client, "_on_response", lambda *response: responses.append(response))
    served.send()
    assert served.graph.until(lambda: served.server.goals and responses)
    served.watch(PATIENCE)
    assert (served.client.last, served.lost) == ("no response of the server", 1)
    assert served.graph.until(lambda: served.server.cancelled and served.server.goals)
    served.server.end()


def test_a_goal_that_is_accepted_after_it_was_given_up_is_cancelled(served, monkeypatch):
    calls, response = [], rclpy.task.Future()
    send = served.client._client.send_goal_async
    with monkeypatch.context() as patch:
        patch.setattr(
            served.client._client,
            "send_goal_async",
            lambda *goal, **options: calls.append((goal, options)) or response,
        )
        served.send()
        assert served.graph.until(lambda: calls)
    served.watch(PATIENCE)
    assert (served.client.last, served.lost) == ("no response of the server", 1)
    assert served.graph.until(lambda: not served.client._client._pending_cancel_requests)
    assert not served.server.cancelled
    goal, options = calls[0]
    send(*goal, **options).add_done_callback(lambda late: response.set_result(late.result()))
    assert served.graph.until(lambda: served.server.cancelled and served.server.goals)
    served.server.end()
    served.send("next")
    assert served.graph.until(lambda: len(served.server.goals) == 2)


def test_watch_requests_a_result_again_that_does_not_arrive(served, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(ClientGoalHandle, "get_result_async", lambda handle: rclpy.task.Future())
        reservation = served.send()
        assert served.graph.until(lambda: reservation.handle)
    served.server.end(message="refined: moved")
    served.watch(PATIENCE - 1)
    assert served.client.busy
    served.watch()
    assert served.graph.until(lambda: not served.client.busy)
    assert (served.client.last, served.lost) == ("succeeded: refined: moved", 0)


def test_a_goal_keeps_its_place_while_the_server_is_at_work(served):
    reservation = served.send()
    assert served.graph.until(lambda: reservation.handle)
    served.watch(5 * PATIENCE)
    assert served.client.busy
    served.server.end(FAILED, "no memory")
    assert served.graph.until(lambda: not served.client.busy)
    served.graph.spin(0.1)  # the other responses
    assert (served.client.last, served.client.ended, served.lost) == ("aborted: no memory", 1, 0)
    assert len(served.warnings) == 1


def test_watch_gives_up_a_goal_that_the_server_which_is_left_does_not_know(served):
    reservation = served.send()
    assert served.graph.until(lambda: reservation.handle)
    second = FakeActionServer(served.other)
    assert served.graph.until(lambda: len(served.client._servers()) == 2)
    reservation.servers |= served.client._servers()  # it was there, but did not get the goal
    served.server.destroy()
    served.server = second
    assert served.graph.until(lambda: len(served.client._servers()) == 1)
    served.watch(PATIENCE)
    assert served.graph.until(lambda: not served.client.busy)
    assert (served.client.last, served.lost) == ("lost with its server", 1)
    assert "is gone, and with it the keyframe" in served.warnings[0]


def test_watch_leaves_an_unsent_reservation_alone(served):
    reservation = served.client.reserve()
    served.client.watch()
    assert served.client.busy
    reservation.release()


def test_a_keyframe_without_a_result_is_lost(served):
    """rclpy gives None where the server's answer can't be read."""
    reservation = served.send()
    assert served.graph.until(lambda: served.server.goals)
    nothing = rclpy.task.Future()
    nothing.set_result(None)
    served.client._on_result(reservation, nothing)
    assert not served.client.busy
    assert (served.client.last, served.lost) == ("lost", 1)
    served.server.end()


def test_a_goal_that_can_not_be_sent_frees_the_place(served, monkeypatch):
    def fail(goal, **options):
        raise RuntimeError("broken")

    monkeypatch.setattr(served.client._client, "send_goal_async", fail)
    served.send()
    assert served.graph.until(lambda: not served.client.busy)
    assert (served.client.last, served.lost) == ("not sent", 1)
    assert served.warnings == ["a keyframe could not be sent: RuntimeError: broken"]
