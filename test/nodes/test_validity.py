"""What is wrong with depth that has no valid values."""

import pytest
import torch

pytest.importorskip("rclpy")

from redepth_ros.nodes.settings import DepthSettings
from redepth_ros.nodes.validity import depth_problem

VALID, INVALID = torch.ones(2, 2), torch.full((2, 2), torch.nan)


def test_maps_with_valid_pixels_have_no_problem():
    partly = torch.tensor([[1.0, torch.nan], [torch.nan, torch.nan]])
    assert depth_problem(partly, None, DepthSettings()) == ""
    assert depth_problem(partly, partly, DepthSettings()) == ""


def test_depth_without_a_valid_pixel_names_the_limits_that_are_set():
    problem = depth_problem(INVALID, INVALID, DepthSettings(max_relative_gradient=0.1))
    assert "max_depth = 100 m, max_relative_gradient = 0.1;" in problem


def test_a_standard_deviation_without_a_finite_pixel_is_a_problem():
    assert "standard deviation" in depth_problem(VALID, INVALID, DepthSettings())
