"""Anchors of a bag's messages."""

import numpy as np
import pytest
from bags import SECOND, STORE, make_image, make_points

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.recordings.bag_anchors import BagAnchors
from redepth_ros.recordings.transforms import TransformBuffer

CAMERA = PinholeCamera(50.0, 50.0, 15.5, 11.5, 32, 24)
SIZE = (24, 32)
DEPTH = np.full((12, 16), 2500, np.uint16)


class Setup:
    """Anchors of some messages, and the warnings of the images."""

    def __init__(self, *messages, fixed_frame="", transforms=None):
        self.warnings = []
        self._anchors = BagAnchors(
            "/measured", 0.05, fixed_frame, STORE.deserialize_cdr, transforms or TransformBuffer()
        )
        for message in messages:
            self._anchors.add(STORE.serialize_cdr(message, message.__msgtype__), message.__msgtype__)

    def find(self, stamp=SECOND, camera=CAMERA):
        return self._anchors.find(stamp, "camera", *SIZE, camera, self.warnings)


def test_depth_gives_anchors_at_the_size_of_the_image():
    setup = Setup(make_image(DEPTH, "16UC1", SECOND))
    anchors = setup.find()
    assert ((anchors.height, anchors.width), len(anchors)) == (SIZE, DEPTH.size)
    assert set(anchors.depth) == {2.5}
    assert setup.warnings == []


def test_the_nearest_message_within_the_tolerance_serves_one_image():
    offsets = (-0.2, 0.03, 0.2)
    values = (1000, 2000, 4000)
    images = [
        make_image(np.full((12, 16), value, np.uint16), "16UC1", round((1.0 + offset) * SECOND))
        for offset, value in zip(offsets, values, strict=True)
    ]
    setup = Setup(*images)
    found = [setup.find(round(seconds * SECOND)) for seconds in (0.7, 1.0, 1.04, 1.19)]
    assert [one and float(one.depth[0]) for one in found] == [None, 2.0, None, 4.0]
    assert setup.warnings == []


@pytest.mark.parametrize(
    ("message", "camera", "words"),
    [
        (None, CAMERA, "no anchors: /measured has no message within 1 s"),
        (make_image(DEPTH, "16UC1", 3 * SECOND), CAMERA, "no anchors: /measured has no message within 1 s"),
        (
            make_image(DEPTH, "16UC1", SECOND, "depth"),
            CAMERA,
            "is in the frame 'depth', the image",
        ),
        (make_image(DEPTH[:, :6], "16UC1", SECOND), CAMERA, "has 6x12 pixels, the image 32x24"),
        (make_image(0 * DEPTH, "16UC1", SECOND), CAMERA, "anchors are not used: none of the 192 pixels"),
        (
            make_points([[0, 0, 3]], SECOND, "camera"),
            None,
            "the camera has no calibration: give --camera-info",
        ),
        (make_points([[0, 0, 3]], SECOND), CAMERA, "tf does not connect 'lidar' and 'camera'"),
    ],
)
def test_a_warning_tells_why_an_image_has_no_anchors(message, camera, words):
    setup = Setup(*([message] if message is not None else []))
    assert setup.find(camera=camera) is None
    (warning,) = setup.warnings
    assert words in warning


def test_a_damaged_message_is_reported():
    setup, message = Setup(), make_image(DEPTH, "16UC1", SECOND)
    setup._anchors.add(bytes(STORE.serialize_cdr(message, message.__msgtype__))[:40], message.__msgtype__)
    assert setup.find() is None
    (warning,) = setup.warnings
    assert warning.startswith("anchors are not used: their message is damaged")


@pytest.mark.parametrize(("fixed_frame", "column"), [("", 15), ("odom", 25)])
def test_a_fixed_frame_compensates_the_motion_between_points_and_image(fixed_frame, column):
    """The camera moves by 1 m to the left between both; at 5 m, that is 10 pixels."""
    transforms = TransformBuffer()
    for stamp, x in ((SECOND, 0.0), (SECOND + SECOND // 25, -1.0)):
        transforms.add("odom", "camera", stamp, (x, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0))
    setup = Setup(make_points([[0, 0, 5]], SECOND, "camera"), fixed_frame=fixed_frame, transforms=transforms)
    anchors = setup.find(SECOND + SECOND // 25)
    assert setup.warnings == []
    assert abs(int(anchors.columns[0]) - column) <= 1
