"""Depth Anything V2 with small random weights, in the layout of transformers."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from transformers import (
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
    GLPNConfig,
    GLPNForDepthEstimation,
    ViTConfig,
)

from redepth_ros.core.errors import ConfigError, ImageError, ModelError
from redepth_ros.models.depth_anything import DepthAnything


def save_network(folder, **options):
    """Save a network with the layout of DA-V2 Small, narrower and shallower; return the folder."""
    backbone = Dinov2Config(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=56,
        patch_size=14,
        out_indices=[1, 2, 3, 4],
        reshape_hidden_states=False,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        patch_size=14,
        reassemble_hidden_size=32,
        fusion_hidden_size=16,
        neck_hidden_sizes=[8, 16, 32, 32],
        head_hidden_size=8,
        **options,
    )
    torch.manual_seed(0)
    network = DepthAnythingForDepthEstimation(config)
    # With the weights that transformers draws, the output is constant to seven digits.
    for weight in (one for part in (network.neck, network.head) for one in part.parameters()):
        if weight.dim() > 1:
            torch.nn.init.kaiming_normal_(weight, nonlinearity="relu")
    torch.nn.init.ones_(network.head.conv3.bias)
    network.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_network(tmp_path_factory.mktemp("relative"))


@pytest.fixture(scope="module")
def relative(folder):
    return DepthAnything.load(str(folder), device="cpu")


@pytest.fixture(scope="module")
def metric(tmp_path_factory):
    folder = tmp_path_factory.mktemp("metric")
    save_network(folder, depth_estimation_type="metric", max_depth=20)
    return DepthAnything.load(str(folder), device="cpu")


@pytest.mark.parametrize("size", [(56, 56), (42, 70), (140, 84), (14, 14)])
@pytest.mark.parametrize("kind", ["relative", "metric"])
def test_decode_after_encode_is_the_forward_pass_of_transformers(kind, size, request):
    model = request.getfixturevalue(kind)
    pixels = torch.randn(2, 3, *size)
    with torch.inference_mode():
        expected = model.network(pixels).predicted_depth
        found = model.decode(model.encode(pixels))
    assert found.shape == (2, *size)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected)


def test_gradients_reach_the_embeddings(relative):
    embeddings = relative.encode(torch.randn(1, 3, 56, 56))
    features = tuple(one.clone().requires_grad_() for one in embeddings.features)
    free = dataclasses.replace(embeddings, features=features)
    relative.decode(free).sum().backward()
    for feature in free.features:
        assert feature.grad[:, 1:].abs().sum() > 0  # of the patches; the class token is not decoded
    assert all(parameter.grad is None for parameter in relative.network.parameters())


def test_predict_has_the_size_of_the_image_and_the_unit_of_the_network(relative, metric):
    image = np.random.default_rng(0).integers(0, 255, (75, 101, 3), np.uint8)
    for model, is_metric in ((relative, False), (metric, True)):
        found = model.predict(image, 56)
        assert found.shape == (75, 101)
        assert found.dtype == torch.float32
        assert model.metric is is_metric
    assert 0.0 < found.min() < found.max() <= 20.0


@pytest.mark.parametrize(
    ("size", "input_size", "expected"),
    [
        ((480, 640), 518, (392, 518)),  # 388.5 is nearest to 28 patches
        ((640, 480), 518, (518, 392)),
        ((375, 1242), 518, (154, 518)),
        ((480, 640), 100, (70, 98)),  # never longer than asked for
        ((10, 4000), 518, (14, 518)),  # never less than a patch
        ((480, 640), 0, (392, 518)),  # 0 takes the network's default
    ],
)
def test_network_size_keeps_the_aspect_in_multiples_of_the_patch(relative, size, input_size, expected):
    assert relative.network_size(*size, input_size) == expected


def test_preprocessing_normalises_as_the_processor_of_transformers(relative):
    from transformers import DPTImageProcessorPil

    image = np.random.default_rng(1).integers(0, 255, (56, 70, 3), np.uint8)
    processor = DPTImageProcessorPil(
        do_resize=False, image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225]
    )
    expected = processor(image, return_tensors="pt").pixel_values
    found = relative.preprocess(image, 70)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_image_inverts_preprocessing(relative):
    image = np.random.default_rng(2).integers(0, 255, (56, 70, 3), np.uint8)
    found = relative.image(relative.preprocess(image, 70))[0].permute(1, 2, 0)
    np.testing.assert_allclose(found.numpy(), image / 255.0, atol=1e-5)


def test_the_class_token_belongs_to_the_image(relative):
    images = np.random.default_rng(3).integers(0, 255, (2, 56, 70, 3), np.uint8)
    prediction = relative.predict_frame(images[0], 70)
    token = prediction.class_token
    assert token.shape == (32,)
    torch.testing.assert_close(prediction.output, relative.predict(images[0], 70))
    torch.testing.assert_close(token, relative.encode(relative.preprocess(images[0], 70)).constants[-1][0, 0])
    assert not torch.allclose(token, relative.predict_frame(images[1], 70).class_token)


def test_a_fork_has_a_decoder_of_its_own_and_shares_the_encoder(relative):
    fork, pixels = relative.fork(), torch.randn(1, 3, 56, 56)
    embeddings = relative.encode(pixels)
    before = relative.decode(embeddings)
    torch.testing.assert_close(fork.decode(fork.encode(pixels)), before)
    assert fork.network.backbone is relative.network.backbone
    with torch.no_grad():
        for one in fork.decoder_parameters():
            one.mul_(1.1)
    assert torch.equal(relative.decode(embeddings), before)
    assert not torch.allclose(fork.decode(embeddings), before)


def test_decoder_parameters_are_those_of_neck_and_head(relative):
    names = dict(relative.network.named_parameters())
    expected = {name for name in names if not name.startswith("backbone.")}
    found = {id(one) for one in relative.decoder_parameters()}
    assert found == {id(names[name]) for name in expected}


@pytest.mark.parametrize(
    ("image", "quoted"),
    [
        (np.zeros((0, 4, 3), np.uint8), "4x0"),
        (np.zeros((4, 4), np.uint8), r"\(4, 4\)"),
        (np.zeros((4, 4, 4), np.uint8), r"\(4, 4, 4\)"),
        (np.zeros((4, 4, 3), np.float32), "float32"),
    ],
)
def test_predict_rejects_other_arrays(relative, image, quoted):
    with pytest.raises(ImageError, match=quoted):
        relative.predict(image)


def test_an_input_below_one_patch_or_between_patches_is_rejected(relative):
    with pytest.raises(
        ConfigError, match="input_size is 13 pixels; this network needs at least its patch, 14"
    ):
        relative.predict(np.zeros((48, 64, 3), np.uint8), 13)
    with pytest.raises(ImageError, match="57x56 pixels; both sides must be multiples of the patch, 14"):
        relative.encode(torch.zeros(1, 3, 56, 57))


def test_half_precision_applies_to_the_encoder_only(folder):
    model = DepthAnything.load(str(folder), device="cpu", precision="bfloat16")
    found = model.predict(np.full((56, 56, 3), 128, np.uint8))
    assert model.dtype == torch.bfloat16
    assert {one.dtype for one in model.decoder_parameters()} == {torch.float32}
    assert found.dtype == torch.float32
    assert torch.isfinite(found).all()


def test_load_rejects_unknown_devices_and_precisions(folder):
    with pytest.raises(ConfigError, match="device is 'gpu'"):
        DepthAnything.load(str(folder), device="gpu")
    with pytest.raises(ConfigError, match="precision is 'float8'"):
        DepthAnything.load(str(folder), precision="float8")
    with pytest.raises(ConfigError, match=r"cuda:99"):
        DepthAnything.load(str(folder), device="cuda:99")


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def set_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def set_preprocessing(folder, **values):
    (folder / "preprocessor_config.json").write_text(json.dumps(values))


def save_other_family(folder):
    """Save the weights of another depth network beside the config.json of Depth Anything."""
    config = (folder / "config.json").read_bytes()
    GLPNForDepthEstimation(
        GLPNConfig(hidden_sizes=[40] * 4, depths=[1] * 4, decoder_hidden_size=8)
    ).save_pretrained(folder)
    (folder / "config.json").write_bytes(config)


def drop_weights(folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "head" not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    "options",
    [{"variant": "fp16"}, {"max_shard_size": "20KB"}, {"variant": "fp16", "max_shard_size": "20KB"}],
)
def test_variants_and_shards_are_loaded(options, folder, tmp_path, relative):
    relative.network.save_pretrained(tmp_path, **options)
    assert not (tmp_path / "model.safetensors").exists()
    found = DepthAnything.load(str(tmp_path), device="cpu").network.state_dict()
    assert all(torch.equal(found[key], value) for key, value in relative.network.state_dict().items())


def test_preprocessing_is_that_of_the_folder(folder, tmp_path):
    """Some processors normalise colours in [0, 255] instead of [0, 1]."""
    folder = shutil.copytree(folder, tmp_path / "model")
    set_preprocessing(
        folder,
        size={"height": 70, "width": 84},
        do_rescale=False,
        image_mean=[51.0] * 3,
        image_std=[25.5] * 3,
    )
    model = DepthAnything.load(str(folder), device="cpu")
    assert model.longer_side == 84
    pixels = model.preprocess(np.full((84, 84, 3), 102, np.uint8))
    torch.testing.assert_close(pixels, torch.full((1, 3, 84, 84), 2.0))


@pytest.mark.parametrize(
    ("damage", "quoted"),
    [
        (lambda folder: truncate(folder / "model.safetensors"), "can't be loaded"),
        (lambda folder: (folder / "model.safetensors").unlink(), "lacks model.safetensors in"),
        (lambda folder: (folder / "config.json").unlink(), "one file, model.safetensors, .*layout of transf"),
        (lambda folder: shutil.rmtree(folder) or folder.mkdir(), "lacks config.json, model.safetensors in"),
        (lambda folder: (folder / "config.json").write_text("{"), "can't be read"),
        (lambda folder: (folder / "config.json").write_text("[]"), "is not a JSON object"),
        (
            lambda folder: ViTConfig().save_pretrained(folder),
            "has the type 'vit'; it must be 'depth_anything'",
        ),
        (lambda folder: set_config(folder, max_depth="far"), "max_depth"),
        (drop_weights, "lacks .* of its weights"),
        (lambda folder: save_other_family(folder), "can't be loaded|lacks .* of its weights"),
        (lambda folder: set_config(folder, patch_size="14"), "can't be loaded"),
        (
            lambda folder: set_preprocessing(folder, size="518"),
            "size in preprocessor_config.json is '518'; it",
        ),
        (
            lambda folder: set_preprocessing(folder, size={"height": 5.5}),
            r"is \{'height': 5.5\}; it must be a d",
        ),
        (
            lambda folder: set_preprocessing(folder, image_mean=0.5),
            "image_mean .* is 0.5; it must be a list of",
        ),
        (
            lambda folder: set_preprocessing(folder, image_std=["a", 1, 1]),
            r"image_std .* is \['a', 1, 1\]; it",
        ),
        (lambda folder: set_preprocessing(folder, image_std=[0, 1, 1]), "must be three numbers above 0"),
    ],
)
def test_load_names_a_damaged_folder_and_its_fault(folder, tmp_path, damage, quoted):
    folder = shutil.copytree(folder, tmp_path / "model")
    damage(folder)
    with pytest.raises(ModelError, match=quoted) as caught:
        DepthAnything.load(str(folder), device="cpu")
    assert str(folder) in str(caught.value)
