"""A run from start to result, with a fake network and a prior that knows the true shape."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fakes_core import OUT_OF_MEMORY, Clock, FakeDepthNetwork, FakePrior, bump_scene

from redepth_ros.core.camera import OrthographicCamera, PinholeCamera
from redepth_ros.core.errors import AnchorError, ConfigError, ModelError
from redepth_ros.core.metric.anchors import Anchors, anchors_from_depth
from redepth_ros.core.metric.fusion import fuse_depth
from redepth_ros.core.metric.scale import Scale
from redepth_ros.core.refine import prior_check, schedule
from redepth_ros.core.refine.ensemble import Ensemble
from redepth_ros.core.refine.guidance import SdsGuidance
from redepth_ros.core.refine.losses import anchor_loss
from redepth_ros.core.refine.result import Outcome, Plan
from redepth_ros.core.refine.run import Refiner
from redepth_ros.core.refine.settings import PRESETS, RefineSettings
from redepth_ros.core.refine.trust_region import TrustRegion

SCENE = bump_scene()
UNCHECKED = RefineSettings(
    min_initial_loss=0.0,
    max_early_loss_ratio=0.0,
    max_plane_loss_ratio=0.0,
    max_mirror_loss_ratio=0.0,
    disparity_mean=0.0,
)
"""The prior checks nothing, and the disparity keeps its range."""
SHORT = dataclasses.replace(UNCHECKED, steps=4)
ONE = dataclasses.replace(SHORT, ensemble_size=1)
SCALE = Scale(6.0, 0.1)


def start(settings=SHORT, *, prior=None, network=None, pixels=SCENE.pixels, **options):
    refiner = Refiner(network or FakeDepthNetwork(), prior or FakePrior(SCENE.normals), settings)
    return refiner.start(pixels, **options)


def refine(settings=SHORT, **options):
    run = start(settings, **options)
    for _ in run.steps():
        pass
    return run.result()


def normal_error(depth):
    """Return the mean angle to the true normals, degrees."""
    cosine = (OrthographicCamera().normals(depth) * SCENE.normals).sum(0).clamp(-1.0, 1.0)
    return float(torch.rad2deg(torch.acos(cosine)).mean())


def metres(scale=SCALE):
    """Return the true depth in metres, (16, 16)."""
    return scale.scale / 7.0 * SCENE.depth.double().numpy()


def every_second_pixel():
    """Return anchors at a quarter of the pixels."""
    depth = np.full((16, 16), np.nan)
    depth[::2, ::2] = metres()[::2, ::2]
    return anchors_from_depth(depth)


def few_pixels(depth):
    """Return so few anchors that the depth is not fused with them: their loss alone pulls."""
    rows, columns = np.array([2, 5, 8, 8, 11, 13]), np.array([3, 12, 6, 9, 2, 13])
    return Anchors(rows, columns, depth[rows, columns].astype(np.float64), 16, 16)


def test_refinement_brings_loss_and_normals_towards_the_truth():
    result = refine(dataclasses.replace(UNCHECKED, steps=60))
    assert result.outcome is Outcome.REFINED
    first, last = (
        np.mean([step.loss_sds for step in part]) for part in (result.history[:5], result.history[-5:])
    )
    assert last < 0.5 * first
    assert normal_error(result.depth) < 0.5 * normal_error(result.fast_depth)


def test_the_result_of_a_finished_run():
    result = refine()
    assert result.outcome is Outcome.REFINED
    assert result.message.startswith("refined: the depth changed by ")
    assert result.message.endswith("% on average")
    assert result.steps == 4
    assert [step.step for step in result.history] == [1, 2, 3, 4]
    assert result.history[-1].progress == 1.0
    for values in (result.refined, result.fast, result.relative_stddev, result.depth, result.fast_depth):
        assert values.shape == (16, 16)
        assert values.dtype == torch.float32
    network = FakeDepthNetwork()
    torch.testing.assert_close(result.fast, network.decode(network.encode(SCENE.pixels))[0])
    torch.testing.assert_close(result.depth, 7.0 / (result.refined + 0.1))
    torch.testing.assert_close(result.fast_depth, 7.0 / (result.fast + 0.1))
    assert not torch.equal(result.refined, result.fast)
    assert result.relative_stddev.max() > 0
    assert (result.scale, result.metric, result.disparity_offset, result.prompt) == (None, False, 0.1, "")
    assert result.elapsed > 0


def test_a_seed_gives_the_same_result():
    first, again, other = refine(), refine(), refine(dataclasses.replace(SHORT, seed=1))
    assert torch.equal(first.refined, again.refined)
    assert torch.equal(first.relative_stddev, again.relative_stddev)
    assert not torch.equal(first.refined, other.refined)


def test_one_member_has_no_standard_deviation():
    assert not refine(ONE).relative_stddev.any()


def test_the_result_is_the_mean_of_the_members_and_their_standard_deviation():
    settings = dataclasses.replace(SHORT, ensemble_size=3, ensemble_batch_size=1, averaging_fraction=0.0)
    run = start(settings)
    for _ in run.steps():
        pass
    members = run._optimization.depths()
    assert members.shape == (3, 16, 16)
    result = run.result()
    torch.testing.assert_close(result.depth, members.mean(0))
    torch.testing.assert_close(result.relative_stddev, members.std(0) / members.mean(0))


def test_a_run_may_be_stopped_after_any_step():
    run = start(dataclasses.replace(SHORT, steps=50))
    assert run.result().outcome is Outcome.KEPT_FAST
    assert run.result().message == "kept the fast depth: no step was done"
    for step in run.steps():
        early = run.result()
        assert early.outcome is Outcome.STOPPED_EARLY
        assert early.steps == step.step
        assert not torch.equal(early.refined, early.fast)
        if step.step == 3:
            break
    message = run.result().message
    assert message.startswith("stopped after 3 of 50 steps: this is the best so far; the depth changed by")


def test_a_requested_stop_ends_the_steps():
    run = start(dataclasses.replace(SHORT, steps=50))
    for step in run.steps():
        if step.step == 2:
            run.request_stop()
    result = run.result()
    assert result.outcome is Outcome.STOPPED_EARLY
    assert len(result.history) == 2


def test_looking_at_the_result_early_does_not_change_it():
    run = start()
    for _ in run.steps():
        run.result()
    assert torch.equal(run.result().refined, refine().refined)


def test_a_run_stopped_between_members_is_that_of_the_finished_ones():
    settings = dataclasses.replace(SHORT, ensemble_size=3, ensemble_batch_size=2)
    run = start(settings)
    for step in run.steps():
        if step.members_done == 2:
            break
    early, two = run.result(), refine(dataclasses.replace(settings, ensemble_size=2))
    assert early.outcome is Outcome.STOPPED_EARLY
    assert "stopped after 2 of 3 ensemble members" in early.message
    assert early.steps == 4
    assert torch.equal(early.refined, two.refined)
    assert torch.equal(early.relative_stddev, two.relative_stddev)


@pytest.fixture
def clock(monkeypatch):
    """Return a clock that stands still until it is told to sleep."""
    clock = Clock()
    for module in (schedule, prior_check):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


class SlowPrior(FakePrior):
    """A prior whose encoding of an image takes a second of a clock."""

    def __init__(self, clock):
        super().__init__(SCENE.normals)
        self._clock = clock

    def encode(self, images, noise):
        self._clock.sleep(float(len(images)))
        return super().encode(images, noise)


@pytest.mark.parametrize("batch", [0, 1])
def test_a_time_budget_that_suffices_gives_the_same_result(clock, batch):
    settings = dataclasses.replace(SHORT, ensemble_batch_size=batch)
    limited = refine(dataclasses.replace(settings, time_budget=30.0), prior=SlowPrior(clock))
    assert limited.plan == Plan.of(settings)
    assert torch.equal(limited.refined, refine(settings).refined)
    assert "planned" not in limited.message


def test_a_time_budget_is_planned_and_reported(clock):
    """30 s for 60 steps, 2 members and 3 lights of 1 s."""
    settings = dataclasses.replace(UNCHECKED, steps=60, ensemble_size=2, time_budget=100.0)
    result = refine(settings, prior=SlowPrior(clock))
    plan = result.plan
    assert result.outcome is Outcome.REFINED
    assert (plan.steps, plan.ensemble_size) == (result.steps, 1)
    assert plan.steps < 60
    planned = f"planned {plan.steps} of 60 steps, ensemble of 1, {plan.lights_per_step} lights"
    assert result.message.endswith(f"; {planned} for a budget of 100 s")
    assert 80.0 < result.elapsed <= 100.0
    assert result.history[-1].progress == 1.0
    assert not result.relative_stddev.any()


def test_a_planned_schedule_is_run_to_its_end(clock, monkeypatch):
    """Noise levels and learning rates of the last step are those of the last step without a budget."""
    levels, rates = [], []
    sample, decay = SdsGuidance.sample, Ensemble.decay
    monkeypatch.setattr(
        SdsGuidance,
        "sample",
        lambda self, n, g, progress: levels.append(progress) or sample(self, n, g, progress),
    )
    monkeypatch.setattr(
        Ensemble, "decay", lambda self, progress: rates.append(progress) or decay(self, progress)
    )
    refine(dataclasses.replace(UNCHECKED, steps=60, time_budget=100.0), prior=SlowPrior(clock))
    assert levels == rates == sorted(levels)
    assert levels[-1] > 0.85


def test_the_checks_of_the_result_end_within_the_time_budget(clock):
    settings = dataclasses.replace(
        CHECKED, steps=300, min_initial_loss=1e-9, max_plane_loss_ratio=1.0, time_budget=200.0
    )
    result = refine(settings, prior=SlowPrior(clock))
    assert 30 <= result.plan.steps < 300
    assert 180.0 < result.elapsed <= 200.0


def test_a_run_tells_the_time_of_the_check_of_its_result(clock):
    """The prior sees 32 images in 32 s, of the result and of a plane."""
    settings = dataclasses.replace(CHECKED, min_initial_loss=1e-9, max_plane_loss_ratio=1.0)
    run = start(settings, prior=SlowPrior(clock))
    assert run.check_seconds == 0.0
    for _ in run.steps():
        assert run.check_seconds == 64.0
    started = clock.monotonic()
    run.result()
    assert clock.monotonic() - started == run.check_seconds


@pytest.mark.parametrize(("budget", "samples"), [(0.0, 32), (5000.0, 32), (200.0, 14)])
def test_a_short_time_budget_makes_a_smaller_check_of_the_result(clock, monkeypatch, budget, samples):
    """Of 300 s for steps and 64 s for a check of two shapes by 32 images, 162 s are left after the start."""
    counts, sample = [], SdsGuidance.sample
    monkeypatch.setattr(SdsGuidance, "sample", lambda self, n, *a: counts.append(n) or sample(self, n, *a))
    changes = {"steps": 300, "min_initial_loss": 1e-9, "max_plane_loss_ratio": 1.0, "time_budget": budget}
    refine(dataclasses.replace(CHECKED, **changes), prior=SlowPrior(clock))
    assert [count for count in counts if count > 1] == [32, samples]  # a step has one image


def test_a_time_budget_shorter_than_a_step_keeps_the_fast_depth(clock):
    settings = dataclasses.replace(SHORT, relit_batch_size=1, time_budget=4.0)
    result = refine(settings, prior=SlowPrior(clock))
    assert result.outcome is Outcome.KEPT_FAST
    assert result.message == "kept the fast depth: the time budget of 4 s is spent, no step was done"
    assert 4.0 < result.elapsed <= 5.0


def test_a_plan_that_fails_is_cut_off_inside_a_step(clock):
    class StuckPrior(SlowPrior):
        def encode(self, images, noise):
            self._clock.sleep(30.0 if len(self.encoded) > 40 else 0.0)
            return super().encode(images, noise)

    settings = dataclasses.replace(UNCHECKED, steps=60, relit_batch_size=1, time_budget=100.0)
    result = refine(settings, prior=StuckPrior(clock))
    assert result.outcome is Outcome.STOPPED_EARLY
    assert "because the time budget of 100 s is spent: this is the best so far" in result.message
    assert 100.0 < result.elapsed <= 131.0


def test_the_network_is_unchanged_even_by_a_tuned_decoder():
    network = FakeDepthNetwork()
    before = [one.clone() for one in network.decoder_parameters()]
    settings = dataclasses.replace(PRESETS["paper"], steps=3, ensemble_size=2, decoder_learning_rate=1e-2)
    tuned = refine(settings, network=network)
    assert tuned.outcome is Outcome.REFINED
    frozen = refine(dataclasses.replace(settings, decoder_learning_rate=0.0), network=network)
    assert not torch.allclose(tuned.refined, frozen.refined, atol=1e-4)
    for found, expected in zip(network.decoder_parameters(), before, strict=True):
        assert torch.equal(found, expected)
        assert not found.requires_grad


def test_the_scale_offset_multiplies_every_depth_alike():
    settings = dataclasses.replace(
        PRESETS["paper"],
        steps=20,
        ensemble_size=1,
        embedding_learning_rate=0.0,
        decoder_learning_rate=0.0,
        scale_learning_rate=0.05,
    )
    result = refine(settings)
    ratio = result.depth / result.fast_depth
    assert abs(float(ratio.mean()) - 1.0) > 1e-3
    assert float(ratio.std()) < 1e-5


def test_low_frequency_change_stays_within_the_trust_region():
    settings = dataclasses.replace(SHORT, steps=10, averaging_fraction=0.0)
    free = refine(dataclasses.replace(settings, trust_region_radius=0.0))
    held = refine(dataclasses.replace(settings, trust_region_limit=0.005, trust_region_radius=0.125))

    def slow_change(result):
        average = TrustRegion(result.fast[None], 2.0, 0.0).average
        return float((average((result.refined - result.fast)[None]) / average(result.fast[None])).abs().max())

    assert slow_change(held) < 0.25 * slow_change(free)


@pytest.mark.parametrize("limit", ["trust_region_limit", "anchored_trust_region_limit"])
def test_anchors_have_a_trust_region_of_their_own(limit):
    anchors, scale = (every_second_pixel(), SCALE) if limit.startswith("anchored") else (None, None)
    other = {"trust_region_limit", "anchored_trust_region_limit"} - {limit}

    def slow_change(name):
        found = refine(dataclasses.replace(ONE, **{name: 0.0}), anchors=anchors, scale=scale)
        average = TrustRegion(found.fast[None], 2.0, 0.0).average
        return float(average((found.refined - found.fast)[None]).abs().max())

    assert slow_change(limit) < 0.25 * slow_change(other.pop())


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"max_change": 0.0}, "it diverged"), ({"min_contrast": 1.0, "steps": 20}, "it collapsed")],
)
def test_a_depth_that_fails_its_checks_is_replaced_by_the_fast_one(changes, words):
    """Anchors of a plane that is not there flatten the depth."""
    plane = few_pixels(np.full((16, 16), 1.3))
    settings = dataclasses.replace(SHORT, anchored_learning_rate=0.1, sds_weight=0.0, **changes)
    result = refine(settings, anchors=plane, scale=SCALE)
    assert result.outcome is Outcome.KEPT_FAST
    assert result.message.startswith("kept the fast depth: ")
    assert words in result.message
    assert torch.equal(result.refined, result.fast)
    assert torch.equal(result.depth, result.fast_depth)
    assert not result.relative_stddev.any()


CHECKED = dataclasses.replace(UNCHECKED, steps=30, ensemble_size=1, lights_per_step=1)


@pytest.mark.parametrize(
    ("limits", "words", "steps"),
    [
        ({"min_initial_loss": 1.0}, "nothing to correct", 0),
        ({"max_early_loss_ratio": 1e-6}, "is not below 1e-06 times that of a plane of the same slant", 20),
        ({"max_plane_loss_ratio": 1e-6}, "is not below 1e-06 times that of a plane of the same slant", 30),
    ],
)
def test_the_prior_is_asked_before_during_and_after_the_steps(limits, words, steps):
    assert refine(CHECKED).outcome is Outcome.REFINED
    kept = refine(dataclasses.replace(CHECKED, **limits))
    assert kept.outcome is Outcome.KEPT_FAST
    assert words in kept.message
    assert len(kept.history) == steps
    assert torch.equal(kept.refined, kept.fast)


def test_a_run_that_ended_early_is_checked_too():
    run = start(dataclasses.replace(CHECKED, steps=40, max_plane_loss_ratio=1e-6))
    for step in run.steps():
        if step.step == 29:
            assert run.result().outcome is Outcome.STOPPED_EARLY
        if step.step == 30:
            break
    assert run.result().outcome is Outcome.KEPT_FAST


def test_anchors_that_the_fast_depth_meets_keep_it():
    fast = SCALE.depth(refine(SHORT).fast)
    perfect = anchors_from_depth(fast.numpy())
    result = refine(SHORT, anchors=perfect, scale=SCALE)
    assert result.outcome is Outcome.KEPT_FAST
    assert "anchors grew" in result.message


def test_with_anchors_the_result_is_fused_with_all_of_them():
    result = refine(SHORT, anchors=every_second_pixel(), scale=SCALE)
    assert result.fused is not None
    expected = fuse_depth(result.refined, every_second_pixel(), SCALE, image=result.image)
    torch.testing.assert_close(result.fused.depth, expected.depth)
    assert refine(SHORT).fused is None


def test_anchors_of_the_images_size_are_fused_at_that_size():
    """A fusion at the network's size, made larger, would lose what the anchors say about pixels."""
    measured = np.full((64, 64), np.nan)
    measured[1::4, 1::4] = metres()
    anchors = anchors_from_depth(measured)
    result = refine(SHORT, anchors=anchors, scale=SCALE).at_size(64, 64)
    expected = fuse_depth(result.refined, anchors, SCALE, image=result.image)
    torch.testing.assert_close(result.scaled(SCALE, 0.1).depth, expected.depth)


