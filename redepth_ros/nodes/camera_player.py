"""The executable `camera_player`: a recording on the topics of a camera."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.errors import ConfigError, RedepthError
from redepth_ros.nodes.player_settings import PlayerSettings
from redepth_ros.recordings.bag import BagOptions
from redepth_ros.recordings.open import open_recording
from redepth_ros.recordings.photographs import open_photographs
from redepth_ros.recordings.recording import RecordedFrame, Recording, Selection, UnreadableFrame
from redepth_ros.ros.msgs.camera_info import camera_to_msg, copy_camera_info
from redepth_ros.ros.msgs.images import image_to_msg
from redepth_ros.ros.node.parameters import Parameters
from redepth_ros.ros.node.qos import OUTPUT
from redepth_ros.ros.node.signals import ignore_interrupts

__all__ = ["CameraPlayer", "main"]


FALLBACK_RATE = 10.0
"""Frames per second of a recording with one frame."""
SUBSCRIBER_TIMEOUT = 10.0
"""Seconds that a recording which is played once waits for the first subscriber."""


def open_player_input(path: str, topic: str = "") -> Recording:
    """Open what the player's parameters `path` and `bag_topic` name; see `open_recording`.

    Raises:
        ConfigError: nothing can be played; the message says what can.
    """
    if not path:
        return open_photographs()
    place = Path(path).expanduser()
    if not place.exists():
        raise ConfigError(
            f"path is {path!r}, which does not exist; name a video, an image, a folder of images or a "
            "rosbag2, or leave path empty for scikit-image's photographs"
        )
    return open_recording([place], BagOptions(topic=topic, anchors="none", poses="none"))


class CameraPlayer(Node):
    """Publishes `image` and `camera_info` with the same stamp, at the rate of its parameter.

    A frame that can't be decoded is left out. A recording that is played once starts when somebody
    subscribes to the images.

    Raises:
        RedepthError: on construction, if a parameter is invalid or the recording can't be played.
    """

    def __init__(self) -> None:
        super().__init__("camera_player")
        self._parameter_set = Parameters(
            self,
            PlayerSettings,
            is_fixed=lambda: True,
            remedy="restart the player with it",
            changed=self._change_settings,
        )
        self._settings = settings = self._parameter_set.settings()
        self._recording = open_player_input(settings.path, settings.bag_topic)
        self._frames: Iterator[RecordedFrame | UnreadableFrame] = self._recording.read(Selection())
        self._images = self.create_publisher(Image, "image", OUTPUT)
        self._camera_infos = self.create_publisher(CameraInfo, "camera_info", OUTPUT)
        self.played = 0
        """Frames published so far."""
        self.unreadable = 0
        """Frames left out because they can't be decoded."""
        self._started_at = time.monotonic()
        self.finished = False
        """Whether the recording has ended and does not loop."""
        self._timer = self.create_timer(
            1.0 / self._rate(), self._play, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )
        self.get_logger().info(f"playing {self._recording.description} at {self._rate():g} Hz")

    def _rate(self) -> float:
        return self._settings.rate or self._recording.rate or FALLBACK_RATE

    def _change_settings(self, settings: PlayerSettings) -> None:
        self._settings = settings
        self._timer.timer_period_ns = int(1e9 / self._rate())

    def _play(self) -> None:
        if not self._settings.loop and not self.played and self._waits_for_subscriber():
            return
        frame = self._next_frame()
        if frame is None and self._settings.loop and self.played:
            self._frames = self._recording.read(Selection())
            frame = self._next_frame()
        if frame is None:
            self.finished = True
            return
        frame_id = self._settings.frame_id or frame.frame_id or "camera_optical_frame"
        header = Header(stamp=self.get_clock().now().to_msg(), frame_id=frame_id)
        self._images.publish(image_to_msg(frame.image, "rgb8", header))
        self._camera_infos.publish(self._camera_info(frame, header))
        self.played += 1

    def _waits_for_subscriber(self) -> bool:
        """Return whether the first frame would still be lost; say once that the player waits or gives up."""
        if self._images.get_subscription_count():
            return False
        topic = self._images.topic_name
        if time.monotonic() - self._started_at < SUBSCRIBER_TIMEOUT:
            self.get_logger().info(
                f"loop is false: waiting up to {SUBSCRIBER_TIMEOUT:g} s for a subscriber of {topic}",
                once=True,
            )
            return True
        self.get_logger().warning(
            f"no subscriber of {topic} within {SUBSCRIBER_TIMEOUT:g} s: nothing receives its frames"
        )
        return False

    def _next_frame(self) -> RecordedFrame | None:
        """Return the next frame that can be decoded; None at the end."""
        for item in self._frames:
            if isinstance(item, RecordedFrame):
                return item
            self.unreadable += 1
            self.get_logger().warning(f"left out: {item.name}: {item.reason}", throttle_duration_sec=5.0)
        return None

    def _camera_info(self, frame: RecordedFrame, header: Header) -> CameraInfo:
        """Return the calibration of a frame; one with the assumed field of view if it is unknown."""
        if frame.camera_info is not None:
            return copy_camera_info(frame.camera_info, header)
        if frame.camera is not None:
            return camera_to_msg(frame.camera, header)
        height, width = frame.image.shape[:2]
        focal = 0.5 * width / math.tan(0.5 * math.radians(self._settings.horizontal_fov))
        return camera_to_msg(PinholeCamera.centered(focal, width, height), header)


def main(arguments: list[str] | None = None) -> None:
    """Run the player until the recording ends, or until it is interrupted."""
    rclpy.init(args=arguments)
    executor = SingleThreadedExecutor()
    status = 0
    try:
        player = CameraPlayer()
        executor.add_node(player)
        while not player.finished:
            executor.spin_once(timeout_sec=0.5)
        left_out = f", {player.unreadable} could not be decoded" if player.unreadable else ""
        player.get_logger().info(f"played all {player.played} frames{left_out}")
    except RedepthError as error:
        rclpy.logging.get_logger("camera_player").error(str(error))
        status = 1
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        with ignore_interrupts():
            executor.shutdown()
            rclpy.try_shutdown()
    sys.exit(status)


if __name__ == "__main__":
    main()
