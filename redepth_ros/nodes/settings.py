"""The parameters of the nodes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from redepth_ros.core.errors import ConfigError
from redepth_ros.core.camera import limit_depth
from redepth_ros.core.stream.keyframes import POLICIES
from redepth_ros.core.refine.settings import PRESETS, RefineSettings, preset_for
from redepth_ros.core.metric.scale import Scale
from redepth_ros.core.settings import Settings, setting
from redepth_ros.core.metric.uncertainty import without_doubtful

__all__ = ["DepthSettings", "PlayerSettings", "ServerSettings"]


@dataclass(frozen=True)
class NetworkSettings(Settings):
    """Parameters of every node that runs a depth network."""

    autostart: bool = setting(True, "Whether the node configures and activates itself at start.", fixed=True)
    model: str = setting(
        "depth-anything/Depth-Anything-V2-Small-hf",
        "Depth Anything model, the same for both nodes: a hub name, a folder, or 'tiny', the embedded one "
        "for trying out.",
        fixed=True,
    )
    device: str = setting(
        "auto", "Where the networks run: auto (CUDA where there is one), cpu, cuda or cuda:N.", fixed=True
    )
    precision: str = setting(
        "auto",
        "Arithmetic of the networks; auto is float16 on CUDA and float32 on a CPU.",
        choices=("auto", "float32", "float16", "bfloat16"),
        fixed=True,
    )
    input_size: int = setting(
        0,
        "Longer side of what the model sees; smaller is faster and coarser; 0 is the model's own.",
        unit="pixels", low=0, high=4096,
    )  # fmt: skip
    max_megapixels: float = setting(
        25.0, "Larger images are refused.", unit="megapixels", low=0.01, high=1000.0
    )
    scale: float = setting(
        1.0,
        "Depth is scale / (disparity + shift) from a relative model, and scale x depth from a "
        "metric one. With a relative model and 1.0 the depth is not in metres.",
        unit="m x the model's unit", low=1e-6, high=1e6,
    )  # fmt: skip
    shift: float = setting(
        0.0,
        "Added to the disparity of a relative model; unused with a metric one.",
        unit="the model's unit", low=-1e6, high=1e6,
    )  # fmt: skip
    min_depth: float = setting(0.0, "Smaller depth is invalid.", unit="m", low=0.0, high=10_000.0)
    max_depth: float = setting(100.0, "Larger depth is invalid.", unit="m", low=0.001, high=10_000.0)
    max_relative_stddev: float = setting(
        0.0, "Depth with a larger standard deviation over itself is invalid; 0 is any.", low=0.0, high=10.0
    )
    max_edge: float = setting(
        0.0,
        "Depth that changes by a larger share of itself from pixel to pixel is invalid (flying pixels); 0 is "
        "any.",
        low=0.0, high=10.0,
    )  # fmt: skip
    assumed_error: float = setting(
        0.1,
        "Standard deviation over itself of the fast depth, besides what anchors show of it, and of a refined "
        "depth that no ensemble tells of.",
        low=0.0, high=1.0,
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_depth >= self.max_depth:
            raise ConfigError(
                f"min_depth is {self.min_depth} m and max_depth {self.max_depth} m; "
                "min_depth must be the smaller one"
            )

    def fixed_scale(self, metric: bool) -> Scale:
        """The scale that the parameters give a network."""
        return Scale(self.scale, 0.0 if metric else self.shift)

    def usable(self, depth: Tensor, stddev: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Depth and its standard deviation, (H, W), NaN where it is doubtful or outside of the limits."""
        certain = without_doubtful(depth, stddev, self.max_relative_stddev, self.max_edge)
        depth = limit_depth(certain, self.min_depth, self.max_depth)
        return depth, stddev if stddev is None else torch.where(depth.isnan(), torch.nan, stddev)


