"""Networks that several modules share; tests leave them unchanged."""

from pathlib import Path

import pytest
from huggingface_hub import constants

from redepth_ros.models.depth_anything import DepthAnything
from redepth_ros.models.diffusion import DiffusionPrior
from redepth_ros.models.engine import Engine

DATA = Path(__file__).parent / "data"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def tiny_depth():
    """The embedded depth network."""
    return DepthAnything.load("tiny", device="cpu")


@pytest.fixture(scope="session")
def tiny_prior():
    """The embedded prior, which is light-conditioned."""
    return DiffusionPrior.load("tiny", device="cpu", precision="float32")


@pytest.fixture(scope="session")
def tiny_sd():
    """A text-to-image prior with small random weights."""
    return DiffusionPrior.load(str(DATA / "tiny-sd"), device="cpu", precision="float32")


@pytest.fixture(scope="session")
def relief_engine(tiny_prior):
    """The network of reliefs that the benches use, with the embedded prior."""
    return Engine(DepthAnything.load(str(ROOT / "bench" / "relief_depth"), device="cpu"), tiny_prior)


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """The hub can't be reached; returns the folder of an empty cache."""
    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    return cache
