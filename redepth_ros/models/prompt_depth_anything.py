"""Prompt Depth Anything of transformers: a depth network whose prompt is measured depth."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from redepth_ros.core.errors import AnchorError
from redepth_ros.core.metric.anchors import Anchors, anchors_from_depth
from redepth_ros.core.refine.networks import Embeddings
from redepth_ros.models.depth_anything import DepthAnything

__all__ = ["PromptDepthAnything", "takes_prompt", "with_prompt"]

PROMPT_SIDE = 64
"""Longer side of a prompt, pixels: as dense as the largest number of anchors of one image."""
NEIGHBOURS = 4
"""Nearest anchors of which a pixel of the prompt is a mean, weighted by the inverse distance."""
COMPARED = 8
"""Nearest anchors whose median judges an anchor."""
MAX_DEVIATIONS, SMALLEST_LIMIT = 3.0, 0.1
"""An anchor is an outlier if its ln depth differs from that median by more than so many standard
deviations (of all differences, by their median) and by more than the limit."""
MIN_RATIO = 1.001
"""Farthest by nearest depth of a prompt, at least: the network sees depth between these two."""
MIN_OUTPUT = 1e-4
"""Least relative depth without a prompt, whose inverse is the disparity."""


@dataclass(frozen=True)
class _Prompt:
    depth: Tensor
    """(1, 1, rows, columns): 0 is `near`, 1 is `far`."""
    near: float
    far: float
    """Metres."""


class PromptDepthAnything(DepthAnything):
    """A Prompt Depth Anything network.

    With a prompt, `with_prompt`, it predicts metres. Without one it predicts relative depth, as transformers
    documents it, and `decode` returns the inverse: a disparity without a unit. The authors trained it with
    prompts only.
    """

    model_type = "prompt_depth_anything"
    default_longer_side = 756
    exportable = False
    scale_source = "prompt"
    _prompt: _Prompt | None = None

    @property
    def metric(self) -> bool:
        """Whether it has a prompt."""
        return self._prompt is not None

    def with_prompt(self, anchors: Anchors) -> PromptDepthAnything:
        """Return the network for one image, with measured depth of that image as its prompt.

        Raises:
            AnchorError: there are no anchors, or all have the same depth.
        """
        other = copy.copy(self)
        other._prompt = _make_prompt(anchors, self.device)
        return other

    def decode(self, embeddings: Embeddings) -> Tensor:
        """Return depth in metres with a prompt, otherwise relative disparity: (B, h, w) float32."""
        (rows, columns), prompt = embeddings.grid, self._prompt
        tokens = embeddings.tokens()
        if prompt is None:
            relative = self.network.head(self.network.neck(tokens, rows, columns), rows, columns)
            disparity: Tensor = 1.0 / relative.clamp_min(MIN_OUTPUT)
            return disparity
        depth = prompt.depth.expand(len(tokens[0]), -1, -1, -1)
        fused = self.network.neck(tokens, rows, columns, prompt_depth=depth)
        metres: Tensor = prompt.near + (prompt.far - prompt.near) * self.network.head(fused, rows, columns)
        return metres


def takes_prompt(network: object) -> bool:
    """Return whether a network predicts metres with a prompt only."""
    return isinstance(network, PromptDepthAnything)


def with_prompt(network: DepthAnything, anchors: Anchors | None) -> DepthAnything:
    """Return a network with a prompt; the network itself if it takes none, or if there are no anchors.

    Raises:
        AnchorError: see `PromptDepthAnything.with_prompt`.
    """
    if anchors is None or not isinstance(network, PromptDepthAnything):
        return network
    return network.with_prompt(anchors)


def _make_prompt(anchors: Anchors, device: torch.device) -> _Prompt:
    """Return the prompt of sparse anchors: without outliers, interpolated, normalised."""
    anchors = anchors_from_depth(anchors.to_depth())  # at most so many
    height, width = anchors.height, anchors.width
    places = torch.stack(
        (torch.from_numpy(anchors.rows) + 0.5, torch.from_numpy(anchors.columns) + 0.5), dim=1
    ).to(device, torch.float32)  # (N, 2)
    logs = torch.from_numpy(anchors.depth).to(device, torch.float32).log()  # (N,)
    inliers = _find_inliers(places, logs)
    places, depth = places[inliers], logs[inliers].exp()
    scale = min(1.0, PROMPT_SIDE / max(height, width))
    rows, columns = max(1, round(scale * height)), max(1, round(scale * width))
    v = (torch.arange(rows, device=device) + 0.5) * (height / rows)
    u = (torch.arange(columns, device=device) + 0.5) * (width / columns)
    pixels = torch.cartesian_prod(v, u).reshape(-1, 2)  # (rows * columns, 2)
    distances, nearest = torch.cdist(pixels, places).topk(min(NEIGHBOURS, len(places)), largest=False)
    weights = 1.0 / (distances + 0.5)
    dense = (weights * depth[nearest]).sum(1) / weights.sum(1)
    near, far = float(dense.min()), float(dense.max())
    if far < MIN_RATIO * near:
        raise AnchorError(
            f"all of the anchors' depth is {near:.4g} m: a prompt needs different depths; use anchors of "
            "more of the image, or another model"
        )
    return _Prompt(((dense - near) / (far - near)).reshape(1, 1, rows, columns), near, far)


def _find_inliers(places: Tensor, logs: Tensor) -> Tensor:
    """Return which anchors (N,) agree with their neighbours."""
    if len(logs) < 3:
        return torch.ones_like(logs, dtype=torch.bool)
    nearest = torch.cdist(places, places).topk(min(COMPARED + 1, len(logs)), largest=False).indices
    # This median is the lower one of the two middle values: wrong ranges are long more often than short.
    differences = (logs - logs[nearest[:, 1:]].median(dim=1).values).abs()  # (N,)
    limit = max(MAX_DEVIATIONS * 1.4826 * float(differences.median()), SMALLEST_LIMIT)
    return differences < limit
