"""Adapters to networks of transformers and diffusers."""
