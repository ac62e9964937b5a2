"""Refinement with real networks: what a caller may rely on, whatever happens."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from redepth_ros.core.metric.anchors import anchor_loss, anchors_from_depth
from redepth_ros.core.refine.guidance import Distillation
from redepth_ros.core.errors import AnchorError, ConfigError, ImageError, ModelError
from redepth_ros.core.camera import normals_from_points, orthographic_points
from redepth_ros.core.camera import Intrinsics
from redepth_ros.core.refine.settings import PRESETS, RefineSettings
from redepth_ros.core.refine.result import Outcome
from redepth_ros.core.refine.run import Refiner
from redepth_ros.core.metric.scale import Scale
from redepth_ros.core.refine.trust_region import TrustRegion
from redepth_ros.models.depth_anything import DepthAnything
from redepth_ros.models.diffusion import DiffusionPrior
from redepth_ros.models.engine import Engine
from training.scenes.relief import draw_relief
from training.scenes.textures import atlas

ROOT = Path(__file__).parents[2]
SHORT = RefineSettings(steps=4, members=2)


@pytest.fixture(scope="module")
def engine():
    return Engine.load(str(ROOT / "bench" / "relief_depth"), "tiny", device="cpu")


@pytest.fixture(scope="module")
def picture():
    image = draw_relief(60_000_000, atlas(1)).image.permute(1, 2, 0).numpy()
    return (image * 255.0).round().astype(np.uint8)


def refine(engine, picture, settings=SHORT, **options):
    run = engine.start(picture, settings, **options)
    for _ in run.steps():
        pass
    return run.result()


def test_a_seed_gives_one_result(engine, picture):
    first, again = refine(engine, picture), refine(engine, picture)
    assert torch.equal(first.refined, again.refined)
    assert torch.equal(first.spread, again.spread)
    other = refine(engine, picture, dataclasses.replace(SHORT, seed=1))
    assert not torch.equal(first.refined, other.refined)


def test_a_finished_run(engine, picture):
    result = refine(engine, picture)
    assert result.outcome is Outcome.REFINED
    assert result.message.startswith("refined: the depth moved by")
    assert result.steps == 4
    assert [step.step for step in result.history] == [1, 2, 3, 4]
    assert result.history[-1].share == 1.0
    assert result.refined.shape == result.fast.shape == result.spread.shape == (56, 56)
    assert result.spread.max() > 0
    assert not torch.equal(result.refined, result.fast)
    fast = engine.model.decode(engine.model.encode(engine.model.preprocess(picture)))[0]
    torch.testing.assert_close(result.fast, fast)
    torch.testing.assert_close(result.depth, 7.0 / (result.refined + 0.1))


def test_stopped_whenever_the_caller_likes(engine, picture):
    run = engine.start(picture, dataclasses.replace(SHORT, steps=50))
    assert run.result().outcome is Outcome.KEPT_FAST
    assert "no step was done" in run.result().message
    for step in run.steps():
        early = run.result()
        assert early.outcome is Outcome.STOPPED_EARLY
        assert early.steps == step.step
        if step.step == 3:
            break
    assert "stopped after 3 of 50 steps" in run.result().message
    assert torch.isfinite(run.result().refined).all()


def test_members_one_after_the_other(engine, picture):
    settings = dataclasses.replace(SHORT, members=3, members_at_once=2)
    result = refine(engine, picture, settings)
    assert [(step.members_done, step.step) for step in result.history] == [
        *((0, step) for step in range(1, 5)),
        *((2, step) for step in range(1, 5)),
    ]
    run = engine.start(picture, settings)
    for step in run.steps():
        if step.members_done == 2:
            break
    early = run.result()
    assert "stopped after 2 of 3 members" in early.message
    assert early.steps == 4
    # The third, with a step done, does not pull the mean of the two back to the fast depth.
    two = refine(engine, picture, dataclasses.replace(settings, members=2))
    assert torch.equal(early.refined, two.refined)
    assert torch.equal(early.spread, two.spread)


def test_one_member_has_no_spread(engine, picture):
    assert not refine(engine, picture, dataclasses.replace(SHORT, members=1)).spread.any()


def test_a_time_budget_ends_the_run_after_a_step_at_least(engine, picture):
    settings = dataclasses.replace(SHORT, steps=100_000, time_budget=0.2)
    result = refine(engine, picture, settings)
    assert result.outcome is Outcome.STOPPED_EARLY
    assert 1 <= result.steps < 100_000


def test_the_networks_are_left_as_they_were(engine, picture):
    """Also where the decoder is tuned, as the paper does."""
    before = {name: value.clone() for name, value in engine.model.network.state_dict().items()}
    settings = dataclasses.replace(PRESETS["paper"], steps=3, members=2, decoder_rate=1e-3)
    result = refine(engine, picture, settings)
    assert result.outcome is Outcome.REFINED
    frozen = refine(engine, picture, dataclasses.replace(settings, decoder_rate=0.0))
    assert not torch.allclose(result.refined, frozen.refined, atol=1e-4)
    for name, value in engine.model.network.state_dict().items():
        assert torch.equal(value, before[name])
    assert not any(parameter.requires_grad for parameter in engine.model.network.parameters())


def test_the_scale_offset_is_part_of_the_result(engine, picture):
    """Its rate alone: all pixels' depths change by one factor."""
    settings = dataclasses.replace(
        PRESETS["paper"], steps=20, members=1, embedding_rate=0.0, decoder_rate=0.0, scale_rate=0.05
    )
    result = refine(engine, picture, settings)
    ratio = result.depth / result.fast_depth
    assert abs(float(ratio.mean()) - 1.0) > 1e-3
    assert float(ratio.std()) < 1e-5


