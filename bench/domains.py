"""Held-out rendered images with true depth, the networks that estimate it, and the errors of an estimate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from redepth_ros.core.camera import OrthographicCamera, PinholeCamera
from redepth_ros.core.metrics import align_depth, depth_errors
from redepth_ros.core.refine.settings import RefineSettings
from redepth_ros.core.refine.trust_region import TrustRegion
from redepth_ros.models.depth_anything import DepthAnything
from redepth_ros.models.diffusion import DiffusionPrior
from training.scenes.relief import sample_relief
from training.scenes.render import Rendering, render
from training.scenes.textures import atlas
from training.scenes.worlds import sample_scene

DEPTH_NETWORK = Path(__file__).parent / "relief_depth"
TEST_SEED = 50_000_000
TEST_ATLAS = 1
"""Seed of the textures: training uses 0, tuning 2."""
FAR = 80.0
"""Metres; what is farther does not count."""

Drawn = tuple[Rendering, PinholeCamera | None]
"""A rendering and its camera; None has parallel rays."""


@dataclass(frozen=True)
class Domain:
    """Images of one kind, and the depth network to refine on them."""

    network: str
    """Name or folder of the depth network."""
    shift: float
    """The depth network was trained so that its disparity plus this is proportional to inverse depth."""
    draw: Callable[[int, int], Drawn]
    """Renders a seed with the textures of another seed."""


def draw_relief(seed: int, texture_seed: int) -> Drawn:
    """Render a surface that fills the image, 56 x 56 pixels."""
    return sample_relief(seed, atlas(texture_seed)), None


def draw_scene(seed: int, texture_seed: int) -> Drawn:
    """Render a room, a street, a table top or open ground, 240 x 180 pixels."""
    textures = atlas(texture_seed)
    found = sample_scene(seed, len(textures[0]), 240, 180)
    return render(found, textures), found.camera


DOMAINS = {
    "reliefs": Domain(str(DEPTH_NETWORK), 0.1, draw_relief),
    "scenes": Domain("tiny", 0.0, draw_scene),
}


@lru_cache(maxsize=128)
def draw(domain: str, seed: int, texture_seed: int) -> Drawn:
    """Render a seed of a domain with the textures of another seed."""
    return DOMAINS[domain].draw(seed, texture_seed)


@lru_cache(maxsize=2)
def load_networks(domain: str, prior: str) -> tuple[DepthAnything, DiffusionPrior, DiffusionPrior]:
    """Return the depth network of a domain, the prior, and a randomly initialised copy of the prior."""
    torch.set_num_threads(1)
    network = DepthAnything.load(DOMAINS[domain].network, device="cpu")
    trained, random = DiffusionPrior.load(prior, device="cpu"), DiffusionPrior.load(prior, device="cpu")
    torch.manual_seed(0)
    random.unet = UNet2DConditionModel.from_config(random.unet.config).eval().requires_grad_(False)
    return network, trained, random


def visible(depth: np.ndarray) -> np.ndarray:
    """Return which pixels of a true depth count."""
    return np.isfinite(depth) & (depth > 0.0) & (depth < FAR)


def best_plane(values: np.ndarray) -> np.ndarray:
    """Return the least-squares plane of values (h, w), NaN where they do not count."""
    rows, columns = np.mgrid[0 : values.shape[0], 0 : values.shape[1]]
    design = np.stack([rows.ravel(), columns.ravel(), np.ones(values.size)], axis=1)
    known = np.isfinite(values.ravel())
    solution = np.linalg.lstsq(design[known], values.ravel()[known], rcond=None)[0]
    return (design @ solution).reshape(values.shape)


def measure(disparity: Tensor | np.ndarray, depth: Tensor, camera: PinholeCamera | None) -> dict[str, float]:
    """Return errors of a disparity (h, w) whose scale and shift are fitted to the true depth (h, w)."""
    truth = depth.numpy().astype(np.float64)
    counted = visible(truth)
    aligned = np.full(truth.shape, np.nan)
    aligned[counted] = align_depth(np.asarray(disparity, np.float64)[counted], truth[counted])
    truth = np.where(counted, truth, np.nan)
    errors = depth_errors(aligned[counted], truth[counted])
    ratio = np.maximum(aligned / truth, truth / aligned)[counted]
    relief = np.abs((aligned - best_plane(aligned)) - (truth - best_plane(truth))) / truth
    maps = torch.from_numpy(np.stack([aligned, truth]).astype(np.float32))
    normals = (camera or OrthographicCamera()).normals(maps)  # (2, 3, h, w)
    cosine = (normals[0] * normals[1]).sum(0).clamp(-1.0, 1.0)
    return {
        "abs_rel": errors["abs_rel"],
        "relief_abs_rel": float(np.nanmean(relief)),
        "rmse": errors["rmse"],
        "delta_1_05": float((ratio < 1.05).mean()),
        "delta_1_25": errors["delta1"],
        "normal_angle": float(torch.rad2deg(torch.acos(cosine)).nanmean()),
    }


def bound(fast: Tensor, depth: Tensor, shift: float, settings: RefineSettings) -> Tensor:
    """Return the fast disparity (h, w) without the errors that the trust region does not limit.

    The scale between disparity and inverse depth is the ratio of their means. A least-squares fit would
    take errors of the disparity for a smaller scale.
    """
    counted = torch.from_numpy(visible(depth.numpy()))
    inverse = torch.where(counted, 1.0 / depth, 0.0)  # (h, w)
    scale = (fast[counted] + shift).mean() / inverse[counted].mean()
    error = torch.where(counted, scale * inverse - (fast + shift), 0.0)[None]  # (1, h, w)
    sigma = (settings.trust_region_radius or 0.125) * min(depth.shape)
    return fast + (error - TrustRegion(error, sigma, 0.0).average(error))[0]
