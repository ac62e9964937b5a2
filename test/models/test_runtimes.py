"""Runtimes of the fast depth, each compared with torch; those that are not installed are skipped."""

import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from redepth_ros.core.errors import ConfigError, ModelError
from redepth_ros.models import runtimes
from redepth_ros.models.depth_anything import DepthAnything
from redepth_ros.models.runtimes import Inductor, cache_folder, pick_runtime, tensorrt_options
from redepth_ros.nodes.settings import DepthSettings

CPU = torch.device("cpu")
IMAGE = np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8).repeat(10, 0).repeat(10, 1)
NETWORK = str(Path(__file__).parents[2] / "bench" / "relief_depth")
"""A small trained network: the output of random weights is nearly constant."""
MODULES = {"openvino": ("openvino",), "onnxruntime": ("onnxruntime", "onnx", "onnxscript")}


def need(runtime):
    """Skip a test whose runtime is not installed."""
    missing = [one for one in MODULES.get(runtime, ()) if find_spec(one) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed")
    if runtime == "compile" and shutil.which("g++") is None:
        pytest.skip("there is no C++ compiler")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("runtime", "precision", "tolerance"),
    [
        ("compile", "float32", 1e-3),
        ("openvino", "float32", 1e-3),
        ("openvino", "bfloat16", 1e-2),
        ("onnxruntime", "float32", 1e-3),
    ],
)
def test_predictions_are_those_of_torch(runtime, precision, tolerance):
    need(runtime)
    expected = DepthAnything.load(NETWORK, device="cpu").predict_frame(IMAGE, 28)
    model = DepthAnything.load(NETWORK, device="cpu", precision=precision)
    try:
        model = model.with_runtime(runtime)
    except ConfigError as error:  # this CPU does not have the precision
        pytest.skip(str(error))
    for one in (model, model.with_runtime(runtime)):  # compiled, and read from the file
        found = one.predict_frame(IMAGE, 28)
        output, token = found.output, found.class_token
        assert output.shape == IMAGE.shape[:2]
        torch.testing.assert_close(output, expected.output, rtol=tolerance, atol=0.0)
        assert (token.float() - expected.class_token).norm() < 2.0 * tolerance * expected.class_token.norm()
    assert expected.output.max() > (1.0 + 20.0 * tolerance) * expected.output.min()  # the tolerance is small
    assert len(list(cache_folder().iterdir())) == 1


def test_an_unknown_runtime_is_an_error_that_names_all():
    message = "runtime is 'tensorflow'; it must be one of: torch, compile, openvino, onnxruntime"
    with pytest.raises(ConfigError, match=message):
        pick_runtime("tensorflow", CPU, torch.float32)
    with pytest.raises(ConfigError, match=message):
        DepthSettings(runtime="tensorflow")


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_a_runtime_that_is_not_installed_is_refused_with_the_command(runtime, monkeypatch):
    monkeypatch.setattr(runtimes, "find_spec", lambda name: None)
    command = "pip install " + " ".join(MODULES[runtime])
    with pytest.raises(ConfigError, match=f"runtime is '{runtime}', but .* is not installed: {command};"):
        DepthAnything.load("tiny", device="cpu").with_runtime(runtime)


def test_openvino_refuses_a_gpu():
    with pytest.raises(ConfigError, match="'openvino' and the device cuda:1: set device to cpu"):
        pick_runtime("openvino", torch.device("cuda:1"), torch.float32)


def test_openvino_refuses_a_precision_that_it_would_replace():
    need("openvino")
    import openvino

    capabilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if {"FP16", "BF16"} <= set(capabilities):
        pytest.skip("this CPU has both precisions")
    precision = torch.bfloat16 if "FP16" in capabilities else torch.float16
    with pytest.raises(ConfigError, match=r"does not support on this CPU .*FP32.*; use precision float32"):
        pick_runtime("openvino", CPU, precision)


def test_tensorrt_keeps_the_engines_of_each_network_in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first, other = (tensorrt_options(weights, torch.float16) for weights in (b"first", b"other"))
    folders = [options.pop("trt_engine_cache_path") for options in (first, other)]
    assert sorted(folders) == sorted(str(path) for path in cache_folder().iterdir())
    assert first == other == {"trt_fp16_enable": True, "trt_engine_cache_enable": True}
    assert tensorrt_options(b"first", torch.float32)["trt_engine_cache_path"] == folders[0]


def test_tensorrt_builds_its_engines_anew_where_no_file_can_be_written(tmp_path, monkeypatch):
    (tmp_path / "redepth_ros").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert tensorrt_options(b"first", torch.float32) == {"trt_fp16_enable": False}


def test_onnxruntime_refuses_precisions_and_devices_that_it_has_not():
    need("onnxruntime")
    import onnxruntime

    with pytest.raises(ConfigError, match="precision bfloat16; on cpu use precision float32"):
        pick_runtime("onnxruntime", CPU, torch.bfloat16)
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has a provider for CUDA")
    with pytest.raises(
        ConfigError, match=r"has only .*CPUExecutionProvider.*: .*pip install onnxruntime-gpu"
    ):
        pick_runtime("onnxruntime", torch.device("cuda"), torch.float16)


def test_compile_without_a_compiler_names_the_remedy(monkeypatch):
    from torch._inductor import config

    monkeypatch.setattr(config.cpp, "cxx", ("/nonexistent/c++",))
    program = torch.export.export(torch.nn.ReLU(), (torch.zeros(4),))
    with pytest.raises(ModelError, match=r"no C\+\+ compiler: install one .*apt install g\+\+"):
        Inductor(CPU, torch.float32).build(program)


def test_a_fork_of_the_network_predicts_by_its_own_decoder(monkeypatch):
    need("openvino")
    model = DepthAnything.load(NETWORK, device="cpu").with_runtime("openvino")
    fork = model.fork()
    with torch.no_grad():
        for one in fork.decoder_parameters():
            one.mul_(1.1)
    torch.testing.assert_close(
        fork.predict(IMAGE, 28), fork.with_runtime("torch").predict(IMAGE, 28), rtol=0.0, atol=0.0
    )
    assert not torch.allclose(fork.predict(IMAGE, 28), model.with_runtime("torch").predict(IMAGE, 28))


def test_a_compiled_network_is_kept_by_weights_config_and_precision(monkeypatch):
    need("openvino")
    keys = []
    monkeypatch.setattr(
        "redepth_ros.models.depth_anything.CompiledNetwork", lambda _, key, *__: keys.append(key)
    )
    model = DepthAnything.load(NETWORK, device="cpu")
    model.with_runtime("openvino")
    with torch.no_grad():
        model.network.head.conv3.bias.add_(1.0)
    model.with_runtime("openvino")
    model.network.config.max_depth = 7
    model.with_runtime("openvino")
    model.dtype = torch.bfloat16
    model.with_runtime("openvino")
    assert len(set(keys)) == 4
