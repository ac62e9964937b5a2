"""The cost of a keyframe that bench/refine_speed extrapolates, with small networks."""

import argparse
import dataclasses
import io
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bench import refine_speed
from bench.refine_speed import count_flops, time_random
from redepth_ros.cli.benchmark.fast_path import noise_image
from redepth_ros.models.diffusion import DiffusionPrior
from redepth_ros.models.engine import Engine

PRIOR = Path(__file__).parents[1] / "models" / "data" / "tiny-sd"


@pytest.fixture(scope="module")
def engine():
    return Engine.load("tiny", str(PRIOR), device="cpu", precision="float32")


def test_operations_counted_by_shapes_are_those_of_a_computation(engine):
    counted, measured = count_flops(engine), {}
    pixels = engine.model.preprocess(noise_image())
    image = engine.model.image(pixels).requires_grad_()
    condition = engine.prior.condition(image.detach(), "")
    with sdpa_kernel(SDPBackend.MATH):  # the counter does not know the other attention of CPUs
        with FlopCounterMode(display=False) as counter:
            latents = engine.prior.encode(image, None)
            latents.sum().backward()
        measured["autoencoder"] = counter.get_total_flops()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            engine.prior.predict_noise(latents.detach(), torch.tensor([500]), condition, None, True)
        measured["UNet"] = counter.get_total_flops()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            embeddings = engine.model.encode(pixels)
        measured["encoder"] = counter.get_total_flops()
    features = tuple(one.requires_grad_() for one in embeddings.features)
    with FlopCounterMode(display=False) as counter:
        engine.model.decode(dataclasses.replace(embeddings, features=features)).sum().backward()
    measured["decoder"] = counter.get_total_flops()
    assert measured == counted
    assert min(counted.values()) > 0.0


def test_a_keyframe_of_each_autoencoder_has_its_operations_and_an_estimate(monkeypatch):
    taesd = []

    def prior(*, tiny_vae, device):
        taesd.append(tiny_vae)
        return DiffusionPrior.load(str(PRIOR), device="cpu", precision="float32")

    monkeypatch.setattr(refine_speed, "random_stable_diffusion", prior)
    monkeypatch.setattr(
        refine_speed,
        "random_depth_network",
        lambda size, device: Engine.load("tiny", "tiny", device="cpu").model,
    )
    monkeypatch.setattr(refine_speed, "in_own_process", lambda work, **job: work(job))
    options = argparse.Namespace(
        sizes=["Small"],
        tflops=2.0,
        efficiency=0.5,
        ensemble_size=1,
        lights_per_step=1,
        steps=1,
        device="cpu",
        threads=1,
        prior_runtime="torch",
    )
    output = io.StringIO()
    found = time_random(Console(file=output, width=250), options)
    assert taesd == [False, True, False]
    assert list(found) == [
        "DA-V2 Small, SD 1.5, default",
        "DA-V2 Small, SD 1.5 with TAESD, default",
        "DA-V2 Small, SD 1.5, paper",
    ]
    for row, steps in zip(found.values(), (160, 160, 1000), strict=True):
        flops = row["flops"]
        expected = flops["encoder"] + steps * (2 * flops["UNet"] + flops["autoencoder"] + flops["decoder"])
        assert row["evaluations"] == {"UNet": 2 * steps, "autoencoder": steps}
        assert row["keyframe_flops"] == pytest.approx(expected)
        assert row["estimated_gpu_seconds"] == pytest.approx(expected / 1e12)
    assert "an estimate, not a measurement: it assumes 50% of 2 TFLOP/s" in output.getvalue()
