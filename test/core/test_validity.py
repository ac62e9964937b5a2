"""What is wrong with the output of a depth network."""

import pytest
import torch

from redepth_ros.core.errors import ModelError
from redepth_ros.core.validity import check_output, output_problem

VALID, INVALID = torch.ones(2, 2), torch.full((2, 2), torch.nan)


def test_a_finite_output_has_no_problem():
    assert output_problem(VALID, torch.float16) == ""
    check_output(VALID, torch.float16)


def test_the_share_of_the_pixels_is_given():
    half = torch.stack([VALID, INVALID])
    assert "at 50 % of the pixels" in output_problem(half, torch.bfloat16)
    check_output(half, torch.bfloat16)


@pytest.mark.parametrize(
    ("dtype", "remedy"),
    [
        (torch.float16, "overflow in float16: set precision to float32"),
        (torch.float32, "choose another model"),
    ],
)
def test_an_output_without_a_finite_value_is_an_error_with_the_remedy(dtype, remedy):
    for output in (INVALID, torch.full((2, 2), torch.inf)):
        with pytest.raises(ModelError, match=f"at 100 % of the pixels; .*{remedy}"):
            check_output(output, dtype)
