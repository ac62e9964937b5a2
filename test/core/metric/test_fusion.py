"""Fusion of anchors with a network's disparity, alone and over a stream."""

import numpy as np
import pytest
import torch

from redepth_ros.core.errors import AnchorError
from redepth_ros.core.metric.anchors import Anchors
from redepth_ros.core.metric.frame_features import FrameFeatures
from redepth_ros.core.metric.fusion import fuse_depth
from redepth_ros.core.metric.residual_history import ResidualHistory
from redepth_ros.core.metric.scale import Scale

HEIGHT, WIDTH = 96, 128
SCALE = Scale(6.0, 0.4)


def scene(error=0.05):
    """Return depth (H, W) of a box at 2 m before a slanted wall, and disparity with a smooth error."""
    row, column = np.mgrid[0:HEIGHT, 0:WIDTH]
    depth = 4.0 + 0.02 * column
    depth[30:70, 40:80] = 2.0
    smooth = np.sin(row / 25.0) * np.cos(column / 30.0)
    disparity = 6.0 / depth * (1.0 + error * smooth) - 0.4
    return depth, torch.from_numpy(disparity.astype(np.float32))


def sample_anchors(depth, count=200, outliers=0.0, seed=0, rows=None):
    """Draw anchors at random pixels, with 1 % noise, and a share of them with a random depth."""
    rng = np.random.default_rng(seed)
    places = rng.choice(depth.size, count, replace=False)
    row, column = np.divmod(places, depth.shape[1])
    if rows is not None:
        row = rng.choice(rows, count)
    value = depth[row, column] * (1.0 + 0.01 * rng.standard_normal(count))
    wrong = int(outliers * count)
    value[:wrong] = rng.uniform(depth.min(), depth.max(), wrong)
    return Anchors(row, column, value, *depth.shape)


def mean_error(result, depth):
    return float(np.abs(result.depth.numpy() / depth - 1.0).mean())


def global_error(depth, disparity):
    return float(np.abs(SCALE.depth(disparity).numpy() / depth - 1.0).mean())


@pytest.mark.parametrize(("outliers", "share"), [(0.0, 0.4), (0.1, 0.4), (0.5, 0.6)])
def test_fused_depth_is_better_than_global_depth_despite_outliers(outliers, share):
    depth, disparity = scene()
    for seed in range(3):
        result = fuse_depth(disparity, sample_anchors(depth, 200, outliers, seed), SCALE)
        assert result.source == "fused"
        assert mean_error(result, depth) < share * global_error(depth, disparity)
        assert result.agreeing == pytest.approx(1.0 - outliers, abs=0.12)


def test_corrections_stop_at_depth_edges():
    depth, disparity = scene(error=0.0)
    near = torch.from_numpy(depth == 2.0)
    disparity = torch.where(near, disparity * 1.2, disparity)  # wrong on the box alone
    result = fuse_depth(disparity, sample_anchors(depth), SCALE)
    beside = np.zeros_like(depth, bool)
    beside[35:65, 34:38] = True
    found = result.depth.numpy()
    assert np.abs(found[beside] / depth[beside] - 1.0).mean() < 0.03
    assert np.abs(found[40:60, 50:70] / 2.0 - 1.0).mean() < 0.03


def test_many_anchors_add_detail():
    depth, disparity = scene(error=0.0)
    row, column = np.mgrid[0:HEIGHT, 0:WIDTH]
    disparity = disparity * torch.from_numpy(1.0 + 0.05 * np.sin(row / 4.0) * np.sin(column / 5.0)).float()
    few, many = (fuse_depth(disparity, sample_anchors(depth, count), SCALE) for count in (200, 2000))
    assert mean_error(many, depth) < 0.6 * mean_error(few, depth)


def test_standard_deviation_is_calibrated_and_grows_away_from_anchors():
    depth, disparity = scene()
    ratios = []
    for seed in range(5):
        result = fuse_depth(disparity, sample_anchors(depth, 100, 0.1, seed), SCALE)
        ratios.append(np.abs(result.depth.numpy() - depth) / result.stddev.numpy())
    assert 0.6 < (np.array(ratios) < 1.0).mean() < 0.95
    assert (np.array(ratios) < 3.0).mean() > 0.95
    anchors = sample_anchors(depth, 200)
    kept = anchors.columns < 40
    corner = Anchors(anchors.rows[kept], anchors.columns[kept], anchors.depth[kept], HEIGHT, WIDTH)
    relative = fuse_depth(disparity, corner, SCALE)
    relative = (relative.stddev / relative.depth).numpy()
    assert relative[:, 110:].mean() > 1.5 * relative[:, 5:35].mean()


