"""The objective of Re-Depth Anything, and one optimisation step.

Source: Bhattarai and Rhodin, Re-Depth Anything, arXiv 2512.17908, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from redepth_ros.core.camera import Camera
from redepth_ros.core.metric.anchors import Anchors
from redepth_ros.core.metric.scale import Scale, disparity_from_output
from redepth_ros.core.refine.ensemble import Ensemble
from redepth_ros.core.refine.guidance import SdsGuidance, SdsSamples
from redepth_ros.core.refine.losses import anchor_loss, laplacian_smoothness, normalize_range
from redepth_ros.core.refine.parametrization import DepthParametrization
from redepth_ros.core.refine.settings import RefineSettings
from redepth_ros.core.refine.trust_region import TrustRegion

__all__ = ["Losses", "Objective"]


@dataclass(frozen=True)
class Losses:
    """Losses of one step, means over lights and members."""

    sds: float
    smoothness: float
    anchors: float
    """0 without anchors."""
    total: float
    """Weighted sum."""


@dataclass(frozen=True)
class Objective:
    """The loss of one image as a function of the members' embeddings E, decoder phi and offset d."""

    guidance: SdsGuidance
    parametrization: DepthParametrization
    camera: Camera
    trust_region: TrustRegion | None
    anchors: Anchors | None
    scale: Scale | None
    """Relates the network's output to the anchors' metres."""
    log_correction: Tensor | None
    """(h, w) correction of ln depth by the anchors, see `metric.fusion`; constant during the optimisation."""
    settings: RefineSettings

    def step(self, ensemble: Ensemble, samples: SdsSamples) -> tuple[Tensor, Losses]:
        """Do one step; return the depths (M, h, w) before it, and the losses."""
        weights = self.settings
        D, z = self._decode(ensemble)  # (M, h, w) each  # noqa: N806
        n = self.camera.normals(z)  # (M, 3, h, w)

        smoothness = laplacian_smoothness(normalize_range(D))
        anchors = self._anchor_loss(z)
        loss = weights.smoothness_weight * smoothness + weights.anchor_weight * anchors
        sds = 0.0
        if weights.sds_weight:
            gradient, sds = self.guidance.gradient(n, self.camera.view(n.device), samples)
            # SDS has a gradient, but no loss to differentiate: this scalar has the same gradient.
            loss = loss + weights.sds_weight * (gradient.detach() * n).sum()
        ensemble.descend(loss)

        values = (sds, float(smoothness.detach()), float(anchors.detach()))
        factors = (weights.sds_weight, weights.smoothness_weight, weights.anchor_weight)
        total = sum(factor * value for factor, value in zip(factors, values, strict=True))
        return z.detach(), Losses(*values, total)

    @torch.no_grad()
    def depth(self, ensemble: Ensemble) -> Tensor:
        """Return the depths of the members as they are now: (M, h, w)."""
        return self._decode(ensemble)[1]

    def _decode(self, ensemble: Ensemble) -> tuple[Tensor, Tensor]:
        """Return D = phi(E) within the trust region and z = (s + tanh d) / (D + m): (M, h, w) each."""
        D = ensemble.decode()  # noqa: N806
        if self.trust_region:
            D = self.trust_region.bound(D)  # noqa: N806
        return D, self.parametrization.depth(D, ensemble.scale_offset)

    @torch.no_grad()
    def prior_loss(self, depth: Tensor, samples: SdsSamples) -> float:
        """Return the SDS loss of a depth (1, h, w)."""
        return self.guidance.loss(self.camera.normals(depth), self.camera.view(depth.device), samples)

    def _anchor_loss(self, depth: Tensor) -> Tensor:
        if self.anchors is None or self.scale is None:
            return depth.new_zeros(())
        # Of the output that the result will have, which contains the scale offset.
        output = self.parametrization.output(depth)
        disparity = disparity_from_output(output, self.parametrization.metric)
        metres = self.scale.depth(disparity)  # (M, h, w)
        if self.log_correction is not None:
            metres = metres * self.log_correction.exp()
        return anchor_loss(metres, self.anchors)
