"""Robust Gaussian process over pixels: smooth corrections of ln depth from scattered, partly wrong samples.

The covariance of two pixels falls with their distance in the image, with the difference of the network's
ln disparity, and with the difference of color. The last two keep corrections from crossing depth edges.
See Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), sections 2.2 and 5.4.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from redepth_ros.core.metric.outlier_votes import initial_weights
from redepth_ros.core.metric.samples import Features, Samples

__all__ = ["Correction", "Spread", "correlation", "fit_correction", "predict_means", "predict_spread"]

POSITION_LENGTH = 0.3
"""Correlation length in the image, in diagonals."""
DISPARITY_LENGTH, COLOR_LENGTH = 1.7, 0.4
"""Correlation lengths of standardised ln disparity, and of Lab color divided by 100."""
MAX_SLOPE = 0.15
"""Prior standard deviation of a linear trend of the residual, per standard deviation of ln disparity."""
MAX_RELATIVE_SLOPE = 0.5
"""The same divided by the correction's amplitude, for a correction that returns to 0."""
MIN_NOISE, MIN_SEARCH_NOISE = 0.01, 0.02
"""Noise of ln depth at a sample: least values in the final fit, and in the search for wrong samples."""
MIN_AMPLITUDE = 0.02
"""Least prior standard deviation of the correction."""
AMPLITUDE_FACTORS = (0.5, 1.0, 2.0)
"""Factors on the first amplitude; the best leave-one-out density decides."""
MAX_SINGLE_LEVEL = 0.5
"""Level up to which the search for wrong samples takes float32: beyond, rounding exceeds the noise."""
ITERATIONS = 4
"""Iterations of expectation and maximisation."""
OUTLIER_DENSITY = 3.0
"""Factor on the density of wrong samples, which are uniform in depth. A larger one rejects more samples."""
FIRST_SHARE, MIN_SHARE, MAX_SHARE = 0.7, 0.3, 0.98
"""Share of the right samples: first value, and limits."""
MIN_WEIGHT = 1e-5
"""Least weight of a sample, so that its noise stays finite."""
MAX_SURPRISE = 16.0
"""Limit of a squared, standardised error in the choice of the amplitude."""
MEMORY = 1.0
"""Seconds in which the correlation of a correction with itself falls to 1/e."""
FRAME_OFFSET = 0.05
"""Standard deviation of ln depth by which the network's output varies as a whole between two frames."""
PRIOR_WEIGHT = 0.3
"""Weight of the mean error of all samples in the error nearby."""
BLOCK = 512
"""Pixels that are predicted at once, so that they stay in the processor's cache."""


@dataclass(frozen=True)
class Correction:
    """Fitted correction of ln depth; `predict_means` and `predict_spread` evaluate it."""

    samples: Samples
    weight: Tensor
    """(N,) probability that a sample is right, [0, 1]."""
    mean: float
    """Value to which the correction returns far from samples."""
    center: float
    """Mean standardised ln disparity of the samples."""
    level: float
    """Prior standard deviation of the correction's constant part."""
    amplitude: float
    """Prior standard deviation of its varying part."""
    slope: float
    """Prior standard deviation of its trend, per standard deviation of ln disparity."""
    inverse: Tensor
    """(N, N) inverse covariance of the samples, noise included."""
    coefficients: Tensor
    """(N,) inverse covariance times residuals."""
    squared_error: Tensor
    """(N,) squared leave-one-out error of ln depth."""
    evidence: float
    """Log of the leave-one-out density of the samples' ln depth, wrong samples included."""

    @property
    def agreeing(self) -> float:
        """Share of the samples that agree with the correction, [0, 1]."""
        return float(self.weight.mean())


@dataclass(frozen=True)
class Spread:
    """Error of a correction at M pixels, as far as the samples tell."""

    variance: Tensor
    """(M,) posterior variance of ln depth, if the model holds."""
    error: Tensor
    """(M,) mean squared leave-one-out error of the right samples nearby."""
    rejected: Tensor
    """(M,) share of the samples nearby that count as wrong, [0, 1]."""
    distance: Tensor
    """(M,) 1 minus the correlation with the nearest sample, [0, 1]."""


