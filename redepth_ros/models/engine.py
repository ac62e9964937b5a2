"""Everything that refining a picture takes, loaded and ready."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from redepth_ros.core.metric.anchors import Anchors
from redepth_ros.core.errors import ConfigError, ImageError
from redepth_ros.core.camera import Intrinsics
from redepth_ros.core.images import rgb_bytes
from redepth_ros.core.refine.settings import RefineSettings, preset_for
from redepth_ros.core.refine.run import Refiner, Run
from redepth_ros.core.metric.scale import Scale
from redepth_ros.models.captioner import Captioner
from redepth_ros.models.depth_anything import DepthAnything
from redepth_ros.models.diffusion import DiffusionPrior

__all__ = ["Engine"]


@dataclass
class Engine:
    """A depth network, a prior and, where one is wanted, a captioner.

    ::

        engine = Engine.load(model="tiny", prior="tiny")
        run = engine.start(picture)
        for step in run.steps():
            print(step.step, step.loss)
        result = run.result()
        disparity = engine.full_size(result.refined, *picture.shape[:2])
    """

    model: DepthAnything
    prior: DiffusionPrior
    load_captioner: Callable[[], Captioner] | None = None
    """Gives the captioner, where one is wanted: always the same, or loaded anew for each picture."""

    @classmethod
    def load(
        cls, model: str = "tiny", prior: str = "tiny", *, coder: str = "", captioner: str = "",
        keep_captioner: bool = True, device: str = "auto", precision: str = "auto",
    ) -> Engine:  # fmt: skip
        """Load all parts; see `DepthAnything`, `DiffusionPrior` and `Captioner` for the names.

        `keep_captioner` False frees the captioner after each picture.

        Raises:
            ConfigError: a device or precision that can't be had.
            ModelError: a part is missing, damaged or of another kind.
        """
        where = {"device": device, "precision": precision}
        load_captioner: Callable[[], Captioner] | None = None
        if captioner:
            load_captioner = partial(Captioner.load, captioner, **where)
            kept = load_captioner()  # says what is wrong with it before it is needed
            if keep_captioner:
                load_captioner = partial(lambda one: one, kept)
            del kept  # one that does not stay makes room for the other networks
        return cls(
            DepthAnything.load(model, **where),
            DiffusionPrior.load(prior, coder=coder, **where),
            load_captioner,
        )

    def preset(self, name: str = "fast") -> RefineSettings:
        """The settings of a preset that suit the prior; see `preset_for`."""
        return preset_for(name, self.prior.knows_light)

    def start(
        self, picture: NDArray[Any], settings: RefineSettings | None = None, *,
        intrinsics: Intrinsics | None = None, prompt: str = "", longer_side: int = 0,
        anchors: Anchors | None = None, scale: Scale | None = None,
    ) -> Run:  # fmt: skip
        """A run on one picture.

        Args:
            picture: as `core.pictures.rgb_bytes` takes it.
            settings: those of `preset`, or a variation; None is the preset `fast`.
            intrinsics: of the picture; None sees along parallel rays, as the paper does.
            prompt: what the picture shows; empty asks the captioner, where there is one.
            longer_side: pixels at which the network sees the picture; 0 is the model's own.
            anchors: what was measured of the picture.
            scale: that of the network's disparity, where it is known; None fits it to the anchors.

        Raises:
            ImageError: a picture that can't be used, or is smaller than a patch.
            ConfigError: intrinsics of another size.
            AnchorError: the anchors do not determine the scale.
        """
        image = rgb_bytes(picture)
        height, width = image.shape[:2]
        if min(height, width) < self.model.patch:
            raise ImageError(
                f"picture of {width}x{height} pixels; both sides must be at least the model's patch, "
                f"{self.model.patch} pixels"
            )
        if self.load_captioner and not prompt:
            prompt = self.load_captioner().caption(image)
        pixels = self.model.preprocess(image, longer_side)
        if intrinsics:
            if (intrinsics.height, intrinsics.width) != (height, width):
                raise ConfigError(
                    f"intrinsics are of {intrinsics.width}x{intrinsics.height} pixels, the picture has "
                    f"{width}x{height}; they must be the picture's own"
                )
            intrinsics = intrinsics.resized(pixels.shape[-1], pixels.shape[-2])
        if anchors:
            anchors = anchors.resized(pixels.shape[-2], pixels.shape[-1])
        return Refiner(self.model, self.prior, settings or self.preset()).start(
            pixels, intrinsics=intrinsics, prompt=prompt, anchors=anchors, scale=scale
        )

    @staticmethod
    def full_size(values: Tensor, height: int, width: int) -> Tensor:
        """A map (h, w) of a `Refinement` at its picture's size: (H, W)."""
        return interpolate(values[None, None], (height, width), mode="bilinear")[0, 0]
