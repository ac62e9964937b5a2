"""Refinement: test-time optimisation of depth features under a diffusion prior."""
