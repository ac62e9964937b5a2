"""Robust Gaussian process over pixels: smooth corrections of ln depth from scattered, partly wrong samples.

The covariance of two pixels falls with their distance in the image, with the difference of the network's
ln disparity, and with the difference of colour. The last two keep corrections from crossing depth edges.
See Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), sections 2.2 and 5.4.2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    "Correction",
    "Features",
    "Samples",
    "Spread",
    "fit_correction",
    "joined",
    "predict_mean",
    "predict_spread",
]

LENGTH = 0.3
"""Correlation length in the image, in diagonals."""
FEATURE_LENGTH, COLOUR_LENGTH = 1.7, 0.4
"""Correlation lengths of ln disparity (in its own standard deviations) and of Lab colour (divided by 100)."""
SLOPE = 0.15
"""Prior standard deviation of a linear trend of the residual, per standard deviation of ln disparity."""
RELATIVE_SLOPE = 0.5
"""The same over the correction's amplitude, at most, where a global scale is known."""
NOISE, SEARCH_NOISE = 0.01, 0.02
"""Noise of ln depth at a sample that the final fit assumes at least, and during the search for outliers."""
SMALLEST_AMPLITUDE = 0.02
"""Prior standard deviation of the correction, at least."""
AMPLITUDES = (0.5, 1.0, 2.0)
"""Factors on the amplitude; the one with the best leave-one-out density is kept."""
ITERATIONS = 4
"""Of expectation and maximisation over outliers."""
OUTLIER_DENSITY = 3.0
"""Factor on the density of outliers, which are uniform in depth: larger rejects more samples."""
VOTE_LENGTH, VOTE_FEATURE_LENGTH = 0.07, 3.3
"""Lengths as above over which 200 samples vote for each other; longer for fewer."""
VOTE_PRIOR = 0.3
"""Support of the median depth that a sample needs for half of a vote; it grows with the depth."""
MEMORY = 1.0
"""Seconds in which the correlation of a correction with itself falls to 1/e."""
FRAME_OFFSET = 0.05
"""Standard deviation of ln depth by which the network's output varies as a whole between two frames."""
BLOCK = 1024
"""Pixels that are predicted at once."""
SURE = 1e-5
"""Smallest weight of a sample."""


@dataclass(frozen=True)
class Features:
    """Coordinates of pixels in the covariance function."""

    place: Tensor
    """(N, 2) row and column, in diagonals of the image."""
    disparity: Tensor
    """(N,) ln disparity, standardised."""
    colour: Tensor
    """(N, 3) Lab colour divided by 100; zeros without an image."""

    def stacked(self) -> tuple[Tensor, Tensor]:
        """Return place / LENGTH (N, 2), and disparity and colour over their lengths (N, 4)."""
        other = torch.cat((self.disparity[:, None] / FEATURE_LENGTH, self.colour / COLOUR_LENGTH), dim=1)
        return self.place / LENGTH, other  # (N, 2), (N, 4)


@dataclass(frozen=True)
class Samples:
    """Measured residuals of ln depth."""

    at: Features
    residual: Tensor
    """(N,) measured ln depth minus the base's ln depth."""
    log_depth: Tensor
    """(N,) measured ln depth."""
    age: Tensor
    """(N,) seconds, 0 for the present frame. Samples of one age are of one frame."""

    def __len__(self) -> int:
        return len(self.residual)

    def chosen(self, places: Tensor) -> Samples:
        """Return some of the samples, by indices or a mask (N,)."""
        at = Features(self.at.place[places], self.at.disparity[places], self.at.colour[places])
        return Samples(at, self.residual[places], self.log_depth[places], self.age[places])


def joined(parts: list[Samples]) -> Samples:
    """Return the samples of several sets as one."""
    at = Features(
        torch.cat([one.at.place for one in parts]),
        torch.cat([one.at.disparity for one in parts]),
        torch.cat([one.at.colour for one in parts]),
    )
    return Samples(
        at,
        torch.cat([one.residual for one in parts]),
        torch.cat([one.log_depth for one in parts]),
        torch.cat([one.age for one in parts]),
    )


@dataclass(frozen=True)
class Correction:
    """Fitted correction of ln depth, to be evaluated anywhere by `predict_correction`."""

    samples: Samples
    weight: Tensor
    """(N,) probability of each sample to be right, [0, 1]."""
    mean: float
    """Value to which the correction returns far from samples."""
    centre: float
    """Mean standardised ln disparity of the samples."""
    level: float
    """Prior standard deviation of the correction's constant part."""
    amplitude: float
    """Prior standard deviation of its varying part."""
    slope: float
    """Prior standard deviation of the trend, per standard deviation of ln disparity."""
    inverse: Tensor
    """(N, N) inverse covariance of the samples."""
    solved: Tensor
    """(N,) inverse covariance times residuals."""
    surprise: Tensor
    """(N,) squared leave-one-out error over its variance; 1 on average where the model holds."""
    evidence: float
    """Log of the leave-one-out density of the samples' ln depth, wrong samples included."""

    @property
    def agreeing(self) -> float:
        """Share of the samples that agree with the correction, [0, 1]."""
        return float(self.weight.mean())