def test_memory_that_runs_out_makes_batches_smaller():
    expected = refine()
    scarce = refine(prior=FakePrior(SCENE.normals, max_images=2))
    assert scarce.outcome is Outcome.REFINED
    assert "memory ran out: the relit batch size was lowered to 3" in scarce.message
    assert "memory ran out: the relit batch size was lowered to 1" in scarce.message
    torch.testing.assert_close(scarce.refined, expected.refined, rtol=1e-3, atol=1e-3)


def test_the_relit_batch_size_of_the_settings_is_kept():
    few = dataclasses.replace(SHORT, relit_batch_size=2)
    result = refine(few, prior=FakePrior(SCENE.normals, max_images=2))
    assert "memory" not in result.message
    torch.testing.assert_close(result.refined, refine().refined, rtol=1e-3, atol=1e-3)


def test_memory_that_never_suffices_keeps_the_fast_depth():
    result = refine(prior=FakePrior(SCENE.normals, max_images=0))
    assert result.outcome is Outcome.KEPT_FAST
    assert "kept the fast depth: memory ran out even for a single re-lit image" in result.message
    assert torch.equal(result.refined, result.fast)


def test_memory_that_runs_out_when_the_prior_sees_the_image_keeps_the_fast_depth():
    class BlindPrior(FakePrior):
        def condition(self, image, prompt):
            raise torch.OutOfMemoryError(OUT_OF_MEMORY)

    result = refine(prior=BlindPrior(SCENE.normals))
    assert result.outcome is Outcome.KEPT_FAST
    assert result.message == "kept the fast depth: memory ran out before the first step"
    assert torch.equal(result.refined, result.fast)
    assert result.history == ()


