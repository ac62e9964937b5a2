"""A lifecycle node that can bring itself up, and whose failures have reasons."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.signals import SignalHandlerOptions

from redepth_ros.core.errors import RedepthError
from redepth_ros.ros.node.signals import Ending, undisturbed

__all__ = ["ManagedNode", "spin"]

RCLError = rclpy_implementation.RCLError

WAKE_PERIOD = 0.2
"""Seconds that a signal waits at most."""

LAST_WORDS = 3.0
"""Seconds that a process which ends takes at most to tell others so."""


class ManagedNode(LifecycleNode):
    """Base of this package's lifecycle nodes.

    A node says what each transition does in `set_up`, `start`, `stop` and `tear_down`. What
    these raise becomes a failed transition with a logged reason: rclpy itself lets such an
    exception end the process (until 11.0.3).
    """

    failure = ""
    """Why the last transition failed; empty after one that did not."""

    def set_up(self) -> None:
        """Configure: acquire what is needed, or raise."""

    def start(self) -> None:
        """Activate: begin to work, or raise."""

    def stop(self) -> None:
        """Deactivate: no work is under way when this returns. May be called twice."""

    def tear_down(self) -> None:
        """Clean up: release what `set_up` acquired, whole or in part. May be called twice."""

    @property
    def settled(self) -> bool:
        """Whether nobody waits for this node any more, once it was closed."""
        return True

    def bring_up_soon(self) -> None:
        """Configure and activate, once the node spins and can be seen.

        Where configuring fails the node waits, unconfigured, for somebody to set things right.
        """
        self._autostart = self.create_timer(
            0.01, self._bring_up, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )

    def _bring_up(self) -> None:
        self.destroy_timer(self._autostart)
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def _LifecycleNodeMixin__change_state(self, transition_id: int) -> TransitionCallbackReturn:  # noqa: N802
        """Refuse a transition that the state does not allow; up to Jazzy rclpy raises there.

        The name is the one that rclpy's mixin calls, mangled as it is for that class.
        """
        try:
            return super()._LifecycleNodeMixin__change_state(transition_id)
        except RCLError as error:
            self.get_logger().error(f"transition {transition_id} is not possible now: {error}")
            return TransitionCallbackReturn.ERROR

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        result = self._attempt("configure", self.set_up)
        if result != TransitionCallbackReturn.SUCCESS:
            self._attempt("clean up", self.tear_down, keep_failure=True)
        return result if result != TransitionCallbackReturn.SUCCESS else super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        result = self._attempt("activate", self.start)
        return result if result != TransitionCallbackReturn.SUCCESS else super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._attempt("deactivate", self.stop)
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._attempt("clean up", self.tear_down)
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.close()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.close()
        return super().on_error(state)

    def close(self) -> None:
        """Stop and release everything, whatever state the node is in."""
        self._attempt("stop", self.stop, keep_failure=True)
        self._attempt("clean up", self.tear_down, keep_failure=True)

    def _attempt(
        self, what: str, action: Callable[[], None], *, keep_failure: bool = False
    ) -> TransitionCallbackReturn:
        try:
            action()
        except RedepthError as error:
            reason = str(error)
        except Exception as error:  # a transition must end in a state, whatever went wrong
            reason = f"{type(error).__name__}: {error}"
        else:
            if not keep_failure:
                self.failure = ""
            return TransitionCallbackReturn.SUCCESS
        self.failure = f"can't {what}: {reason}"
        self.get_logger().error(self.failure)
        return TransitionCallbackReturn.FAILURE


def spin(makers: Sequence[Callable[[], ManagedNode]], arguments: list[str] | None = None) -> None:
    """Run managed nodes in this process until it is told to end."""
    ending = Ending()
    rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    executor = SingleThreadedExecutor()
    nodes = [make() for make in makers]
    # Python sees a signal when a callback runs: there is always one soon.
    nodes[0].create_timer(WAKE_PERIOD, lambda: None, clock=Clock(clock_type=ClockType.STEADY_TIME))
    try:
        for node in nodes:
            executor.add_node(node)
            if node.get_parameter("autostart").value:
                node.bring_up_soon()
        while not ending.told:
            executor.spin_once()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        with undisturbed():
            for node in nodes:
                node.close()
            _let_go(executor, nodes)
            executor.shutdown()
            for node in nodes:
                node.destroy_node()
            rclpy.try_shutdown()


def _let_go(executor: SingleThreadedExecutor, nodes: Sequence[ManagedNode]) -> None:
    """Let nodes tell others what became of the work they had, for a short while."""
    end = time.monotonic() + LAST_WORDS
    settled = all(node.settled for node in nodes)
    while rclpy.ok() and not settled and time.monotonic() < end:
        executor.spin_once(timeout_sec=WAKE_PERIOD)
        if all(node.settled for node in nodes):
            settled = True
            for _ in range(10):  # the answers themselves, which come after it
                executor.spin_once(timeout_sec=0.02)
