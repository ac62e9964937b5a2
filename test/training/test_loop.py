"""Parts that the training scripts share."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from redepth_ros.models.depth_anything import DepthAnything
from training.loop import (
    RunningMean,
    cosine_decay,
    depth_loss,
    log_depth_loss,
    moving_average,
    normalize_affine,
    normalize_image,
    optimizer_step,
    save_depth_network,
)


def test_the_learning_rate_rises_and_falls():
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    scheduler = cosine_decay(optimizer, [100, 200], warm_up=10)
    rates = []
    for _ in range(300):
        optimizer.step()
        rates.append(optimizer.param_groups[0]["lr"])
        scheduler.step()
    assert rates[0] == pytest.approx(0.1, abs=0.01)
    assert max(rates) == pytest.approx(1.0, abs=0.03)
    assert rates[99] < 0.01
    assert rates[-1] < 0.01
    assert np.argmax(rates[:100]) == 9
    assert np.argmax(rates[100:]) == 9


def test_depth_loss_of_a_constant_error_is_that_error():
    truth = torch.rand(2, 32, 32)
    assert depth_loss(truth, truth) == 0.0
    torch.testing.assert_close(depth_loss(truth + 0.5, truth), torch.tensor(0.5))


def test_depth_loss_penalises_wrong_gradients():
    truth = torch.zeros(1, 32, 32)
    wrong = truth.clone()
    wrong[..., ::2] = 0.5
    assert depth_loss(wrong, truth) > depth_loss(truth + wrong.mean(), truth)


def test_depth_loss_ignores_unknown_pixels():
    truth = torch.rand(2, 32, 32)
    predicted = truth + 0.5
    holes = truth.clone()
    holes[:, 8:16, 8:24] = torch.nan
    predicted[:, 8:16, 8:24] = 100.0
    torch.testing.assert_close(depth_loss(predicted, holes), torch.tensor(0.5))


def test_log_depth_loss_ignores_scale_shift_and_unknown_pixels():
    truth = 0.2 + torch.rand(2, 32, 32)
    predicted = 3.0 * truth + 2.0
    holes = truth.clone()
    holes[:, 8:16, 8:24] = torch.nan
    predicted[:, 8:16, 8:24] = 100.0
    assert log_depth_loss(predicted, holes) < 1e-4


def test_log_depth_loss_counts_errors_of_far_pixels_more():
    """The same error of disparity, of a near or of a far pixel."""
    truth = torch.linspace(0.1, 2.0, 1024).reshape(1, 32, 32)
    losses = []
    for pixel in (0, -1):
        wrong = truth.clone()
        wrong.view(-1)[pixel] += 0.05
        losses.append(log_depth_loss(wrong, truth))
    assert losses[0] > 3.0 * losses[1]


def test_log_depth_loss_has_a_gradient_where_the_aligned_disparity_is_negative():
    truth = torch.linspace(0.06, 2.0, 64).reshape(1, 8, 8)
    predicted = truth.clone()
    predicted[0, 0, 0] = -1.0
    predicted.requires_grad_()
    log_depth_loss(predicted, truth).backward()
    assert predicted.grad[0, 0, 0] < 0.0


def test_affine_normalisation_removes_scale_and_shift():
    disparity, valid = torch.rand(2, 16, 16), torch.rand(2, 16, 16) < 0.8
    first, second = normalize_affine(disparity, valid), normalize_affine(3.0 * disparity + 2.0, valid)
    torch.testing.assert_close(first, second)
    assert first[valid].abs().mean() == pytest.approx(0.4, abs=0.02)


def test_an_optimizer_step_clips_the_gradient():
    network = nn.Linear(1, 1, bias=False)
    before = network.weight.item()
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    optimizer_step(1000.0 * network.weight.sum(), network, optimizer, cosine_decay(optimizer, [10], 1))
    assert before - network.weight.item() == pytest.approx(1.0, abs=0.01)


def test_averages_follow_slowly():
    mean = RunningMean()
    for value in (1.0, 2.0):
        mean.add(value)
    assert mean.value == pytest.approx(1.01)
    network = nn.Linear(1, 1, bias=False)
    averaged = moving_average(network)
    averaged.update_parameters(network)
    with torch.no_grad():
        network.weight.add_(1.0)
    averaged.update_parameters(network)
    difference = network.weight - averaged.module.weight
    assert difference.item() == pytest.approx(0.998, abs=1e-4)


def test_a_saved_network_normalises_as_training_does(load_script, tmp_path):
    training = load_script("training/train_relief_depth.py")
    save_depth_network(training.build_network(), training.SIDE, tmp_path)
    network = DepthAnything.load(str(tmp_path), device="cpu")
    image = np.random.default_rng(0).integers(0, 256, (56, 56, 3), np.uint8)
    expected = normalize_image(torch.from_numpy(image).permute(2, 0, 1)[None] / 255.0)
    torch.testing.assert_close(network.preprocess(image), expected, atol=0.02, rtol=0.0)
    assert network.longer_side == training.SIDE
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "depth_anything"