def test_slow_changes_stay_within_the_trust_region(engine, picture):
    wild = dataclasses.replace(SHORT, steps=10, embedding_rate=0.5, average=0.0)
    free = refine(engine, picture, dataclasses.replace(wild, trust_radius=0.0, max_change=100.0))
    held = refine(engine, picture, dataclasses.replace(wild, trust_limit=0.005, max_change=100.0))

    def slow_change(result):
        average = TrustRegion(result.fast[None], 7.0, 0.0).average
        return float((average((result.refined - result.fast)[None]) / average(result.fast[None])).abs().max())

    assert slow_change(held) < 0.5 * slow_change(free)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"max_change": 0.0}, "it diverged"), ({"min_contrast": 1.0, "steps": 20}, "it collapsed")],
)
def test_a_result_that_fails_its_checks_is_the_fast_depth(changes, words, engine, picture):
    """Flattened by anchors of a wall that is not there."""
    wall = anchors_from_depth(np.full((56, 56), 1.6))
    settings = dataclasses.replace(SHORT, anchored_rate=0.1, **changes)
    result = refine(engine, picture, settings, anchors=wall, scale=Scale(7.0, 0.1))
    assert words in result.message
    assert result.outcome is Outcome.KEPT_FAST
    assert torch.equal(result.refined, result.fast)
    assert torch.equal(result.depth, result.fast_depth)
    assert not result.spread.any()


def test_the_prior_judges_what_came_out(engine, picture):
    settings = dataclasses.replace(SHORT, steps=30, members=1, lights=2)
    strict = dataclasses.replace(settings, min_fall=1.0)
    kept = refine(engine, picture, strict)
    assert kept.outcome is Outcome.KEPT_FAST
    assert "the prior's loss fell from" in kept.message
    assert refine(engine, picture, dataclasses.replace(settings, min_fall=0.0)).outcome is Outcome.REFINED
    # Not what ended before its time, nor members of a few steps each, however many there are.
    hurried = refine(engine, picture, dataclasses.replace(strict, steps=100_000, time_budget=2.0))
    assert hurried.outcome is Outcome.STOPPED_EARLY
    one_by_one = dataclasses.replace(strict, steps=10, members=4, members_at_once=1)
    assert refine(engine, picture, one_by_one).outcome is Outcome.REFINED
    # Not where it had no time, where anchors judge, or of a prior that does not know the light.
    assert refine(engine, picture, dataclasses.replace(strict, steps=29)).outcome is Outcome.REFINED
    image, _, anchors = measured_relief(60_000_010)
    known = Scale(7.0, 0.1)
    assert refine(engine, image, strict, anchors=anchors, scale=known).outcome is Outcome.REFINED
    other = DiffusionPrior.load(str(Path(__file__).parent / "data" / "tiny-sd"), device="cpu")
    assert refine(Engine(engine.model, other), picture, strict, prompt="a relief").outcome is Outcome.REFINED


