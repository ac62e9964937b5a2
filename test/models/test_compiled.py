"""Compiled networks and their files, with a runtime that needs nothing but torch."""

import errno
import io
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from redepth_ros.core.errors import ModelError
from redepth_ros.models import compiled
from redepth_ros.models.compiled import CompiledNetwork, read_compiled, write_compiled
from redepth_ros.models.runtimes import cache_folder


class Doubler(torch.nn.Module):
    """A network whose prediction is twice the first channel, and whose class token is the mean colour."""

    def forward(self, pixels):
        return 2.0 * pixels[:, 0], pixels.mean((0, 2, 3))


def export(height, width, dtype):
    return torch.export.export(Doubler(), (torch.zeros(1, 3, height, width, dtype=dtype),))


class SavedPrograms:
    """A runtime: compiled bytes are those of torch.export.save."""

    name, dtype = "saved", torch.float32

    def __init__(self, target="version 1"):
        self.version, self.builds, self.error = target, 0, None
        self.while_building = lambda: None

    def target(self):
        return self.version

    def build(self, program):
        self.builds += 1
        self.while_building()
        if self.error is not None:
            raise self.error
        stream = io.BytesIO()
        torch.export.save(program, stream)
        return stream.getvalue()

    def load(self, compiled):
        return torch.export.load(io.BytesIO(compiled)).module()


class ListLog:
    """Collects messages."""

    def __init__(self):
        self.infos, self.warnings = [], []

    def info(self, message):
        self.infos.append(message)

    def warning(self, message):
        self.warnings.append(message)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def log():
    return ListLog()


def make(log, runtime=None, key="key"):
    runtime = runtime or SavedPrograms()
    return CompiledNetwork(export, key, runtime, log), runtime


def check(network, height=4, width=6):
    pixels = torch.rand(1, 3, height, width)
    output, token = network(pixels)
    torch.testing.assert_close(output, 2.0 * pixels[:, 0])
    torch.testing.assert_close(token, pixels.mean((0, 2, 3)))


def test_each_size_is_compiled_once_and_then_read_from_its_file(log, cache):
    network, runtime = make(log)
    for _ in range(2):
        check(network)
        check(network, 8, 6)
    assert runtime.builds == 2
    names = sorted(path.name for path in cache_folder().iterdir())
    assert names == ["saved-6x4-key.zip", "saved-6x8-key.zip"]
    assert cache_folder() == cache / "redepth_ros" / "compiled"
    assert "compiling the network for 6x4 pixels by saved" in log.infos[0]
    saved = [one for one in log.infos if one.startswith("compiled in ")]
    assert [one.endswith(name) for one, name in zip(saved, names, strict=True)] == [True, True]

    again, second = make(ListLog())
    check(again)
    assert second.builds == 0
    other, third = make(ListLog(), key="other weights")
    check(other)
    assert third.builds == 1


def test_a_file_of_another_version_is_compiled_again_and_said_so(log):
    check(make(ListLog())[0])
    network, runtime = make(log, SavedPrograms("version 2"))
    check(network)
    assert runtime.builds == 1
    assert "made for version 1, and this is version 2; the network is compiled again" in log.warnings[0]
    check(make(ListLog(), SavedPrograms("version 2"))[0])
    assert read_compiled(cache_folder() / "saved-6x4-key.zip", "version 2")


def flip_byte(path):
    """Damage the content, not the directory of the archive."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        flip_byte,
        lambda path: path.write_bytes(path.read_bytes()[:1000]),
        lambda path: path.write_bytes(b""),
        lambda path: write_compiled(path, b"no program", "version 1"),
    ],
)
def test_a_damaged_file_is_compiled_again_and_said_so(log, damage):
    check(make(ListLog())[0])
    path = cache_folder() / "saved-6x4-key.zip"
    damage(path)
    network, runtime = make(log)
    check(network)
    assert runtime.builds == 1
    assert f"{path} can't be used" in log.warnings[0]
    _, last = make(ListLog())
    check(make(ListLog(), last)[0])
    assert last.builds == 0


def test_a_cache_that_cannot_be_written_is_warned_about(log, cache):
    (cache / "redepth_ros").write_text("a file where the folder should be")
    network, runtime = make(log)
    check(network)
    check(network)
    assert runtime.builds == 1
    assert "can't be written" in log.warnings[-1]
    assert "XDG_CACHE_HOME" in log.warnings[-1]


def test_a_file_that_cannot_be_renamed_leaves_nothing_behind(monkeypatch, tmp_path):
    def fail(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(OSError, match="Read-only"):
        write_compiled(tmp_path / "file.zip", b"network", "target")
    assert list(tmp_path.iterdir()) == []


def test_writers_and_readers_of_the_same_file_do_not_disturb_each_other(tmp_path):
    path, content = tmp_path / "file.zip", bytes(range(256)) * 2000
    write_compiled(path, content, "target")

    def write_and_read(_):
        write_compiled(path, content, "target")
        return read_compiled(path, "target") == content

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(write_and_read, range(40)))
    assert [one.name for one in tmp_path.iterdir()] == ["file.zip"]


def test_a_network_that_cannot_be_compiled_is_tried_once_per_size(log):
    network, runtime = make(log)
    runtime.error = RuntimeError("no kernel for this size\nand a long trace")
    for _ in range(3):
        with pytest.raises(
            ModelError, match=r"saved can't compile .* 6x4 pixels: no kernel for this size; use"
        ):
            network(torch.zeros(1, 3, 4, 6))
    assert runtime.builds == 1
    assert network.status == ""
    runtime.error = None
    check(network, 8, 6)


def test_the_status_and_the_log_tell_that_a_network_is_compiled(log, monkeypatch):
    monkeypatch.setattr(compiled, "REPORT_PERIOD", 0.01)
    network, runtime = make(log)
    seen = []

    def while_building():
        seen.append(network.status)
        for _ in range(1000):
            if any("pixels by saved: " in one and one.endswith(" s") for one in log.infos):
                return
            time.sleep(0.01)

    runtime.while_building = while_building
    check(network)
    assert seen == ["compiling the network for 6x4 pixels by saved"]
    assert any(one.startswith("compiling the network for 6x4 pixels by saved: 0 s") for one in log.infos)
    assert network.status == ""


def test_few_sizes_stay_in_memory(log):
    network, runtime = make(log)
    loads = []
    load = runtime.load
    runtime.load = lambda content: loads.append(1) or load(content)
    last = compiled.MAX_SIZES
    for width in (*range(1, last + 1), 1, last + 1, 1, 2):
        check(network, 4, width)
    assert runtime.builds == compiled.MAX_SIZES + 1
    assert len(loads) == runtime.builds + 1  # the size used least recently was dropped


def test_networks_are_compiled_in_inference_mode_too(log):
    network, _ = make(log)
    with torch.inference_mode():
        check(network)
