"""Settings of a refinement, and the two presets."""

from __future__ import annotations

from dataclasses import dataclass, replace

from redepth_ros.core.errors import ConfigError
from redepth_ros.core.relighting import STYLES
from redepth_ros.core.settings import Settings, setting

__all__ = ["PRESETS", "RefineSettings", "preset_for"]


@dataclass(frozen=True)
class RefineSettings(Settings):
    """How depth is refined. The defaults are the preset `fast`; see docs/method.md."""

    steps: int = setting(160, "Optimisation steps of each member.", low=1, high=100_000)
    members: int = setting(2, "Independent runs that are averaged.", low=1, high=100)
    members_at_once: int = setting(
        0, "Members that share a batch, and one decoder where it is tuned; 0 is all.", low=0, high=100
    )
    lights: int = setting(3, "Virtual lights a step and member.", low=1, high=64)
    pictures_at_once: int = setting(
        0,
        "Re-lit pictures that go through the prior at once, of members times lights; 0 is all.",
        low=0,
        high=6400,
    )
    lighting: str = setting("soft", "Distribution of the lights, see core/lights.py.", choices=STYLES)
    embedding_rate: float = setting(0.1, "Learning rate of the embeddings.", low=0.0, high=10.0)
    decoder_rate: float = setting(
        0.0, "Learning rate of the decoder's weights; 0 freezes it.", low=0.0, high=1.0
    )
    scale_rate: float = setting(0.0, "Learning rate of the scale offset; 0 freezes it.", low=0.0, high=1.0)
    weight_decay: float = setting(0.0, "Weight decay of AdamW.", low=0.0, high=1.0)
    decay: bool = setting(True, "Whether the learning rates decay to zero along a cosine.")
    average: float = setting(
        0.4, "Share of the steps, at the end, whose depths are averaged; 0 takes the last.", low=0.0, high=1.0
    )
    scale: float = setting(
        7.0, "s in depth = (s + tanh d) / (disparity + m), half picture heights.", low=0.01, high=1000.0
    )
    shift: float = setting(0.1, "m in the same, in the model's unit.", low=0.0, high=1000.0)
    guidance_scale: float = setting(
        0.0, "Classifier-free guidance as in the paper, one less than diffusers' own.", low=0.0, high=1000.0
    )
    t_low: float = setting(
        0.8, "Smallest noise level asked for at first, as a share of the schedule.", low=0.0, high=1.0
    )
    t_high: float = setting(
        0.98, "Largest noise level asked for at first, as a share of the schedule.", low=0.0, high=1.0
    )
    t_fall: float = setting(
        0.35, "By how much both fall until the last step, as a share of the schedule.", low=0.0, high=1.0
    )
    mirror: bool = setting(True, "Whether the prior sees everything mirrored in half of the steps.")
    sds_weight: float = setting(
        1.0, "Weight of score distillation; 0 leaves the prior out.", low=0.0, high=1e6
    )
    sample_latents: bool = setting(
        False, "Whether the autoencoder's latents are sampled, rather than their mean taken."
    )
    smoothness: float = setting(0.0, "Weight of the Laplacian of the disparity.", low=0.0, high=1e6)
    anchor_weight: float = setting(
        1.0, "Weight of the measured depth, where there is some; 0 leaves it out.", low=0.0, high=1e6
    )
    anchored_rate: float = setting(0.03, "embedding_rate where depth was measured.", low=0.0, high=10.0)
    anchored_trust_limit: float = setting(
        0.5, "trust_limit where depth was measured, which holds the slow changes itself.", low=0.0, high=10.0
    )
    trust_radius: float = setting(
        0.125,
        "Sigma of the average that the trust region holds, as a share of the shorter side; 0 turns it off.",
        low=0.0,
        high=1.0,
    )
    trust_limit: float = setting(
        0.1, "Largest relative change of that average of the disparity.", low=0.0, high=10.0
    )
    max_change: float = setting(
        0.5, "Median change of the depth above which the fast depth is kept.", low=0.0, high=100.0
    )
    min_contrast: float = setting(
        0.2, "Share of the fast depth's contrast below which it is kept.", low=0.0, high=1.0
    )
    min_fall: float = setting(
        0.0015,
        "Fall of the score distillation loss, from the fast depth to the result, below which the fast "
        "depth is kept. Asked after 30 steps of priors that see the picture and are told the light, where "
        "nothing was measured; 0 asks nothing.",
        low=0.0,
        high=1.0,
    )
    time_budget: float = setting(
        0.0, "Time after which the best so far is the result; 0 is no limit.", unit="s", low=0.0, high=86400.0
    )
    seed: int = setting(0, "Seed of the lights and the noise.", low=0, high=2**63 - 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.t_low >= self.t_high:
            raise ConfigError(f"t_low is {self.t_low} and t_high {self.t_high}; t_low must be smaller")
        if self.t_fall > self.t_low:
            raise ConfigError(f"t_fall is {self.t_fall} and t_low {self.t_low}; t_fall must not be larger")


PRESETS = {
    "fast": RefineSettings(),
    "paper": RefineSettings(
        steps=1000,
        members=10,
        members_at_once=1,
        lights=1,
        lighting="paper",
        embedding_rate=1e-3,
        anchored_rate=1e-3,
        decoder_rate=2e-6,
        scale_rate=1e-3,
        weight_decay=0.01,
        decay=False,
        average=0.0,
        guidance_scale=50.0,
        t_low=0.02,
        t_high=0.6,
        t_fall=0.0,
        mirror=False,
        sample_latents=True,
        smoothness=1.0,
        trust_radius=0.0,
        min_fall=0.0,
    ),
}
"""Ours, and the published numbers of Re-Depth Anything for Depth Anything V2 Small."""

_PROMPTED = {
    name: getattr(PRESETS["paper"], name)
    for name in ("lighting", "guidance_scale", "t_low", "t_high", "t_fall", "mirror", "smoothness")
}
"""What belongs to a prior that knows a picture by a prompt only."""


def preset_for(name: str, knows_light: bool) -> RefineSettings:
    """The settings of a preset that suit a prior.

    `fast` was made with a prior that sees the picture and is told the light. For one that is not, it keeps
    its batches, its decay, its average and its trust region, and takes the published lights, noise levels,
    guidance and smoothness. The learning rate is then the one whose sum over the steps is the
    published run's: 1000 x 1e-3.

    Args:
        name: of `PRESETS`.
        knows_light: see `Prior.knows_light`.

    Raises:
        ConfigError: an unknown name.
    """
    if name not in PRESETS:
        raise ConfigError(f"preset is {name!r}; it must be one of: {', '.join(PRESETS)}")
    settings = PRESETS[name]
    if name != "fast" or knows_light:
        return settings
    paper = PRESETS["paper"]
    rate = 2.0 * paper.steps * paper.embedding_rate / settings.steps  # a cosine's mean is a half
    return replace(
        settings, **_PROMPTED, embedding_rate=rate, anchored_rate=rate, min_fall=0.0, pictures_at_once=2
    )
