"""Runtimes that run an exported network instead of torch."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.export import ExportedProgram

from redepth_ros.core.errors import ConfigError, ModelError

__all__ = ["RUNTIMES", "Runtime", "cache_folder", "check_cpp_compiler", "pick_runtime", "tensorrt_options"]

Network = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From normalised pixels (1, 3, h, w) to the prediction (1, h, w) and the last class token (C,)."""


class Runtime(Protocol):
    """Compiles an exported network to bytes that a file can hold, and runs them."""

    name: str
    dtype: torch.dtype
    """Data type of the weights to export; the runtime may compute in another one."""

    def target(self) -> str:
        """Return the versions and the hardware that compiled bytes are valid for."""

    def build(self, program: ExportedProgram) -> bytes:
        """Compile a network; takes seconds to minutes.

        Raises:
            ModelError: a tool is missing.
        """

    def load(self, compiled: bytes) -> Network:
        """Return the network of compiled bytes, on the CPU threads that torch uses in this thread."""


class Inductor:
    """The compiler of torch.compile, ahead of time."""

    name = "compile"

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self._device, self.dtype = device, dtype

    def target(self) -> str:
        return f"torch {torch.__version__}, {_hardware(self._device)}"

    def build(self, program: ExportedProgram) -> bytes:
        from torch._inductor import aoti_compile_and_package

        check_cpp_compiler("runtime")
        options: dict[str, Any] = {
            "freezing": self._device.type == "cpu",  # packs the weights for oneDNN
            "cpp.dynamic_threads": True,  # otherwise the number of threads is compiled in
        }
        with TemporaryDirectory() as folder:
            path = aoti_compile_and_package(
                program, package_path=f"{folder}/network.pt2", inductor_configs=options
            )
            return Path(path).read_bytes()

    def load(self, compiled: bytes) -> Network:
        from torch._inductor import aoti_load_package

        with TemporaryDirectory() as folder:
            path = Path(folder, "network.pt2")
            path.write_bytes(compiled)
            model = aoti_load_package(str(path))

        def run(pixels: Tensor) -> tuple[Tensor, Tensor]:
            output, token = model(pixels)
            return output, token

        return run


class OpenVino:
    """Intel's OpenVINO, on a CPU.

    With precision bfloat16 it computes all layers in bfloat16, but keeps the last ones and the output in
    float32: the disparity has no terraces (`./dev bench runtimes`).
    """

    name = "openvino"
    dtype = torch.float32

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        if device.type != "cpu":
            raise ConfigError(f"runtime is 'openvino' and the device {device}: set device to cpu")
        _require(self.name, "openvino")
        import openvino

        self._core = openvino.Core()
        self._hint, capability = {
            torch.float32: ("f32", "FP32"),
            torch.bfloat16: ("bf16", "BF16"),
            torch.float16: ("f16", "FP16"),
        }[dtype]
        capabilities = self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if capability not in capabilities:  # it would compute in another precision
            raise ConfigError(
                f"runtime is 'openvino' and precision {_name(dtype)}, which openvino does not support on "
                f"this CPU (it supports {', '.join(sorted(capabilities))}); use precision float32"
            )

    def target(self) -> str:
        import openvino

        return f"openvino {openvino.__version__}, {_hardware(torch.device('cpu'))}"

    def build(self, program: ExportedProgram) -> bytes:
        # These are the parts of openvino.convert_model, which reports its use to Intel unless told not to.
        from openvino.frontend import FrontEndManager
        from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder

        frontend = FrontEndManager().load_by_framework("pytorch")
        with _quiet(""):
            decoder = TorchFXPythonDecoder.from_exported_program(program)  # must outlive the conversion
        model = frontend.convert(frontend.load(decoder))
        compiled = self._core.compile_model(model, "CPU", self._options())
        stream: io.BytesIO = compiled.export_model()
        return stream.getvalue()

    def load(self, compiled: bytes) -> Network:
        model = self._core.import_model(io.BytesIO(compiled), "CPU", self._options())

        def run(pixels: Tensor) -> tuple[Tensor, Tensor]:
            found = model(pixels.float().contiguous().numpy())
            return torch.from_numpy(found[0]), torch.from_numpy(found[1])

        return run

    def _options(self) -> Mapping[str, Any]:
        return {
            "INFERENCE_PRECISION_HINT": self._hint,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }


class OnnxRuntime:
    """ONNX Runtime: on a CPU, or on CUDA with its TensorRT or CUDA provider."""

    name = "onnxruntime"

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        _require(self.name, "onnxruntime", "onnx", "onnxscript")
        import onnxruntime

        precisions = [torch.float32] if device.type == "cpu" else [torch.float32, torch.float16]
        if dtype not in precisions:
            raise ConfigError(
                f"runtime is 'onnxruntime' and precision {_name(dtype)}; on {device.type} use precision "
                + " or ".join(_name(one) for one in precisions)
            )
        installed = onnxruntime.get_available_providers()
        wanted = ["CPU"] if device.type == "cpu" else ["Tensorrt", "CUDA"]
        self._providers = [f"{one}ExecutionProvider" for one in wanted]
        self._providers = [one for one in self._providers if one in installed]
        if not self._providers:
            raise ConfigError(
                f"runtime is 'onnxruntime' and the device {device}, but the installed onnxruntime has only "
                f"{', '.join(installed)}: pip uninstall onnxruntime, then pip install onnxruntime-gpu; or "
                "set device to cpu"
            )
        self._device, self.dtype = device, dtype

    def target(self) -> str:
        import onnxruntime

        return f"onnxruntime {onnxruntime.__version__}, {_hardware(self._device)}"

    def build(self, program: ExportedProgram) -> bytes:
        with _quiet("torch.onnx"):
            exported = torch.onnx.export(program, dynamo=True, verbose=False)
        assert exported is not None
        compiled: bytes = exported.model_proto.SerializeToString()
        return compiled

    def load(self, compiled: bytes) -> Network:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        providers = [(one, self._provider_options(one, compiled)) for one in self._providers]
        session = onnxruntime.InferenceSession(compiled, options, providers=providers)
        if (used := session.get_providers()[0]) not in self._providers:
            raise ModelError(
                f"onnxruntime can't start {' or '.join(self._providers)} and would use {used}: its libraries "
                "(CUDA, cuDNN, TensorRT) must fit its version; or use runtime torch"
            )
        (pixels_name,) = (one.name for one in session.get_inputs())

        def run(pixels: Tensor) -> tuple[Tensor, Tensor]:
            found = session.run(None, {pixels_name: pixels.contiguous().cpu().numpy()})
            output, token = (torch.from_numpy(one).to(self._device) for one in found)
            return output, token

        return run

    def _provider_options(self, provider: str, compiled: bytes) -> dict[str, Any]:
        if provider.startswith("CPU"):
            return {}
        tensorrt = tensorrt_options(compiled, self.dtype) if provider.startswith("Tensorrt") else {}
        return {"device_id": self._device.index or 0, **tensorrt}


def cache_folder() -> Path:
    """Return the folder of compiled networks: in XDG_CACHE_HOME, or in ~/.cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(cache) / "redepth_ros" / "compiled"


def tensorrt_options(compiled: bytes, dtype: torch.dtype) -> dict[str, Any]:
    """Return options of ONNX Runtime's TensorRT provider: its engines, built in minutes, are kept in files.

    Args:
        compiled: the network. It names the folder of its engines, which the provider tells apart by the graph
            but not by the weights.
        dtype: of the network.

    Returns:
        The options; without a cache if its folder can't be written.
    """
    options: dict[str, Any] = {"trt_fp16_enable": dtype == torch.float16}
    folder = cache_folder() / f"tensorrt-{hashlib.sha256(compiled).hexdigest()[:16]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return options
    return {**options, "trt_engine_cache_enable": True, "trt_engine_cache_path": str(folder)}


KINDS: dict[str, Callable[[torch.device, torch.dtype], Runtime]] = {
    Inductor.name: Inductor,
    OpenVino.name: OpenVino,
    OnnxRuntime.name: OnnxRuntime,
}
RUNTIMES = ("torch", *KINDS)
"""Values of the parameter `runtime`."""


def pick_runtime(name: str, device: torch.device, dtype: torch.dtype) -> Runtime:
    """Return a runtime by name.

    Args:
        name: of `RUNTIMES`, other than torch.
        device: that the network is on.
        dtype: of the network, the precision to compute in.

    Raises:
        ConfigError: the runtime is unknown, not installed, or can't compute on this device in this precision.
    """
    if name not in KINDS:
        raise ConfigError(f"runtime is {name!r}; it must be one of: {', '.join(RUNTIMES)}")
    return KINDS[name](device, dtype)


def check_cpp_compiler(parameter: str) -> None:
    """Raise ModelError if there is no C++ compiler, which a parameter with the value compile needs."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise ModelError(
            f"{parameter} is 'compile', but there is no C++ compiler: install one (Debian, Ubuntu: "
            f"sudo apt install g++), name it in the environment variable CXX, or use {parameter} torch"
        ) from error


def _require(runtime: str, *modules: str) -> None:
    """Raise ConfigError if a module of a runtime is not installed."""
    missing = [one for one in modules if find_spec(one) is None]
    if missing:
        raise ConfigError(
            f"runtime is {runtime!r}, but {', '.join(missing)} is not installed: pip install "
            f"{' '.join(missing)}; or use runtime torch"
        )


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Silence a logger: exporters warn of operations that no depth network has."""
    logger = logging.getLogger(name)
    former = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(former)


def _hardware(device: torch.device) -> str:
    """Return the name of the processor that compiled code is made for."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    names = [platform.machine(), torch.backends.cpu.get_cpu_capability()]
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names += next((one.split(":")[1].strip(),) for one in lines if one.startswith("model name"))
    except (OSError, StopIteration):  # no Linux, or an ARM processor without a name
        pass
    return " ".join(names)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