def test_the_loss_of_a_shape_is_that_which_its_gradient_belongs_to(engine, picture):
    pixels = engine.model.preprocess(picture)
    depth = 7.0 / (engine.model.decode(engine.model.encode(pixels)) + 0.1)
    normals, view = normals_from_points(orthographic_points(depth)), torch.tensor([0.0, 0.0, -1.0])
    asked = Distillation(engine.prior, engine.model.picture(pixels), "", SHORT)
    draws = asked.draw(6, torch.Generator().manual_seed(0), 0.0)
    gradient, loss = asked.gradient(normals, view[None, :, None, None], draws)
    assert asked.loss(normals, view[None, :, None, None], draws) == pytest.approx(loss, rel=1e-4)
    asked.chunk = 4
    few, same = asked.gradient(normals, view[None, :, None, None], draws)
    assert same == pytest.approx(loss, rel=1e-4)
    torch.testing.assert_close(few, gradient, rtol=1e-3, atol=1e-6)


def test_noise_levels_fall_with_the_steps(engine, picture):
    settings = dataclasses.replace(SHORT, t_low=0.6, t_high=0.9, t_fall=0.5)
    asked = Distillation(engine.prior, engine.model.picture(engine.model.preprocess(picture)), "", settings)
    horizon = len(engine.prior.alphas)
    for progress, low, high in ((0.0, 0.6, 0.9), (0.5, 0.35, 0.65), (1.0, 0.1, 0.4)):
        t = asked.draw(1000, torch.Generator().manual_seed(0), progress).t / horizon
        assert float(t.min()) == pytest.approx(low, abs=0.01)
        assert float(t.max()) == pytest.approx(high, abs=0.01)


def test_the_prior_sees_a_mirrored_scene_as_it_would_be(engine, picture):
    """A mirrored shape of a mirrored picture, seen mirrored again, is the scene itself."""
    pixels = engine.model.preprocess(picture)
    image = engine.model.picture(pixels)
    depth = 7.0 / (engine.model.decode(engine.model.encode(pixels)) + 0.1)
    view = torch.tensor([0.0, 0.0, -1.0])[None, :, None, None]
    asked = Distillation(engine.prior, image, "", SHORT)
    draws = asked.draw(4, torch.Generator().manual_seed(0), 0.0)._replace(mirrored=False)
    expected, loss = asked.gradient(normals_from_points(orthographic_points(depth)), view, draws)
    other = Distillation(engine.prior, image.flip(-1), "", SHORT)
    twin = draws._replace(mirrored=True, lighting=draws.lighting.mirrored())
    found, same = other.gradient(normals_from_points(orthographic_points(depth.flip(-1))), view, twin)
    assert same == pytest.approx(loss, rel=1e-3)
    found = found.flip(-1) * torch.tensor([-1.0, 1.0, 1.0])[:, None, None]
    assert float((found - expected).abs().mean()) < 1e-2 * float(expected.abs().mean())


def test_half_of_the_steps_are_mirrored_unless_it_is_the_papers(engine, picture):
    image = engine.model.picture(engine.model.preprocess(picture))
    generator = torch.Generator().manual_seed(0)
    asked = Distillation(engine.prior, image, "", SHORT)
    assert 60 < sum(asked.draw(1, generator, 0.0).mirrored for _ in range(200)) < 140
    asked = Distillation(engine.prior, image, "", dataclasses.replace(SHORT, mirror=False))
    assert not any(asked.draw(1, generator, 0.0).mirrored for _ in range(20))


class _Overflow(torch.autograd.Function):
    """What half precision may do on the way back."""

    @staticmethod
    def forward(context, values):
        return values.clone()

    @staticmethod
    def backward(context, gradient):
        return torch.full_like(gradient, torch.inf)


def test_a_gradient_that_overflows_is_no_success(engine, picture):
    class Overflowing(Scarce):
        def encode(self, pictures, noise):
            return self._prior.encode(_Overflow.apply(pictures), noise)

    result = refine(Engine(engine.model, Overflowing(engine.prior, 0)), picture)
    assert result.outcome is Outcome.KEPT_FAST
    assert "the loss was nan in step 1" in result.message


def test_a_late_failure_loses_no_member_that_is_done(engine, picture):
    settings = dataclasses.replace(SHORT, members=3, members_at_once=1)
    expected = refine(engine, picture, dataclasses.replace(settings, members=2))

    class Dying(Scarce):
        def encode(self, pictures, noise):
            self._room -= 1
            if self._room < 0:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB")
            return self._prior.encode(pictures, noise)

    result = refine(Engine(engine.model, Dying(engine.prior, 9)), picture, settings)
    assert result.outcome is Outcome.STOPPED_EARLY
    assert "stopped after 2 of 3 members, since memory ran out" in result.message
    assert torch.equal(result.refined, expected.refined)


