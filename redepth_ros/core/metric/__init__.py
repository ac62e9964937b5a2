"""Metric depth: anchors, scale and uncertainty."""
