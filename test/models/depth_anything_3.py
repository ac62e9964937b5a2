"""Random weights of Depth Anything 3 in the authors' format, and what the authors' code computes for them.

To write the reference again, with depth-anything-3 0.1.1 (its own requirements are not needed):

    pip download --no-deps depth-anything-3==0.1.1 && unzip depth_anything_3-0.1.1-py3-none-any.whl -d authors
    pip install --no-deps --target authors addict einops omegaconf
    PYTHONPATH=.:test python -m models.depth_anything_3 authors
"""

from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

__all__ = ["OUT_LAYERS", "REFERENCE", "random_pixels", "random_weights"]

REFERENCE = Path(__file__).parent / "data" / "depth_anything_3.npz"
CHANNELS, BLOCKS, OUT_LAYERS, FEATURES, STAGES = 128, 6, (1, 2, 4, 5), 16, (8, 16, 32, 32)
HIDDEN = 32
"""Channels of the last layers; fixed by the authors."""


def shapes(blocks: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of each weight by its published name."""
    c, found = CHANNELS, {}
    backbone = "model.backbone.pretrained."
    found |= {
        f"{backbone}{name}": shape
        for name, shape in {
            "cls_token": (1, 1, c),
            "pos_embed": (1, 1 + 37 * 37, c),
            "patch_embed.proj.weight": (c, 3, 14, 14),
            "patch_embed.proj.bias": (c,),
            "norm.weight": (c,),
            "norm.bias": (c,),
        }.items()
    }
    for block in range(blocks):
        found |= {
            f"{backbone}blocks.{block}.{name}": shape
            for name, shape in {
                "norm1.weight": (c,),
                "norm1.bias": (c,),
                "attn.qkv.weight": (3 * c, c),
                "attn.qkv.bias": (3 * c,),
                "attn.proj.weight": (c, c),
                "attn.proj.bias": (c,),
                "ls1.gamma": (c,),
                "norm2.weight": (c,),
                "norm2.bias": (c,),
                "mlp.fc1.weight": (c, c),
                "mlp.fc1.bias": (c,),
                "mlp.fc2.weight": (c, c),
                "mlp.fc2.bias": (c,),
                "ls2.gamma": (c,),
            }.items()
        }
    f, head = FEATURES, "model.head."
    for stage, size in enumerate(STAGES):
        found |= {f"{head}projects.{stage}.weight": (size, c, 1, 1), f"{head}projects.{stage}.bias": (size,)}
        found |= {f"{head}scratch.layer{stage + 1}_rn.weight": (f, size, 3, 3)}
        for unit in (1, 2) if stage < 3 else (2,):
            for number in (1, 2):
                name = f"{head}scratch.refinenet{stage + 1}.resConfUnit{unit}.conv{number}"
                found |= {f"{name}.weight": (f, f, 3, 3), f"{name}.bias": (f,)}
        name = f"{head}scratch.refinenet{stage + 1}.out_conv"
        found |= {f"{name}.weight": (f, f, 1, 1), f"{name}.bias": (f,)}
    for stage, width in ((0, 4), (1, 2), (3, 3)):
        size = STAGES[stage]
        name = f"{head}resize_layers.{stage}"
        found |= {f"{name}.weight": (size, size, width, width), f"{name}.bias": (size,)}
    found |= {
        f"{head}scratch.output_conv1.weight": (f // 2, f, 3, 3),
        f"{head}scratch.output_conv1.bias": (f // 2,),
    }
    for name in ("output_conv2", "sky_output_conv2"):
        found |= {
            f"{head}scratch.{name}.0.weight": (HIDDEN, f // 2, 3, 3),
            f"{head}scratch.{name}.0.bias": (HIDDEN,),
            f"{head}scratch.{name}.2.weight": (1, HIDDEN, 1, 1),
            f"{head}scratch.{name}.2.bias": (1,),
        }
    return found


def random_weights(blocks: int = BLOCKS) -> dict[str, Tensor]:
    """Draw the weights, the same on every machine."""
    generator, weights = np.random.default_rng(0), {}
    for name, shape in shapes(blocks).items():
        scale = (
            1.0 if len(shape) < 2 or "token" in name or "pos" in name else np.sqrt(2.0 / np.prod(shape[1:]))
        )
        values = (
            0.3 * generator.standard_normal(shape)
            if len(shape) < 2
            else scale * generator.standard_normal(shape)
        )
        if "norm" in name and name.endswith("weight"):
            values += 1.0
        if name.endswith("scratch.output_conv2.2.weight"):
            values *= 0.02  # keeps exp() of the output of order one
        if name.endswith("sky_output_conv2.2.bias"):
            values += 35.0  # makes half of the pixels sky
        weights[name] = torch.from_numpy(values.astype(np.float32))
    return weights


def random_pixels() -> Tensor:
    """Draw a network input: (1, 3, 56, 98)."""
    return torch.from_numpy(np.random.default_rng(1).standard_normal((1, 3, 56, 98)).astype(np.float32))


def main(folder: str) -> None:
    """Let the authors' code, in a folder, compute the reference."""
    sys.path.insert(0, folder)
    # The package imports its whole application in its __init__ files.
    for name in ("depth_anything_3", "depth_anything_3.model"):
        module = types.ModuleType(name)
        module.__path__ = [str(Path(folder, *name.split(".")))]
        sys.modules[name] = module
    from depth_anything_3.model.dinov2.vision_transformer import DinoVisionTransformer
    from depth_anything_3.model.dpt import DPT

    encoder = DinoVisionTransformer(
        img_size=518,
        patch_size=14,
        embed_dim=CHANNELS,
        depth=BLOCKS,
        num_heads=CHANNELS // 64,
        mlp_ratio=1,
        init_values=1.0,
        alt_start=-1,
        qknorm_start=-1,
        rope_start=-1,
        cat_token=False,
    ).eval()
    decoder = DPT(CHANNELS, output_dim=1, features=FEATURES, out_channels=STAGES).eval()
    weights = random_weights()
    for part, prefix in ((encoder, "model.backbone.pretrained."), (decoder, "model.head.")):
        own = {name.removeprefix(prefix): one for name, one in weights.items() if name.startswith(prefix)}
        missing, unexpected = part.load_state_dict(own, strict=False)
        assert not unexpected, unexpected
        assert set(missing) <= {"mask_token"}, missing
    pixels = random_pixels()
    with torch.inference_mode():
        features, _ = encoder.get_intermediate_layers(pixels[:, None], OUT_LAYERS)
        output = decoder(features, *pixels.shape[-2:], patch_start_idx=0)
    np.savez(REFERENCE, depth=output["depth"][:, 0].numpy(), sky=output["sky"][:, 0].numpy())


if __name__ == "__main__":
    main(sys.argv[1])
