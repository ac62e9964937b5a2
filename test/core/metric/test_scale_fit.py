"""Scale, anchors, their fit, and the filter over it."""

import numpy as np
import pytest
import torch

from redepth_ros.core.metric.anchors import Anchors, anchor_loss, anchors_from_depth, anchors_from_points
from redepth_ros.core.errors import AnchorError
from redepth_ros.core.metric.ground_plane import scale_from_height
from redepth_ros.core.camera import Intrinsics
from redepth_ros.core.metric.scale import Scale, disparity_of
from redepth_ros.core.metric.scale_filter import ScaleFilter
from redepth_ros.core.metric.scale_fit import check_unit, fit_scale

CAMERA = Intrinsics(80.0, 80.0, 31.5, 23.5, 64, 48)


def scene(count=200, noise=0.01, outliers=0.0, misfit=0.0, seed=0, scale=6.0, shift=0.4):
    """Disparity and measured depth of pixels between 1 and 8 m."""
    rng = np.random.default_rng(seed)
    depth = rng.uniform(1.0, 8.0, count)
    disparity = scale / depth - shift + misfit * rng.standard_normal(count)
    measured = depth * (1.0 + noise * rng.standard_normal(count))
    wrong = rng.permutation(count)[: int(outliers * count)]
    measured[wrong] = rng.uniform(1.0, 8.0, len(wrong))
    return disparity, measured


def test_a_scale_and_its_line_are_one():
    scale = Scale(6.0, 0.4, (4e-4, 1e-4, 9e-4))
    (slope, offset), covariance = scale.line()
    disparity = torch.tensor([0.5, 2.0, 9.0])
    torch.testing.assert_close(1.0 / scale.depth(disparity), slope * disparity + offset)
    again = Scale.of_line(slope, offset, covariance)
    assert (again.scale, again.shift) == pytest.approx((6.0, 0.4))
    assert again.covariance == pytest.approx(scale.covariance)


def test_a_metric_network_has_a_disparity_too():
    output = torch.tensor([2.0, 0.0, -1.0, 4.0])
    depth = Scale(1.5).depth(disparity_of(output, metric=True))
    torch.testing.assert_close(depth, torch.tensor([3.0, torch.nan, torch.nan, 6.0]), equal_nan=True)
    assert disparity_of(output, metric=False) is output


def test_variance_of_the_depth_is_that_of_random_scales():
    covariance = np.array([[4e-4, 1e-4], [1e-4, 9e-4]])
    rng = np.random.default_rng(0)
    draws = rng.multivariate_normal([np.log(6.0), 0.4], covariance, 200_000)
    disparity = torch.tensor([0.3, 1.0, 4.0], dtype=torch.float64)
    logs = np.stack([draws[:, 0] - np.log(float(d) + draws[:, 1]) for d in disparity])
    predicted = Scale(6.0, 0.4, (4e-4, 1e-4, 9e-4)).variance_of_log_depth(disparity)
    np.testing.assert_allclose(predicted.numpy(), logs.var(axis=1), rtol=0.03)


@pytest.mark.parametrize(("outliers", "within"), [(0.0, 0.01), (0.1, 0.01), (0.5, 0.05)])
def test_a_fit_finds_the_scale_in_spite_of_outliers(outliers, within):
    for seed in range(40):
        found = fit_scale(*scene(outliers=outliers, seed=seed)).scale
        assert found.scale == pytest.approx(6.0, rel=within)
        assert found.shift == pytest.approx(0.4, abs=0.06)


def test_a_metric_networks_scale_has_no_shift():
    disparity, depth = scene(shift=0.0, outliers=0.3)
    found = fit_scale(disparity, depth, fit_shift=False).scale
    assert found.shift == 0.0
    assert found.scale == pytest.approx(6.0, rel=0.01)
    assert found.covariance[1:] == (0.0, 0.0)
    wall = fit_scale(np.full(100, 2.0), np.full(100, 1.5), fit_shift=False).scale  # says all of it
    assert wall.scale == pytest.approx(3.0)