def test_memory_that_runs_out_in_the_check_keeps_the_result():
    prior = FakePrior(SCENE.normals)
    run = start(dataclasses.replace(CHECKED, max_plane_loss_ratio=1e-6), prior=prior)
    for _ in run.steps():
        pass
    prior.max_images = 0
    result = run.result()
    assert result.outcome is Outcome.REFINED
    assert "memory ran out before the prior could check the result" in result.message


def test_a_late_failure_keeps_the_finished_members():
    class DyingPrior(FakePrior):
        def encode(self, images, noise):
            if len(self.encoded) == 9:
                raise torch.OutOfMemoryError(OUT_OF_MEMORY)
            return super().encode(images, noise)

    settings = dataclasses.replace(SHORT, ensemble_size=3, ensemble_batch_size=1)
    result = refine(settings, prior=DyingPrior(SCENE.normals))
    assert result.outcome is Outcome.STOPPED_EARLY
    assert "stopped after 2 of 3 ensemble members because memory ran out" in result.message
    assert torch.equal(result.refined, refine(dataclasses.replace(settings, ensemble_size=2)).refined)


def test_a_network_whose_output_is_nan_is_an_error_before_the_first_step():
    class BrokenNetwork(FakeDepthNetwork):
        def decode(self, embeddings):
            return super().decode(embeddings) * torch.nan

    with pytest.raises(ModelError, match="not finite at 100 % of the pixels"):
        start(network=BrokenNetwork())


