"""One optimisation step: the losses, their weights, and the gradient that reaches the output."""

import dataclasses

import numpy as np
import pytest
import torch
from fakes_core import FakeDepthNetwork, FakePrior, bump_scene

from redepth_ros.core.camera import OrthographicCamera, PinholeCamera
from redepth_ros.core.metric.anchors import Anchors
from redepth_ros.core.metric.scale import Scale
from redepth_ros.core.refine.ensemble import Ensemble
from redepth_ros.core.refine.guidance import SdsGuidance
from redepth_ros.core.refine.losses import anchor_loss, laplacian_smoothness, normalize_range
from redepth_ros.core.refine.objective import Objective
from redepth_ros.core.refine.parametrization import DepthParametrization
from redepth_ros.core.refine.settings import RefineSettings
from redepth_ros.core.refine.trust_region import TrustRegion

SCENE = bump_scene()
SETTINGS = RefineSettings(sds_weight=2.0, smoothness_weight=3.0, anchor_weight=5.0, scale_learning_rate=0.1)
PARAMETRIZATION = DepthParametrization(7.0, 0.1)
ANCHORS = Anchors(np.array([3, 9, 12]), np.array([4, 8, 2]), np.array([1.1, 1.6, 1.3]), 16, 16)
SCALE = Scale(6.0, 0.3)
SDS_GRADIENT = torch.linspace(-1e-3, 1e-3, 2 * 3 * 16 * 16).reshape(2, 3, 16, 16)
SDS_LOSS = 0.25


class StubGuidance:
    """Returns a given gradient, and remembers the normals and the view."""

    def __init__(self):
        self.calls = []

    def gradient(self, normals, view, samples):
        self.calls.append((normals, view, samples))
        return SDS_GRADIENT.clone(), SDS_LOSS

    def loss(self, normals, view, samples):
        self.calls.append((normals, view, samples))
        return SDS_LOSS


class StubEnsemble:
    """Two members whose outputs are variables themselves; a descent stores the loss."""

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        self.output = (4.5 + 0.2 * torch.rand(2, 16, 16, generator=generator)).requires_grad_()
        self.scale_offset = torch.tensor([0.1, -0.2])[:, None, None].requires_grad_()
        self.descended: list[torch.Tensor] = []

    def decode(self):
        return self.output

    def descend(self, loss):
        self.descended.append(loss)
        loss.backward()


def objective_of(
    guidance=None,
    camera=None,
    trust_region=None,
    anchors=ANCHORS,
    scale=SCALE,
    log_correction=None,
    **changes,
):
    settings = dataclasses.replace(SETTINGS, **changes)
    return Objective(
        guidance or StubGuidance(),
        PARAMETRIZATION,
        camera or OrthographicCamera(),
        trust_region,
        anchors,
        scale,
        log_correction,
        settings,
    )


def expected_losses(ensemble, camera):
    """Return depth and the three losses, each with its gradient, written out."""
    output, offset = (
        one.detach().clone().requires_grad_() for one in (ensemble.output, ensemble.scale_offset)
    )
    depth = (7.0 + torch.tanh(offset)) / (output + 0.1)
    sds = (SDS_GRADIENT * camera.normals(depth)).sum()
    smoothness = laplacian_smoothness(normalize_range(output))
    anchors = anchor_loss(6.0 / (7.0 / depth - 0.1 + 0.3), ANCHORS)
    return output, offset, depth, sds, smoothness, anchors


@pytest.mark.parametrize("camera", [OrthographicCamera(), PinholeCamera.centered(20.0, 16, 16)])
def test_a_step_descends_the_weighted_sum_of_the_losses(camera):
    ensemble = StubEnsemble()
    output, offset, depth, sds, smoothness, anchors = expected_losses(ensemble, camera)
    found, losses = objective_of(camera=camera).step(ensemble, samples=None)
    (2.0 * sds + 3.0 * smoothness + 5.0 * anchors).backward()
    torch.testing.assert_close(ensemble.output.grad, output.grad)
    torch.testing.assert_close(ensemble.scale_offset.grad, offset.grad)
    torch.testing.assert_close(found, depth.detach())
    assert not found.requires_grad
    assert len(ensemble.descended) == 1
    assert losses.sds == SDS_LOSS
    assert losses.smoothness == pytest.approx(smoothness.item())
    assert losses.anchors == pytest.approx(anchors.item())
    assert losses.total == pytest.approx(2.0 * SDS_LOSS + 3.0 * losses.smoothness + 5.0 * losses.anchors)


