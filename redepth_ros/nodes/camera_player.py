"""The executable `camera_player`: footage on the topics of a camera."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator

import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.errors import RedepthError
from redepth_ros.nodes.settings import PlayerSettings
from redepth_ros.ros.msgs.camera_info import camera_to_msg, copy_camera_info
from redepth_ros.ros.msgs.images import image_to_msg
from redepth_ros.ros.node.parameters import Parameters
from redepth_ros.ros.node.qos import OUTPUT
from redepth_ros.ros.node.signals import ignore_interrupts
from redepth_ros.ros.streams.footage import Shot, open_footage

__all__ = ["CameraPlayer", "main"]


class CameraPlayer(Node):
    """Publishes `image` and `camera_info` with the same stamp, at the rate of its parameter.

    Raises:
        RedepthError: on construction, if a parameter is invalid or the footage can't be played.
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
        self._footage = open_footage(settings.path, settings.bag_topic)
        self._shots: Iterator[Shot] = self._footage.shots()
        self._images = self.create_publisher(Image, "image", OUTPUT)
        self._camera_infos = self.create_publisher(CameraInfo, "camera_info", OUTPUT)
        self.played = 0
        """Frames published so far."""
        self.finished = False
        """Whether the footage has ended and does not loop."""
        self._timer = self.create_timer(
            1.0 / self._rate(), self._play, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )
        self.get_logger().info(f"playing {self._footage.description} at {self._rate():g} Hz")

    def _rate(self) -> float:
        return self._settings.rate or self._footage.rate

    def _change_settings(self, settings: PlayerSettings) -> None:
        self._settings = settings
        self._timer.timer_period_ns = int(1e9 / self._rate())

    def _play(self) -> None:
        shot = next(self._shots, None)
        if shot is None and self._settings.loop and self.played:
            self._shots = self._footage.shots()
            shot = next(self._shots, None)
        if shot is None:
            self.finished = True
            return
        frame_id = self._settings.frame_id or shot.frame_id or "camera_optical_frame"
        header = Header(stamp=self.get_clock().now().to_msg(), frame_id=frame_id)
        self._images.publish(image_to_msg(shot.image, "rgb8", header))
        self._camera_infos.publish(self._camera_info(shot, header))
        self.played += 1

    def _camera_info(self, shot: Shot, header: Header) -> CameraInfo:
        """Return the calibration of a frame; one with the assumed field of view if it is unknown."""
        if isinstance(shot.calibration, PinholeCamera):
            return camera_to_msg(shot.calibration, header)
        if shot.calibration is not None:
            return copy_camera_info(shot.calibration, header)
        height, width = shot.image.shape[:2]
        focal = 0.5 * width / math.tan(0.5 * math.radians(self._settings.horizontal_fov))
        return camera_to_msg(PinholeCamera.centered(focal, width, height), header)


def main(arguments: list[str] | None = None) -> None:
    """Run the player until the footage ends, or until it is interrupted."""
    rclpy.init(args=arguments)
    executor = SingleThreadedExecutor()
    status = 0
    try:
        player = CameraPlayer()
        executor.add_node(player)
        while not player.finished:
            executor.spin_once(timeout_sec=0.5)
        player.get_logger().info(f"played all {player.played} frames")
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