@dataclass(frozen=True)
class DepthSettings(NetworkSettings):
    """Parameters of `redepth_node`."""

    threads: int = setting(
        0, "CPU threads of the model; 0 is one for each core.", low=0, high=256, fixed=True
    )
    transport: str = setting(
        "raw",
        "Which topic is subscribed: raw is image, compressed is image/compressed.",
        choices=("raw", "compressed"),
        fixed=True,
    )
    reliability: str = setting(
        "auto",
        "Quality of service of the image subscription. auto is reliable unless a publisher "
        "offers best_effort only: large images are easily lost on a best_effort subscription.",
        choices=("auto", "best_effort", "reliable"),
        fixed=True,
    )
    camera_info_tolerance: float = setting(
        0.01,
        "How far the stamps of an image and of its camera_info may lie apart.",
        unit="s", low=0.0, high=10.0,
    )  # fmt: skip
    depth_encoding: str = setting(
        "32FC1",
        "Encoding of depth/image: 32FC1 is metres, NaN where invalid; 16UC1 is millimetres, 0 where invalid.",
        choices=("32FC1", "16UC1"),
    )
    keyframes: str = setting(
        "motion",
        "Which frames are sent to the action server refine, while there is one: none, one every "
        "keyframe_interval, on motion (what the encoder sees has changed by keyframe_motion), on_request "
        "(the service refine_now), all.",
        choices=POLICIES,
    )
    keyframe_interval: float = setting(
        5.0, "Time between keyframes, where keyframes is interval.", unit="s", low=0.0, high=86_400.0
    )
    keyframe_spacing: float = setting(
        1.0, "Smallest time between keyframes that nobody asked for.", unit="s", low=0.0, high=86_400.0
    )
    keyframe_motion: float = setting(
        0.15,
        "Cosine distance of the encoder's class tokens from the last keyframe's, above which a frame is "
        "one, where keyframes is motion.",
        low=0.0, high=2.0,
    )  # fmt: skip
    anchors: str = setting(
        "none",
        "Where metres come from: none (scale and shift are what the parameters say), depth (a depth image of "
        "the same view on anchors/depth), points (a lidar's cloud on anchors/points), height (the ground, "
        "camera_height below the camera).",
        choices=("none", "depth", "points", "height"),
        fixed=True,
    )
    anchor_tolerance: float = setting(
        0.05, "How far the stamps of an image and of its anchors may lie apart.",
        unit="s", low=0.0, high=10.0, fixed=True,
    )  # fmt: skip
    anchor_fixed_frame: str = setting(
        "",
        "Frame that stands still, such as odom: through it tf2 carries anchors/points from their stamp to "
        "the image's. Empty: the robot is taken to stand still between the two.",
        fixed=True,
    )
    anchor_noise: float = setting(
        0.01, "Standard deviation of the anchors' depth over itself.", low=0.0, high=1.0
    )
    anchor_minimum: int = setting(
        30, "Anchors in a frame, below which they are not used.", unit="pixels", low=3, high=1_000_000
    )
    camera_height: float = setting(
        0.0, "Height of the camera over the ground, where anchors is height.", unit="m", low=0.0, high=1000.0
    )
    scale_jitter: float = setting(
        0.05,
        "Standard deviation of the scale over itself, from frame to frame, that is smoothed away; 0 follows "
        "every frame's anchors.",
        low=0.0, high=1.0, fixed=True,
    )  # fmt: skip
    scale_drift: float = setting(
        0.01, "Standard deviation by which the scale wanders, over itself, in a second.",
        low=0.0, high=1.0, fixed=True,
    )  # fmt: skip
    scale_patience: float = setting(
        2.0, "Time without usable anchors after which the scale counts as lost; the last good one is kept.",
        unit="s", low=0.0, high=86_400.0, fixed=True,
    )  # fmt: skip
    held_frames: int = setting(
        10, "Frames that are kept for goals which name a stamp.", low=0, high=1000, fixed=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.anchors == "height" and not self.camera_height:
            raise ConfigError(
                "anchors is height and camera_height 0.0 m; give the camera's height over the ground"
            )


@dataclass(frozen=True)
class ServerSettings(NetworkSettings):
    """Parameters of `refine_server`."""

    prior: str = setting(
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        "Diffusion model that judges the depth: a hub name, a folder in the layout of a diffusers pipeline, "
        "or 'tiny', the embedded one for trying out.",
        fixed=True,
    )
    coder: str = setting(
        "", "Another autoencoder for the prior, such as madebyollin/taesd; empty is its own.", fixed=True
    )
    captioner: str = setting(
        "", "BLIP model that writes the prompt where none is given; empty: none.", fixed=True
    )
    keep_captioner: bool = setting(
        True, "Whether the captioner stays in memory; if not, it is loaded for each keyframe.", fixed=True
    )
    prompt: str = setting("", "What the images show; empty asks the captioner, where there is one.")
    threads: int = setting(
        1,
        "CPU threads of the networks; 0 is one for each core, which the fast node then has to share.",
        low=0, high=256, fixed=True,
    )  # fmt: skip
    preset: str = setting("fast", "Settings of the refinement, see docs/method.md.", choices=tuple(PRESETS))
    steps: int = setting(0, "Optimisation steps of each member; 0 is the preset's.", low=0, high=100_000)
    members: int = setting(0, "Independent runs that are averaged; 0 is the preset's.", low=0, high=100)
    seed: int = setting(0, "Seed of the random lights and the noise.", low=0, high=2**31 - 1)
    time_budget: float = setting(
        0.0,
        "Time after which the best so far is the result; 0 is no limit.",
        unit="s",
        low=0.0,
        high=86_400.0,
    )
    max_age: float = setting(
        0.0,
        "A result older than this, from its image's stamp, is returned but not published; 0 is no limit.",
        unit="s", low=0.0, high=86_400.0,
    )  # fmt: skip
    policy: str = setting(
        "latest",
        "What happens to a goal that comes while another runs: latest takes its place, and the old one ends "
        "as aborted with its best so far; queue lets it wait; reject refuses it.",
        choices=("latest", "queue", "reject"),
    )
    queue_size: int = setting(5, "Goals that may wait, where policy is queue.", low=1, high=1000)
    preview_period: float = setting(
        1.0, "Time between the depths so far in the feedback; 0 sends none.", unit="s", low=0.0, high=3600.0
    )
    refined_frame_id: str = setting("", "Frame of the refined topics; empty is the image's.")

    def refinement(self, *, knows_light: bool, preset: str = "") -> RefineSettings:
        """The settings of a refinement that these parameters ask for.

        Args:
            knows_light: of the prior, see `Prior.knows_light`.
            preset: takes the place of the parameter's.

        Raises:
            ConfigError: an unknown preset.
        """
        changes = {name: getattr(self, name) for name in ("steps", "members") if getattr(self, name)}
        return dataclasses.replace(
            preset_for(preset or self.preset, knows_light),
            seed=self.seed, time_budget=self.time_budget, **changes,
        )  # fmt: skip


@dataclass(frozen=True)
class PlayerSettings(Settings):
    """Parameters of `camera_player`."""

    path: str = setting(
        "",
        "A video, a folder of pictures, a picture or a rosbag2; empty: photographs that come "
        "with scikit-image.",
        fixed=True,
    )
    rate: float = setting(
        0.0, "Frames a second; 0 is the source's own (pictures: 10).", unit="Hz", low=0.0, high=1000.0
    )
    loop: bool = setting(True, "Whether to begin again at the end; if not, the node ends there.")
    frame_id: str = setting(
        "", "Frame of the images; empty is the bag's own, or camera_optical_frame.", fixed=True
    )
    horizontal_fov: float = setting(
        60.0,
        "Horizontal field of view assumed for what comes without a calibration.",
        unit="degrees", low=1.0, high=179.0, fixed=True,
    )  # fmt: skip
    bag_topic: str = setting(
        "", "Which image topic of a rosbag2 is played; empty is the first one.", fixed=True
    )
