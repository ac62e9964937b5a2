"""Prompt Depth Anything with small random weights."""

import numpy as np
import pytest
import torch
from prompt_networks import save_prompt_network
from transformers import PromptDepthAnythingImageProcessorPil

from redepth_ros.core.errors import AnchorError, ConfigError
from redepth_ros.core.metric.anchors import Anchors, anchors_from_depth
from redepth_ros.core.refine.settings import RefineSettings
from redepth_ros.models.depth_networks import load_depth_network
from redepth_ros.models.engine import Engine
from redepth_ros.models.prompt_depth_anything import PromptDepthAnything, takes_prompt, with_prompt


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_depth_network(save_prompt_network(tmp_path_factory.mktemp("prompt")), device="cpu")


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 255, (42, 56, 3), np.uint8)


@pytest.fixture(scope="module")
def depth():
    """A slanted floor of 2 to 4 m, with a step: (42, 56) metres."""
    rows, columns = np.mgrid[:42, :56].astype(np.float32)
    return 4.0 - 2.0 * rows / 41 - 0.5 * (columns > 40)


def dense_prompt(model, anchors):
    """Return the prompt (1, 1, rows, columns) in metres that a network makes of anchors."""
    prompt = model.with_prompt(anchors)._prompt
    return prompt.near + (prompt.far - prompt.near) * prompt.depth


@torch.inference_mode()
def test_decode_after_encode_is_the_forward_pass_with_the_prompt(model, depth):
    pixels, anchors = torch.randn(2, 3, 42, 56), anchors_from_depth(depth)
    prompted = model.with_prompt(anchors)
    prompt = dense_prompt(model, anchors).expand(2, -1, -1, -1)
    expected = model.network(pixels, prompt_depth=prompt).predicted_depth
    found = prompted.decode(prompted.encode(pixels))
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(
        found, model.network(pixels, prompt_depth=1.0 / prompt).predicted_depth, rtol=0.1
    )
    assert prompted.metric


@torch.inference_mode()
def test_without_a_prompt_it_is_the_forward_pass_without_one(model):
    """transformers returns relative depth, whose inverse is the disparity."""
    pixels = torch.randn(2, 3, 42, 56)
    expected = model.network(pixels).predicted_depth
    torch.testing.assert_close(1.0 / model.decode(model.encode(pixels)), expected)
    assert (model.metric, model.scale_source) == (False, "prompt")


def test_the_prompt_of_dense_anchors_is_the_measured_depth(model, depth):
    found = dense_prompt(model, anchors_from_depth(depth))[0, 0]
    assert found.shape == depth.shape
    assert np.abs(found.numpy() / depth - 1.0).mean() < 0.005
    assert found.min() == pytest.approx(depth.min(), rel=0.02)
    assert found.max() == pytest.approx(depth.max(), rel=0.02)


def test_the_prompt_of_sparse_anchors_fills_the_image_without_outliers(model):
    rows, columns = np.mgrid[:240, :320].astype(np.float32)
    truth = 3.0 + rows / 240 + 0.5 * columns / 320
    anchors = anchors_from_depth(truth, 300)
    wrong = np.arange(0, 300, 20)
    anchors.depth[wrong] *= 4.0
    found = dense_prompt(model, anchors)[0, 0]
    assert found.shape == (48, 64)
    expected = truth[2::5, 2::5]
    assert np.abs(found.numpy() / expected - 1.0).max() < 0.05


@pytest.mark.parametrize("count", [2, 3, 5])
def test_few_anchors_are_a_prompt(count, model, depth):
    index = np.linspace(0, 41, count).astype(int)
    anchors = Anchors(index, index, depth[index, index].astype(float), 42, 56)
    assert torch.isfinite(model.with_prompt(anchors).predict(np.zeros((42, 56, 3), np.uint8))).all()


