"""The networks of a refinement together: what an engine accepts, and a real refinement."""

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel

from redepth_ros.core.camera import OrthographicCamera, PinholeCamera
from redepth_ros.core.errors import ConfigError, ImageError
from redepth_ros.core.metric.anchors import anchors_from_depth
from redepth_ros.core.metric.scale import Scale
from redepth_ros.core.metrics import align_depth, depth_errors
from redepth_ros.core.refine.result import Outcome
from redepth_ros.core.refine.settings import PRESETS, RefineSettings, preset_for
from redepth_ros.models.depth_anything import DepthAnything
from redepth_ros.models.engine import Engine
from training.scenes.relief import sample_relief
from training.scenes.textures import atlas

RELIEF_DEPTH = Path(__file__).parents[2] / "bench" / "relief_depth"
SHORT = RefineSettings(steps=2, ensemble_size=1, lights_per_step=2)


@pytest.fixture(scope="module")
def textures():
    return atlas(1, procedural=24, photographic=0)


@pytest.fixture(scope="module")
def image(textures):
    return image_of(sample_relief(60_000_000, textures))


def image_of(rendering):
    """Return the image as (H, W, 3) uint8."""
    return (rendering.image.permute(1, 2, 0).numpy() * 255.0).round().astype(np.uint8)


def refine(engine, image, settings=SHORT, **options):
    run = engine.start(image, settings, **options)
    for _ in run.steps():
        pass
    return run.result()


def errors(output, rendering):
    """Return the relative error of the aligned depth, and the mean angle of its normals in degrees."""
    truth = rendering.depth.numpy()
    depth = align_depth(output.numpy().ravel(), truth.ravel())
    normals = (
        OrthographicCamera().normals(torch.from_numpy(one).float())
        for one in (depth.reshape(truth.shape), truth)
    )
    cosine = torch.stack(tuple(normals)).prod(0).sum(0).clamp(-1.0, 1.0)
    return depth_errors(depth, truth.ravel())["abs_rel"], float(torch.rad2deg(torch.acos(cosine)).mean())


def mean_errors(engine, textures, settings, count):
    """Return the mean errors of fast and of refined reliefs: (2, 2)."""
    found = []
    for seed in range(50_000_000, 50_000_000 + count):
        rendering = sample_relief(seed, textures)
        result = refine(engine, image_of(rendering), settings)
        assert result.outcome is Outcome.REFINED
        found.append((errors(result.fast, rendering), errors(result.refined, rendering)))
    return np.mean(found, axis=0)


UNCHECKED = {
    "min_initial_loss": 0.0,
    "max_early_loss_ratio": 0.0,
    "max_plane_loss_ratio": 0.0,
    "max_mirror_loss_ratio": 0.0,
}
GAIN = RefineSettings(steps=40, ensemble_size=1, lights_per_step=2, **UNCHECKED)


def test_refinement_improves_held_out_reliefs(relief_engine, textures):
    """A few of the scenes of bench/refinement_gain.py, which has intervals and more controls."""
    fast, refined = mean_errors(relief_engine, textures, GAIN, 4)
    assert refined[0] < 0.95 * fast[0]
    assert refined[1] < 0.9 * fast[1]


def test_a_random_prior_does_not_improve_them(relief_engine, textures):
    prior = copy.copy(relief_engine.prior)
    torch.manual_seed(0)
    prior.unet = UNet2DConditionModel.from_config(prior.unet.config).eval().requires_grad_(False)
    fast, refined = mean_errors(dataclasses.replace(relief_engine, prior=prior), textures, GAIN, 2)
    assert (refined > fast).all()


def test_the_prior_prefers_the_refined_relief_to_a_plane(relief_engine, textures):
    """With the limits of the preset."""
    image = image_of(sample_relief(50_000_000, textures))
    assert refine(relief_engine, image, RefineSettings(steps=60, ensemble_size=1)).outcome is Outcome.REFINED


def test_anchored_refinement_improves_depth_where_nothing_was_measured(relief_engine, textures):
    settings, scale = dataclasses.replace(GAIN, steps=30), Scale(7.0, 0.1)
    before, after = [], []
    for seed in (60_000_010, 60_000_011):
        rendering, rng = sample_relief(seed, textures), np.random.default_rng(seed)
        depth = rendering.depth.numpy().astype(np.float64)
        chosen = rng.choice(depth.size, 200, replace=False)
        measured = np.full(depth.size, np.nan)
        measured[chosen] = depth.flat[chosen] * (1.0 + 0.005 * rng.standard_normal(200))
        measured[chosen[:20]] = rng.uniform(depth.min(), depth.max(), 20)  # outliers
        anchors = anchors_from_depth(measured.reshape(depth.shape))
        result = refine(relief_engine, image_of(rendering), settings, anchors=anchors, scale=scale)
        assert result.outcome is Outcome.REFINED
        others = np.isnan(anchors.to_depth())
        for fused, found in ((result.fast_fused, before), (result.fused, after)):
            found.append(np.abs(fused.depth.numpy() / depth - 1.0)[others].mean())
    assert np.mean(after) < np.mean(before)


