"""A lifecycle node that can configure and activate itself, and that reports why a transition failed."""

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
from redepth_ros.ros.node.signals import ShutdownSignal, ignore_interrupts

__all__ = ["ManagedNode", "spin"]

RCLError = rclpy_implementation.RCLError

WAKE_PERIOD = 0.2
"""Longest time until a signal is noticed, seconds."""

SETTLE_TIMEOUT = 3.0
"""Longest time that an ending process waits until its clients have their answers, seconds."""


class ManagedNode(LifecycleNode):
    """Base class of this package's lifecycle nodes.

    A subclass implements the transitions as `set_up` (configure), `start` (activate), `stop`
    (deactivate) and `tear_down` (clean up). An exception in one of them makes the transition
    fail and is logged; rclpy before 11.0.3 ends the process instead.
    """

    failure = ""
    """Reason for the failure of the last transition; empty if it succeeded."""

    def set_up(self) -> None:
        """Configure: acquire all resources, or raise."""

    def start(self) -> None:
        """Activate: start working, or raise."""

    def stop(self) -> None:
        """Deactivate: stop working before this returns. May be called twice."""

    def tear_down(self) -> None:
        """Clean up: release all that `set_up` acquired, completely or partly. May be called twice."""

    @property
    def settled(self) -> bool:
        """Whether no client waits for an answer of this node after it was closed."""
        return True

    def bring_up_soon(self) -> None:
        """Configure and activate the node as soon as it spins.

        If configuring fails, the node stays unconfigured until a parameter is corrected and the
        transition is requested again.
        """
        self._autostart = self.create_timer(
            0.01, self._bring_up, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )

    def _bring_up(self) -> None:
        self.destroy_timer(self._autostart)
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def _LifecycleNodeMixin__change_state(self, transition_id: int) -> TransitionCallbackReturn:  # noqa: N802
        """Reject a transition that the current state does not allow; up to Jazzy, rclpy raises.

        rclpy's mixin calls this method by its name, mangled for that class.
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
        """Stop, and release all resources, in any state of the node."""
        self._attempt("stop", self.stop, keep_failure=True)
        self._attempt("clean up", self.tear_down, keep_failure=True)

    def _attempt(
        self, verb: str, action: Callable[[], None], *, keep_failure: bool = False
    ) -> TransitionCallbackReturn:
        try:
            action()
        except RedepthError as error:
            reason = str(error)
        except Exception as error:  # every transition has to end in a state
            reason = f"{type(error).__name__}: {error}"
        else:
            if not keep_failure:
                self.failure = ""
            return TransitionCallbackReturn.SUCCESS
        self.failure = f"can't {verb}: {reason}"
        self.get_logger().error(self.failure)
        return TransitionCallbackReturn.FAILURE


def spin(makers: Sequence[Callable[[], ManagedNode]], arguments: list[str] | None = None) -> None:
    """Run managed nodes in this process until SIGINT or SIGTERM.

    Args:
        makers: functions that make the nodes.
        arguments: command line for ROS; None takes that of the process.
    """
    shutdown = ShutdownSignal()
    rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    executor = SingleThreadedExecutor()
    nodes = [make() for make in makers]
    # Python handles a signal only between callbacks: this timer makes sure that one runs soon.
    nodes[0].create_timer(WAKE_PERIOD, lambda: None, clock=Clock(clock_type=ClockType.STEADY_TIME))
    try:
        for node in nodes:
            executor.add_node(node)
            if node.get_parameter("autostart").value:
                node.bring_up_soon()
        while not shutdown.received:
            executor.spin_once()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        with ignore_interrupts():
            for node in nodes:
                node.close()
            _settle(executor, nodes)
            executor.shutdown()
            for node in nodes:
                node.destroy_node()
            rclpy.try_shutdown()


def _settle(executor: SingleThreadedExecutor, nodes: Sequence[ManagedNode]) -> None:
    """Spin until the clients of the nodes have their answers, at most `SETTLE_TIMEOUT`."""
    end = time.monotonic() + SETTLE_TIMEOUT
    settled = all(node.settled for node in nodes)
    while rclpy.ok() and not settled and time.monotonic() < end:
        executor.spin_once(timeout_sec=WAKE_PERIOD)
        if all(node.settled for node in nodes):
            settled = True
            for _ in range(10):  # the results are sent in the callbacks that follow
                executor.spin_once(timeout_sec=0.02)
