"""Depth Anything V2 of small, randomly initialised networks in the genuine folder format."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from transformers import (
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
    ViTConfig,
)

from redepth_ros.core.errors import ConfigError, ImageError, ModelError
from redepth_ros.models.depth_anything import DepthAnything
from redepth_ros.models.devices import move_to, pick_device
from redepth_ros.models.hub import find_folder


def save_network(folder, **options):
    """A network with the layout of DA-V2 Small, narrower and shallower."""
    backbone = Dinov2Config(
        hidden_size=32, num_hidden_layers=4, num_attention_heads=2, image_size=56, patch_size=14,
        out_indices=[1, 2, 3, 4], reshape_hidden_states=False,
    )  # fmt: skip
    config = DepthAnythingConfig(
        backbone_config=backbone, patch_size=14, reassemble_hidden_size=32, fusion_hidden_size=16,
        neck_hidden_sizes=[8, 16, 32, 32], head_hidden_size=8, **options,
    )  # fmt: skip
    torch.manual_seed(0)
    network = DepthAnythingForDepthEstimation(config)
    torch.nn.init.ones_(network.head.conv3.bias)
    network.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def relative(tmp_path_factory):
    return save_network(tmp_path_factory.mktemp("relative"))


@pytest.fixture(scope="module")
def metric(tmp_path_factory):
    folder = tmp_path_factory.mktemp("metric")
    return save_network(folder, depth_estimation_type="metric", max_depth=20)


@pytest.mark.parametrize("size", [(56, 56), (42, 70), (140, 84), (14, 14)])
@pytest.mark.parametrize("kind", ["relative", "metric"])
def test_decode_after_encode_is_transformers_own_forward(kind, size, request):
    model = DepthAnything.load(str(request.getfixturevalue(kind)), device="cpu")
    pixels = torch.randn(2, 3, *size)
    with torch.inference_mode():
        expected = model.network(pixels).predicted_depth
        found = model.decode(model.encode(pixels))
    assert found.shape == (2, *size)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_gradients_reach_the_embeddings(relative):
    model = DepthAnything.load(str(relative), device="cpu")
    embeddings = model.encode(torch.randn(1, 3, 56, 56))
    free = type(embeddings)(tuple(f.clone().requires_grad_() for f in embeddings.features), embeddings.grid)
    model.decode(free).sum().backward()
    for feature in free.features:
        assert feature.grad[:, 1:].abs().sum() > 0  # the patches'; the class token is not decoded
    assert all(parameter.grad is None for parameter in model.network.parameters())


def test_predict_has_the_size_of_the_image_and_the_kind_of_the_checkpoint(relative, metric):
    image = np.random.default_rng(0).integers(0, 255, (75, 101, 3), np.uint8)
    for folder, is_metric in ((relative, False), (metric, True)):
        model = DepthAnything.load(str(folder), device="cpu")
        found = model.predict(image, 56)
        assert found.shape == (75, 101)
        assert found.dtype == torch.float32
        assert model.metric is is_metric
    assert 0.0 < found.min() <= found.max() < 20.0


@pytest.mark.parametrize(
    ("size", "longer_side", "expected"),
    [
        ((480, 640), 518, (392, 518)),  # 388.5 is nearest to 28 patches
        ((640, 480), 518, (518, 392)),
        ((375, 1242), 518, (154, 518)),
        ((480, 640), 100, (70, 98)),  # never longer than asked for
        ((10, 4000), 518, (14, 518)),  # never less than a patch
        ((480, 640), 0, (392, 518)),  # 0 is the model's own
    ],
)
def test_input_size_keeps_the_aspect_in_multiples_of_the_patch(relative, size, longer_side, expected):
    assert DepthAnything.load(str(relative), device="cpu").input_size(*size, longer_side) == expected


def test_preprocessing_is_that_of_the_reference_processor(relative):
    """Where nothing is resized, pixels are normalised as transformers' own processor does."""
    from transformers import DPTImageProcessorPil

    image = np.random.default_rng(1).integers(0, 255, (56, 70, 3), np.uint8)
    processor = DPTImageProcessorPil(
        do_resize=False, image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225]
    )
    expected = processor(image, return_tensors="pt").pixel_values
    found = DepthAnything.load(str(relative), device="cpu").preprocess(image, 70)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("image", "quoted"),
    [
        (np.zeros((0, 4, 3), np.uint8), "4x0"),
        (np.zeros((4, 4), np.uint8), r"\(4, 4\)"),
        (np.zeros((4, 4, 4), np.uint8), r"\(4, 4, 4\)"),
        (np.zeros((4, 4, 3), np.float32), "float32"),
    ],
)
def test_a_picture_that_is_none_is_refused(relative, image, quoted):
    with pytest.raises(ImageError, match=quoted):
        DepthAnything.load(str(relative), device="cpu").predict(image)


