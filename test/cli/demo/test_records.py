"""Scenes, keyframes and their errors."""

import numpy as np
import pytest

from redepth_ros.cli.demo.records import Errors, Keyframe, Scene, align, first_of_each_image
from redepth_ros.core.camera import PinholeCamera

CAMERA = PinholeCamera.centered(20.0, 16, 12)
TRUTH = np.linspace(1.0, 4.0, 192, dtype=np.float32).reshape(12, 16)


def make_keyframe(fast=TRUTH, refined=TRUTH, value=0):
    image = np.full((12, 16, 3), value, np.uint8)
    return Keyframe(Scene(image, fast, CAMERA), refined, "refined", "refined: by 5 %", 1.5)


def test_errors_ignore_scale_and_shift():
    wrong = TRUTH + 0.3 * np.sin(7.0 * TRUTH)
    errors = Errors.measure(make_keyframe(wrong, (1.0 / (0.5 / TRUTH + 0.1)).astype(np.float32)), TRUTH)
    assert errors.refined == pytest.approx(0.0, abs=1e-4)
    assert errors.fast > 0.02
    assert Errors(0.2, 0.15).change == "-25.0%"


def test_alignment_leaves_out_invalid_pixels():
    depth, truth = 2.0 * TRUTH, TRUTH.copy()
    depth[0, 0], truth[1, 1] = np.nan, np.nan
    aligned = align(depth, truth)
    assert np.isnan(aligned[0, 0])
    assert np.isnan(aligned[1, 1])
    np.testing.assert_allclose(aligned[2:], TRUTH[2:], rtol=1e-4)


def test_the_first_keyframe_of_each_image():
    keyframes = [make_keyframe(value=value) for value in (1, 2, 1, 3, 2)]
    assert first_of_each_image(keyframes, 2) == [keyframes[0], keyframes[1]]
    assert first_of_each_image(keyframes, 9) == [keyframes[0], keyframes[1], keyframes[3]]