def test_memory_that_does_not_suffice_for_the_fast_depth_is_an_error():
    class LargeNetwork(FakeDepthNetwork):
        def decode(self, embeddings):
            raise torch.OutOfMemoryError(OUT_OF_MEMORY)

    with pytest.raises(ModelError, match=r"out of memory: .* 16x16 pixels; lower the input size"):
        start(network=LargeNetwork())


def test_other_errors_are_not_hidden():
    class FaultyPrior(FakePrior):
        def encode(self, images, noise):
            raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        refine(prior=FaultyPrior(SCENE.normals))


def test_a_prior_that_predicts_nan_keeps_the_fast_depth():
    result = refine(prior=FakePrior(SCENE.normals * torch.nan))
    assert result.outcome is Outcome.KEPT_FAST
    assert "the loss was nan in step 1" in result.message
    assert torch.equal(result.refined, result.fast)


def test_a_prompt_that_the_prior_ignores_is_reported():
    result = refine(prompt="a bump")
    assert result.outcome is Outcome.REFINED
    assert result.message.endswith("; the prior ignores the prompt")
    assert result.prompt == "a bump"
    assert "prompt" not in refine().message


@pytest.mark.parametrize("color", [(0.3, 0.3, 0.3), (0.8, 0.2, 0.0)])
def test_an_image_of_a_single_colour_keeps_the_fast_depth(color):
    pixels = torch.tensor(color)[None, :, None, None].expand(1, 3, 16, 16).clone()
    prior = FakePrior(SCENE.normals)
    result = refine(pixels=pixels, prior=prior)
    assert result.outcome is Outcome.KEPT_FAST
    assert "the image has a single colour" in result.message
    assert prior.calls == []
    pixels[0, 1, 3, 3] += 2.0 / 255.0
    assert refine(pixels=pixels).history


