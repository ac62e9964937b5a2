"""Model folders, the hub and its cache, without a network."""

import errno
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

from redepth_ros.core.errors import ModelError
from redepth_ros.models.depth_anything import TINY_DEPTH, DepthAnything
from redepth_ros.models.diffusion import DiffusionPrior
from redepth_ros.models.hub import check_complete, find_folder, first_line, read_json

DATA = Path(__file__).parent / "data"
FILES = ("config.json", "*.safetensors")


def find(name, option="model"):
    return find_folder(name, FILES, option=option, needs="config.json and model.safetensors")


def cache_snapshot(cache, folder, name="someone--depth"):
    """Copy a folder into a hub cache; return the copy."""
    repository = cache / f"models--{name}"
    snapshot = shutil.copytree(folder, repository / "snapshots" / "0123abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123abc")
    return snapshot


def test_a_local_folder_is_found(tmp_path, monkeypatch):
    assert find(str(tmp_path)) == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    assert find(f"~/{tmp_path.name}") == tmp_path


@pytest.mark.parametrize("name", ["/no/such/folder", "./none", "~/none/x", "nothing", "", "a/b/c"])
def test_a_name_that_is_neither_folder_nor_hub_model_is_rejected(name):
    with pytest.raises(ModelError, match=r"is not a folder; name a folder with config\.json and"):
        find(name)


def test_a_file_is_not_a_folder(tmp_path):
    path = tmp_path / "model.safetensors"
    path.touch()
    with pytest.raises(ModelError, match="is not a folder"):
        find(str(path))


@pytest.mark.parametrize(("option", "offered"), [("model", True), ("prior", True), ("vae", False)])
def test_tiny_is_offered_where_it_is_accepted(option, offered):
    with pytest.raises(ModelError, match=f"{option} 'nothing' is not a folder") as caught:
        find("nothing", option)
    assert ("'tiny'" in str(caught.value)) == offered


def test_a_cached_model_loads_without_a_network(offline):
    cache_snapshot(offline, TINY_DEPTH)
    model = DepthAnything.load("someone/depth", device="cpu")
    assert (model.name, model.patch) == ("someone/depth", 10)


def test_without_network_and_cache_the_remedies_are_named(offline):
    with pytest.raises(ModelError, match="model 'someone/depth' is not in the cache") as caught:
        find("someone/depth")
    for part in (str(offline), "Connect to a network once", "copy the model to a folder", "'tiny'"):
        assert part in str(caught.value)
    with pytest.raises(ModelError) as caught:
        find("someone/vae", "vae")
    assert "'tiny'" not in str(caught.value)


def test_a_cached_model_without_weights_is_rejected(offline):
    (cache_snapshot(offline, TINY_DEPTH) / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model 'someone/depth' can't be loaded: .*; download it again"):
        DepthAnything.load("someone/depth", device="cpu")


def test_an_invalid_hub_id_is_rejected(offline):
    with pytest.raises(ModelError, match=r"model 'some--one/x\.\.y' is not a valid hub id"):
        find("some--one/x..y")


class Response:
    """Part of an HTTP response that errors of the hub's client read."""

    headers, status_code, request, url = {}, 403, None, ""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (lambda: GatedRepoError("gated", response=Response()), "is gated: accept its terms on the hub"),
        (
            lambda: RepositoryNotFoundError("none", response=Response()),
            "the hub has no model 'a/b', or it is",
        ),
        (
            lambda: OSError(errno.ENOSPC, "No space left on device"),
            "can't be written to the cache.*make room",
        ),
        (lambda: OSError("connection reset"), "the hub can't be reached"),
        (lambda: ConnectionError("no network"), "the hub can't be reached"),
        (lambda: RuntimeError("of the HTTP library"), "the hub can't be reached"),
    ],
)
def test_a_failed_download_is_explained(error, words, monkeypatch):
    def download(name, *, allow_patterns, local_files_only=False):
        raise FileNotFoundError if local_files_only else error()

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(ModelError, match=words):
        find("a/b")


def test_an_interrupted_download_is_completed(monkeypatch, tmp_path):
    snapshot = cache_snapshot(tmp_path, DATA / "tiny-sd", "someone--sd")
    (snapshot / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    search, asked = huggingface_hub.snapshot_download, []

    def download(name, *, allow_patterns, local_files_only=False):
        if local_files_only:
            return search(name, allow_patterns=allow_patterns, local_files_only=True, cache_dir=tmp_path)
        asked.append(name)  # stands in for the hub, which tests do not reach
        if not online:
            raise ConnectionError("no network")
        return shutil.copytree(DATA / "tiny-sd", snapshot, dirs_exist_ok=True)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    online = False
    with pytest.raises(ModelError, match="prior 'someone/sd' can't be loaded"):
        DiffusionPrior.load("someone/sd", device="cpu")
    online = True
    assert DiffusionPrior.load("someone/sd", device="cpu").name == "someone/sd"
    DiffusionPrior.load("someone/sd", device="cpu")
    assert asked == ["someone/sd"] * 2  # complete now: the hub is not asked again


def test_read_json_of_a_missing_file_is_empty(tmp_path):
    assert read_json("x", tmp_path / "none.json") == {}
    path = tmp_path / "config.json"
    path.write_text('{"size": 3}')
    assert read_json("x", path) == {"size": 3}


@pytest.mark.parametrize(("text", "words"), [("{", "can't be read"), ("[]", "is not a JSON object")])
def test_read_json_rejects_other_content(text, words, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ModelError, match=f"'x': .*config.json {words}.*; download it again"):
        read_json("x", path)


def test_first_line_of_an_error_ends_without_a_full_stop():
    assert first_line(ValueError("It failed.\nAt line 3.")) == "It failed"
    assert first_line(ValueError()) == "ValueError"


def test_missing_weights_are_counted_and_named():
    check_complete("model 'x'", {"missing_keys": []})
    words = "model 'x' lacks 2 of its weights, for example a.b: its safetensors do not belong"
    with pytest.raises(ModelError, match=words):
        check_complete("model 'x'", {"missing_keys": ["c.d", "a.b"]})


def test_two_threads_of_a_new_process_load_at_the_same_time():
    """As the nodes of redepth_composed do: transformers alone fails in one of them."""
    code = """
from concurrent.futures import ThreadPoolExecutor
from redepth_ros.models.depth_anything import DepthAnything
from redepth_ros.models.engine import Engine

with ThreadPoolExecutor() as threads:
    loads = [threads.submit(DepthAnything.load, "tiny"), threads.submit(Engine.load, "tiny", "tiny")]
    for load in loads:
        load.result()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
