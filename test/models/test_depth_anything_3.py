"""Depth Anything 3: random weights in the published format, and what the authors' code computes for them."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.errors import ModelError
from redepth_ros.core.metric.scale import Scale
from redepth_ros.core.refine.parametrization import DepthParametrization
from redepth_ros.core.refine.run import Refiner
from redepth_ros.core.refine.settings import RefineSettings
from redepth_ros.models.depth_anything_3 import MIN_SKY, DepthAnything3
from redepth_ros.models.depth_networks import load_depth_network
from redepth_ros.models.engine import Engine

from .depth_anything_3 import OUT_LAYERS, REFERENCE, random_pixels, random_weights

CONFIG = {"model_name": "da3mono-large", "config": {"net": {"out_layers": OUT_LAYERS}}}


@pytest.fixture(scope="module")
def weights():
    return random_weights()


def save_network(folder, weights, **config):
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG | config))
    return str(folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory, weights):
    return load_depth_network(save_network(tmp_path_factory.mktemp("da3"), weights), device="cpu")


@pytest.fixture(scope="module")
def reference():
    with np.load(REFERENCE) as file:
        return {name: torch.from_numpy(file[name]) for name in file}


@torch.inference_mode()
def test_depth_and_sky_are_those_of_the_authors_code(model, reference):
    embeddings = model.encode(random_pixels())
    assert reference["depth"].std() > 0.1
    torch.testing.assert_close(1.0 / model.decode(embeddings), reference["depth"], rtol=1e-4, atol=1e-5)
    assert 0.05 < (reference["sky"] >= MIN_SKY).float().mean() < 0.95
    torch.testing.assert_close(model.sky(embeddings), reference["sky"], rtol=1e-4, atol=1e-3)


def test_s_over_its_output_is_the_published_parametrization(model, reference):
    """Depth is the network's depth times s + tanh d, if m is 0."""
    with torch.inference_mode():
        output = model.decode(model.encode(random_pixels()))
    depth = DepthParametrization.for_output(output, 7.0, 0.0, model.metric).depth(output, 0.3)
    torch.testing.assert_close(depth, reference["depth"] * (7.0 + np.tanh(0.3)), rtol=1e-4, atol=1e-4)


def test_the_sky_is_at_infinity(model, reference, monkeypatch):
    monkeypatch.setattr(model, "preprocess", lambda image, size: random_pixels())
    disparity = model.predict(np.zeros((56, 98, 3), np.uint8))
    sky = reference["sky"][0] >= MIN_SKY
    assert (disparity[sky] == 0.0).all()
    torch.testing.assert_close(1.0 / disparity[~sky], reference["depth"][0][~sky], rtol=1e-4, atol=1e-5)


def test_an_image_that_is_all_sky_keeps_its_depth(tmp_path, weights):
    bias = {"model.head.scratch.sky_output_conv2.2.bias": torch.tensor([1000.0])}
    model = load_depth_network(save_network(tmp_path, weights | bias), device="cpu")
    assert (model.predict(np.zeros((56, 56, 3), np.uint8), 56) > 0.0).all()


def test_it_is_loaded_with_the_published_sizes(model):
    assert type(model) is DepthAnything3
    assert (model.longer_side, model.patch, model.metric) == (504, 14, False)
    backbone = model.network.config.backbone_config
    assert (backbone.num_attention_heads, backbone.out_indices) == (2, [2, 3, 5, 6])


def test_the_decoded_blocks_of_the_published_networks_need_no_list(tmp_path):
    folder = save_network(tmp_path, random_weights(24), model_name="da3metric-large", config=None)
    model = load_depth_network(folder, device="cpu")
    assert model.network.config.backbone_config.out_indices == [5, 12, 18, 24]


def test_it_is_refined_with_a_decoder_of_its_own(model, tiny_prior):
    settings = RefineSettings(steps=2, ensemble_size=1, lights_per_step=1, decoder_learning_rate=1e-4)
    image = np.random.default_rng(0).integers(0, 255, (56, 70, 3), np.uint8)
    before = [one.clone() for one in model.decoder_parameters()]
    run = Refiner(model, tiny_prior, settings).start(model.preprocess(image, 70))
    assert len(list(run.steps())) == 2
    result = run.result()
    assert not torch.equal(result.refined, result.fast)
    assert all(map(torch.equal, before, model.decoder_parameters()))