def test_memory_that_holds_fewer_members_at_once(engine, picture):
    class Narrow(Scarce):
        """Room for the networks, but not for the gradients of so many members."""

        def encode(self, pictures, noise):
            if not self._room and pictures.requires_grad:
                self._room = 1
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB")
            return self._prior.encode(pictures, noise)

    settings = dataclasses.replace(SHORT, members=2, lights=1, pictures_at_once=1)
    result = refine(Engine(engine.model, Narrow(engine.prior, 0)), picture, settings)
    assert result.outcome is Outcome.REFINED
    assert "memory ran out: 1 members at once from then on" in result.message
    assert [step.members_done for step in result.history] == [0] * 4 + [1] * 4


def test_memory_that_does_not_suffice_for_the_fast_depth_is_said(engine, picture, monkeypatch):
    def decode(self, embeddings):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB")

    monkeypatch.setattr(DepthAnything, "decode", decode)
    with pytest.raises(ModelError, match=r"memory ran out .* 56x56 pixels; lower the input size"):
        engine.start(picture)


def test_what_becomes_of_a_prompt_is_said(engine, picture):
    result = refine(engine, picture, prompt="a relief")
    assert result.outcome is Outcome.REFINED
    assert "the prior takes no prompt" in result.message
    assert "prompt" not in refine(engine, picture).message


def test_a_prior_that_gives_nan_keeps_the_fast_depth(engine, picture):
    broken = DiffusionPrior.load("tiny", device="cpu")
    for parameter in broken.unet.parameters():
        parameter.fill_(torch.nan)
    result = refine(Engine(engine.model, broken), picture)
    assert result.outcome is Outcome.KEPT_FAST
    assert "the loss was nan in step 1" in result.message


class Scarce:
    """A prior on a device whose memory holds so many pictures, and not one more."""

    def __init__(self, prior, room):
        self._prior, self._room = prior, room

    def __getattr__(self, name):
        return getattr(self._prior, name)

    def encode(self, pictures, noise):
        if len(pictures) > self._room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB")
        return self._prior.encode(pictures, noise)


def test_memory_that_runs_out_makes_batches_smaller(engine, picture):
    settings = dataclasses.replace(SHORT, lights=3)
    expected = refine(engine, picture, settings)
    scarce = refine(Engine(engine.model, Scarce(engine.prior, 2)), picture, settings)
    assert scarce.outcome is Outcome.REFINED
    assert "memory ran out: 3 re-lit pictures at once" in scarce.message
    assert "memory ran out: 1 re-lit pictures at once" in scarce.message
    torch.testing.assert_close(scarce.refined, expected.refined, rtol=1e-3, atol=1e-3)


def test_so_many_pictures_at_once_as_asked_for(engine, picture):
    settings = dataclasses.replace(SHORT, lights=3)
    few = dataclasses.replace(settings, pictures_at_once=2)
    result = refine(Engine(engine.model, Scarce(engine.prior, 2)), picture, few)
    assert "memory" not in result.message
    torch.testing.assert_close(
        result.refined, refine(engine, picture, settings).refined, rtol=1e-3, atol=1e-3
    )


def test_memory_that_is_too_small_for_the_prior_to_see_the_picture(engine, picture):
    class Blind(Scarce):
        def condition(self, picture, prompt):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB")

    result = refine(Engine(engine.model, Blind(engine.prior, 0)), picture)
    assert result.outcome is Outcome.KEPT_FAST
    assert "memory ran out before the first step" in result.message
    assert torch.equal(result.refined, result.fast)


def test_memory_that_is_too_small_for_the_prior_to_judge_keeps_the_result(engine, picture):
    scarce = Scarce(engine.prior, 100)
    run = Engine(engine.model, scarce).start(picture, dataclasses.replace(SHORT, steps=30))
    for _ in run.steps():
        pass
    scarce._room = 0
    result = run.result()
    assert result.outcome is Outcome.REFINED
    assert "memory ran out before the prior could judge" in result.message


def test_memory_that_never_suffices_keeps_the_fast_depth(engine, picture):
    result = refine(Engine(engine.model, Scarce(engine.prior, 0)), picture)
    assert result.outcome is Outcome.KEPT_FAST
    assert "memory ran out even for a single re-lit picture" in result.message
    assert refine(engine, picture).outcome is Outcome.REFINED