def test_the_covariance_is_that_of_repeated_fits():
    found = [fit_scale(*scene(misfit=0.05, seed=seed)).scale for seed in range(300)]
    logs, shifts = np.log([one.scale for one in found]), np.array([one.shift for one in found])
    said = np.mean([one.covariance for one in found], axis=0)
    assert np.sqrt(said[0]) == pytest.approx(logs.std(), rel=0.25)
    assert np.sqrt(said[2]) == pytest.approx(shifts.std(), rel=0.25)


def refused(disparity, depth, **options):
    with pytest.raises(AnchorError) as error:
        fit_scale(disparity, depth, **options)
    return str(error.value)


def test_what_does_not_determine_the_scale_is_refused_with_a_reason():
    disparity, depth = scene()
    assert "12 anchors where there is depth; at least 30" in refused(disparity[:12], depth[:12])
    assert "0 anchors" in refused(disparity, np.full(200, np.nan))
    assert "0 anchors" in refused(disparity, -depth)
    assert "all at one depth" in refused(np.full(200, 1.5), depth)
    assert "nearer where the predicted depth is farther" in refused(-disparity, depth)
    rng = np.random.default_rng(0)
    assert refused(rng.permutation(disparity), depth)


def wall(rng, nearest, farthest, network=0.02, count=200, scale=6.0, shift=0.4):
    """The same of a surface between two depths, seen by a network with an error of its own."""
    depth = rng.uniform(nearest, farthest, count)
    disparity = (scale / depth - shift) * (1.0 + network * rng.standard_normal(count))
    return disparity, depth * (1.0 + 0.01 * rng.standard_normal(count))


def test_anchors_at_one_depth_are_refused_whatever_the_network_sees():
    for seed in range(40):
        assert "all at one depth (2.9" in refused(*wall(np.random.default_rng(seed), 3.0, 3.0, 0.03))
    disparity, _ = scene()
    assert "all at one depth (3 to 3 m)" in refused(disparity, np.full(200, 3.0))


def test_a_narrow_range_of_depth_is_known_to_be_one():
    """Dilution makes such a scale wrong by more than its scatter; the covariance says so."""
    for nearest, farthest in ((2.9, 3.1), (2.7, 3.3), (2.0, 4.0)):
        found = [fit_scale(*wall(np.random.default_rng(seed), nearest, farthest)).scale for seed in range(40)]
        wrong = [abs(np.log(one.scale / 6.0)) / one.relative_stddev for one in found]
        assert np.mean(wrong) < 1.5
        depth = [float(one.depth(torch.tensor(6.0 / 3.0 - 0.4))) for one in found]
        np.testing.assert_allclose(depth, 3.0, rtol=0.03)  # there it is right all the same


