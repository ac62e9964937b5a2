"""The embedded depth network, as it is built and trained."""

import pytest
import torch
from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

from redepth_ros.models.depth_anything import DepthAnything
from training.tiny_network import PATCH, SIDE, build_network, load_encoder, save


@pytest.fixture(scope="module")
def smaller(tmp_path_factory):
    """A network of fewer layers, smaller images and a wider decoder."""
    torch.manual_seed(0)
    backbone = Dinov2Config(
        hidden_size=128,
        num_hidden_layers=6,
        num_attention_heads=4,
        image_size=80,
        patch_size=PATCH,
        out_indices=[2, 3, 5, 6],
        apply_layernorm=True,
        reshape_hidden_states=False,
        use_mask_token=False,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone, patch_size=PATCH, reassemble_hidden_size=128, fusion_hidden_size=16
    )
    network = DepthAnythingForDepthEstimation(config).eval()
    folder = tmp_path_factory.mktemp("smaller")
    network.save_pretrained(folder)
    return network, folder


@torch.inference_mode()
def test_an_encoder_of_more_layers_starts_with_the_features_of_the_smaller_one(smaller):
    source, folder = smaller
    network = build_network().eval()
    load_encoder(network, folder)
    image = torch.rand(1, 3, 80, 80)
    for parts in (source, network):  # position embeddings depend on the input size in their own ways
        parts.backbone.embeddings.position_embeddings.zero_()
    features = [one.backbone(image).feature_maps[-1] for one in (source, network)]
    torch.testing.assert_close(features[1], features[0])


def test_no_layer_of_a_started_encoder_is_dead(smaller):
    network = build_network()
    load_encoder(network, smaller[1])
    network(torch.rand(1, 3, 60, 80)).predicted_depth.mean().backward()
    for name, weight in network.backbone.encoder.named_parameters():
        if name.endswith("layer_scale1.lambda1"):
            assert weight.grad.abs().sum() > 0.0, name


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
