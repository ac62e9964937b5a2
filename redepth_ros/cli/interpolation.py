"""Depth from anchors alone, without a network: the control of every method that uses anchors."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator
from scipy.spatial import QhullError, cKDTree

from redepth_ros.core.metric.anchors import Anchors

__all__ = ["interpolate_anchors"]

NEIGHBOURS = 8
"""Nearest anchors whose median judges an anchor."""
MAX_DEVIATIONS, SMALLEST_LIMIT = 3.0, 0.1
"""An anchor is an outlier if its ln depth differs from that median by more than so many standard
deviations (of all differences, by their median) and by more than the limit."""


def interpolate_anchors(anchors: Anchors, pixels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Interpolate the anchors linearly in ln depth; outside their convex hull the nearest anchor counts.

    Outliers are dropped first. Anchors on one line have no triangles: the nearest one counts everywhere.

    Args:
        anchors: at least one.
        pixels: (N, 2) rows and columns.

    Returns:
        (N,) depth.
    """
    places = np.stack((anchors.rows, anchors.columns), axis=1).astype(np.float64)  # (A, 2)
    logs = np.log(anchors.depth)  # (A,)
    inliers = _find_inliers(places, logs)
    places, logs = places[inliers], logs[inliers]
    found = np.full(len(pixels), np.nan)
    if len(places) > 2:
        with suppress(QhullError):
            found = LinearNDInterpolator(places, logs)(pixels)  # (N,)
    outside = np.isnan(found)
    if outside.any():
        found[outside] = NearestNDInterpolator(places, logs)(pixels[outside])
    return np.exp(found)


def _find_inliers(places: NDArray[np.float64], logs: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which anchors (A,) agree with their neighbours."""
    if len(logs) < 3:
        return np.ones(len(logs), np.bool_)
    _, nearest = cKDTree(places).query(places, min(NEIGHBOURS + 1, len(logs)))  # the first is the anchor
    differences = np.abs(logs - np.median(logs[nearest[:, 1:]], axis=1))  # (A,)
    limit = max(MAX_DEVIATIONS * 1.4826 * float(np.median(differences)), SMALLEST_LIMIT)
    return differences < limit