@dataclass(frozen=True)
class Spread:
    """What is known of the error of a correction at M pixels."""

    variance: Tensor
    """(M,) posterior variance of ln depth, if the model holds."""
    surprise: Tensor
    """(M,) squared leave-one-out error over its variance at the samples around; 1 where the model holds."""
    rejected: Tensor
    """(M,) share of the samples around that count as wrong, [0, 1]."""


def correlation(one: Features, other: Features) -> Tensor:
    """Return the Matern 3/2 correlation over places times Gaussians over disparity and colour: (N, M)."""
    (p, u), (q, v) = one.stacked(), other.stacked()
    distance = torch.cdist(p, q, compute_mode="use_mm_for_euclid_dist").mul_(math.sqrt(3.0))  # (N, M)
    # -|u - v|^2 / 2 as one matrix product.
    u2, v2 = u.square().sum(1, keepdim=True), v.square().sum(1, keepdim=True)
    left = torch.cat((u, -0.5 * u2, torch.ones_like(u2)), dim=1)
    right = torch.cat((v, torch.ones_like(v2), -0.5 * v2), dim=1)
    exponent = left @ right.T  # (N, M)
    return exponent.sub_(distance).exp_().mul_(distance.add_(1.0))


def fit_correction(samples: Samples, noise: float, *, centred: bool = False) -> Correction:
    """Fit the correction and find which samples are wrong.

    Votes of neighbouring samples give the first weights. Then expectation and maximisation over a mixture
    of right samples (normal around their leave-one-out prediction) and wrong ones (uniform in depth).

    Args:
        samples: at least one.
        noise: relative standard deviation of the measured depth.
        centred: whether the correction returns to the samples' mean far from them, not to 0.
    """
    residual = samples.residual.double()
    depth = samples.log_depth.double().exp()
    weight = _votes(samples, depth).double()  # (N,)
    mean = float((weight * residual).sum() / weight.sum())
    feature = samples.at.disparity.double()
    centre = float((weight * feature).sum() / weight.sum())
    amplitude = math.sqrt(float((weight * (residual - mean).square()).sum() / weight.sum()))
    amplitude = max(amplitude, SMALLEST_AMPLITUDE)
    level, mean = (amplitude, mean) if centred else (math.hypot(amplitude, mean), 0.0)
    memory = _memory(samples.age)  # (N, N)
    shape = correlation(samples.at, samples.at).double() * memory  # (N, N)
    slope = SLOPE if centred else min(SLOPE, RELATIVE_SLOPE * amplitude)
    trend = level**2 * memory + slope**2 * torch.outer(feature - centre, feature - centre)
    trend += FRAME_OFFSET**2 * (samples.age[:, None] == samples.age[None]) * bool(samples.age.any())
    spread = 1.1 * _quantile(depth, 0.98) - 0.9 * _quantile(depth, 0.02)
    wrong = OUTLIER_DENSITY * depth / max(spread, 1e-6)  # (N,) density over ln depth
    residual, share = residual - mean, 0.7
    search = max(noise, SEARCH_NOISE) ** 2
    for _ in range(ITERATIONS):
        _, error, variance = _leave_one_out(amplitude**2 * shape + trend, search, weight, residual)
        right = torch.exp(-0.5 * error.square() / variance) / (2.0 * math.pi * variance).sqrt()
        weight = share * right / (share * right + (1.0 - share) * wrong)
        share = min(max(float(weight.mean()), 0.3), 0.98)
    own = max(noise, NOISE) ** 2
    best = _best_amplitude(amplitude, shape, trend, own, weight, residual)
    inverse, error, variance = _leave_one_out(best**2 * shape + trend, own, weight, residual)
    surprise = error.square() / variance
    right = torch.exp(-0.5 * surprise) / (2.0 * math.pi * variance).sqrt()
    return Correction(
        samples=samples,
        weight=weight.float(),
        mean=mean,
        centre=centre,
        level=level,
        amplitude=best,
        slope=slope,
        inverse=inverse.float(),
        solved=(inverse @ residual).float(),
        surprise=surprise.float(),
        evidence=float((share * right + (1.0 - share) * wrong).log().sum()),
    )


