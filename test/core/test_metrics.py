"""Measures of depth error, against the authors' own evaluation code."""

import json
from pathlib import Path

import numpy as np
import pytest

from redepth_ros.core.errors import ImageError
from redepth_ros.core.metrics import align_depth, depth_errors

DATA = Path(__file__).parent / "data"

# Our names and those of the published evaluation.
NAMES = {
    "abs_rel": "abs_rel", "sq_rel": "sq_rel", "rmse": "rmse", "rmse_log": "rmse_log",
    "log10": "log_10", "silog": "silog", "delta1": "a1", "delta2": "a2", "delta3": "a3",
}  # fmt: skip


def test_the_authors_evaluation_is_reproduced():
    with np.load(DATA / "evaluate_0.npz") as stored:
        mask = stored["mask"].astype(bool)
        truth, disparity = stored["gt"][mask], stored["disparity"][mask]
    expected = json.loads((DATA / "evaluate_0.json").read_text())
    found = depth_errors(align_depth(disparity, truth), truth)
    for ours, theirs in NAMES.items():
        assert found[ours] == pytest.approx(expected[theirs], rel=1e-5), ours


def test_a_disparity_that_is_off_by_scale_and_shift_only_has_no_error():
    truth = np.linspace(1.0, 9.0, 100)
    found = depth_errors(align_depth(4.0 / truth + 0.3, truth), truth)
    assert found["abs_rel"] == pytest.approx(0.0, abs=1e-9)
    assert found["delta1"] == 1.0


def test_one_pixel_is_too_few():
    with pytest.raises(ImageError, match="1 valid pixels"):
        align_depth(np.ones(1), np.ones(1))