@pytest.mark.parametrize("camera", [OrthographicCamera(), PinholeCamera.centered(20.0, 16, 16)])
def test_the_guidance_gets_the_normals_of_the_depth_and_the_view_of_the_camera(camera):
    guidance, ensemble = StubGuidance(), StubEnsemble()
    depth, _ = objective_of(guidance, camera).step(ensemble, samples="samples")
    ((normals, view, samples),) = guidance.calls
    torch.testing.assert_close(normals, camera.normals(depth))
    torch.testing.assert_close(view, camera.view())
    assert samples == "samples"


def test_without_a_weight_the_prior_is_not_asked():
    guidance, ensemble = StubGuidance(), StubEnsemble()
    _, losses = objective_of(guidance, sds_weight=0.0).step(ensemble, samples=None)
    assert guidance.calls == []
    assert losses.sds == 0.0
    assert losses.total == pytest.approx(3.0 * losses.smoothness + 5.0 * losses.anchors)


def test_without_anchors_their_loss_is_zero():
    ensemble = StubEnsemble()
    weights = {"sds_weight": 0.0, "smoothness_weight": 0.0}
    _, losses = objective_of(anchors=None, scale=None, **weights).step(ensemble, samples=None)
    assert losses.anchors == losses.total == 0.0
    assert not ensemble.output.grad.any()


def test_anchors_of_a_metric_network_compare_scaled_metres():
    parametrization = DepthParametrization(7.0, 0.1, metric=True, unit=2.0)
    objective = dataclasses.replace(objective_of(scale=Scale(1.5)), parametrization=parametrization)
    ensemble = StubEnsemble()
    ensemble.scale_offset = torch.zeros(2, 1, 1)
    _, losses = objective.step(ensemble, samples=None)
    assert losses.anchors == pytest.approx(float(anchor_loss(1.5 * ensemble.output.detach(), ANCHORS)))


def test_the_trust_region_bounds_the_output():
    ensemble = StubEnsemble()
    region = TrustRegion(torch.full((1, 16, 16), 3.0), 4.0, 0.1)
    objective = objective_of(trust_region=region)
    bounded = region.bound(ensemble.output.detach())
    expected = PARAMETRIZATION.depth(bounded, ensemble.scale_offset.detach())
    torch.testing.assert_close(objective.depth(ensemble), expected)
    depth, losses = objective.step(ensemble, samples=None)
    torch.testing.assert_close(depth, expected)
    assert losses.smoothness == pytest.approx(float(laplacian_smoothness(normalize_range(bounded))))


def test_depth_is_that_of_the_members_as_they_are():
    ensemble = StubEnsemble()
    found = objective_of().depth(ensemble)
    torch.testing.assert_close(found, PARAMETRIZATION.depth(ensemble.output, ensemble.scale_offset).detach())
    assert not found.requires_grad
    assert ensemble.descended == []


def test_prior_loss_is_that_of_the_depths_normals():
    guidance = StubGuidance()
    depth = SCENE.depth[None]
    assert objective_of(guidance).prior_loss(depth, samples="samples") == SDS_LOSS
    normals, view, samples = guidance.calls[0]
    torch.testing.assert_close(normals[0], SCENE.normals)
    assert view.flatten().tolist() == [0.0, 0.0, -1.0]
    assert samples == "samples"


def test_steps_with_a_prior_that_knows_the_truth_bring_the_depth_nearer_to_it():
    network = FakeDepthNetwork()
    settings = RefineSettings(steps=60, ensemble_size=2)
    guidance = SdsGuidance(FakePrior(SCENE.normals), SCENE.pixels, "", settings)
    ensemble = Ensemble(network, network.encode(SCENE.pixels), 2, settings, 0.1)
    objective = Objective(guidance, PARAMETRIZATION, OrthographicCamera(), None, None, None, None, settings)
    generator = torch.Generator().manual_seed(0)

    def normal_error():
        normals = OrthographicCamera().normals(objective.depth(ensemble).mean(0))
        return float((normals - SCENE.normals).square().mean())

    before = normal_error()
    for step in range(60):
        objective.step(ensemble, guidance.sample(6, generator, step / 60))
    assert normal_error() < 0.3 * before


def test_the_anchors_loss_is_that_of_the_corrected_depth():
    correction = torch.linspace(-0.2, 0.2, 256).reshape(16, 16)
    depth, losses = objective_of(log_correction=correction).step(StubEnsemble(), samples=None)
    corrected = SCALE.depth(PARAMETRIZATION.output(depth)) * correction.exp()
    assert losses.anchors == pytest.approx(float(anchor_loss(corrected, ANCHORS)))
