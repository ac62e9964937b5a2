"""Model folders, the hub and its cache: a hub on this machine."""

import errno
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from redepth_ros.core.errors import ModelError
from redepth_ros.models import download
from redepth_ros.models.depth_anything import DepthAnything
from redepth_ros.models.diffusion import TINY_PRIOR, DiffusionPrior
from redepth_ros.models.files import ModelFiles, Part, read_json
from redepth_ros.models.hub import check_complete, find_folder, first_line
from redepth_ros.models.pretrained import TINY_DEPTH

from .hub_server import serve_models

DATA = Path(__file__).parent / "data"
FILES = ModelFiles((Part(stem="model"),), lambda name, config: None)
SAMPLE = Path(__file__).parents[2] / "redepth_ros/data/images/1_relief.png"
UNET = "unet/diffusion_pytorch_model.safetensors"


def find(name, option="model"):
    return find_folder(name, FILES, option=option, needs="config.json and model.safetensors")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub on this machine with the models someone/depth and someone/sd, and an empty cache."""
    sd = Path(shutil.copytree(DATA / "tiny-sd", tmp_path / "sd"))
    with serve_models({"someone/depth": TINY_DEPTH, "someone/sd": sd}) as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
        template = f"{server.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield server


def cache_snapshot(cache, folder, name="someone--depth"):
    """Copy a folder into a hub cache; return the copy."""
    repository = cache / f"models--{name}"
    snapshot = shutil.copytree(folder, repository / "snapshots" / "0123abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123abc")
    return snapshot


def test_a_local_folder_is_found(monkeypatch):
    assert find(str(TINY_DEPTH)) == TINY_DEPTH
    monkeypatch.setenv("HOME", str(TINY_DEPTH.parent))
    assert find("~/depth") == TINY_DEPTH


@pytest.mark.parametrize("name", ["/no/such/folder", "./none", "~/none/x", "nothing", "", "a/b/c"])
def test_a_name_that_is_neither_folder_nor_hub_model_is_rejected(name):
    with pytest.raises(ModelError, match=r"is not a folder; name a folder with config\.json and"):
        find(name)


def test_a_file_is_not_a_folder(tmp_path):
    path = tmp_path / "model.txt"
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
    with pytest.raises(ModelError, match=r"model 'someone/depth' lacks model\.safetensors in the cache"):
        DepthAnything.load("someone/depth", device="cpu")


@pytest.mark.parametrize(
    "file",
    [
        "vae/config.json",
        "unet/config.json",
        "text_encoder/model.safetensors",
        "scheduler/scheduler_config.json",
    ],
)
def test_a_file_that_the_cache_lacks_is_named(offline, file):
    (cache_snapshot(offline, DATA / "tiny-sd", "someone--sd") / file).unlink()
    with pytest.raises(ModelError, match=f"prior 'someone/sd' lacks {file} in the cache"):
        DiffusionPrior.load("someone/sd", device="cpu")


def test_an_invalid_hub_id_is_rejected(offline):
    with pytest.raises(ModelError, match=r"model 'some--one/x\.\.y' is not a valid hub id"):
        find("some--one/x..y")


def test_a_hub_model_is_downloaded_once(hub):
    assert DepthAnything.load("someone/depth", device="cpu").patch == 10
    assert sorted(hub.downloaded) == ["config.json", "model.safetensors", "preprocessor_config.json"]
    DepthAnything.load("someone/depth", device="cpu")
    assert len(hub.downloaded) == 3


def test_a_prior_without_text_encoder_is_complete(hub, monkeypatch):
    monkeypatch.setitem(hub.models, "someone/light", TINY_PRIOR)
    DiffusionPrior.load("someone/light", device="cpu")
    count = len(hub.downloaded)
    DiffusionPrior.load("someone/light", device="cpu")
    assert len(hub.downloaded) == count


def test_a_model_that_the_hub_does_not_have_is_named(hub):
    with pytest.raises(ModelError, match="the hub has no model 'someone/else', or it is private"):
        find("someone/else")


def test_a_gated_model_names_the_login(hub):
    hub.gated.add("someone/depth")
    with pytest.raises(ModelError, match="model 'someone/depth' is gated: accept its terms on the hub"):
        find("someone/depth")


def test_a_hub_that_is_gone_is_named(hub):
    hub.shutdown()
    hub.server_close()
    with pytest.raises(ModelError, match=r"is not in the cache.*the hub can't be reached"):
        find("someone/depth")


def test_a_full_disk_is_named_with_the_cache(hub, monkeypatch, tmp_path):
    def download(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(ModelError, match=f"can't be written to the cache, {tmp_path / 'cache'}.*make room"):
        find("someone/depth")


def give_up_soon(monkeypatch):
    for name in ("ANSWER_TIMEOUT", "STALL_TIMEOUT"):
        monkeypatch.setattr(download, name, 1.0)


@pytest.mark.parametrize("where", ["connection", "list", "file"])
def test_a_hub_that_does_not_answer_ends_the_download(where, hub, monkeypatch):
    """It accepts the connection and sends nothing; or it stops in the middle of a file."""
    # Not before: on a busy machine, a right answer may take longer.
    if where == "connection":
        monkeypatch.setattr(download, "ANSWER_TIMEOUT", 1.0)
    hub.on_stall = lambda: give_up_soon(monkeypatch)
    monkeypatch.setattr(download, "REPORT_PERIOD", 0.1)
    reports = []
    with socket.create_server(("127.0.0.1", 0)) as silent:
        if where == "connection":
            monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        hub.stalls_at = {"list": "list", "file": UNET}.get(where, "")
        words = (
            rf"'someone/sd' .* in the cache, .*, and the hub, {constants.ENDPOINT}, did not answer for 1 s"
        )
        with pytest.raises(ModelError, match=words):
            DiffusionPrior.load("someone/sd", device="cpu", report=reports.append)
    expected = rf"0 of 1 MB \({UNET}\)" if where == "file" else "asking the hub for the list of files"
    assert re.fullmatch(f"downloading someone/sd: {expected}", reports[-1])


def test_an_interrupted_download_is_completed(hub, monkeypatch):
    hub.on_stall = lambda: give_up_soon(monkeypatch)
    hub.stalls_at = UNET
    with pytest.raises(
        ModelError, match=r"'someone/sd' lacks scheduler/\w+\.json and 7 more files in the cache"
    ):
        DiffusionPrior.load("someone/sd", device="cpu")
    hub.stalls_at = ""
    hub.release.set()
    monkeypatch.setattr(download, "STALL_TIMEOUT", 30.0)
    hub.downloaded.clear()
    assert DiffusionPrior.load("someone/sd", device="cpu").name == "someone/sd"
    assert set(hub.downloaded) == {UNET}


def test_a_download_that_was_given_up_does_not_go_on(hub, monkeypatch):
    hub.on_stall = lambda: give_up_soon(monkeypatch)
    hub.stalls_at = "text_encoder/model.safetensors"
    with pytest.raises(ModelError, match="did not answer"):
        DiffusionPrior.load("someone/sd", device="cpu")
    threads = [one for one in threading.enumerate() if one.name == "download"]
    hub.stalls_at = ""
    hub.release.set()
    for thread in threads:
        thread.join(20.0)
        assert not thread.is_alive()
    assert UNET not in hub.downloaded


def test_one_interrupt_ends_a_command_whose_hub_does_not_answer(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        process = subprocess.Popen(
            [sys.executable, "-m", "redepth_ros.cli.main", "refine", str(SAMPLE), "--model", "someone/depth"],
            env=os.environ | {"HF_ENDPOINT": endpoint, "HF_HUB_CACHE": str(tmp_path / "cache")},
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
            # A background job of a shell ignores SIGINT, and its children would inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        silent.settimeout(60.0)
        connection, _ = silent.accept()  # the download has begun
        with connection:
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=20.0)
    assert process.returncode == 130
    assert "Traceback" not in errors


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