def test_other_faults_are_not_hidden(engine, picture):
    class Faulty(Scarce):
        def encode(self, pictures, noise):
            raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        refine(Engine(engine.model, Faulty(engine.prior, 1)), picture)


def test_a_text_to_image_prior_in_its_square(engine, picture):
    prior = DiffusionPrior.load(str(Path(__file__).parent / "data" / "tiny-sd"), device="cpu")
    settings = dataclasses.replace(PRESETS["paper"], steps=2, members=1)
    result = refine(Engine(engine.model, prior), picture, settings, prompt="a relief")
    assert result.outcome is Outcome.REFINED


def test_the_preset_fast_suits_the_prior(engine):
    prompted = DiffusionPrior.load(str(Path(__file__).parent / "data" / "tiny-sd"), device="cpu")
    assert engine.preset() == PRESETS["fast"]
    other = Engine(engine.model, prompted)
    assert other.preset("paper") == PRESETS["paper"]
    settings, paper = other.preset("fast"), PRESETS["paper"]
    assert settings.guidance_scale == paper.guidance_scale
    assert (settings.t_low, settings.t_high, settings.t_fall) == (0.02, 0.6, 0.0)
    assert settings.steps == PRESETS["fast"].steps
    # As far as the published run can get: a rate that decays along a cosine is half of itself on average.
    assert 0.5 * settings.steps * settings.embedding_rate == pytest.approx(paper.steps * paper.embedding_rate)
    with pytest.raises(ConfigError, match="preset is 'slow'; it must be one of: fast, paper"):
        engine.preset("slow")


def test_known_intrinsics_see_in_perspective(engine, picture):
    camera = Intrinsics(60.0, 60.0, 27.5, 27.5, 56, 56)
    seen = refine(engine, picture, intrinsics=camera)
    assert seen.outcome is Outcome.REFINED
    assert not torch.equal(seen.refined, refine(engine, picture).refined)
    with pytest.raises(ConfigError, match="intrinsics are of 64x48 pixels, the picture has 56x56"):
        engine.start(picture, intrinsics=Intrinsics(60.0, 60.0, 31.5, 23.5, 64, 48))


def test_a_metric_model_stays_in_metres(engine, picture, tmp_path):
    network = engine.model.fork().network
    network.config.depth_estimation_type, network.config.max_depth = "metric", 20
    network.head.depth_estimation_type, network.head.max_depth = "metric", 20
    network.save_pretrained(tmp_path)
    model = DepthAnything.load(str(tmp_path), device="cpu")
    result = refine(Engine(model, engine.prior), picture, longer_side=56)
    assert result.outcome is Outcome.REFINED
    torch.testing.assert_close(result.depth, result.refined)
    assert 0.0 < float(result.depth.median()) <= 20.0


def test_half_precision_moves_the_depth_about_as_single_does(engine, picture):
    half = Engine.load(str(ROOT / "bench" / "relief_depth"), "tiny", device="cpu", precision="bfloat16")
    settings = dataclasses.replace(SHORT, steps=20)
    single, found = refine(engine, picture, settings), refine(half, picture, settings)
    assert found.outcome is Outcome.REFINED
    moved = single.refined - single.fast
    assert float((found.refined - found.fast - moved).abs().mean()) < 0.7 * float(moved.abs().mean())


@pytest.mark.parametrize("colour", [(90, 90, 90), (200, 40, 0)])
def test_a_constant_picture_is_said_to_be_one(colour, engine):
    result = refine(engine, np.full((56, 56, 3), colour, np.uint8))
    assert result.outcome is Outcome.KEPT_FAST
    assert "the picture is of one colour" in result.message


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (np.zeros((6, 90, 3), np.uint8), "picture of 90x6 pixels; .* the model's patch, 7 pixels"),
        (np.full((60, 60, 3), np.nan), "NaN"),
        (np.zeros((60, 60, 2), np.uint8), "shape"),
    ],
)
def test_what_can_not_be_refined_is_refused(picture, words, engine):
    with pytest.raises(ImageError, match=words):
        engine.start(picture)