def test_a_known_camera_sees_in_perspective():
    camera = PinholeCamera.centered(16.0, 16, 16)
    result = refine(camera=camera)
    assert result.outcome is Outcome.REFINED
    assert not torch.equal(result.refined, refine().refined)


def test_the_camera_must_have_the_size_of_the_input():
    message = r"camera: size is 64x48 pixels, the network's input has 16x16; use camera\.resized\(16, 16\)"
    with pytest.raises(ConfigError, match=message):
        start(camera=PinholeCamera.centered(60.0, 64, 48))


def test_few_anchors_pull_the_depth_by_their_loss():
    settings = dataclasses.replace(UNCHECKED, steps=60, ensemble_size=1)
    result = refine(settings, anchors=few_pixels(metres()), scale=SCALE)
    assert result.outcome is Outcome.REFINED
    assert result.scale is SCALE
    assert result.history[-1].loss_anchors < 0.5 * result.history[0].loss_anchors


def test_without_a_given_scale_it_is_fitted_to_the_anchors():
    network = FakeDepthNetwork(gain=10.0)
    depth = 5.0 / (network.decode(network.encode(SCENE.pixels))[0] + 0.7)
    run = start(network=network, anchors=anchors_from_depth(depth.double().numpy()))
    assert run.scale.scale == pytest.approx(5.0, rel=0.02)
    assert run.scale.shift == pytest.approx(0.7, abs=0.1)
    with pytest.raises(AnchorError, match="3 anchors where there is depth"):
        start(anchors=Anchors(np.arange(3), np.arange(3), np.ones(3), 16, 16))


