"""Random lights: their distributions, and that a seed gives the same ones."""

import pytest
import torch

from redepth_ros.core.errors import ConfigError
from redepth_ros.core.relighting import STYLES, draw_lighting


def draw(style, count=4000, seed=0):
    return draw_lighting(style, count, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("style", STYLES)
def test_lights_stand_before_the_scene_on_every_side(style):
    direction = draw(style).direction
    torch.testing.assert_close(direction.norm(dim=1), torch.ones(4000, 1, 1))
    assert (direction[:, 2] < 0).all()
    spread = (direction / -direction[:, 2:])[:, :2].flatten(1)
    assert spread.abs().max() <= 1.0001
    torch.testing.assert_close(spread.mean(0), torch.zeros(2), rtol=0, atol=0.03)
    torch.testing.assert_close(spread.std(0), torch.full((2,), 3.0**-0.5), rtol=0.05, atol=0)


def test_the_papers_weights_sum_to_one_and_its_exponents_are_whole():
    lighting = draw("paper")
    torch.testing.assert_close(lighting.diffuse + lighting.specular, torch.ones(4000, 1, 1, 1))
    assert set(lighting.shininess.unique().tolist()) == {4.0, 8.0, 16.0, 32.0, 64.0, 128.0}
    assert not lighting.ambient.any()


def test_soft_lights_leave_no_side_black():
    lighting = draw("soft")
    assert lighting.ambient.min() >= 0.05
    assert lighting.ambient.max() <= 0.3
    assert (lighting.diffuse == 1.0).all()
    assert 0.45 < float((lighting.specular > 0).float().mean()) < 0.55


@pytest.mark.parametrize("style", STYLES)
def test_a_seed_draws_the_same_lights(style):
    assert torch.equal(draw(style, 5).direction, draw(style, 5).direction)
    assert not torch.equal(draw(style, 5).direction, draw(style, 5, seed=1).direction)


def test_another_style_is_refused():
    with pytest.raises(ConfigError, match="lighting is 'hard'; it must be one of: paper, soft"):
        draw("hard")
