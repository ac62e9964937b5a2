"""The camera of the soak, a process of its own that is told how to misbehave."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any

import cv2
import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.data.rendered import load_rendered_images
from redepth_ros.ros.msgs.camera_info import camera_to_msg
from redepth_ros.ros.msgs.images import image_to_msg
from redepth_ros.ros.msgs.time import time_from_nanoseconds
from redepth_ros.ros.node.qos import OUTPUT

__all__ = ["NORMAL", "run_camera"]

CAMERA = PinholeCamera.centered(150.0, 160, 120)
RATE = 10.0
"""Images per second."""
SCENE_TIME = 3.0
"""Seconds for which the camera shows one scene."""
NORMAL: dict[str, Any] = {"paused": False, "offset": 0.0, "stamp": None, "factor": 1.0}
"""Behaviour of the camera: whether it sends nothing, what it adds to its stamps (seconds), a stamp that it
sends always (seconds, or None), and the factor on its measured depth."""


def run_camera() -> None:
    """Send images, calibrations and measured depth; follow the lines of JSON on the standard input."""
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node, state = Node("camera"), dict(NORMAL)
    threading.Thread(target=_follow, args=(state,), daemon=True).start()
    images = node.create_publisher(Image, "image", OUTPUT)
    infos = node.create_publisher(CameraInfo, "camera_info", OUTPUT)
    anchors = node.create_publisher(Image, "anchors/depth", OUTPUT)
    scenes = load_scenes()
    start = time.monotonic()
    for number in range(2**62):
        time.sleep(max(0.0, start + number / RATE - time.monotonic()))
        if state["paused"]:
            continue
        image, depth = view(*scenes[int(number / RATE / SCENE_TIME) % len(scenes)], number)
        now = node.get_clock().now().nanoseconds + round(1e9 * state["offset"])
        stamp = now if state["stamp"] is None else round(1e9 * state["stamp"])
        header = Header(stamp=time_from_nanoseconds(stamp), frame_id="camera")
        infos.publish(camera_to_msg(CAMERA, header))
        measured = np.full_like(depth, np.nan)
        measured[::4, ::4] = depth[::4, ::4] * state["factor"]
        anchors.publish(image_to_msg(measured, "32FC1", header))
        images.publish(image_to_msg(image, "rgb8", header))


def load_scenes() -> list[tuple[np.ndarray, np.ndarray]]:
    """Return images (H, W, 3) and depth (H, W), metres, of scenes whose depth the network tells apart."""
    found = {one.kind: (one.image, one.depth) for one in load_rendered_images()}
    image, depth = found["room"]
    return [(image, depth), (image[:, ::-1], depth[:, ::-1]), found["table"]]


def view(image: np.ndarray, depth: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the part of a scene that the camera sees: it pans to and fro."""
    left = abs(number % 40 - 20) * 2
    window = slice(10, 230), slice(left, left + 280)
    size = (CAMERA.width, CAMERA.height)
    nearest = cv2.INTER_NEAREST
    return cv2.resize(image[window], size), cv2.resize(depth[window], size, interpolation=nearest)


def _follow(state: dict[str, Any]) -> None:
    for line in sys.stdin:
        state.update(json.loads(line))
    os._exit(0)  # the soak has ended