def test_anchors_that_do_not_determine_the_scale_are_interpolated():
    wall = anchors_from_depth(np.full((16, 16), 2.0))
    run = start(anchors=wall)
    assert not list(run.steps())
    result = run.result()
    assert run.scale is None
    assert result.outcome is Outcome.KEPT_FAST
    assert "the anchors lie all at one depth" in result.message
    assert "interpolated" in result.message
    scaled = result.at_size(32, 32).scaled(SCALE, 0.0)
    torch.testing.assert_close(scaled.depth, torch.full((32, 32), 2.0), rtol=0.02, atol=0.0)
    torch.testing.assert_close(scaled.fast, scaled.depth)
    assert bool((scaled.stddev > 0).all())


def test_without_a_weight_anchors_are_ignored():
    plain = refine()
    weightless = refine(dataclasses.replace(SHORT, anchor_weight=0.0), anchors=every_second_pixel())
    assert torch.equal(plain.refined, weightless.refined)
    assert weightless.scale is None
    assert weightless.history[-1].loss_anchors == 0.0


def test_the_result_contains_the_scale_offset_that_the_anchors_determined():
    anchors = few_pixels(metres())
    settings = dataclasses.replace(
        PRESETS["paper"],
        steps=8,
        ensemble_size=1,
        anchored_learning_rate=0.0,
        decoder_learning_rate=0.0,
        scale_learning_rate=0.02,
        sds_weight=0.0,
        smoothness_weight=0.0,
    )
    result = refine(settings, anchors=anchors, scale=SCALE)
    assert float((result.refined - result.fast).abs().mean()) > 0.002
    ratio = result.depth / result.fast_depth
    assert float(ratio.std()) < 1e-5
    loss = float(anchor_loss(SCALE.depth(result.refined)[None], anchors))
    assert loss < float(anchor_loss(SCALE.depth(result.fast)[None], anchors))