@pytest.mark.parametrize("value", [1.5, float("nan")])
def test_constant_disparity_leaves_the_anchors_interpolated(value):
    depth, _ = scene()
    result = fuse_depth(torch.full((HEIGHT, WIDTH), value), sample_anchors(depth, outliers=0.1), SCALE)
    assert result.source == "interpolated"
    assert torch.isfinite(result.depth).all()
    assert torch.isfinite(result.stddev).all()
    assert mean_error(result, depth) < 0.12


def test_without_a_scale_the_disparity_still_guides_the_interpolation():
    depth, disparity = scene(error=0.0)
    guided = fuse_depth(disparity, sample_anchors(depth), None)
    alone = fuse_depth(torch.zeros(HEIGHT, WIDTH), sample_anchors(depth), None)
    assert guided.source == alone.source == "interpolated"
    assert mean_error(guided, depth) < 0.5 * mean_error(alone, depth)


def test_nan_disparity_stays_nan_and_changes_no_other_pixel():
    depth, disparity = scene()
    disparity[:20, :30] = torch.nan
    result = fuse_depth(disparity, sample_anchors(depth), SCALE)
    missing = torch.isnan(result.depth)
    assert missing[:20, :30].all()
    assert missing.sum() == 600
    assert torch.equal(torch.isnan(result.stddev), missing)


def test_few_anchors_leave_the_global_depth():
    depth, disparity = scene()
    for anchors in (None, sample_anchors(depth, 4)):
        result = fuse_depth(disparity, anchors, SCALE)
        assert result.source == "scaled"
        torch.testing.assert_close(result.depth, SCALE.depth(disparity))
        assert (result.stddev > 0.09 * result.depth).all()
    with pytest.raises(AnchorError, match="4 anchors and no global scale"):
        fuse_depth(disparity, sample_anchors(depth, 4), None)


def test_anchors_on_one_row_correct_only_around_it():
    depth, disparity = scene()
    result = fuse_depth(disparity, sample_anchors(depth, 100, rows=[50]), SCALE)
    off = np.abs(result.depth.numpy() / depth - 1.0)
    assert off[45:55].mean() < 0.02
    assert mean_error(result, depth) < 1.1 * global_error(depth, disparity)
    relative = (result.stddev / result.depth).numpy()
    assert np.median(relative[0]) > 1.3 * np.median(relative[50])


def test_anchors_at_one_depth_do_no_harm_elsewhere():
    depth, disparity = scene()
    anchors = sample_anchors(depth, 300)
    box = (anchors.rows >= 30) & (anchors.rows < 70) & (anchors.columns >= 40) & (anchors.columns < 80)
    anchors = Anchors(anchors.rows[box], anchors.columns[box], anchors.depth[box], HEIGHT, WIDTH)
    result = fuse_depth(disparity, anchors, SCALE)
    assert mean_error(result, depth) < 1.2 * global_error(depth, disparity)
    assert np.abs(result.depth.numpy()[35:65, 45:75] / 2.0 - 1.0).mean() < 0.02


def test_two_sensors_that_disagree_raise_the_standard_deviation():
    depth, disparity = scene()
    anchors = sample_anchors(depth, 200)
    biased = np.where(np.arange(200) % 2 == 0, 1.15, 1.0)
    apart = Anchors(anchors.rows, anchors.columns, anchors.depth * biased, HEIGHT, WIDTH)
    one, two = (fuse_depth(disparity, these, SCALE) for these in (anchors, apart))
    assert float((two.stddev / two.depth).median()) > 2.0 * float((one.stddev / one.depth).median())
    ratio = two.depth.numpy() / depth
    assert (ratio > 0.93).mean() > 0.95
    assert (ratio < 1.22).mean() > 0.95


def test_small_calibration_error_degrades_the_result_a_little():
    """5 cm to the side and 1 degree, for a focal length of 100 pixels."""
    depth, disparity = scene()
    anchors = sample_anchors(depth)
    moved = np.rint(anchors.columns + 100.0 * (0.05 / anchors.depth + np.tan(np.radians(1.0)))).astype(int)
    inside = moved < WIDTH
    shifted = Anchors(anchors.rows[inside], moved[inside], anchors.depth[inside], HEIGHT, WIDTH)
    result = fuse_depth(disparity, shifted, SCALE)
    assert mean_error(result, depth) < global_error(depth, disparity)


@pytest.mark.parametrize("factor", [1e-3, 0.1, 10.0, 1e3])
def test_a_wrong_scale_is_corrected_by_the_anchors(factor):
    depth, disparity = scene()
    for outliers, limit in ((0.0, 0.03), (0.5, 0.1)):
        wrong = Scale(factor * SCALE.scale, SCALE.shift)
        result = fuse_depth(disparity, sample_anchors(depth, 240, outliers), wrong)
        assert mean_error(result, depth) < limit