@dataclass(frozen=True)
class LeaveOneOut:
    """Predictions of each sample from all others."""

    inverse: Tensor
    """(N, N) inverse covariance, noise included."""
    error: Tensor
    """(N,) sample minus its prediction."""
    variance: Tensor
    """(N,) variance of that error for a right sample."""

    def density(self) -> Tensor:
        """Return the normal density of the errors: (N,)."""
        normal = torch.exp(-0.5 * self.error.square() / self.variance)
        return normal / (2.0 * math.pi * self.variance).sqrt()

    def score(self, weight: Tensor) -> float:
        """Return the log density of the right samples, errors limited."""
        surprise = (self.error.square() / self.variance).clamp_max(MAX_SURPRISE)
        return -0.5 * float((weight * (surprise + self.variance.log())).sum())


def correlation(first: Features, second: Features) -> Tensor:
    """Return the Matern 3/2 correlation over positions times Gaussians over disparity and color: (N, M)."""
    scaled = math.sqrt(3.0) / POSITION_LENGTH
    distance = torch.cdist(
        first.position * scaled, second.position * scaled, compute_mode="use_mm_for_euclid_dist"
    )  # (N, M)
    u, v = (
        torch.cat((one.disparity[:, None] / DISPARITY_LENGTH, one.color / COLOR_LENGTH), dim=1)
        for one in (first, second)
    )  # (N, 4), (M, 4)
    # -|u - v|^2 / 2 as one matrix product
    u_square, v_square = (0.5 * one.square().sum(1, keepdim=True) for one in (u, v))
    left = torch.cat((u, -u_square, torch.ones_like(u_square)), dim=1)
    right = torch.cat((v, torch.ones_like(v_square), -v_square), dim=1)
    exponent = left @ right.T  # (N, M)
    return exponent.sub_(distance).exp_().mul_(distance.add_(1.0))


@dataclass(frozen=True)
class Prior:
    """Prior of a correction, from first weights of its samples."""

    mean: float
    center: float
    level: float
    amplitude: float
    slope: float
    """See `Correction`."""
    varying: Tensor
    """(N, N) covariance of the varying part, divided by the squared amplitude; float64."""
    smooth: Tensor
    """(N, N) covariance of level, trend and frame offsets; float64."""

    @classmethod
    def from_weights(cls, samples: Samples, weight: Tensor, centered: bool) -> Prior:
        """Estimate the prior from samples and their weights (N,), float64."""
        weight = weight / weight.sum()
        residual, feature = samples.residual.double(), samples.features.disparity.double()
        mean, center = float(weight @ residual), float(weight @ feature)
        amplitude = max(math.sqrt(float(weight @ (residual - mean).square())), MIN_AMPLITUDE)
        level, slope = amplitude, MAX_SLOPE
        if not centered:
            level, mean = math.hypot(amplitude, mean), 0.0
            slope = min(MAX_SLOPE, MAX_RELATIVE_SLOPE * amplitude)
        varying = correlation(samples.features, samples.features).double()  # (N, N)
        smooth = slope**2 * torch.outer(feature - center, feature - center) + level**2
        if samples.aged:
            memory = torch.exp(-(samples.age[:, None] - samples.age[None]).abs() / MEMORY)
            same_frame = samples.age[:, None] == samples.age[None]
            varying *= memory
            smooth += level**2 * (memory - 1.0) + FRAME_OFFSET**2 * same_frame
        return cls(mean, center, level, amplitude, slope, varying, smooth)


def fit_correction(samples: Samples, noise: float, *, centered: bool = False) -> Correction:
    """Fit the correction and find the wrong samples.

    Votes of neighbouring samples give the first weights. Then expectation and maximisation over a mixture
    of right samples (normal around their leave-one-out prediction) and wrong ones (uniform in depth).

    Args:
        samples: at least one.
        noise: relative standard deviation of the measured depth.
        centered: whether the correction returns to the samples' mean far from them, not to 0.
    """
    weight = initial_weights(samples).double()  # (N,)
    prior = Prior.from_weights(samples, weight, centered)
    residual = samples.residual.double() - prior.mean
    wrong = _outlier_density(samples)  # (N,)
    share, search_noise = FIRST_SHARE, max(noise, MIN_SEARCH_NOISE) ** 2
    dtype = torch.float32 if prior.level < MAX_SINGLE_LEVEL else torch.float64
    covariance = (prior.amplitude**2 * prior.varying + prior.smooth).to(dtype)
    for _ in range(ITERATIONS):
        sample_noise = (search_noise / weight).to(dtype)
        left_out = leave_one_out(covariance, sample_noise, residual.to(dtype), search_noise)
        right = share * left_out.density()
        weight = (right / (right + (1.0 - share) * wrong)).clamp_min(MIN_WEIGHT)  # float64
        share = min(max(float(weight.mean()), MIN_SHARE), MAX_SHARE)
    own_noise = max(noise, MIN_NOISE) ** 2
    fits = []
    for factor in AMPLITUDE_FACTORS:
        amplitude = factor * prior.amplitude
        covariance = amplitude**2 * prior.varying + prior.smooth
        fits.append((amplitude, leave_one_out(covariance, own_noise / weight, residual, own_noise)))
    amplitude, best = max(fits, key=lambda fit: fit[1].score(weight))
    return Correction(
        samples=samples,
        weight=weight.float(),
        mean=prior.mean,
        center=prior.center,
        level=prior.level,
        amplitude=amplitude,
        slope=prior.slope,
        inverse=best.inverse.float(),
        coefficients=(best.inverse @ residual).float(),
        squared_error=best.error.square().float(),
        evidence=float((share * best.density() + (1.0 - share) * wrong).log().sum()),
    )