@pytest.mark.parametrize("kind", ["alpha", "16 bits", "float"])
def test_pictures_of_other_kinds_give_the_same(kind, engine, picture):
    other = {
        "alpha": np.dstack((picture, np.zeros(picture.shape[:2], np.uint8))),
        "16 bits": picture.astype(np.uint16) * 257,
        "float": picture / 255.0,
    }[kind]
    assert torch.equal(refine(engine, other).refined, refine(engine, picture).refined)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": 0}, "steps is 0; it must be from 1 to 100000"),
        ({"members": 0}, "members is 0"),
        ({"t_low": 0.7, "t_high": 0.6}, "t_low is 0.7 and t_high 0.6; t_low must be smaller"),
        ({"t_low": 0.3, "t_fall": 0.4}, "t_fall is 0.4 and t_low 0.3; t_fall must not be larger"),
        ({"lighting": "hard"}, "lighting is 'hard'"),
        ({"embedding_rate": float("nan")}, "embedding_rate is nan"),
    ],
)
def test_settings_out_of_range_are_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        dataclasses.replace(SHORT, **changes)


def measured_relief(seed, outliers=20):
    """A relief's picture, its depth as metres, and 200 anchors of it, some of them wrong."""
    rendering = draw_relief(seed, atlas(1))
    image = (rendering.image.permute(1, 2, 0).numpy() * 255.0).round().astype(np.uint8)
    depth = rendering.depth.numpy().astype(np.float64)
    rng = np.random.default_rng(seed)
    chosen = rng.choice(depth.size, 200, replace=False)
    measured = np.full(depth.size, np.nan)
    measured[chosen] = depth.flat[chosen] * (1.0 + 0.005 * rng.standard_normal(200))
    measured[chosen[:outliers]] = rng.uniform(depth.min(), depth.max(), outliers)
    return image, depth, anchors_from_depth(measured.reshape(depth.shape))


def error_elsewhere(disparity, scale, depth, anchors):
    """AbsRel at the pixels that are no anchors."""
    found = scale.depth(disparity).numpy()
    others = np.isnan(anchors.image())
    return np.abs(found / depth - 1.0)[others].mean()


def test_anchored_refinement_honours_the_metres_where_nothing_was_measured(engine):
    before, after, alone = [], [], []
    settings, scale = RefineSettings(steps=40, members=1), Scale(7.0, 0.1)
    for seed in range(60_000_010, 60_000_014):
        image, depth, anchors = measured_relief(seed)
        result = refine(engine, image, settings, anchors=anchors, scale=scale)
        assert result.outcome is Outcome.REFINED
        assert result.history[-1].loss_anchors < result.history[0].loss_anchors
        before.append(error_elsewhere(result.fast, scale, depth, anchors))
        after.append(error_elsewhere(result.refined, scale, depth, anchors))
        only = dataclasses.replace(settings, sds_weight=0.0)
        found = refine(engine, image, only, anchors=anchors, scale=scale)
        alone.append(error_elsewhere(found.refined, scale, depth, anchors))
    assert np.mean(after) < 0.75 * np.mean(before)
    assert np.mean(after) < 1.05 * np.mean(alone)


def test_anchors_hold_the_depth_that_comes_out_with_the_scale_offset_in_it(engine):
    image, _, anchors = measured_relief(60_000_010)
    settings = dataclasses.replace(
        PRESETS["paper"], steps=8, members=1, embedding_rate=0.0, decoder_rate=0.0, scale_rate=0.3
    )
    scale = Scale(6.0, 0.1)
    result = refine(engine, image, settings, anchors=anchors, scale=scale)
    assert float((result.refined - result.fast).abs().mean()) > 0.01
    miss = anchor_loss(scale.depth(result.refined)[None], anchors)
    assert float(miss) == pytest.approx(result.history[-1].loss_anchors, rel=1e-3)


def test_anchors_that_do_not_fit_the_picture(engine, picture):
    with pytest.raises(AnchorError, match="5 anchors where there is depth"):
        refine(engine, picture, anchors=anchors_from_depth(np.eye(56)[:5]).resized(56, 56))
    pixels = engine.model.preprocess(picture)
    anchors = anchors_from_depth(np.full((48, 64), 2.0))
    with pytest.raises(ConfigError, match="anchors are on 64x48 pixels, the network's input has 56x56"):
        Refiner(engine.model, engine.prior, SHORT).start(pixels, anchors=anchors)


def test_without_a_weight_anchors_are_left_out(engine, picture):
    _, _, anchors = measured_relief(60_000_010)
    plain = refine(engine, picture)
    weightless = refine(engine, picture, dataclasses.replace(SHORT, anchor_weight=0.0), anchors=anchors)
    assert torch.equal(plain.refined, weightless.refined)
    assert weightless.scale is None
