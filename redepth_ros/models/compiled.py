"""Networks compiled for one input size each, in memory and in files."""

from __future__ import annotations

import json
import threading
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Protocol

import torch
from torch import Tensor
from torch.export import ExportedProgram

from redepth_ros.core.errors import ModelError, RedepthError
from redepth_ros.core.memory import memory_errors
from redepth_ros.models.hub import first_line, loading
from redepth_ros.models.runtimes import Network, Runtime, cache_folder

__all__ = ["CompiledNetwork", "Log", "read_compiled", "write_compiled"]

MAX_SIZES = 4
"""Input sizes whose compiled networks stay in memory; others are read from their files again."""
REPORT_PERIOD = 15.0
"""Seconds between two messages while a network is compiled."""


class Log(Protocol):
    """Receives messages: a logger of Python or of ROS."""

    def info(self, message: str, /) -> object: ...

    def warning(self, message: str, /) -> object: ...


class CompiledNetwork:
    """Runs a network by a runtime; compiles it for each size of its input, once on each machine.

    Not for several threads at a time.
    """

    def __init__(
        self,
        export: Callable[[int, int, torch.dtype], ExportedProgram],
        key: str,
        runtime: Runtime,
        log: Log,
    ) -> None:
        """Args:
        export: returns the network for an input of this height and width, with weights of this type.
        key: of the network, for the names of files.
        runtime: that compiles and runs the network.
        log: receives the progress.
        """
        self._export, self._key, self._runtime, self._log = export, key, runtime, log
        self._networks: OrderedDict[tuple[int, int], Network] = OrderedDict()
        self._errors: dict[tuple[int, int], ModelError] = {}
        self.status = ""
        """What is compiled at the moment; empty if nothing is."""

    def __call__(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the prediction (1, h, w) and the last class token (C,) of pixels (1, 3, h, w).

        Raises:
            ModelError: the network can't be compiled for this size.
        """
        size = (pixels.shape[-2], pixels.shape[-1])
        if size in self._errors:  # another attempt would take as long, for each frame
            raise self._errors[size]
        if size not in self._networks:
            try:
                # The caller's inference mode would mark the weights that are copied.
                with torch.inference_mode(False), torch.no_grad():
                    self._networks[size] = self._prepare(*size)
            except ModelError as error:
                self._errors[size] = error
                raise
            if len(self._networks) > MAX_SIZES:
                self._networks.popitem(last=False)
        self._networks.move_to_end(size)
        return self._networks[size](pixels)

    def _prepare(self, height: int, width: int) -> Network:
        """Return the network of a file, or compile it and write the file."""
        name = f"{self._runtime.name}-{width}x{height}-{self._key}.zip"
        path, target = cache_folder() / name, self._runtime.target()
        try:
            compiled = read_compiled(path, target)
            if compiled is not None:
                return self._runtime.load(compiled)
        except Exception as error:  # a damaged file raises errors of the runtime's library
            self._log.warning(f"{path} can't be used: {first_line(error)}; the network is compiled again")
        began = time.monotonic()
        with self._progress(f"compiling the network for {width}x{height} pixels by {self._runtime.name}"):
            try:
                with memory_errors(), loading():
                    compiled = self._runtime.build(self._export(height, width, self._runtime.dtype))
                    network = self._runtime.load(compiled)
            except RedepthError:
                raise
            except Exception as error:  # of the runtime's library
                raise ModelError(
                    f"runtime {self._runtime.name} can't compile the network for {width}x{height} pixels: "
                    f"{first_line(error)}; use runtime torch, or another input_size"
                ) from error
        try:
            write_compiled(path, compiled, target)
            place = f"saved as {path}"
        except OSError as error:
            place = "not saved"
            self._log.warning(
                f"{path} can't be written ({error.strerror}): the network will be compiled again at the next "
                "start; make the folder writable, or name another one in XDG_CACHE_HOME"
            )
        self._log.info(f"compiled in {time.monotonic() - began:.0f} s, {place}")
        return network

    @contextmanager
    def _progress(self, text: str) -> Iterator[None]:
        """Report every few seconds that something is being done."""
        began, done = time.monotonic(), threading.Event()

        def report() -> None:
            while not done.wait(REPORT_PERIOD):
                self._log.info(f"{text}: {time.monotonic() - began:.0f} s")

        self._log.info(f"{text}: once for this size, takes seconds to minutes")
        self.status = text
        thread = threading.Thread(target=report, name="compile-progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.status = ""
            done.set()
            thread.join()


def read_compiled(path: Path, target: str) -> bytes | None:
    """Return the content of a file of `write_compiled`; None if there is no such file.

    Raises:
        ModelError: the file is damaged, or was made for other versions or other hardware.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            made_for = json.loads(archive.read("target.json"))
            if made_for != target:
                raise ModelError(f"it was made for {made_for}, and this is {target}")
            return archive.read("network")  # compares the check sum
    except FileNotFoundError:
        return None
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ModelError(f"it is damaged ({first_line(error)})") from error


def write_compiled(path: Path, compiled: bytes, target: str) -> None:
    """Write a compiled network and the target that it was made for.

    The file is renamed when it is complete: other processes may read and write it at the same time.

    Raises:
        OSError: the folder can't be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, prefix=".writing-", delete=False) as file:
        temporary = Path(file.name)
    try:
        with zipfile.ZipFile(temporary, "w") as archive:
            archive.writestr("target.json", json.dumps(target))
            archive.writestr("network", compiled)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
