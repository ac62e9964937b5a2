"""A lifecycle node that can configure and activate itself, and that reports why a transition failed."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from typing import Any

import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecycleNodeMixin, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from redepth_ros.core.errors import reason_of
from redepth_ros.ros.node.parameter_files import broken_file, unknown_parameters
from redepth_ros.ros.node.signals import ShutdownSignal, ignore_interrupts, leave
from redepth_ros.ros.node.slow_part import SlowPart

__all__ = ["ManagedNode", "spin"]

RCLError = rclpy_implementation.RCLError

WAKE_PERIOD = 0.2
"""Longest time until a signal is noticed, seconds."""

SETTLE_TIMEOUT = 3.0
"""Longest time that an ending process waits until its clients have their answers, seconds."""

DRAIN_TIMEOUT = 1.0
"""Longest time that it then answers requests, seconds."""

QUIET_TIME = 0.1
"""Time without a callback after which no request is open, seconds; shorter than `WAKE_PERIOD`."""


class ManagedNode(LifecycleNode):
    """Base class of this package's lifecycle nodes.

    A subclass implements the transitions as `set_up` (configure), `start` (activate), `stop`
    (deactivate) and `tear_down` (clean up). An exception in one of them makes the transition
    fail and is logged; rclpy before 11.0.3 ends the process instead.

    The slow parts of configuring and deactivating belong into other threads: `begin_set_up` and
    `begin_stop` start them. The executor waits for them as a coroutine, so that services, timers and
    signals are served meanwhile. (A transition that this process triggers itself, for example by
    `trigger_configure`, blocks.)
    """

    failure = ""
    """Reason for the failure of the last transition; empty if it succeeded."""

    ending = False
    """Whether the process ends: no transition succeeds any more."""

    known_parameters: Collection[str] = ()
    """Parameters of other nodes of the package, which a file for all nodes may give to this one."""

    def __init__(self, name: str) -> None:
        self._fatal = ""  # reason of `fail`
        self._slow_part = SlowPart()
        Node.__init__(self, name)
        # A group of their own, which LifecycleNode's constructor does not take: get_state and all other
        # callbacks are served while change_state waits.
        LifecycleNodeMixin.__init__(self, callback_group=ReentrantCallbackGroup())

    def begin_set_up(self) -> Future[Any] | None:
        """Begin the slow part of configuring in another thread, or raise; `set_up` is called when it is done.

        Returns:
            The slow part; its error makes the transition fail. None if there is none.
        """
        return None

    def set_up(self) -> None:
        """Configure: acquire all resources, or raise."""

    def start(self) -> None:
        """Activate: start working, or raise."""

    def begin_stop(self) -> Future[Any] | None:
        """Tell other threads to stop; `stop` is called when they have.

        Returns:
            The work that ends; None if there is none.
        """
        return None

    def stop(self) -> None:
        """Deactivate: stop working before this returns. May be called twice."""

    def tear_down(self) -> None:
        """Clean up: release all that `set_up` acquired, completely or partly. May be called twice."""

    @property
    def settled(self) -> bool:
        """Whether no client waits for an answer of this node after it was closed."""
        return True

    @property
    def stuck(self) -> bool:
        """Whether a thread does work that can't be interrupted and that is not worth waiting for."""
        return False

    def bring_up_soon(self) -> None:
        """Configure and activate the node as soon as it spins; it must have an executor.

        If configuring fails, the node stays unconfigured until a parameter is corrected and the
        transition is requested again.
        """
        assert self.executor is not None
        self.executor.create_task(self._bring_up)

    async def _bring_up(self) -> None:
        result = await self._change_state(Transition.TRANSITION_CONFIGURE)
        if result == TransitionCallbackReturn.SUCCESS:
            await self._change_state(Transition.TRANSITION_ACTIVATE)

    async def _LifecycleNodeMixin__on_change_state(  # noqa: N802
        self, request: ChangeState.Request, response: ChangeState.Response
    ) -> ChangeState.Response:
        """Serve `change_state` without blocking the executor; rclpy's mixin calls it by this mangled name."""
        transition = request.transition.id
        try:
            if request.transition.label:
                transition = self._state_machine.get_transition_by_label(request.transition.label)
            response.success = await self._change_state(transition) == TransitionCallbackReturn.SUCCESS
        except RCLError:  # no such label
            response.success = False
        return response

    async def _change_state(self, transition: int) -> TransitionCallbackReturn:
        """Do a transition; the executor is free while its slow part is done."""
        if self.ending:
            return TransitionCallbackReturn.ERROR
        slow = {
            Transition.TRANSITION_CONFIGURE: (self.begin_set_up, self.on_configure),
            Transition.TRANSITION_DEACTIVATE: (self.begin_stop, self.on_deactivate),
        }
        if transition not in slow:
            return self._LifecycleNodeMixin__change_state(transition)
        begin, finish = slow[transition]
        state, label = self._state_machine.current_state
        previous = LifecycleState(state_id=state, label=label)
        try:
            self._state_machine.trigger_transition_by_id(transition, True)
        except RCLError as error:
            return self._reject(transition, error)
        self._slow_part.begin(begin)
        await self._slow_part.wait(self.executor)
        # Set up after it was closed, the node would have threads that keep the process.
        result = TransitionCallbackReturn.ERROR if self.ending else finish(previous)
        self._state_machine.trigger_transition_by_label(result.to_label(), True)
        if result == TransitionCallbackReturn.ERROR:
            processed = self.on_error(previous)
            self._state_machine.trigger_transition_by_label(processed.to_label(), True)
        return result

    def _set_up(self) -> None:
        self._slow_part.finish(self.begin_set_up)
        self.set_up()

    def _stop(self) -> None:
        self._slow_part.finish(self.begin_stop)
        self.stop()

    async def fail(self, reason: str) -> None:
        """Leave the active state because of an error that does not go away.

        The node passes through error processing to unconfigured, like after an error of a transition.

        Args:
            reason: becomes `failure`.
        """
        self._fatal = reason
        await self._change_state(Transition.TRANSITION_DEACTIVATE)
        self._fatal = ""

    def _reject(self, transition: int, error: Exception) -> TransitionCallbackReturn:
        self.get_logger().error(f"transition {transition} is not possible now: {error}")
        return TransitionCallbackReturn.ERROR

    def _LifecycleNodeMixin__change_state(self, transition_id: int) -> TransitionCallbackReturn:  # noqa: N802
        """Reject a transition that the current state does not allow; up to Jazzy, rclpy raises.

        rclpy's mixin calls this method by its name, mangled for that class.
        """
        try:
            return super()._LifecycleNodeMixin__change_state(transition_id)
        except RCLError as error:
            return self._reject(transition_id, error)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        result = self._attempt("configure", self._set_up)
        if result != TransitionCallbackReturn.SUCCESS:
            self._attempt("clean up", self.tear_down, keep_failure=True)
        return result if result != TransitionCallbackReturn.SUCCESS else super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        result = self._attempt("activate", self.start)
        return result if result != TransitionCallbackReturn.SUCCESS else super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._attempt("deactivate", self._stop)
        if not self._fatal:
            return super().on_deactivate(state)
        self.failure = self._fatal
        self.get_logger().error(self.failure)
        return TransitionCallbackReturn.ERROR

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
        self._slow_part.forget()
        self._attempt("stop", self._stop, keep_failure=True)
        self._attempt("clean up", self.tear_down, keep_failure=True)

    def _attempt(
        self, verb: str, action: Callable[[], None], *, keep_failure: bool = False
    ) -> TransitionCallbackReturn:
        try:
            action()
        except Exception as error:  # every transition has to end in a state
            self.failure = f"can't {verb}: {reason_of(error)}"
            self.get_logger().error(self.failure)
            return TransitionCallbackReturn.FAILURE
        if not keep_failure:
            self.failure = ""
        return TransitionCallbackReturn.SUCCESS