def test_an_input_below_a_patch_is_refused(relative):
    model = DepthAnything.load(str(relative), device="cpu")
    with pytest.raises(ConfigError, match="input_size is 13"):
        model.predict(np.zeros((48, 64, 3), np.uint8), 13)
    with pytest.raises(ImageError, match="57x56"):
        model.encode(torch.zeros(1, 3, 56, 57))


def test_half_precision_can_be_asked_for(relative):
    model = DepthAnything.load(str(relative), device="cpu", precision="bfloat16")
    found = model.predict(np.full((56, 56, 3), 128, np.uint8))
    assert model.dtype == torch.bfloat16
    assert torch.isfinite(found).all()


def test_devices_and_precisions_that_are_none_are_refused(relative):
    with pytest.raises(ConfigError, match="device is 'gpu'"):
        DepthAnything.load(str(relative), device="gpu")
    with pytest.raises(ConfigError, match="precision is 'float8'"):
        DepthAnything.load(str(relative), precision="float8")
    with pytest.raises(ConfigError, match=r"cuda:99"):
        DepthAnything.load(str(relative), device="cuda:99")


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def set_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def drop_weights(folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "head" not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "quoted"),
    [
        (lambda folder: truncate(folder / "model.safetensors"), "can't be loaded"),
        (lambda folder: (folder / "model.safetensors").unlink(), "can't be loaded"),
        (lambda folder: (folder / "config.json").unlink(), "there is no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "can't be read"),
        (lambda folder: (folder / "config.json").write_text("[]"), "no JSON object"),
        (lambda folder: ViTConfig().save_pretrained(folder), "of type 'vit'"),
        (lambda folder: set_config(folder, max_depth="far"), "max_depth"),
        (drop_weights, "lacks .* of its weights"),
    ],
)
def test_a_damaged_folder_is_named_with_what_is_wrong(relative, tmp_path, damage, quoted):
    folder = tmp_path / "model"
    shutil.copytree(relative, folder)
    damage(folder)
    with pytest.raises(ModelError, match=quoted) as caught:
        DepthAnything.load(str(folder), device="cpu")
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("name", ["/no/such/folder", "nothing", "", "a/b/c"])
def test_a_name_that_is_neither_folder_nor_hub_model_is_refused(name):
    with pytest.raises(ModelError, match="not a folder"):
        DepthAnything.load(name)


def load_offline(name, cache):
    """Load in a process of its own, with no network and a cache of our making."""
    program = (
        "import sys\n"
        "from redepth_ros.core.errors import ModelError\n"
        "from redepth_ros.models.depth_anything import DepthAnything\n"
        "try:\n"
        f"    print('loaded', DepthAnything.load({name!r}, device='cpu').patch)\n"
        "except ModelError as error:\n"
        "    print('refused', error)\n"
    )
    environment = {**os.environ, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    ).stdout


def test_a_hub_model_loads_from_the_cache_without_a_network(relative, tmp_path):
    repository = tmp_path / "models--someone--depth"
    shutil.copytree(relative, repository / "snapshots" / "0123abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123abc")
    assert load_offline("someone/depth", tmp_path) == "loaded 14\n"


def test_without_network_and_cache_the_ways_out_are_named(tmp_path):
    said = load_offline("someone/depth", tmp_path)
    for part in ("refused", "someone/depth", str(tmp_path), "a folder", "tiny"):
        assert part in said


@pytest.mark.parametrize("device", ["meta", "mps", "cpu:x", ""])
def test_only_cpu_and_cuda_are_devices(device):
    with pytest.raises(ConfigError, match=f"device is '{device}'; use auto, cpu, cuda or cuda:N"):
        pick_device(device)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
)
def test_a_network_that_does_not_fit_is_named_with_what_to_do(error):
    class Large(torch.nn.Module):
        def to(self, *_):
            raise error

    with pytest.raises(ModelError, match=r"prior 'large' does not fit into the memory of cpu .*smaller one"):
        move_to(torch.device("cpu"), "prior 'large'", Large())


def test_what_else_goes_wrong_on_the_way_to_a_device_is_passed_on():
    class Broken(torch.nn.Module):
        def to(self, *_):
            raise RuntimeError("an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal"):
        move_to(torch.device("cpu"), "prior 'broken'", Broken())


@pytest.mark.parametrize(("option", "offered"), [("model", True), ("prior", True), ("coder", False)])
def test_tiny_is_offered_where_it_is_taken(option, offered):
    with pytest.raises(ModelError, match=f"{option} 'nothing' is not a folder") as caught:
        find_folder("nothing", (), option=option, needs="a config.json")
    assert ("'tiny'" in str(caught.value)) == offered