def test_two_surfaces_far_apart_are_fitted_both():
    """More than the half on one of them, whose own slope is any."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        near, far = wall(rng, 0.98, 1.02, count=90), wall(rng, 2.9, 3.1, count=110)
        found = fit_scale(*(np.concatenate(both) for both in zip(near, far, strict=True))).scale
        assert found.scale == pytest.approx(6.0, rel=0.03)


def test_a_scale_is_kept_in_front_of_a_wall():
    for seed in range(10):
        rng, keeper = np.random.default_rng(seed), ScaleFilter()
        for frame in range(90):
            nearest, farthest = (1.0, 8.0) if frame < 50 else (2.9, 3.1)
            keeper.update(0.1 * frame, fit_scale(*wall(rng, nearest, farthest)).scale)
        for depth in (1.0, 3.0, 10.0):
            assert float(keeper.scale.depth(torch.tensor(6.0 / depth - 0.4))) == pytest.approx(
                depth, rel=0.02
            )


def test_millimetres_are_told_by_what_was_known():
    known = Scale(6.0)
    check_unit(Scale(60.0), known)
    with pytest.raises(AnchorError, match=r"1e[+]03 times as far .* look like millimetres taken for metres"):
        check_unit(Scale(6000.0), known)
    with pytest.raises(AnchorError, match="look like metres taken for millimetres"):
        check_unit(Scale(0.006), known)


def test_anchors_of_a_depth_image():
    depth = np.full((48, 64), np.nan)
    depth[10, 20], depth[30, 5], depth[1, 1], depth[2, 2], depth[3, 3] = 2.5, 4.0, 0.0, -1.0, np.inf
    anchors = anchors_from_depth(depth)
    assert sorted(zip(anchors.rows, anchors.columns, anchors.depth, strict=True)) == [
        (10, 20, 2.5), (30, 5, 4.0)]  # fmt: skip
    sparse = anchors.image()
    assert np.isfinite(sparse).sum() == 2
    assert sparse[30, 5] == 4.0
    assert len(anchors_from_depth(np.full((48, 64), 3.0), most=100)) == 100


def test_anchors_follow_the_image_to_another_size():
    anchors = Anchors(np.array([0, 47]), np.array([0, 63]), np.array([1.0, 2.0]), 48, 64)
    smaller = anchors.resized(12, 16)
    assert smaller.rows.tolist() == [0, 11]
    assert smaller.columns.tolist() == [0, 15]
    larger = anchors.resized(96, 128)
    assert larger.rows.tolist() == [1, 95]


@pytest.mark.parametrize(
    ("value", "words"),
    [(np.nan, "none of the 3072 pixels"), (0.0, "none of"), (-2.0, "none of"),
     (2500.0, "look like millimetres"), (0.0025, "metres taken for millimetres")],
)  # fmt: skip
def test_a_depth_image_that_can_not_be_used(value, words):
    with pytest.raises(AnchorError, match=words):
        anchors_from_depth(np.full((48, 64), value))


def test_anchors_of_a_cloud_are_the_nearest_points_of_their_pixels():
    points = np.array([
        [0.0, 0.0, 2.0], [0.0, 0.0, 5.0], [0.4, 0.0, 2.0], [0.0, 0.0, -3.0], [50.0, 0.0, 2.0],
        [np.nan, 0.0, 1.0],
    ])  # fmt: skip
    anchors = anchors_from_points(points, CAMERA)
    found = dict(zip(zip(anchors.rows, anchors.columns, strict=True), anchors.depth, strict=True))
    assert found == {(24, 32): 2.0, (24, 48): 2.0}
    with pytest.raises(AnchorError, match="check the transform"):
        anchors_from_points(np.array([[9.0, 0.0, 1.0]]), CAMERA)


def ground_disparity(height=1.2, pitch=0.2, scale=5.0, shift=0.0):
    """Disparity of an endless ground below a camera that looks down by `pitch` radians, and a wall."""
    v, u = np.mgrid[0:48, 0:64].astype(float)
    rays = np.stack(((u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy, np.ones_like(u)), axis=-1)
    below = rays @ np.array([0.0, np.cos(pitch), np.sin(pitch)])
    depth = np.minimum(height / np.maximum(below, 1e-6), 6.0)
    return scale / depth - shift


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_a_scale_from_the_cameras_height(shift):
    disparity = ground_disparity(shift=shift)
    disparity[40:, :20] += 1.0  # a thing on the ground
    found = scale_from_height(disparity, CAMERA, 1.2, shift)
    assert found.scale == pytest.approx(5.0, rel=0.02)
    assert found.shift == shift


def test_without_a_ground_there_is_no_height():
    with pytest.raises(AnchorError, match="lies on one plane below the camera"):
        scale_from_height(np.full((48, 64), 2.0), CAMERA, 1.2)
    with pytest.raises(AnchorError, match="no ground is seen"):
        scale_from_height(np.full((48, 64), np.nan), CAMERA, 1.2)


def measured(scale, shift=0.4):
    return Scale(scale, shift, (1e-4, 0.0, 1e-4))


def test_a_filtered_scale_holds_still_and_follows_a_jump():
    rng = np.random.default_rng(1)
    keeper, published, raw = ScaleFilter(jitter=0.05), [], []
    for frame in range(200):
        true = 5.0 if frame < 100 else 7.0
        raw.append(true * np.exp(0.05 * rng.standard_normal()))
        keeper.update(0.1 * frame, measured(raw[-1], 0.08 * raw[-1]))
        published.append(keeper.scale.scale)
    change = [np.std(np.diff(np.log(one[10:100]))) for one in (raw, published)]
    assert change[1] < 0.2 * change[0]
    assert abs(np.log(published[104] / 7.0)) < 0.1
    assert keeper.scale.scale == pytest.approx(7.0, rel=0.05)


@pytest.mark.parametrize("jump", [0.5, 1.15, 1.3, 2.0])
def test_a_jump_is_followed_within_a_few_frames(jump):
    lags = []
    for seed in range(40):
        rng, keeper = np.random.default_rng(seed), ScaleFilter(jitter=0.05)
        for frame in range(80):
            raw = (5.0 if frame < 60 else 5.0 * jump) * np.exp(0.05 * rng.standard_normal())
            keeper.update(0.1 * frame, measured(raw, 0.08 * raw))
            if frame >= 60 and abs(np.log(keeper.scale.scale / 5.0 / jump)) < 0.5 * abs(np.log(jump)):
                lags.append(frame - 60)
                break
    assert len(lags) == 40
    assert np.median(lags) <= 3
    assert np.percentile(lags, 90) <= 5


def test_without_jitter_every_measurement_is_followed():
    keeper = ScaleFilter(jitter=0.0)
    for frame, scale in enumerate((5.0, 5.4, 4.7, 15.0)):
        assert keeper.update(0.1 * frame, measured(scale))
        assert keeper.scale.scale == pytest.approx(scale)


def test_a_single_wild_measurement_is_not_believed():
    keeper = ScaleFilter()
    for frame in range(10):
        assert keeper.update(0.1 * frame, measured(5.0))
    assert not keeper.update(1.0, measured(15.0))
    for frame in range(10):
        assert keeper.update(1.1 + 0.1 * frame, measured(5.0))
    assert keeper.scale.scale == pytest.approx(5.0, rel=0.01)


def test_a_lost_scale_is_kept_aged_and_found_again():
    keeper = ScaleFilter(patience=1.0)
    assert keeper.scale is None
    keeper.update(0.0, measured(5.0))
    assert not keeper.lost
    certain = keeper.scale.relative_stddev
    keeper.advance(30.0)
    assert keeper.lost
    assert keeper.age == 30.0
    assert keeper.scale.scale == pytest.approx(5.0)
    assert keeper.scale.relative_stddev > certain
    keeper.update(30.1, measured(5.0))
    assert keeper.lost  # one swallow
    keeper.update(30.2, measured(5.0))
    keeper.update(30.3, measured(5.0))
    assert not keeper.lost


def test_a_clock_that_goes_back_starts_anew():
    keeper = ScaleFilter()
    keeper.update(100.0, measured(5.0))
    keeper.advance(3.0)
    assert keeper.scale is None


def test_the_anchor_loss_and_its_gradient():
    anchors = Anchors(np.array([0, 1]), np.array([1, 2]), np.array([2.0, 4.0]), 2, 3)
    depth = torch.full((1, 2, 3), 2.0, dtype=torch.float64, requires_grad=True)
    loss = anchor_loss(depth, anchors)
    expected = 0.5 * (np.hypot(np.log(2.0), 0.02) - 0.02)
    assert loss.item() == pytest.approx(expected)
    start = torch.rand(1, 2, 3, dtype=torch.float64) + 1.0
    assert torch.autograd.gradcheck(lambda d: anchor_loss(d, anchors), start.requires_grad_())


def test_pixels_without_depth_do_not_pull():
    anchors = Anchors(np.array([0, 1]), np.array([1, 2]), np.array([2.0, 4.0]), 2, 3)
    disparity = torch.tensor([[[1.0, -0.4, 1.0], [1.0, 1.0, 2.0]]], requires_grad=True)
    anchor_loss(Scale(6.0, 0.4).depth(disparity), anchors).backward()
    assert torch.isfinite(disparity.grad).all()
    assert disparity.grad.nonzero().tolist() == [[0, 1, 2]]


def test_wrong_anchors_pull_no_harder_than_right_ones():
    anchors = Anchors(np.array([0, 0]), np.array([0, 1]), np.array([1.1, 50.0]), 1, 2)
    depth = torch.ones(1, 1, 2, requires_grad=True)
    anchor_loss(depth, anchors).backward()
    near, far = depth.grad.abs().flatten().tolist()
    assert far == pytest.approx(near, rel=0.05)