def spin(makers: Sequence[Callable[[], ManagedNode]], arguments: list[str] | None = None) -> None:
    """Run managed nodes in this process until SIGINT or SIGTERM.

    Args:
        makers: functions that make the nodes.
        arguments: command line for ROS; None takes that of the process.

    Raises:
        SystemExit: with a message, if a parameter file or an argument can't be read.
    """
    shutdown = ShutdownSignal()
    if problem := broken_file(arguments):
        sys.exit(problem)
    try:
        rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    except RCLError as error:
        sys.exit(f"can't read the arguments for ROS: {error}")
    executor = SingleThreadedExecutor()
    nodes: list[ManagedNode] = []
    try:
        for make in makers:
            node = make()
            nodes.append(node)
            executor.add_node(node)
            for mistake in unknown_parameters(node, arguments, node.known_parameters):
                node.get_logger().warning(mistake)
        # Python handles a signal only between callbacks: this timer makes sure that one runs soon.
        nodes[0].create_timer(WAKE_PERIOD, lambda: None, clock=Clock(clock_type=ClockType.STEADY_TIME))
        for node in nodes:
            if node.get_parameter("autostart").value and not shutdown.received:
                node.bring_up_soon()
        while not shutdown.received:
            executor.spin_once()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        with ignore_interrupts():
            for node in nodes:
                node.ending = True
                node.close()
            _settle(executor, nodes)
            executor.shutdown()
            for node in nodes:
                node.destroy_node()
            rclpy.try_shutdown()
            if any(node.stuck for node in nodes):
                leave()


def _settle(executor: SingleThreadedExecutor, nodes: Sequence[ManagedNode]) -> None:
    """Spin until the clients of the nodes have their answers, at most `SETTLE_TIMEOUT`."""
    end = time.monotonic() + SETTLE_TIMEOUT
    while rclpy.ok() and time.monotonic() < end and not all(node.settled for node in nodes):
        executor.spin_once(timeout_sec=WAKE_PERIOD)
    # Requests that have arrived get an answer, and clients ask for the results of their goals.
    end, quiet = time.monotonic() + DRAIN_TIMEOUT, False
    while rclpy.ok() and time.monotonic() < end and not quiet:
        start = time.monotonic()
        executor.spin_once(timeout_sec=QUIET_TIME)
        quiet = time.monotonic() - start >= QUIET_TIME
