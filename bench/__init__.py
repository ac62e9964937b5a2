"""Measurements of accuracy and speed; `./dev bench` lists them."""
