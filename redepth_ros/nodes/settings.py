"""The parameters of the nodes that run networks."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from redepth_ros.core.errors import ConfigError
from redepth_ros.core.metric.scale import Scale
from redepth_ros.core.metric.uncertainty import DepthLimits
from redepth_ros.core.refine.settings import PRESETS, RefineSettings, preset_for
from redepth_ros.core.settings import Settings, setting
from redepth_ros.core.stream.keyframes import KEYFRAME_POLICIES, KeyframeSelector
from redepth_ros.models.prior_runtime import PRIOR_RUNTIMES
from redepth_ros.models.runtimes import RUNTIMES
from redepth_ros.ros.streams.goal_scheduler import POLICIES

__all__ = ["DepthSettings", "NetworkSettings", "ServerSettings"]


@dataclass(frozen=True)
class NetworkSettings(Settings):
    """Parameters of both nodes that run networks."""

    autostart: bool = setting(True, "Whether the node configures and activates itself at start.", fixed=True)
    model: str = setting(
        "depth-anything/Depth-Anything-V2-Small-hf",
        "Depth network, the same one for both nodes: a hub name, a folder, or 'tiny' (embedded, for trying "
        "out).",
        fixed=True,
    )
    device: str = setting(
        "auto", "Device of the networks: auto (CUDA if available), cpu, cuda or cuda:N.", fixed=True
    )
    precision: str = setting(
        "auto",
        "Data type of the networks; auto is float16 on CUDA and float32 on a CPU.",
        choices=("auto", "float32", "float16", "bfloat16"),
        fixed=True,
    )
    threads: int = setting(
        0, "CPU threads of the networks; 0 uses one per core.", low=0, high=256, fixed=True
    )
    input_size: int = setting(
        0,
        "Longer side of the network's input; a smaller input is faster and coarser. 0 uses the model's own.",
        unit="pixels",
        low=0,
        high=4096,
    )
    max_megapixels: float = setting(
        25.0, "Largest image that is accepted.", unit="megapixels", low=0.01, high=1000.0
    )
    scale: float = setting(
        1.0,
        "Depth is scale / (disparity + shift) with a relative model, and scale x depth with a metric model. "
        "With a relative model and the default of 1, depth is not in metres.",
        unit="m x the model's unit",
        low=1e-6,
        high=1e6,
    )
    shift: float = setting(
        0.0,
        "Offset that is added to the disparity of a relative model; a metric model ignores it.",
        unit="the model's unit",
        low=-1e6,
        high=1e6,
    )
    min_depth: float = setting(
        0.0, "Mask depth below this value as invalid.", unit="m", low=0.0, high=10_000.0
    )
    max_depth: float = setting(
        100.0, "Mask depth above this value as invalid.", unit="m", low=0.001, high=10_000.0
    )
    max_relative_stddev: float = setting(
        0.0,
        "Mask depth whose relative standard deviation exceeds this value; 0 disables the check.",
        low=0.0,
        high=10.0,
    )
    max_relative_gradient: float = setting(
        0.0,
        "Mask depth whose relative change from pixel to pixel exceeds this value (flying pixels); 0 disables "
        "the check.",
        low=0.0,
        high=10.0,
    )
    assumed_relative_stddev: float = setting(
        0.1,
        "Assumed relative standard deviation, added to the measured one; used alone for refined depth "
        "without an ensemble.",
        low=0.0,
        high=1.0,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_depth >= self.max_depth:
            raise ConfigError(
                f"min_depth is {self.min_depth} m and max_depth {self.max_depth} m; min_depth must be smaller"
            )

    @property
    def limits(self) -> DepthLimits:
        """The limits beyond which depth is masked."""
        return DepthLimits(
            self.min_depth, self.max_depth, self.max_relative_stddev, self.max_relative_gradient
        )

    def fixed_scale(self, metric: bool, known: Scale | None = None) -> Scale:
        """Return the scale that the parameters give a network; they multiply one that it knows itself."""
        return Scale(self.scale * (known.scale if known else 1.0), 0.0 if metric or known else self.shift)


@dataclass(frozen=True)
class DepthSettings(NetworkSettings):
    """Parameters of `redepth_node`."""

    runtime: str = setting(
        "torch",
        "Runtime of the fast depth, see docs/how-to/runtimes.md. All but torch compile the network once for "
        "each size of its input.",
        choices=RUNTIMES,
        fixed=True,
    )
    transport: str = setting(
        "raw",
        "Subscribed topic: raw is image, compressed is image/compressed.",
        choices=("raw", "compressed"),
        fixed=True,
    )
    reliability: str = setting(
        "auto",
        "Reliability of the image subscription. auto is reliable unless a publisher offers best_effort only: "
        "a best_effort subscription loses most large images.",
        choices=("auto", "best_effort", "reliable"),
        fixed=True,
    )
    camera_info_tolerance: float = setting(
        0.01, "Largest difference between the stamps of image and camera_info.", unit="s", low=0.0, high=10.0
    )
    depth_encoding: str = setting(
        "32FC1",
        "Encoding of depth/image: 32FC1 (metres, NaN where invalid) or 16UC1 (millimetres, 0 where invalid).",
        choices=("32FC1", "16UC1"),
    )
    keyframes: str = setting(
        "motion",
        "Frames that are sent to refine_server, if it runs: none; interval (one per keyframe_interval); "
        "motion (when the view has changed by keyframe_motion_threshold); on_request (by the service "
        "refine_now); all.",
        choices=KEYFRAME_POLICIES,
    )
    keyframe_interval: float = setting(
        5.0, "Time between keyframes if keyframes is interval.", unit="s", low=0.0, high=86_400.0
    )
    keyframe_min_interval: float = setting(
        1.0,
        "Smallest time between keyframes; requested keyframes are exempt.",
        unit="s",
        low=0.0,
        high=86_400.0,
    )
    keyframe_motion_threshold: float = setting(
        0.15,
        "Change of the view that makes a keyframe if keyframes is motion: the cosine distance between the "
        "encoder's class tokens of the frame and of the last keyframe.",
        low=0.0,
        high=2.0,
    )
    anchors: str = setting(
        "none",
        "Source of the metric scale: none (the parameters scale and shift), depth (a depth image of the same "
        "view on anchors/depth), points (a lidar's point cloud on anchors/points), height (the ground plane, "
        "camera_height below the camera).",
        choices=("none", "depth", "points", "height"),
        fixed=True,
    )
    anchor_tolerance: float = setting(
        0.05,
        "Largest difference between the stamps of an image and its anchors.",
        unit="s",
        low=0.0,
        high=10.0,
        fixed=True,
    )
    anchor_fixed_frame: str = setting(
        "",
        "Fixed frame (for example odom) for compensating motion between cloud and image; empty assumes a "
        "static robot.",
        fixed=True,
    )
    anchor_noise: float = setting(
        0.01, "Relative standard deviation of the anchors' depth.", low=0.0, high=1.0
    )
    fuse_anchors: bool = setting(
        True,
        "Correct the depth around the anchors (depth or points); false only fits scale and shift.",
    )
    min_anchors: int = setting(
        30,
        "Smallest number of anchors of a frame from which scale and shift are fitted.",
        unit="pixels",
        low=3,
        high=1_000_000,
    )
    camera_height: float = setting(
        0.0,
        "Height of the camera above the ground; redepth_node uses it if anchors is height.",
        unit="m",
        low=0.0,
        high=1000.0,
    )
    scale_measurement_noise: float = setting(
        0.05,
        "Relative standard deviation of the scale that one frame measures (measurement noise of the Kalman "
        "filter); 0 follows every frame.",
        low=0.0,
        high=1.0,
        fixed=True,
    )
    scale_process_noise: float = setting(
        0.01,
        "Relative standard deviation by which the true scale changes within one second (process noise of "
        "the Kalman filter).",
        low=0.0,
        high=1.0,
        fixed=True,
    )
    scale_timeout: float = setting(
        2.0,
        "Time without usable anchors after which the scale counts as lost; the last good scale stays in use.",
        unit="s",
        low=0.0,
        high=86_400.0,
        fixed=True,
    )
    frame_buffer_size: int = setting(
        10,
        "Number of frames kept for goals that name a stamp instead of an image.",
        low=0,
        high=1000,
        fixed=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.anchors == "height" and not self.camera_height:
            raise ConfigError(
                "anchors is height and camera_height 0.0 m; give the camera's height above the ground"
            )

    def keyframe_selector(self) -> KeyframeSelector:
        """Return a selector of keyframes by these parameters."""
        return KeyframeSelector(
            self.keyframes,
            interval=self.keyframe_interval,
            min_interval=self.keyframe_min_interval,
            motion_threshold=self.keyframe_motion_threshold,
        )

    def same_keyframes(self, other: DepthSettings) -> bool:
        """Return whether two sets of parameters select the same keyframes."""
        names = ("keyframes", "keyframe_interval", "keyframe_min_interval", "keyframe_motion_threshold")
        return all(getattr(self, name) == getattr(other, name) for name in names)


@dataclass(frozen=True)
class ServerSettings(NetworkSettings):
    """Parameters of `refine_server`."""

    prior: str = setting(
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        "Diffusion model used as the prior: a hub name, a folder in the layout of a diffusers pipeline, or "
        "'tiny' (embedded, for trying out).",
        fixed=True,
    )
    vae: str = setting(
        "",
        "Autoencoder that replaces the prior's own, for example madebyollin/taesd; empty keeps it.",
        fixed=True,
    )
    prior_runtime: str = setting(
        "torch",
        "Runtime of the prior, see docs/how-to/runtimes.md: torch, compile (torch.compile) or cudagraphs "
        "(torch.compile with CUDA graphs, on a GPU). The last two compile it while the node is configured.",
        choices=PRIOR_RUNTIMES,
        fixed=True,
    )
    captioner: str = setting(
        "", "BLIP model that writes the prompt if none is given; empty uses no captioner.", fixed=True
    )
    cache_captioner: bool = setting(
        True, "Whether the captioner stays in memory; false loads it for each keyframe.", fixed=True
    )
    prompt: str = setting(
        "", "Description of the images for the prior; empty asks the captioner, if there is one."
    )
    threads: int = setting(
        1,
        "CPU threads of the networks; 0 uses one per core, which then competes with redepth_node.",
        low=0,
        high=256,
        fixed=True,
    )
    preset: str = setting(
        "default", "Settings of the refinement, see docs/explanation/method.md.", choices=tuple(PRESETS)
    )
    steps: int = setting(
        0, "Optimisation steps of each ensemble member; 0 uses the preset's.", low=0, high=100_000
    )
    ensemble_size: int = setting(
        0, "Independent refinements that are averaged; 0 uses the preset's.", low=0, high=100
    )
    seed: int = setting(0, "Seed of the random lights and noise.", low=0, high=2**31 - 1)
    time_budget: float = setting(
        60.0,
        "Time limit of a refinement: if not everything fits, it takes fewer steps, ensemble members and "
        "lights. 0 disables the limit.",
        unit="s",
        low=0.0,
        high=86_400.0,
    )
    max_age: float = setting(
        0.0,
        "Largest age of a published result, counted from the stamp of its image; older results are only "
        "returned to the client. 0 disables the limit.",
        unit="s",
        low=0.0,
        high=86_400.0,
    )
    policy: str = setting(
        "latest",
        "Handling of a goal that arrives while another one runs: latest replaces the old goal, which ends as "
        "aborted with its best result so far; queue lets the new one wait; reject rejects it.",
        choices=POLICIES,
    )
    queue_size: int = setting(5, "Largest number of waiting goals if policy is queue.", low=1, high=1000)
    preview_period: float = setting(
        1.0, "Time between depth images in the feedback; 0 sends none.", unit="s", low=0.0, high=3600.0
    )
    refined_frame_id: str = setting("", "Frame of the refined topics; empty uses the image's.")

    @property
    def age_warning(self) -> str:
        """Why results may be too old to be published, for the log; empty if they are not."""
        if not self.max_age or 0.0 < self.time_budget < self.max_age:
            return ""
        budget = f"{self.time_budget:g} s" if self.time_budget else "0 (no limit)"
        return (
            f"time_budget is {budget} and max_age {self.max_age:g} s: a keyframe that takes longer "
            "than max_age is refined, but not published; set time_budget below max_age"
        )

    def refinement(self, *, light_conditioned: bool, preset: str = "") -> RefineSettings:
        """Return the settings of a refinement by these parameters.

        Args:
            light_conditioned: of the prior, see `Prior.light_conditioned`.
            preset: replaces the parameter `preset`; empty keeps it.

        Raises:
            ConfigError: the preset is unknown.
        """
        overrides = {name: getattr(self, name) for name in ("steps", "ensemble_size") if getattr(self, name)}
        return dataclasses.replace(
            preset_for(preset or self.preset, light_conditioned),
            seed=self.seed,
            time_budget=self.time_budget,
            **overrides,
        )
