"""Depth Pro with small random weights, in the layout of transformers."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate
from transformers import DepthProConfig, DepthProForDepthEstimation, Dinov2Config

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.errors import ConfigError, ImageError, ModelError
from redepth_ros.core.metric.scale import Scale
from redepth_ros.core.refine.settings import RefineSettings
from redepth_ros.models.depth_networks import load_depth_network
from redepth_ros.models.depth_pro import DepthPro
from redepth_ros.models.engine import Engine

SIDE, DEGREES = 128, 70.0
"""Of the network's square in pixels, and of the field of view that it estimates, about."""
PROCESSOR = {
    "image_processor_type": "DepthProImageProcessor",
    "do_resize": True,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "size": {"height": SIDE, "width": SIDE},
}
"""What apple/DepthPro-hf has, with another size."""


def save_network(folder, *, use_fov_model):
    """Save a network with the layout of apple/DepthPro-hf, narrower and shallower; return its name."""
    backbone = Dinov2Config(
        hidden_size=32, num_hidden_layers=4, num_attention_heads=2, image_size=SIDE // 4, patch_size=16
    )
    config = DepthProConfig(
        patch_size=SIDE // 4,
        fusion_hidden_size=16,
        intermediate_hook_ids=[3, 1],
        intermediate_feature_dims=[16, 16],
        scaled_images_feature_dims=[32, 32, 16],
        image_model_config=backbone,
        patch_model_config=backbone,
        fov_model_config=backbone,
        use_fov_model=use_fov_model,
    )
    torch.manual_seed(0)
    network = DepthProForDepthEstimation(config)
    network.head.layers[4].weight.data *= 0.1
    torch.nn.init.constant_(network.head.layers[4].bias, 20.0)  # above 0
    if use_fov_model:
        torch.nn.init.constant_(network.fov_model.head.layers[-1].bias, DEGREES)
    network.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return str(folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """With a field of view of its own."""
    return load_depth_network(save_network(tmp_path_factory.mktemp("fov"), use_fov_model=True), device="cpu")


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Without one."""
    return load_depth_network(
        save_network(tmp_path_factory.mktemp("plain"), use_fov_model=False), device="cpu"
    )


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 255, (48, 96, 3), np.uint8)


@torch.inference_mode()
def test_decode_after_encode_is_the_forward_pass_of_transformers(model):
    pixels = torch.randn(2, 3, SIDE, SIDE)
    expected, embeddings = model.network(pixels), model.encode(pixels)
    assert expected.predicted_depth.std() > 0.1
    assert expected.predicted_depth.median() > 1.0
    torch.testing.assert_close(model.decode(embeddings), expected.predicted_depth)
    torch.testing.assert_close(embeddings.constants[0][:, 0], expected.field_of_view)
    assert expected.field_of_view.std() > 1e-4


@torch.inference_mode()
def test_the_prediction_is_that_of_transformers_with_its_processor(model, image):
    """DepthProImageProcessor, which needs torchvision: normalise, stretch; divide by W / f, resize, clamp."""
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None] / 127.5 - 1.0
    found = model.network(interpolate(pixels, (SIDE, SIDE), mode="bilinear"))
    focal = 0.5 * 96 / torch.tan(0.5 * torch.deg2rad(found.field_of_view))
    inverse = interpolate(found.predicted_depth[:, None] * 96 / focal, (48, 96), mode="bilinear")[0, 0]
    expected = 1.0 / torch.clamp(inverse, 1e-4, 1e4)
    prediction = model.predict_frame(image)
    torch.testing.assert_close(prediction.known_scale(None).depth(prediction.output), expected)
    assert prediction.class_token.shape == (32,)


def test_the_calibration_replaces_the_estimated_field_of_view(model, plain, image):
    camera = PinholeCamera(72.0, 50.0, 40.0, 20.0, 96, 48)
    assert model.predict_frame(image, 32).known_scale(camera) == Scale(0.75)  # fx / W
    assert plain.predict_frame(image).known_scale(camera) == Scale(0.75)
    found = model.predict_frame(image).known_scale(None).scale
    assert found == pytest.approx(0.5 / math.tan(math.radians(0.5 * DEGREES)), rel=0.1)
    assert plain.predict_frame(image).known_scale(None) is None
    assert (model.scale_source, plain.scale_source) == ("image", "calibration")


@pytest.mark.parametrize("degrees", [0.0, -20.0, 180.0, math.nan])
def test_an_impossible_field_of_view_gives_no_scale(degrees, model):
    embeddings = model.encode(torch.randn(1, 3, 8, 8))
    constants = (torch.tensor([[degrees]]), *embeddings.constants[1:])
    other = type(embeddings)(embeddings.features, constants, embeddings.grid)
    assert model.known_scale(other, None) is None


def test_it_is_loaded_by_its_config(model):
    assert type(model) is DepthPro
    assert (model.metric, model.longer_side, model.patch) == (False, SIDE, 1)


def test_the_normalisation_that_a_folder_does_not_give_is_that_of_transformers(model, image, tmp_path):
    folder = shutil.copytree(model.name, tmp_path / "model")
    given = {name: value for name, value in PROCESSOR.items() if name not in ("image_mean", "image_std")}
    (folder / "preprocessor_config.json").write_text(json.dumps(given))
    other = load_depth_network(str(folder), device="cpu")
    torch.testing.assert_close(other.preprocess(image), model.preprocess(image))


@pytest.mark.parametrize(
    ("size", "input_size", "expected"),
    [((48, 96), 0, (48, 96)), ((300, 400), 0, (96, 128)), ((48, 96), 64, (32, 64)), ((7, 5), 0, (7, 5))],
)
def test_pixels_keep_the_aspect_ratio(size, input_size, expected, model):
    assert model.preprocess(np.zeros((*size, 3), np.uint8), input_size).shape == (1, 3, *expected)


def test_image_inverts_preprocessing(model, image):
    found = model.image(model.preprocess(image))[0].permute(1, 2, 0)
    np.testing.assert_allclose(found.numpy(), image / 255.0, atol=1e-5)


def test_normals_are_those_of_the_stretched_square():
    """Its camera has other focal lengths in x and y; the image's own has not."""
    camera = PinholeCamera.centered(80.0, 96, 48)
    stretched = camera.resized(SIDE, SIDE)
    assert stretched.fx != stretched.fy
    v, u = torch.meshgrid(torch.linspace(-1, 1, SIDE), torch.linspace(-1, 1, SIDE), indexing="ij")
    depth = 3.0 + 0.3 * u + 0.2 * v**2
    in_square = stretched.normals(depth)
    in_image = camera.normals(interpolate(depth[None, None], (48, 96), mode="bilinear")[0, 0])
    expected = interpolate(in_square[None], (48, 96), mode="bilinear")[0]
    assert (in_image - expected)[:, 3:-3, 3:-3].abs().max() < 0.02


def test_it_is_refined_in_metres_at_the_aspect_ratio_of_the_image(model, tiny_prior, image):
    settings = RefineSettings(steps=2, ensemble_size=2, lights_per_step=1, decoder_learning_rate=1e-4)
    camera = PinholeCamera(72.0, 60.0, 47.5, 23.5, 96, 48)
    before = [one.clone() for one in model.decoder_parameters()]
    run = Engine(model, tiny_prior).start(image, settings, camera=camera)
    assert len(list(run.steps())) == 2
    result = run.result()
    assert result.refined.shape == (48, 96)
    assert not torch.equal(result.refined, result.fast)
    assert result.known_scale == Scale(0.75)
    torch.testing.assert_close(result.fast, model.predict(image))
    torch.testing.assert_close(result.scaled(result.known_scale, 0.1).fast, 0.75 / result.fast)
    assert all(map(torch.equal, before, model.decoder_parameters()))


def test_without_a_calibration_a_refinement_has_the_estimated_scale(model, plain, tiny_prior, image):
    settings = RefineSettings(steps=1, ensemble_size=1, lights_per_step=1)
    run = Engine(model, tiny_prior).start(image, settings)
    assert run.result().known_scale == model.predict_frame(image).known_scale(None)
    assert Engine(plain, tiny_prior).start(image, settings).known_scale is None


def test_a_fork_shares_all_but_the_decoder(model):
    fork, pixels = model.fork(), torch.randn(1, 3, 40, 60)
    assert fork.network.depth_pro.encoder is model.network.depth_pro.encoder
    assert fork.network.fov_model is model.network.fov_model
    embeddings = model.encode(pixels)
    before = model.decode(embeddings)
    torch.testing.assert_close(fork.decode(fork.encode(pixels)), before)
    with torch.no_grad():
        for one in fork.decoder_parameters():
            one.mul_(1.1)
    assert torch.equal(model.decode(embeddings), before)
    assert not torch.allclose(fork.decode(embeddings), before)


def test_half_precision_applies_to_the_encoders_only(model, image):
    half = DepthPro.load(model.name, device="cpu", precision="bfloat16")
    assert half.dtype == torch.bfloat16
    assert {one.dtype for one in half.decoder_parameters()} == {torch.float32}
    expected, found = model.predict_frame(image), half.predict_frame(image)
    assert (found.output / expected.output).log().abs().median() < 0.05
    assert found.known_scale(None).scale == pytest.approx(expected.known_scale(None).scale, rel=0.05)


def test_what_it_can_not_do_is_refused(model):
    with pytest.raises(ConfigError, match=r"runtime is .openvino., and model .* a 'depth_pro' network"):
        model.with_runtime("openvino")
    assert model.with_runtime("torch").predict(np.zeros((8, 8, 3), np.uint8)).shape == (8, 8)
    with pytest.raises(ImageError, match="image of 9x1 pixels; both sides must be at least 2"):
        model.predict(np.zeros((1, 9, 3), np.uint8))


def test_another_size_than_that_of_the_config_is_refused(model, tmp_path):
    folder = shutil.copytree(model.name, tmp_path / "model")
    text = json.dumps(PROCESSOR | {"size": {"height": 64, "width": 64}})
    (folder / "preprocessor_config.json").write_text(text)
    with pytest.raises(ModelError, match=r"has an input of 64 pixels in preproc.*, and of 128 pixels in con"):
        load_depth_network(str(folder), device="cpu")
    (folder / "preprocessor_config.json").unlink()
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"patch_size": 384}))
    with pytest.raises(ModelError, match=r"can.t be loaded|lacks"):
        load_depth_network(str(folder), device="cpu")
