"""`redepth benchmark`: what it measures, what it recommends, and how it ends."""

import argparse
import dataclasses
import json
import math
import os
import time
from importlib.util import find_spec
from itertools import groupby
from types import SimpleNamespace

import pytest
import torch
import yaml

from redepth_ros.cli.benchmark import command, correctness, fast_path
from redepth_ros.cli.benchmark.correctness import compare
from redepth_ros.cli.benchmark.fast_path import measure_fast_path
from redepth_ros.cli.benchmark.findings import Check, Deadline, FastRow, Findings, KeyframeRow
from redepth_ros.cli.benchmark.keyframe import NEEDS_GPU, measure_keyframe, measure_keyframes
from redepth_ros.cli.benchmark.options import add_benchmark_options
from redepth_ros.cli.benchmark.recommendation import Wish, recommend
from redepth_ros.cli.benchmark.runtimes import OTHER_RUNTIMES, temporary_cache
from redepth_ros.cli.benchmark.stopwatch import Stopwatch, TimedNetwork, TimedPrior
from redepth_ros.core.errors import ModelError
from redepth_ros.core.refine.run import Refiner
from redepth_ros.data.rendered import load_rendered_images
from redepth_ros.models import diffusion
from redepth_ros.models.runtimes import cache_folder
from redepth_ros.nodes.settings import DepthSettings, ServerSettings

OPENVINO = find_spec("openvino") is not None
WISH = Wish(rate=10.0, keyframe_period=5.0, model="tiny", prior="tiny")
MACHINE = {"device": "cpu", "threads": 3}
PARTS = {
    "optimiser",
    "decoder",
    "shading",
    "autoencoder",
    "UNet",
    "autoencoder backward",
    "decoder backward",
}


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """The folder of a benchmark of the embedded networks, with few rounds and steps."""
    folder = tmp_path_factory.mktemp("benchmark") / "out"
    parser = argparse.ArgumentParser()
    add_benchmark_options(parser)
    arguments = ["--model", "tiny", "--prior", "tiny", "--device", "cpu", "--minutes", "60", "--rate", "0.01"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast_path, "MAX_ROUNDS", 2)
        patch.setattr(correctness, "STEPS", 2)
        for module in (fast_path, correctness):  # compile takes a minute
            patch.setattr(module, "OTHER_RUNTIMES", ("openvino",))
        command.benchmark(parser.parse_args([*arguments, "--keyframe-period", "3600", "--out", str(folder)]))
    return folder


@pytest.fixture(scope="module")
def found(out):
    """The content of its benchmark.json."""
    return json.loads((out / "benchmark.json").read_text())


def row(seconds: float, input_size: int = 140, precision: str = "float32") -> FastRow:
    return FastRow(
        "tiny", input_size, input_size, input_size, "torch", precision, seconds, 1.0 / seconds, 3, None
    )


def keyframe(start: float, step: float) -> KeyframeRow:
    """A keyframe of 160 steps, 2 members and 3 lights."""
    return KeyframeRow(
        "tiny + tiny",
        "default",
        True,
        2,
        160,
        3,
        start,
        step,
        5,
        {},
        start + 160 * step,
        {},
        step / 6,
        None,
        [],
    )


def value_of(parameters, name):
    return next(one.value for one in parameters if one.name == name)


def test_checks_the_machine(found):
    outcomes = {check["name"]: check["outcome"] for check in found["checks"]}
    assert outcomes == {
        "CPU against GPU": "skipped",
        "bfloat16 against float32": "passed",
        "determinism": "passed",
        "memory limit": "skipped",
        "openvino against torch": "passed" if OPENVINO else "skipped",
    }
    figures = found["checks"][1]["figures"]
    assert 0.0 < figures["fast disparity"] < 0.01
    assert 0.0 < figures["fast normals (°)"] < 5.0


def test_times_the_fast_path_by_input_size_and_precision(found):
    rows = [one for one in found["fast"] if one["runtime"] == "torch"]
    cases = {(one["input_size"], one["precision"]) for one in rows}
    assert cases == {(size, kind) for size in (120, 180, 240) for kind in ("float32", "bfloat16")}
    for one in rows:
        assert one["rounds"] == 2
        assert one["hz"] == pytest.approx(1.0 / one["seconds"])
        assert one["width"] == one["input_size"]
        assert one["height"] == pytest.approx(0.75 * one["width"], abs=5)  # a multiple of the patch, 10
        assert one["memory_mib"] > 2.0  # the weights alone