def test_a_metric_network_stays_in_metres():
    network = FakeDepthNetwork(metric=True)
    result = refine(network=network)
    assert result.outcome is Outcome.REFINED
    assert result.metric
    torch.testing.assert_close(result.depth, result.refined)
    torch.testing.assert_close(result.fast_depth, result.fast)
    assert 0.2 < float(result.depth.median() / result.fast.median()) < 5.0


def test_the_scale_of_a_metric_network_has_no_shift():
    network = FakeDepthNetwork(metric=True)
    fast = network.decode(network.encode(SCENE.pixels))[0].double().numpy()
    run = start(network=network, anchors=anchors_from_depth(1.5 * fast))
    assert run.scale.scale == pytest.approx(1.5, rel=1e-3)
    assert run.scale.shift == 0.0


def test_the_paper_preset_runs():
    prior = FakePrior(SCENE.normals, light_conditioned=False)
    result = refine(dataclasses.replace(PRESETS["paper"], steps=3, ensemble_size=2), prior=prior)
    assert result.outcome is Outcome.REFINED
    assert [step.members_done for step in result.history] == [0, 0, 0, 1, 1, 1]
    assert all(call.condition.mirrored is False for call in prior.calls)
    assert [call.conditional for call in prior.calls] == [[True, False]] * 6
    assert None not in prior.vae_noise


def test_a_stopped_run_is_checked_all_the_same():
    run = start(dataclasses.replace(CHECKED, steps=40, max_plane_loss_ratio=1e-6))
    for step in run.steps():
        if step.step == 35:
            run.request_stop()
    assert run.result().outcome is Outcome.KEPT_FAST
    assert "does not see the shape" in run.result().message
