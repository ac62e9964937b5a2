"""Rendered scenes with exact depth, on which the embedded networks were trained.

`worlds` draws a scene from a seed, `render` turns it into an image, its depth and its normals;
`relief` does both for a surface that fills the image. World frame: REP 103, x and y along the
ground, z up, metres.
"""