def _best_amplitude(
    amplitude: float, shape: Tensor, trend: Tensor, noise: float, weight: Tensor, residual: Tensor
) -> float:
    """The one of AMPLITUDES with the largest leave-one-out density of the right samples."""
    best, best_density = amplitude, -math.inf
    for factor in AMPLITUDES:
        covariance = (factor * amplitude) ** 2 * shape + trend
        _, error, variance = _leave_one_out(covariance, noise, weight, residual)
        density = float(
            (weight * (-0.5 * (error.square() / variance).clamp_max(16.0) - 0.5 * variance.log())).sum()
        )
        if density > best_density:
            best, best_density = factor * amplitude, density
    return best


def predict_mean(correction: Correction, at: Features) -> Tensor:
    """Return the correction of ln depth at some pixels of the present frame: (M,)."""
    parts = []
    for start in range(0, len(at.disparity), BLOCK):  # blocks stay in the processor's cache
        some = slice(start, start + BLOCK)
        here = Features(at.place[some], at.disparity[some], at.colour[some])
        near = correlation(here, correction.samples.at)  # (BLOCK, N)
        parts.append(_cross_covariance(correction, here, near) @ correction.solved)
    return torch.cat(parts) + correction.mean


def predict_spread(correction: Correction, at: Features) -> Spread:
    """Return how far the correction may be off at some pixels of the present frame."""
    near = correlation(at, correction.samples.at)  # (M, N)
    kept = near @ torch.stack(
        (correction.weight * correction.surprise, correction.weight, 1.0 - correction.weight), dim=1
    )  # (M, 3)
    surprise = (kept[:, 0] + 1.0) / (kept[:, 1] + 1.0)  # 1 far from all samples
    rejected = kept[:, 2] / (kept[:, 1] + kept[:, 2] + 1e-3)
    cross = _cross_covariance(correction, at, near)
    explained = ((cross @ correction.inverse) * cross).sum(1)
    trend = (correction.slope * (at.disparity - correction.centre)).square()  # (M,)
    prior = trend + correction.amplitude**2 + correction.level**2
    if bool(correction.samples.age.any()):
        prior = prior + FRAME_OFFSET**2
    return Spread((prior - explained).clamp_min(1e-8), surprise, rejected)


def _cross_covariance(correction: Correction, at: Features, near: Tensor) -> Tensor:
    """Prior covariance of pixels of the present frame with the samples: (M, N); overwrites `near`."""
    samples = correction.samples
    cross = near.mul_(correction.amplitude**2).add_(correction.level**2)  # (M, N)
    aged = bool(samples.age.any())
    if aged:
        cross *= torch.exp(-samples.age / MEMORY)
    cross.addr_(
        correction.slope**2 * (at.disparity - correction.centre), samples.at.disparity - correction.centre
    )
    if aged:
        cross += FRAME_OFFSET**2 * (samples.age == 0.0)
    return cross


def _leave_one_out(
    covariance: Tensor, noise: float, weight: Tensor, residual: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Inverse covariance (N, N), noise included; leave-one-out errors (N,) and their variances (N,)."""
    own = noise / weight.clamp_min(SURE)  # (N,)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(covariance + torch.diag(own)))
    precision = inverse.diagonal()
    error = (inverse @ residual) / precision
    return inverse, error, (1.0 / precision - own + noise).clamp_min(noise)


def _votes(samples: Samples, depth: Tensor) -> Tensor:
    """First weight of each sample, (0, 1]: support of its residual among neighbours over the best support."""
    residual, count = samples.residual, len(samples)
    middle = residual.median()
    deviation = 1.4826 * float((residual - middle).abs().median())
    width = min(max(0.2 * deviation, 0.04), 0.25)
    half = min(8.0 * deviation + 0.5, 3.0)
    levels = torch.arange(-half, half + width, width) + middle  # (B,)
    length = VOTE_LENGTH * math.sqrt(200.0 / max(count, 10))
    near = torch.cdist(samples.at.place, samples.at.place) / length
    feature = samples.at.disparity / VOTE_FEATURE_LENGTH
    near = torch.exp(-near - 0.5 * (feature[:, None] - feature[None]).square())  # (N, N)
    near.fill_diagonal_(0.0)
    agree = torch.exp(-0.5 * ((residual[:, None] - residual[None]) / width).square())  # (N, N)
    level = torch.exp(-0.5 * ((residual[:, None] - levels[None]) / width).square())  # (N, B)
    support = (near * agree).sum(1) / ((near @ level).amax(1) + 1e-9)  # (N,)
    # A wrong range is more often long than short where ranges are uniform.
    needed = VOTE_PRIOR * (depth / depth.median()).to(support)
    return (support / (support + needed)).clamp(1e-3, 1.0).square()


def _memory(age: Tensor) -> Tensor:
    """Correlation of a correction with itself between the samples' times: (N, N)."""
    return torch.exp(-(age[:, None] - age[None]).abs() / MEMORY)


def _quantile(values: Tensor, share: float) -> float:
    return float(torch.quantile(values, share))
