"""Frames with a known depth, and their records."""

import numpy as np

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.exports.exporter import Session
from redepth_ros.exports.frames import DepthFrame, FrameRecord
from redepth_ros.viz.colormaps import depth_limits

HEIGHT, WIDTH = 24, 32


def make_session(**changes):
    facts = {"description": "test <b>", "unit": "m", "rate": 10.0, "has_cameras": True, "has_poses": True}
    return Session(**{**facts, **changes})


def make_frame(index, **changes):
    """A frame whose depth rises from left to right, with one invalid pixel."""
    depth = np.tile(np.linspace(1.0, 4.0, WIDTH, dtype=np.float32), (HEIGHT, 1)) + np.float32(index)
    depth[0, 0] = np.nan
    pose = np.eye(4)
    pose[:3, :3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]  # the optical frame of a camera that looks along x
    pose[:3, 3] = (index, 2.0, 3.0)
    fields = {
        "index": index,
        "stamp": 10**9 + index * 10**8,
        "name": f"{index:06d}",
        "image": np.full((HEIGHT, WIDTH, 3), (200, 100, 10 + index), np.uint8),
        "depth": depth,
        "stddev": 0.1 * depth,
        "camera": PinholeCamera(40.0, 41.0, 15.0, 11.0, WIDTH, HEIGHT),
        "frame_id": "camera",
        "pose": pose,
    }
    return DepthFrame(**{**fields, **changes})


def make_record(frame, **changes):
    camera = frame.camera
    fields = {
        "height": HEIGHT,
        "width": WIDTH,
        "camera": (camera.fx, camera.fy, camera.cx, camera.cy) if camera else None,
        "pose": tuple(frame.pose.reshape(-1)) if frame.pose is not None else None,
        "scale": 1.0 + 0.1 * frame.index,
        "shift": 0.0,
        "covariance": (0.01, 0.0, 0.0),
        "valid": 0.99,
        "median": 2.5,
        "limits": depth_limits(frame.depth),
    }
    return FrameRecord(frame.index, frame.stamp, frame.name, **{**fields, **changes})