@pytest.mark.parametrize(
    ("measured", "words"),
    [
        (np.full((42, 56), 2.0), "all of the anchors' depth is 2 m: a prompt needs different depths"),
        (np.full((42, 56), np.nan), "none of the 2352 pixels of the anchors' depth image is valid"),
    ],
)
def test_anchors_that_are_no_prompt_are_refused(measured, words, model):
    rows, columns = np.nonzero(np.isfinite(measured))
    anchors = Anchors(rows, columns, measured[rows, columns], 42, 56)
    with pytest.raises(AnchorError, match=words):
        model.with_prompt(anchors)


def test_output_is_in_metres_within_the_prompt(model, image, depth):
    metres = model.with_prompt(anchors_from_depth(depth)).predict(image)
    assert metres.shape == depth.shape
    assert 1.4 < metres.min() < metres.max() < 4.1
    doubled = model.with_prompt(anchors_from_depth(2.0 * depth)).predict(image)
    torch.testing.assert_close(doubled, 2.0 * metres)


def test_a_prompt_belongs_to_one_network_object(model, image, depth):
    before = model.predict(image)
    prompted = with_prompt(model, anchors_from_depth(depth))
    assert prompted.network is model.network
    assert prompted.fork().metric
    torch.testing.assert_close(prompted.fork().predict(image), prompted.predict(image))
    assert torch.equal(model.predict(image), before)
    assert with_prompt(model, None) is model
    assert takes_prompt(model)


def test_other_networks_take_no_prompt(tiny_depth, depth):
    assert with_prompt(tiny_depth, anchors_from_depth(depth)) is tiny_depth
    assert not takes_prompt(tiny_depth)


def test_it_normalises_as_its_processor(model, image):
    assert type(model) is PromptDepthAnything
    assert (model.longer_side, model.patch) == (56, 14)
    processor = PromptDepthAnythingImageProcessorPil.from_pretrained(model.name)
    expected = processor(image, do_resize=False, return_tensors="pt").pixel_values
    torch.testing.assert_close(model.preprocess(image), expected, rtol=1e-5, atol=1e-5)


def test_it_is_refined_with_the_anchors_as_its_prompt(model, tiny_prior, image, depth):
    anchors = anchors_from_depth(depth, 400)
    settings = RefineSettings(
        steps=6,
        ensemble_size=2,
        lights_per_step=1,
        anchored_learning_rate=1e-3,
        decoder_learning_rate=1e-5,
        sds_weight=0.0,
    )
    run = Engine(model, tiny_prior).start(image, settings, anchors=anchors)
    assert run.metric
    first, *_, last = (step.loss_anchors for step in run.steps())
    assert 0.0 < last < first
    result = run.result()
    assert result.metric
    assert result.scale.shift == 0.0
    torch.testing.assert_close(result.fast, model.with_prompt(anchors).predict(image))
    assert np.abs(np.log(result.fused.depth.numpy() / depth)).mean() < 0.1


def test_without_anchors_a_refinement_is_relative(model, tiny_prior, image):
    settings = RefineSettings(steps=1, ensemble_size=1, lights_per_step=1)
    run = Engine(model, tiny_prior).start(image, settings)
    assert (run.metric, run.known_scale, run.scale) == (False, None, None)
    torch.testing.assert_close(run.result().fast, model.predict(image))


def test_anchors_without_a_weight_are_still_the_prompt(model, tiny_prior, image, depth):
    """The unit of the output does not depend on the settings."""
    settings = RefineSettings(steps=1, ensemble_size=1, lights_per_step=1, anchor_weight=0.0)
    run = Engine(model, tiny_prior).start(image, settings, anchors=anchors_from_depth(depth))
    assert (run.metric, run.scale) == (True, None)


def test_half_precision_applies_to_the_encoder_only(model, image, depth):
    half = PromptDepthAnything.load(model.name, device="cpu", precision="bfloat16")
    assert {one.dtype for one in half.decoder_parameters()} == {torch.float32}
    anchors = anchors_from_depth(depth)
    expected, found = (one.with_prompt(anchors).predict(image) for one in (model, half))
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.0)


def test_other_runtimes_are_refused(model):
    with pytest.raises(ConfigError, match="'prompt_depth_anything' network, which needs runtime torch"):
        model.with_runtime("compile")
