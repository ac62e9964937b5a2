"""The embedded depth network, as it is built and saved."""

import torch
from transformers import DepthAnythingForDepthEstimation

from redepth_ros.models.depth_anything import DepthAnything
from training.tiny_network import SIDE, build_network, save


@torch.inference_mode()
def test_the_first_output_depends_on_the_image():
    """With the initial weights of transformers it is constant, and training starts on a plateau."""
    torch.manual_seed(0)
    ours = build_network().eval()
    images = torch.randn(2, 3, 120, 160)
    theirs = DepthAnythingForDepthEstimation(ours.config).eval()
    torch.nn.init.ones_(theirs.head.conv3.bias)
    changes = [float(one(images).predicted_depth.diff(dim=0).std()) for one in (ours, theirs)]
    assert changes[0] > 0.005
    assert changes[0] > 100.0 * changes[1]


def test_every_weight_that_is_used_gets_a_gradient():
    torch.manual_seed(0)
    network = build_network()
    network(torch.randn(1, 3, 60, 80)).predicted_depth.square().mean().backward()
    dead = {
        name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()
    }
    # The coarsest map has nothing to be added to: transformers builds these layers but does not call them.
    assert all(name.startswith("neck.fusion_stage.layers.0.residual_layer1") for name in dead), dead


def test_a_saved_network_has_the_range_of_depth_anything_v2(tmp_path):
    torch.manual_seed(0)
    network = build_network().eval()
    image = torch.rand(1, 3, SIDE * 3 // 4, SIDE)
    with torch.inference_mode():
        before = network(image).predicted_depth
    save(network, tmp_path)
    model = DepthAnything.load(str(tmp_path), device="cpu")
    after = model.decode(model.encode(image))
    torch.testing.assert_close(after, 3.0 * before, rtol=0.02, atol=0.02)
