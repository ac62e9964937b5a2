"""DPT with a DINOv2 backbone and small random weights, and the choice of a family by config.json."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import interpolate
from transformers import Dinov2Config, DPTConfig, DPTForDepthEstimation, DPTImageProcessorPil

from redepth_ros.core.errors import ModelError
from redepth_ros.core.refine.run import Refiner
from redepth_ros.core.refine.settings import RefineSettings
from redepth_ros.models.depth_anything import DepthAnything
from redepth_ros.models.depth_networks import load_depth_network
from redepth_ros.models.dpt import Dpt
from redepth_ros.models.pretrained import TINY_DEPTH


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A network with the layout of facebook/dpt-dinov2-small-nyu, narrower and shallower."""
    folder = tmp_path_factory.mktemp("dpt")
    backbone = Dinov2Config(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=56,
        patch_size=14,
        out_indices=[1, 2, 3, 4],
        apply_layernorm=False,
        reshape_hidden_states=False,
    )
    config = DPTConfig(
        backbone_config=backbone,
        neck_hidden_sizes=[8, 16, 32, 32],
        fusion_hidden_size=256,  # the size of the head's projection is fixed
        use_bias_in_fusion_residual=False,
        add_projection=True,
    )
    torch.manual_seed(0)
    network = DPTForDepthEstimation(config)
    for weight in (one for part in (network.neck, network.head) for one in part.parameters()):
        if weight.dim() > 1:
            torch.nn.init.kaiming_normal_(weight, nonlinearity="relu")
    torch.nn.init.constant_(network.head.head[4].bias, 100.0)
    network.save_pretrained(folder)
    DPTImageProcessorPil(
        do_resize=False,
        do_rescale=False,
        do_pad=True,
        size_divisor=14,
        image_mean=[123.675, 116.28, 103.53],
        image_std=[58.395, 57.12, 57.375],
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return load_depth_network(str(folder), device="cpu")


@pytest.mark.parametrize("size", [(56, 56), (42, 70), (140, 84)])
def test_decode_after_encode_is_the_forward_pass_of_transformers_at_the_inputs_size(size, model):
    pixels = torch.randn(2, 3, *size)
    with torch.inference_mode():
        expected = model.network(pixels).predicted_depth
        found = model.decode(model.encode(pixels))
    assert expected.shape[-2:] != size
    assert expected.min() > 0.0
    assert expected.std() > 1.0
    torch.testing.assert_close(found, interpolate(expected[:, None], size, mode="bilinear")[:, 0])


def test_class_tokens_take_part(model):
    embeddings = model.encode(torch.randn(1, 3, 56, 56))
    other = type(embeddings)(
        embeddings.features, tuple(-one for one in embeddings.constants), embeddings.grid
    )
    assert not torch.allclose(model.decode(embeddings), model.decode(other))


def test_it_predicts_metres_and_normalises_as_its_processor(folder, model):
    assert type(model) is Dpt
    assert (model.metric, model.patch, model.longer_side) == (True, 14, 640)
    image = np.random.default_rng(0).integers(0, 255, (56, 70, 3), np.uint8)
    expected = DPTImageProcessorPil.from_pretrained(folder)(image, return_tensors="pt").pixel_values
    torch.testing.assert_close(model.preprocess(image, 70), expected, rtol=1e-5, atol=1e-5)
    assert model.predict(image, 70).shape == (56, 70)


def test_depth_is_positive_where_the_last_layer_returns_zero(folder, tmp_path):
    folder = shutil.copytree(folder, tmp_path / "model")
    path = folder / "model.safetensors"
    weights = load_file(path)
    weights["head.head.4.bias"] -= 1000.0
    save_file(weights, path, metadata={"format": "pt"})
    depth = Dpt.load(str(folder), device="cpu").predict(np.zeros((56, 56, 3), np.uint8), 56)
    assert (depth == 1e-3).all()


def test_it_is_refined(model, tiny_prior):
    settings = RefineSettings(steps=2, ensemble_size=1, lights_per_step=1, decoder_learning_rate=1e-4)
    image = np.random.default_rng(0).integers(0, 255, (56, 70, 3), np.uint8)
    run = Refiner(model, tiny_prior, settings).start(model.preprocess(image, 70))
    assert len(list(run.steps())) == 2
    result = run.result()
    assert result.metric
    assert result.refined.shape == (56, 70)
    assert not torch.equal(result.refined, result.fast)
    torch.testing.assert_close(result.fast_depth, result.fast)  # metres


def test_weights_that_no_forward_pass_uses_may_be_missing(folder, tmp_path, model):
    """Networks of DINOv2's and MiDaS' authors lack them."""
    folder = shutil.copytree(folder, tmp_path / "model")
    path = folder / "model.safetensors"
    weights = load_file(path)
    kept = {name: one for name, one in weights.items() if "fusion_stage.layers.0.residual_layer1" not in name}
    assert len(kept) == len(weights) - 2
    save_file(kept, path, metadata={"format": "pt"})
    pixels = torch.randn(1, 3, 56, 56)
    other = Dpt.load(str(folder), device="cpu")
    torch.testing.assert_close(other.decode(other.encode(pixels)), model.decode(model.encode(pixels)))


def test_the_family_is_chosen_by_the_folders_own_config(model):
    assert type(load_depth_network("tiny", device="cpu")) is DepthAnything
    assert type(load_depth_network(str(TINY_DEPTH), device="cpu")) is DepthAnything
    with pytest.raises(ModelError, match="has the type 'dpt'; it must be 'depth_anything'"):
        DepthAnything.load(model.name, device="cpu")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"model_type": "zoedepth"},
            "'zoedepth'; it must be one of: depth_anything, depth_anything_3, depth_pro",
        ),
        ({"model_type": ["dpt"]}, r"has the type \['dpt'\]; it must be one of"),
        ({"backbone_config": None}, "a DPT network with the backbone None; it must be 'dinov2'"),
        ({"backbone_config": {"model_type": "beit"}}, "with the backbone 'beit'; it must be 'dinov2'"),
        ({"model_type": "depth_anything"}, "can't be loaded|lacks .* of its weights"),
    ],
)
def test_other_networks_are_refused(changes, words, folder, tmp_path):
    """The last one is a DPT network in a folder that calls it Depth Anything."""
    folder = shutil.copytree(folder, tmp_path / "model")
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ModelError, match=words):
        load_depth_network(str(folder), device="cpu")
