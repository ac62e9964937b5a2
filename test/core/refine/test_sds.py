"""Score distillation against a Gaussian, whose score is known in closed form."""

import pytest
import torch

from redepth_ros.core.errors import ConfigError
from redepth_ros.core.refine.sds import (
    add_noise,
    guide,
    noise_from_prediction,
    sds_gradient,
    sds_loss,
)

MEAN, STDDEV = 1.5, 0.5


def optimal_noise(noised, alpha):
    """Return the best prediction of the noise for signals drawn from N(MEAN, STDDEV^2)."""
    variance = alpha * STDDEV**2 + 1.0 - alpha
    return (1.0 - alpha).sqrt() * (noised - alpha.sqrt() * MEAN) / variance


@pytest.mark.parametrize("alpha", [0.9, 0.5, 0.1])
def test_the_mean_gradient_is_that_of_the_gaussian(alpha):
    generator = torch.Generator().manual_seed(0)
    alpha = torch.tensor(alpha, dtype=torch.float64).reshape(1, 1, 1, 1)
    signal = torch.tensor([0.0, 1.5, 4.0], dtype=torch.float64).reshape(1, 3, 1, 1)
    noise = torch.randn(200_000, 3, 1, 1, generator=generator, dtype=torch.float64)
    noised = add_noise(signal, noise, alpha)
    found = sds_gradient(optimal_noise(noised, alpha), noise).mean(0).flatten()
    slope = ((1.0 - alpha) * alpha).sqrt() / (alpha * STDDEV**2 + 1.0 - alpha)
    expected = (slope * (signal - MEAN)).flatten()
    torch.testing.assert_close(found, expected, rtol=0, atol=0.01)


def test_descent_ends_at_the_most_likely_signal():
    generator = torch.Generator().manual_seed(1)
    signal = torch.full((1, 1, 1, 1), 5.0, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([signal], lr=0.05)
    for _ in range(600):
        alpha = torch.rand(64, 1, 1, 1, generator=generator, dtype=torch.float64) * 0.96 + 0.02
        noise = torch.randn(64, 1, 1, 1, generator=generator, dtype=torch.float64)
        batch = signal.expand(64, 1, 1, 1)
        gradient = sds_gradient(optimal_noise(add_noise(batch, noise, alpha), alpha), noise)
        optimizer.zero_grad()
        sds_loss(batch, gradient.detach()).backward()
        optimizer.step()
    assert signal.item() == pytest.approx(MEAN, abs=0.1)


def test_the_loss_has_the_given_gradient_over_the_number_of_elements():
    signal = torch.randn(2, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    gradient = torch.randn(2, 4, 3, 3, dtype=torch.float64)
    loss = sds_loss(signal, gradient)
    loss.backward()
    torch.testing.assert_close(signal.grad, gradient / gradient.numel())
    torch.testing.assert_close(loss.detach(), 0.5 * gradient.square().mean())


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_every_kind_of_prediction_gives_the_same_noise(kind):
    signal, noise = torch.randn(2, 3, 4, 4).double(), torch.randn(2, 3, 4, 4).double()
    alpha = torch.tensor([0.8, 0.2], dtype=torch.float64).reshape(2, 1, 1, 1)
    predictions = {
        "epsilon": noise,
        "v_prediction": alpha.sqrt() * noise - (1 - alpha).sqrt() * signal,
        "sample": signal,
    }
    noised = add_noise(signal, noise, alpha)
    torch.testing.assert_close(noise_from_prediction(predictions[kind], noised, alpha, kind), noise)


def test_an_unknown_kind_of_prediction_is_rejected():
    zeros = torch.zeros(1, 1, 1, 1)
    with pytest.raises(ConfigError, match="prediction type is 'flow'; it must be one of: epsilon"):
        noise_from_prediction(zeros, zeros, zeros, "flow")


def test_guidance_adds_to_the_conditional_prediction():
    text, empty = torch.tensor(2.0), torch.tensor(0.5)
    assert guide(text, empty, 0.0) == 2.0
    assert guide(text, empty, 50.0) == 2.0 + 50.0 * 1.5


def test_elements_that_are_not_finite_have_no_gradient():
    predicted = torch.tensor([1.0, float("nan"), float("inf")])
    assert sds_gradient(predicted, torch.zeros(3), 2.0).tolist() == [2.0, 0.0, 0.0]
