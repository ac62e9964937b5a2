"""Bags that tests write with rosbags."""

from __future__ import annotations

import cv2
import numpy as np
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

STORE = get_typestore(Stores.ROS2_HUMBLE)
TYPES = STORE.types
SECOND = 10**9


def make_header(stamp, frame_id):
    """A header; the stamp is in nanoseconds."""
    return TYPES["std_msgs/msg/Header"](
        TYPES["builtin_interfaces/msg/Time"](stamp // SECOND, stamp % SECOND), frame_id
    )


def make_image(array, encoding, stamp, frame_id="camera"):
    step = array.nbytes // array.shape[0]
    data = np.ascontiguousarray(array).view(np.uint8).reshape(-1)
    return TYPES["sensor_msgs/msg/Image"](
        make_header(stamp, frame_id), *array.shape[:2], encoding, 0, step, data
    )


def make_compressed(array, stamp, frame_id="camera", format_="rgb8; png compressed bgr8"):
    data = cv2.imencode(".png", array[..., ::-1] if array.ndim == 3 else array)[1].reshape(-1)
    return TYPES["sensor_msgs/msg/CompressedImage"](make_header(stamp, frame_id), format_, data)


def make_info(height, width, stamp, frame_id="camera", focal=50.0):
    region = TYPES["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    cx, cy = 0.5 * (width - 1), 0.5 * (height - 1)
    k = np.array([focal, 0, cx, 0, focal, cy, 0, 0, 1.0])
    p = np.array([focal, 0, cx, 0, 0, focal, cy, 0, 0, 0, 1.0, 0])
    return TYPES["sensor_msgs/msg/CameraInfo"](
        make_header(stamp, frame_id),
        height,
        width,
        "plumb_bob",
        np.zeros(5),
        k,
        np.eye(3).reshape(-1),
        p,
        0,
        0,
        region,
    )


def make_points(points, stamp, frame_id="lidar"):
    field = TYPES["sensor_msgs/msg/PointField"]
    fields = [field(name, 4 * index, 7, 1) for index, name in enumerate("xyz")]
    data = np.ascontiguousarray(points, np.float32).view(np.uint8).reshape(-1)
    return TYPES["sensor_msgs/msg/PointCloud2"](
        make_header(stamp, frame_id), 1, len(points), fields, False, 12, 12 * len(points), data, True
    )


def make_tf(*transforms):
    """Each is (parent, child, stamp, translation, quaternion)."""
    made = []
    for parent, child, stamp, translation, quaternion in transforms:
        transform = TYPES["geometry_msgs/msg/Transform"](
            TYPES["geometry_msgs/msg/Vector3"](*map(float, translation)),
            TYPES["geometry_msgs/msg/Quaternion"](*map(float, quaternion)),
        )
        made.append(TYPES["geometry_msgs/msg/TransformStamped"](make_header(stamp, parent), child, transform))
    return TYPES["tf2_msgs/msg/TFMessage"](made)


def make_odometry(stamp, position, quaternion=(0.0, 0.0, 0.0, 1.0), child="base"):
    """The pose of a frame in odom."""
    pose = TYPES["geometry_msgs/msg/Pose"](
        TYPES["geometry_msgs/msg/Point"](*position), TYPES["geometry_msgs/msg/Quaternion"](*quaternion)
    )
    zero = TYPES["geometry_msgs/msg/Vector3"](0.0, 0.0, 0.0)
    return TYPES["nav_msgs/msg/Odometry"](
        make_header(stamp, "odom"),
        child,
        TYPES["geometry_msgs/msg/PoseWithCovariance"](pose, np.zeros(36)),
        TYPES["geometry_msgs/msg/TwistWithCovariance"](
            TYPES["geometry_msgs/msg/Twist"](zero, zero), np.zeros(36)
        ),
    )


def write_bag(path, messages, *, plugin="sqlite3", compression=None):
    """Write (topic, time, message) in the order given; returns the path."""
    storage = StoragePlugin.MCAP if plugin == "mcap" else StoragePlugin.SQLITE3
    writer = Writer(path, version=8, storage_plugin=storage)
    if compression:
        writer.set_compression(getattr(CompressionMode, compression.upper()), CompressionFormat.ZSTD)
    connections = {}
    with writer:
        for topic, time, message in messages:
            raw = message if isinstance(message, tuple) else None
            kind = raw[0] if raw else message.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=STORE)
            data = raw[1] if raw else STORE.serialize_cdr(message, kind)
            writer.write(connections[topic], time, data)
    return path


def grey(number, height=24, width=32):
    """An image whose grey tells its number."""
    return np.full((height, width, 3), 4 * (number % 60) + 10, np.uint8)


def number_of(image):
    return round((float(image.mean()) - 10) / 4)


def camera_messages(count=5, *, topic="/front/image_raw", frame_id="camera", period=SECOND // 20, info=True):
    """Images with their camera_info, each recorded 5 ms after its stamp."""
    for number in range(count):
        stamp = SECOND + number * period
        yield topic, stamp + 5_000_000, make_image(grey(number), "rgb8", stamp, frame_id)
        if info:
            name = topic.rsplit("/", 1)[0] + "/camera_info"
            yield name, stamp + 6_000_000, make_info(24, 32, stamp, frame_id)