def test_times_a_runtime_that_is_installed_and_names_one_that_is_not(found):
    timed = {(one["input_size"], one["precision"]) for one in found["fast"] if one["runtime"] == "openvino"}
    missing = {one["name"]: one["reason"] for one in found["not_measured"]}
    if OPENVINO:
        assert {(size, "float32") for size in (120, 180, 240)} <= timed
    else:
        assert not timed
        assert "openvino is not installed" in missing["fast path: tiny, openvino float32"]


def test_a_network_that_takes_longer_than_the_time_left_is_not_loaded(monkeypatch):
    measured = []

    def measure(title, load, device, deadline, findings):
        measured.append((title, deadline.left))
        return 10.0

    monkeypatch.setattr(fast_path, "_measure_network", measure)
    findings = Findings(MACHINE, 1.0)
    measure_fast_path("", torch.device("cpu"), Deadline(time.monotonic() + 37.0), findings)
    assert [title for title, _ in measured] == ["DA-V2 Small"]
    assert measured[0][1] == pytest.approx(18.5, abs=1.0)
    assert [one.name for one in findings.not_measured] == ["fast path: DA-V2 Base", "fast path: DA-V2 Large"]
    assert findings.not_measured[0].reason.startswith("it needs about 39 s, and 3")
    assert findings.not_measured[1].reason.startswith("it needs about 135 s, and 3")


def test_compiled_networks_stay_out_of_the_cache_of_the_user(monkeypatch):
    for former in ("/former", None):
        if former is None:
            monkeypatch.delenv("XDG_CACHE_HOME")
        else:
            monkeypatch.setenv("XDG_CACHE_HOME", former)
        with temporary_cache():
            inside = cache_folder()
            assert inside.is_relative_to(os.environ["XDG_CACHE_HOME"])
            assert "redepth_benchmark_" in str(inside)
        assert os.environ.get("XDG_CACHE_HOME") == former
        assert not inside.parent.exists()


def test_compile_is_the_last_runtime():
    assert OTHER_RUNTIMES == ("onnxruntime", "openvino", "compile")


def test_times_keyframes_of_both_presets(found):
    default, paper = found["keyframes"]
    assert (default["preset"], paper["preset"]) == ("default", "paper")
    assert default["evaluations"] == {"UNet": 960, "autoencoder": 960}
    assert paper["evaluations"] == {"UNet": 20_000, "autoencoder": 10_000}
    for one, steps in ((default, 160), (paper, 10_000)):
        assert one["estimated_seconds"] == pytest.approx(one["start_seconds"] + steps * one["step_seconds"])
        assert set(one["parts"]) == PARTS
        assert all(seconds > 0.0 for seconds in one["parts"].values())
        assert one["timed_steps"] == 5


def test_parameters_are_valid_and_have_reasons(out, found):
    text = (out / "parameters.yaml").read_text()
    files = yaml.safe_load(text)
    depth = DepthSettings(**files["/**/redepth_node"]["ros__parameters"])
    server = ServerSettings(**files["/**/refine_server"]["ros__parameters"])
    assert (depth.model, depth.input_size) == ("tiny", 240)
    assert (depth.keyframes, depth.keyframe_interval) == ("interval", 3600.0)
    assert (server.prior, server.time_budget) == ("tiny", 3240.0)
    assert server.age_warning == ""
    assert found["recommendation"]["reached"]
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if line.startswith("    ") and "#" not in line:
            assert lines[number - 1].startswith("    # "), line


def test_refuses_a_folder_with_results(out, redepth):
    called = redepth("benchmark", "--out", out)
    assert called.status == 1
    assert "has results of an earlier call: name another folder by --out" in called.err


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--minutes", "0", "--minutes is 0; it must be above 0 and at most 1440"),
        ("--minutes", "nan", "--minutes is nan"),
        ("--rate", "-1", "--rate is -1; it must be above 0 and at most 1000"),
        ("--keyframe-period", "inf", "--keyframe-period is inf"),
        ("--device", "tpu", "device is 'tpu'"),
        ("--model", "no/such/model", "model 'no/such/model' is not a folder"),
    ],
)
def test_rejects_invalid_options(redepth, tmp_path, option, value, words):
    called = redepth("benchmark", "--out", tmp_path / "out", option, value)
    assert called.status == 1
    assert words in called.err
    assert not (tmp_path / "out").exists()