def _outlier_density(samples: Samples) -> Tensor:
    """Return the density of wrong samples over ln depth, uniform in depth: (N,) float64."""
    depth = samples.log_depth.double().exp()
    ordered = depth.sort().values
    low, high = (float(ordered[round(share * (len(depth) - 1))]) for share in (0.02, 0.98))
    return OUTLIER_DENSITY * depth / max(1.1 * high - 0.9 * low, 1e-6)


def leave_one_out(covariance: Tensor, sample_noise: Tensor, residual: Tensor, noise: float) -> LeaveOneOut:
    """Predict each sample from all others.

    Args:
        covariance: (N, N) prior, without noise.
        sample_noise: (N,) variance of the noise, larger for a doubtful sample.
        residual: (N,).
        noise: variance of the noise of a right sample.
    """
    total = covariance.clone()
    total.diagonal().add_(sample_noise)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(total))  # (N, N)
    precision = inverse.diagonal()
    variance = (1.0 / precision - sample_noise + noise).clamp_min(noise)
    return LeaveOneOut(inverse, (inverse @ residual) / precision, variance)


def predict_means(corrections: Sequence[Correction], features: Features) -> Tensor:
    """Return corrections of ln depth at M pixels of the present frame: (K, M).

    All corrections must have samples of the same features: the correlations are computed once.
    """
    samples = corrections[0].samples
    memory = torch.exp(-samples.age / MEMORY)  # (N,)
    varying = torch.stack(
        [one.amplitude**2 * memory * one.coefficients for one in corrections], dim=1
    )  # (N, K)
    blocks = []
    for start in range(0, len(features.disparity), BLOCK):
        block = features.select(slice(start, start + BLOCK))
        blocks.append(correlation(block, samples.features) @ varying)
    means = torch.cat(blocks).T  # (K, M)
    for index, one in enumerate(corrections):
        offset = one.mean + one.level**2 * float(memory @ one.coefficients)
        if samples.aged:
            offset += FRAME_OFFSET**2 * float(one.coefficients[samples.age == 0.0].sum())
        trend = one.slope**2 * float((samples.features.disparity - one.center) @ one.coefficients)
        means[index] += offset + trend * (features.disparity - one.center)
    return means


def predict_spread(correction: Correction, features: Features) -> Spread:
    """Return how far the correction may be off at M pixels of the present frame."""
    samples = correction.samples
    near = correlation(features, samples.features)  # (M, N)
    right = correction.weight
    mean_error = (right * correction.squared_error).sum() / right.sum()
    vicinity = near.square().square_().square_()  # only the nearest samples
    sums = vicinity @ torch.stack((right * correction.squared_error, right, 1.0 - right), dim=1)  # (M, 3)
    error = (sums[:, 0] + PRIOR_WEIGHT * mean_error) / (sums[:, 1] + PRIOR_WEIGHT)
    rejected = sums[:, 2] / (sums[:, 1] + sums[:, 2] + 1e-3)
    distance = 1.0 - near.amax(1)
    cross = near.mul_(correction.amplitude**2).add_(correction.level**2)  # (M, N) prior covariance
    if samples.aged:
        cross *= torch.exp(-samples.age / MEMORY)
    feature = features.disparity - correction.center  # (M,)
    cross.addr_(correction.slope**2 * feature, samples.features.disparity - correction.center)
    if samples.aged:
        cross += FRAME_OFFSET**2 * (samples.age == 0.0)
    explained = ((cross @ correction.inverse) * cross).sum(1)  # (M,)
    prior = (correction.slope * feature).square() + correction.amplitude**2 + correction.level**2
    if samples.aged:
        prior += FRAME_OFFSET**2
    return Spread((prior - explained).clamp_min(1e-8), error, rejected, distance)
