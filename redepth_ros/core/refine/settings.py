"""Settings of a refinement, and the two presets."""

from __future__ import annotations

from dataclasses import dataclass, replace

from redepth_ros.core.errors import ConfigError
from redepth_ros.core.relighting import LIGHT_STYLES
from redepth_ros.core.settings import Settings, setting

__all__ = ["PRESETS", "RefineSettings", "preset_for"]


@dataclass(frozen=True)
class RefineSettings(Settings):
    """How depth is refined; the defaults are the preset `default`, see docs/explanation/method.md."""

    steps: int = setting(160, "Optimisation steps of each ensemble member.", low=1, high=100_000)
    ensemble_size: int = setting(2, "Independent runs whose depths are averaged.", low=1, high=100)
    ensemble_batch_size: int = setting(
        0, "Members that are optimised together and share a tuned decoder; 0 takes all.", low=0, high=100
    )
    lights_per_step: int = setting(3, "Virtual lights per step and member.", low=1, high=64)
    relit_batch_size: int = setting(
        0, "Re-lit images per pass through the prior; 0 takes all of a step.", low=0, high=6400
    )
    light_style: str = setting(
        "soft", "Distribution of the lights, see redepth_ros.core.relighting.", choices=LIGHT_STYLES
    )
    embedding_learning_rate: float = setting(0.1, "Learning rate of the embeddings.", low=0.0, high=10.0)
    anchored_learning_rate: float = setting(
        0.03, "Learning rate of the embeddings with anchors.", low=0.0, high=10.0
    )
    decoder_learning_rate: float = setting(
        0.0, "Learning rate of the decoder's weights; 0 freezes them.", low=0.0, high=1.0
    )
    scale_learning_rate: float = setting(
        0.0, "Learning rate of the scale offset; 0 freezes it.", low=0.0, high=1.0
    )
    weight_decay: float = setting(0.0, "Weight decay of AdamW.", low=0.0, high=1.0)
    cosine_decay: bool = setting(True, "Decay the learning rates to 0 along a cosine.")
    averaging_fraction: float = setting(
        0.4, "Final share of the steps whose depths are averaged; 0 takes the last depth.", low=0.0, high=1.0
    )
    depth_scale: float = setting(
        7.0,
        "s in depth = (s + tanh d) / (disparity + m), in half image heights times the unit of the disparity.",
        low=0.01,
        high=1000.0,
    )
    disparity_offset: float = setting(
        0.1, "m in the equation of depth_scale, in the unit of the disparity.", low=0.0, high=1000.0
    )
    disparity_mean: float = setting(
        4.57,
        "Mean to which the fast disparity is scaled first, so that s and m suit every network; 0 keeps the "
        "network's own range.",
        low=0.0,
        high=1000.0,
    )
    guidance_scale: float = setting(
        0.0, "Classifier-free guidance as in the paper: one less than diffusers' own.", low=0.0, high=1000.0
    )
    t_min: float = setting(
        0.8, "Lowest noise level in the first step, as a share of the schedule.", low=0.0, high=1.0
    )
    t_max: float = setting(
        0.98, "Highest noise level in the first step, as a share of the schedule.", low=0.0, high=1.0
    )
    t_anneal: float = setting(
        0.35,
        "Decrease of t_min and t_max until the last step, as a share of the schedule.",
        low=0.0,
        high=1.0,
    )
    mirror_augmentation: bool = setting(True, "Mirror everything that the prior sees in half of the steps.")
    sds_weight: float = setting(1.0, "Weight of score distillation; 0 disables the prior.", low=0.0, high=1e6)
    sample_latents: bool = setting(False, "Sample the autoencoder's latents instead of taking their mean.")
    smoothness_weight: float = setting(0.0, "Weight of the Laplacian of the disparity.", low=0.0, high=1e6)
    anchor_weight: float = setting(
        1.0,
        "Weight of the distance from the anchors; 0 refines without them, except as a prompt.",
        low=0.0,
        high=1e6,
    )
    trust_region_radius: float = setting(
        0.125,
        "Sigma of the Gaussian average of the trust region, as a share of the shorter image side; 0 disables "
        "the trust region.",
        low=0.0,
        high=1.0,
    )
    trust_region_limit: float = setting(
        0.1, "Largest relative change of the Gaussian average of the disparity.", low=0.0, high=10.0
    )
    anchored_trust_region_limit: float = setting(
        0.5, "trust_region_limit with anchors, which limit slow changes themselves.", low=0.0, high=10.0
    )
    max_change: float = setting(
        0.5, "Median relative change of the depth above which the fast depth is kept.", low=0.0, high=100.0
    )
    min_contrast: float = setting(
        0.2, "Share of the fast depth's contrast below which the fast depth is kept.", low=0.0, high=1.0
    )
    min_initial_loss: float = setting(
        0.003,
        "SDS loss of the fast depth below which refinement does not start, because the prior has nothing to "
        "correct; 0 disables the check. This and the three ratios below apply to light-conditioned priors "
        "without anchors, from 30 steps on.",
        low=0.0,
        high=1.0,
    )
    max_early_loss_ratio: float = setting(
        1.5,
        "SDS loss after 20 steps, divided by that of a plane of the same slant, above which refinement ends "
        "and the fast depth is kept; 0 disables the check.",
        low=0.0,
        high=1000.0,
    )
    max_plane_loss_ratio: float = setting(
        0.75,
        "SDS loss of the refined depth, divided by that of a plane of the same slant, above which the fast "
        "depth is kept; 0 disables the check.",
        low=0.0,
        high=1.0,
    )
    max_mirror_loss_ratio: float = setting(
        0.42,
        "SDS loss of the refined depth, divided by that of its mirror image, above which the fast depth is "
        "kept; 0 disables the check.",
        low=0.0,
        high=1.0,
    )
    held_out_fraction: float = setting(
        0.2,
        "Share of the anchors held out to check the result; 0 uses all of them for refinement and check.",
        low=0.0,
        high=0.9,
    )
    time_budget: float = setting(
        0.0,
        "Time limit of a refinement: if not everything fits, it takes fewer steps, members and lights. 0 "
        "disables the limit.",
        unit="s",
        low=0.0,
        high=86400.0,
    )
    seed: int = setting(0, "Seed of the random lights and noise.", low=0, high=2**63 - 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.t_min >= self.t_max:
            raise ConfigError(f"t_min is {self.t_min} and t_max is {self.t_max}; t_min must be smaller")
        if self.t_anneal > self.t_min:
            raise ConfigError(
                f"t_anneal is {self.t_anneal} and t_min is {self.t_min}; t_anneal must not be larger"
            )


PRESETS = {
    "default": RefineSettings(),
    "paper": RefineSettings(
        steps=1000,
        ensemble_size=10,
        ensemble_batch_size=1,
        lights_per_step=1,
        light_style="paper",
        embedding_learning_rate=1e-3,
        anchored_learning_rate=1e-3,
        decoder_learning_rate=2e-6,
        scale_learning_rate=1e-3,
        weight_decay=0.01,
        cosine_decay=False,
        averaging_fraction=0.0,
        guidance_scale=50.0,
        t_min=0.02,
        t_max=0.6,
        t_anneal=0.0,
        mirror_augmentation=False,
        sample_latents=True,
        smoothness_weight=1.0,
        trust_region_radius=0.0,
        disparity_mean=0.0,
        min_initial_loss=0.0,
        max_early_loss_ratio=0.0,
        max_plane_loss_ratio=0.0,
        max_mirror_loss_ratio=0.0,
    ),
}
"""Ours, and the published values of Re-Depth Anything for Depth Anything V2 Small."""

PROMPTED_FIELDS = (
    "light_style",
    "guidance_scale",
    "t_min",
    "t_max",
    "t_anneal",
    "mirror_augmentation",
    "smoothness_weight",
    "min_initial_loss",
    "max_early_loss_ratio",
    "max_plane_loss_ratio",
    "max_mirror_loss_ratio",
)
"""Settings of the paper that suit a prior which knows the image by a prompt only."""


def preset_for(name: str, light_conditioned: bool) -> RefineSettings:
    """Return the settings of a preset that suit a prior.

    `default` was tuned with a light-conditioned prior. For another prior it keeps its batches,
    learning-rate decay, averaging and trust region, and takes the published lights, noise levels,
    guidance and smoothness. Its learning rate then has the same sum over the steps as the
    published run, 1000 x 1e-3.

    Args:
        name: of `PRESETS`.
        light_conditioned: see `Prior.light_conditioned`.

    Raises:
        ConfigError: an unknown name.
    """
    if name not in PRESETS:
        raise ConfigError(f"preset is {name!r}; it must be one of: {', '.join(PRESETS)}")
    settings, paper = PRESETS[name], PRESETS["paper"]
    if name != "default" or light_conditioned:
        return settings
    rate = 2.0 * paper.steps * paper.embedding_learning_rate / settings.steps  # a cosine's mean is a half
    return replace(
        settings,
        **{name: getattr(paper, name) for name in PROMPTED_FIELDS},
        embedding_learning_rate=rate,
        anchored_learning_rate=rate,
        relit_batch_size=2,
    )
