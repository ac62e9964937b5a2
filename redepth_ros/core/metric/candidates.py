"""Candidate models of ln depth, averaged by how well they predict samples that were left out.

- "network": depth of the global scale plus a correction.
- "constant": a constant plus a correction; the network's disparity still guides the correction.
- "plain": the same without the network and the image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from redepth_ros.core.metric.residual_gp import (
    Correction,
    Spread,
    fit_correction,
    predict_means,
    predict_spread,
)
from redepth_ros.core.metric.samples import Features, Samples

__all__ = ["Base", "Candidate", "fit_candidates", "predict_candidates", "predict_spread_average"]

Base = Literal["network", "constant", "plain"]

MIN_DOUBT = 0.15
"""Amplitude of the network's correction divided by the standard deviation of the samples' ln depth, above
which the other candidates are tried."""
MIN_COVERAGE = 0.3
"""Standard deviation of ln disparity at the samples divided by that of the image, below which the samples
show too little of the image to judge the network."""
MAX_AGREEING = 0.75
"""Share of agreeing samples below which the plain candidate is tried: its samples vote without features."""
PLAIN_PENALTY = 10.0
"""Subtracted from the evidence of the plain candidate, nats."""
TEMPERATURE = 0.3
"""Differences of the evidence are divided by TEMPERATURE * sqrt(N): left-out errors are not independent."""
MIN_SHARE = 0.05
"""Share below which a candidate is dropped."""


@dataclass(frozen=True)
class Candidate:
    """One model of ln depth and its share in the average."""

    base: Base
    correction: Correction
    share: float
    """[0, 1]; the shares of all candidates sum to 1."""


def fit_candidates(samples: Samples, noise: float, *, network: bool) -> list[Candidate]:
    """Fit the candidates and their shares, at least one.

    Args:
        samples: at least one; their residuals are those of the network's base where there is one.
        noise: relative standard deviation of the measured depth.
        network: whether there is a global scale, and so a base of the network.
    """
    found: list[tuple[Base, Correction, float]] = []
    if network:
        correction = fit_correction(samples, noise)
        found.append(("network", correction, correction.evidence))
        spread = float(samples.log_depth.std()) if len(samples) > 1 else 0.0
        coverage = float(samples.features.disparity.std()) if len(samples) > 1 else 0.0
        if correction.amplitude <= MIN_DOUBT * spread or coverage <= MIN_COVERAGE:
            return [Candidate("network", correction, 1.0)]
    measured = replace(samples, residual=samples.log_depth)
    correction = fit_correction(measured, noise, centered=True)
    found.append(("constant", correction, correction.evidence))
    if max(one.agreeing for _, one, _ in found) < MAX_AGREEING:
        correction = fit_correction(measured.position_only(), noise, centered=True)
        found.append(("plain", correction, correction.evidence - PLAIN_PENALTY))
    best = max(evidence for _, _, evidence in found)
    temperature = TEMPERATURE * math.sqrt(len(samples))
    shares = [math.exp((evidence - best) / temperature) for _, _, evidence in found]
    kept = [share if share >= MIN_SHARE * sum(shares) else 0.0 for share in shares]
    return [
        Candidate(base, one, share / sum(kept))
        for (base, one, _), share in zip(found, kept, strict=True)
        if share
    ]


def predict_candidates(candidates: Sequence[Candidate], features: Features) -> Tensor:
    """Return each candidate's ln depth at M pixels, without the base's: (K, M)."""
    guided = [one.correction for one in candidates if one.base != "plain"]
    means = list(predict_means(guided, features)) if guided else []
    for index, one in enumerate(candidates):
        if one.base == "plain":
            means.insert(index, predict_means([one.correction], features.position_only())[0])
    return torch.stack(means)


def predict_spread_average(candidates: Sequence[Candidate], features: Features) -> Spread:
    """Return the average of the candidates' spreads at M pixels, without their disagreement."""
    spreads = [
        predict_spread(one.correction, features.position_only() if one.base == "plain" else features)
        for one in candidates
    ]

    def average(values: list[Tensor]) -> Tensor:
        return sum((one.share * value for one, value in zip(candidates, values, strict=True)), torch.zeros(1))

    return Spread(
        average([one.variance for one in spreads]),
        average([one.error for one in spreads]),
        average([one.rejected for one in spreads]),
        average([one.distance for one in spreads]),
    )
