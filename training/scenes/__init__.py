"""Rendered scenes with exact depth: what the embedded networks learn from.

`worlds` draws a scene from a seed, `render` turns it into a picture, its depth and its
normals. World frame: REP 103, x and y along the ground, z up, metres.
"""