def test_the_networks_are_unchanged_by_a_refinement(relief_engine, image):
    before = {name: value.clone() for name, value in relief_engine.model.network.state_dict().items()}
    settings = dataclasses.replace(PRESETS["paper"], steps=2, ensemble_size=1, decoder_learning_rate=1e-3)
    assert refine(relief_engine, image, settings).outcome is Outcome.REFINED
    for name, value in relief_engine.model.network.state_dict().items():
        assert torch.equal(value, before[name])
    assert not any(one.requires_grad for one in relief_engine.model.network.parameters())


def test_a_text_to_image_prior_refines_in_its_square(relief_engine, tiny_sd, image):
    settings = dataclasses.replace(PRESETS["paper"], steps=2, ensemble_size=1)
    engine = dataclasses.replace(relief_engine, prior=tiny_sd)
    result = refine(engine, image, settings, prompt="a relief")
    assert result.outcome is Outcome.REFINED
    assert "prompt" not in result.message


def test_half_precision_changes_the_depth_about_as_single_precision_does(relief_engine, image):
    half = Engine.load(str(RELIEF_DEPTH), "tiny", device="cpu", precision="bfloat16")
    settings = dataclasses.replace(SHORT, steps=12)
    single, found = refine(relief_engine, image, settings), refine(half, image, settings)
    assert found.outcome is Outcome.REFINED
    change = single.refined - single.fast
    assert float((found.refined - found.fast - change).abs().mean()) < 0.7 * float(change.abs().mean())


def test_a_metric_network_stays_in_metres(relief_engine, image, tmp_path):
    network = relief_engine.model.fork().network
    config, head = copy.deepcopy(network.config), network.head
    config.depth_estimation_type, config.max_depth = "metric", 20
    head.depth_estimation_type, head.max_depth = "metric", 20
    network.config = config
    network.save_pretrained(tmp_path)
    model = DepthAnything.load(str(tmp_path), device="cpu")
    result = refine(Engine(model, relief_engine.prior), image, input_size=56)
    assert not relief_engine.model.metric
    assert result.outcome is Outcome.REFINED
    torch.testing.assert_close(result.depth, result.refined)
    assert 0.0 < float(result.depth.median()) <= 20.0


def test_the_preset_suits_the_prior(relief_engine, tiny_sd):
    assert relief_engine.preset() == PRESETS["default"]
    other = Engine(relief_engine.model, tiny_sd)
    assert other.preset() == preset_for("default", False) != PRESETS["default"]
    assert other.preset("paper") == PRESETS["paper"]
    with pytest.raises(ConfigError, match="preset is 'slow'"):
        relief_engine.preset("slow")


def test_settings_are_those_of_the_preset_by_default(relief_engine, image):
    for step in relief_engine.start(image).steps():
        assert (step.steps, step.ensemble_size) == (160, 2)
        break


def test_the_prompt_is_reported_as_ignored(relief_engine, image):
    result = relief_engine.start(image, SHORT, prompt="a relief").result()
    assert result.prompt == "a relief"
    assert "the prior ignores the prompt" in result.message


def test_camera_and_anchors_are_resized_with_the_image(relief_engine, textures):
    rendering = sample_relief(60_000_010, textures)
    image = image_of(rendering).repeat(2, 0).repeat(2, 1)
    depth = 7.0 / (relief_engine.model.predict(image, 56).double().numpy() + 0.1)
    options = {"camera": PinholeCamera.centered(120.0, 112, 112), "anchors": anchors_from_depth(depth)}
    run = relief_engine.start(image, SHORT, input_size=56, **options)
    assert run.scale.scale == pytest.approx(7.0, rel=0.05)
    for _ in run.steps():
        pass
    result = run.result()
    assert result.refined.shape == (56, 56)
    assert result.at_size(112, 112).refined.shape == (112, 112)
    assert result.at_size(112, 112).fused.depth.shape == (112, 112)


def test_a_camera_of_another_size_is_rejected(relief_engine, image):
    with pytest.raises(ConfigError, match="the camera has 64x48 pixels, the image 56x56; they must be equal"):
        relief_engine.start(image, camera=PinholeCamera(60.0, 60.0, 31.5, 23.5, 64, 48))


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (
            np.zeros((6, 90, 3), np.uint8),
            "90x6 pixels; both sides must be at least the network's patch, 7 pixels",
        ),
        (np.full((60, 60, 3), np.nan), "NaN"),
        (np.zeros((60, 60, 2), np.uint8), "shape"),
    ],
)
def test_start_rejects_unusable_images(image, words, relief_engine):
    with pytest.raises(ImageError, match=words):
        relief_engine.start(image)


@pytest.mark.parametrize("kind", ["alpha", "16 bits", "float"])
def test_other_kinds_of_images_give_the_same(kind, relief_engine, image):
    other = {
        "alpha": np.dstack((image, np.zeros(image.shape[:2], np.uint8))),
        "16 bits": image.astype(np.uint16) * 257,
        "float": image / 255.0,
    }[kind]
    assert torch.equal(
        relief_engine.start(other, SHORT).result().fast, relief_engine.start(image, SHORT).result().fast
    )