def test_half_precision_applies_to_the_encoder_only(tmp_path, weights):
    folder = save_network(tmp_path, {name: one.half() for name, one in weights.items()})
    model = DepthAnything3.load(folder, device="cpu", precision="bfloat16")
    assert model.dtype == torch.bfloat16
    assert {one.dtype for one in model.decoder_parameters()} == {torch.float32}
    assert torch.isfinite(model.predict(np.zeros((56, 56, 3), np.uint8), 56)).all()


def test_weights_in_half_precision_are_those_of_the_file(tmp_path, weights):
    half = {name: one.half() for name, one in weights.items()}
    model = DepthAnything3.load(save_network(tmp_path, half), device="cpu", precision="float16")
    assert torch.equal(model.network.backbone.layernorm.weight, half["model.backbone.pretrained.norm.weight"])
    assert model.network.backbone.layernorm.weight.dtype == torch.float16
    assert {one.dtype for one in model.decoder_parameters()} == {torch.float32}
    model = DepthAnything3.load(save_network(tmp_path, weights), device="cpu", precision="bfloat16")
    assert torch.equal(model.network.head.conv1.weight, weights["model.head.scratch.output_conv1.weight"])


@pytest.fixture(scope="module")
def metric_model(tmp_path_factory, weights):
    folder = save_network(tmp_path_factory.mktemp("metric"), weights, model_name="da3metric-large")
    return load_depth_network(folder, device="cpu")


@torch.inference_mode()
def test_the_metric_network_is_in_metres_by_the_focal_length_of_its_input(metric_model, reference):
    embeddings = metric_model.encode(random_pixels())
    camera = PinholeCamera(80.0, 100.0, 48.5, 27.5, 98, 56)
    depth = metric_model.known_scale(embeddings, camera).depth(metric_model.decode(embeddings))
    torch.testing.assert_close(depth, reference["depth"] * 90.0 / 300.0, rtol=1e-4, atol=1e-5)


def test_the_calibration_of_the_image_gives_the_scale(metric_model, model):
    image = np.random.default_rng(0).integers(0, 255, (56, 112, 3), np.uint8)
    camera = PinholeCamera.centered(60.0, 112, 56)
    assert metric_model.scale_source == "calibration"
    assert metric_model.predict_frame(image, 56).known_scale(camera) == Scale(0.1)  # an input of 28 x 56
    assert metric_model.predict_frame(image, 56).known_scale(None) is None
    assert model.scale_source == ""
    assert model.predict_frame(image, 56).known_scale(camera) is None


def test_a_calibrated_refinement_is_in_metres(metric_model, tiny_prior):
    settings = RefineSettings(steps=1, ensemble_size=1, lights_per_step=1)
    image = np.random.default_rng(0).integers(0, 255, (56, 112, 3), np.uint8)
    engine = Engine(metric_model, tiny_prior)
    run = engine.start(image, settings, camera=PinholeCamera.centered(60.0, 112, 56), input_size=56)
    result = run.result()
    assert run.known_scale == result.known_scale == Scale(0.1)
    assert result.scale is None  # that of anchors
    torch.testing.assert_close(result.scaled(result.known_scale, 0.0).fast, 0.1 / result.fast)
    assert engine.start(image, settings, input_size=56).known_scale is None


@pytest.mark.parametrize("name", ["da3-small", "da3-large", "da3nested-giant-large"])
def test_networks_for_several_views_are_refused(name, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_name": name}))
    with pytest.raises(
        ModelError, match=f"has the model_name '{name}'; .* one image are: da3mono-large, da3me"
    ):
        load_depth_network(str(tmp_path), device="cpu")


def without(part):
    return lambda weights: {name: one for name, one in weights.items() if part not in name}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            without("norm1.bias"),
            "6 weights are missing or unknown, for example backbone.encoder.layer.0.norm1",
        ),
        (without("pos_embed"), "can't be loaded: .*position_embeddings"),
        (without("sky"), "4 weights are missing or unknown, for example head.sky"),
        (lambda weights: weights | {"model.cam_dec.x": torch.zeros(1)}, "for example cam_dec.x"),
        (lambda weights: weights | {"model.head.projects.0.bias": torch.zeros(3)}, "size mismatch|Error"),
    ],
)
def test_other_weights_are_refused(change, words, tmp_path, weights):
    folder = save_network(tmp_path, change(weights))
    with pytest.raises(ModelError, match=words):
        load_depth_network(folder, device="cpu")


def test_damaged_files_are_refused(tmp_path, weights):
    folder = save_network(tmp_path, weights, config={"net": {"out_layers": "all"}})
    with pytest.raises(ModelError, match="can't be loaded"):
        load_depth_network(folder, device="cpu")
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"can't be loaded: .*; download it again"):
        load_depth_network(folder, device="cpu")