def test_lists_what_does_not_fit_into_the_time(redepth_tiny, tmp_path):
    called = redepth_tiny(
        "benchmark", "--out", tmp_path, "--model", "tiny", "--device", "cpu", "--minutes", "1e-6"
    )
    found = json.loads((tmp_path / "benchmark.json").read_text())
    assert called.status == 0
    assert found["checks"] == found["keyframes"] == []
    assert len(found["fast"]) == 1  # of the smallest input
    missing = {one["name"] for one in found["not_measured"]}
    assert {"check: determinism", "fast path: tiny, bfloat16", "keyframe: default"} <= missing
    parameters = yaml.safe_load((tmp_path / "parameters.yaml").read_text())
    assert list(parameters) == ["/**/redepth_node"]
    assert "Stable Diffusion needs a GPU" in called.out


@pytest.fixture
def checks_only(redepth_tiny, tmp_path, monkeypatch):
    """Calls the command with another function in place of the checks, and without the rest."""

    def call(check):
        monkeypatch.setattr(command, "check_correctness", check)
        monkeypatch.setattr(command, "measure_fast_path", lambda *_: None)
        monkeypatch.setattr(command, "measure_keyframes", lambda *_: None)
        called = redepth_tiny("benchmark", "--out", tmp_path, "--device", "cpu")
        return called, json.loads((tmp_path / "benchmark.json").read_text())

    return call


def test_ctrl_c_keeps_the_results_so_far(checks_only):
    def check(device, deadline, findings):
        findings.checks.append(Check("first", "passed", ""))
        raise KeyboardInterrupt

    called, found = checks_only(check)
    assert called.status == 130
    assert found["interrupted"]
    assert [one["name"] for one in found["checks"]] == ["first"]


def test_a_failed_check_is_an_error(checks_only):
    called, found = checks_only(lambda device, deadline, findings: findings.checks.append(FAILED))
    assert called.status == 1
    assert "failed: bfloat16 against float32; see " in called.err
    assert not found["interrupted"]


FAILED = Check("bfloat16 against float32", "failed", "", {}, "bfloat16")


@pytest.fixture
def recommended(tmp_path):
    """Returns the parameters of redepth_node that are recommended by findings."""

    def call(findings):
        options = SimpleNamespace(model="tiny", prior="tiny", out=tmp_path, rate=10.0, keyframe_period=5.0)
        command._finish(SimpleNamespace(print=lambda *_, **__: None), options, findings)
        return yaml.safe_load((tmp_path / "parameters.yaml").read_text())["/**/redepth_node"][
            "ros__parameters"
        ]

    return call


def test_a_precision_or_runtime_that_failed_is_not_recommended(recommended):
    failed = [FAILED, Check("compile against torch", "failed", "", {}, "compile")]
    compiled = dataclasses.replace(row(0.005), runtime="compile")
    findings = Findings(MACHINE, 1.0, checks=failed, fast=[row(0.02), row(0.01, 140, "bfloat16"), compiled])
    parameters = recommended(findings)
    assert (parameters["runtime"], parameters["precision"]) == ("torch", "float32")


def test_networks_that_stand_in_for_larger_ones_are_not_recommended(recommended):
    substitute = dataclasses.replace(keyframe(0.1, 0.01), wanted=False)
    findings = Findings(MACHINE, 1.0, fast=[row(0.02)], keyframes=[substitute], notes=[NEEDS_GPU])
    assert recommended(findings)["keyframes"] == "none"


def test_recommends_the_largest_input_that_reaches_the_rate():
    rows = [row(0.01, 70), row(0.07, 140), row(0.06, 140, "bfloat16"), row(0.09, 210)]
    advice = recommend(WISH, MACHINE, rows, keyframe(0.1, 0.01), "")
    assert advice.reached
    assert value_of(advice.redepth_node, "input_size") == 140
    assert value_of(advice.redepth_node, "precision") == "bfloat16"
    assert value_of(advice.redepth_node, "threads") == 3


def test_recommends_no_threads_for_a_gpu():
    advice = recommend(WISH, {"device": "cuda", "threads": 3}, [row(0.01)], keyframe(0.1, 0.01), "")
    assert value_of(advice.redepth_node, "device") == "cuda"
    assert "threads" not in [one.name for one in advice.redepth_node]


def test_says_the_nearest_rate():
    advice = recommend(WISH, MACHINE, [row(0.5, 70), row(1.0, 140)], keyframe(0.1, 0.01), "")
    assert not advice.reached
    assert value_of(advice.redepth_node, "input_size") == 70
    assert "10 Hz is not reached: the nearest is 1.6 Hz" in advice.messages[0]