def reversed_network():
    """Return a depth (H, W), and a disparity that is smaller where it is nearer."""
    depth, _ = scene()
    return depth, torch.from_numpy((depth / 3.0).astype(np.float32))


def test_misleading_network_is_not_worse_than_anchors_alone():
    depth, disparity = reversed_network()
    for outliers in (0.1, 0.5):
        anchors = sample_anchors(depth, 200, outliers)
        result = fuse_depth(disparity, anchors, SCALE)
        alone = fuse_depth(torch.zeros(HEIGHT, WIDTH), anchors, None)
        assert result.source == "interpolated"
        assert sum(one.share for one in result.candidates) == pytest.approx(1.0)
        assert mean_error(result, depth) < 1.1 * mean_error(alone, depth)


def test_stream_replaces_a_misleading_network_too():
    depth, disparity = reversed_network()
    history = ResidualHistory()
    for frame in range(4):
        anchors = sample_anchors(depth, 200, 0.1, frame) if frame % 2 == 0 else None
        result = history.fuse(frame / 30.0, disparity, anchors, SCALE)
        assert result.source == "interpolated"
        assert mean_error(result, depth) < 0.1


def test_anchors_in_one_corner_without_a_scale_do_not_extrapolate_silently():
    depth, disparity = scene(error=0.0)
    anchors = sample_anchors(depth, 600)
    corner = (anchors.rows < 30) & (anchors.columns < 40)
    anchors = Anchors(anchors.rows[corner], anchors.columns[corner], anchors.depth[corner], HEIGHT, WIDTH)
    result = fuse_depth(disparity, anchors, None)
    assert result.source == "interpolated"
    relative = (result.stddev / result.depth).numpy()
    assert np.median(relative[:20, :30]) < 0.05
    assert np.median(relative[60:, 90:]) > 0.3
    deviations = np.abs(result.depth.numpy() - depth) / result.stddev.numpy()
    assert (deviations < 3.0).mean() > 0.95


def test_grid_cells_are_about_square_in_wide_images():
    for height, width in ((480, 640), (375, 1242), (640, 480), (20, 30)):
        frame = FrameFeatures(torch.rand(height, width))
        assert 0.9 < (width / frame.columns) / (height / frame.rows) < 1.1
        assert frame.rows <= height


def stream(anchored, frames=60, jitter=0.05, static=True):
    """Return fused and global ln depth (frames, H, W) of frames at 30 Hz of a jittering network."""
    depth, disparity = scene()
    rng, history = np.random.default_rng(0), ResidualHistory()
    fused, scaled, deviations = [], [], []
    for frame in range(frames):
        near = disparity * float(np.exp(jitter * rng.standard_normal()))
        anchors = sample_anchors(depth, 100, 0.1, frame) if anchored(frame) else None
        result = history.fuse(frame / 30.0, near, anchors, SCALE)
        fused.append(result.depth.log().numpy())
        scaled.append(SCALE.depth(near).log().numpy())
        deviations.append(float((result.stddev / result.depth).median()))
    return np.array(fused), np.array(scaled), deviations, np.log(depth)


def test_frames_without_anchors_do_not_flicker():
    fused, scaled, _, truth = stream(lambda frame: frame % 3 == 0)
    changes = [np.abs(np.diff(one[6:], axis=0)).mean() for one in (fused, scaled)]
    assert changes[0] < 0.6 * changes[1]
    assert np.abs(fused[6:] - truth).mean() < 0.5 * np.abs(scaled[6:] - truth).mean()


def test_dropout_fades_to_the_global_depth_and_raises_the_standard_deviation():
    fused, scaled, deviations, truth = stream(lambda frame: frame < 10, frames=110, jitter=0.0)
    before, end = (np.abs(fused[k] - scaled[k]).mean() for k in (9, 99))
    assert end < 0.15 * before
    assert np.abs(np.diff(fused[10:], axis=0)).max() < 0.02  # no jump on the way
    assert deviations[9] < deviations[25] < deviations[60]
    assert np.abs(fused[12] - truth).mean() < 0.5 * np.abs(scaled[12] - truth).mean()


def test_clock_that_goes_back_clears_the_history():
    depth, disparity = scene()
    history = ResidualHistory()
    history.fuse(10.0, disparity, sample_anchors(depth), SCALE)
    assert history.fuse(10.1, disparity, None, SCALE).source == "fused"
    assert history.fuse(1.0, disparity, None, SCALE).source == "scaled"