def test_says_the_nearest_period():
    advice = recommend(WISH, MACHINE, [row(0.01)], keyframe(0.6, 6.0), "")
    assert not advice.reached
    assert "the nearest is 34 s, for 30 steps" in advice.messages[1]
    assert value_of(advice.redepth_node, "keyframe_interval") == 34.0
    assert value_of(advice.refine_server, "time_budget") == pytest.approx(30.6)


@pytest.mark.parametrize(
    ("step", "words"), [(0.01, "all 160 steps"), (0.1, "fewer steps, members or lights")]
)
def test_says_whether_the_preset_fits_into_the_budget(step, words):
    advice = recommend(WISH, MACHINE, [row(0.01)], keyframe(0.1, step), "")
    assert advice.reached
    assert any(words in one.reason for one in advice.refine_server)


def test_recommends_no_keyframes_where_none_was_timed():
    advice = recommend(WISH, MACHINE, [row(0.01)], None, NEEDS_GPU)
    assert not advice.reached
    assert value_of(advice.redepth_node, "keyframes") == "none"
    assert advice.refine_server == ()


@pytest.mark.parametrize("named", [False, True])
def test_stable_diffusion_is_not_timed_on_a_cpu(engine, monkeypatch, named):
    if named:
        monkeypatch.setattr(diffusion, "MAX_CPU_PARAMETERS", 1)
    findings = Findings({}, 1.0)
    measure_keyframes(engine, True, named, Deadline(time.monotonic() + 60.0), findings)
    assert findings.notes == [NEEDS_GPU]
    assert findings.keyframes[0].networks == "tiny + tiny"
    assert not any(one.wanted for one in findings.keyframes)


def test_compare_measures_disparity_and_normals():
    flat = torch.ones(8, 8)
    tilted = flat + torch.arange(8.0) * 2.0 / 7.0  # as steep as the height, 2, over its 7 steps: 45 degrees
    same = SimpleNamespace(fast=2.0 * flat, refined=flat, fast_depth=flat, depth=flat)
    other = SimpleNamespace(fast=2.2 * flat, refined=flat, fast_depth=flat, depth=tilted)
    figures = compare(other, same)
    assert figures["fast disparity"] == pytest.approx(0.1)
    assert figures["refined disparity"] == figures["fast normals (°)"] == 0.0
    assert figures["refined normals (°)"] == pytest.approx(45.0, abs=1e-4)


def test_a_difference_of_nan_fails(monkeypatch):
    result = SimpleNamespace(outcome=None, message="")
    monkeypatch.setattr(correctness, "compare", lambda *_: {"fast disparity": math.nan})
    check = correctness._check_difference("x", lambda: result, lambda: result)
    assert check.outcome == "failed"


def test_timing_does_not_change_the_result(engine):
    pixels = engine.model.preprocess(next(load_rendered_images()).image, 56)
    settings = dataclasses.replace(engine.preset("paper"), steps=2, ensemble_size=1)
    watch = Stopwatch(torch.device("cpu"))
    pairs = [
        (engine.model, engine.prior),
        (TimedNetwork(engine.model, watch), TimedPrior(engine.prior, watch)),
    ]
    results = []
    for network, prior in pairs:
        run = Refiner(network, prior, settings).start(pixels)
        assert len(list(run.steps())) == 2
        results.append(run.result())
    assert torch.equal(results[0].refined, results[1].refined)


def test_parts_of_a_step_are_timed_in_their_order(engine):
    pixels = engine.model.preprocess(next(load_rendered_images()).image, 56)
    settings = dataclasses.replace(engine.preset("paper"), steps=2, ensemble_size=1)
    watch, laps = Stopwatch(torch.device("cpu")), []
    run = Refiner(TimedNetwork(engine.model, watch), TimedPrior(engine.prior, watch), settings).start(pixels)
    watch.lap = laps.append
    next(run.steps())
    assert [part for part, _ in groupby(laps)] == [
        "optimiser",
        "decoder",
        "shading",
        "autoencoder",
        "UNet",
        "autoencoder backward",
        "shading",
        "decoder backward",
    ]


def test_a_keyframe_whose_first_step_fails_is_not_timed(engine, monkeypatch):
    encode = engine.prior.encode
    monkeypatch.setattr(engine.prior, "encode", lambda images, noise: encode(images, noise) * math.nan)
    image = next(load_rendered_images()).image
    with pytest.raises(ModelError, match="no step was done"):
        measure_keyframe(engine, "paper", engine.preset("paper"), image, input_size=56)
