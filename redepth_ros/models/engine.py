"""The networks of a refinement, loaded together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.errors import ConfigError, ImageError
from redepth_ros.core.images import to_rgb8
from redepth_ros.core.metric.anchors import Anchors
from redepth_ros.core.metric.scale import Scale
from redepth_ros.core.refine.run import Refiner, Run
from redepth_ros.core.refine.settings import RefineSettings, preset_for
from redepth_ros.models.captioner import Captioner
from redepth_ros.models.depth_anything import DepthAnything
from redepth_ros.models.depth_networks import load_depth_network
from redepth_ros.models.diffusion import DiffusionPrior
from redepth_ros.models.download import Report
from redepth_ros.models.prior_runtime import compile_errors
from redepth_ros.models.prompt_depth_anything import with_prompt

__all__ = ["Engine"]


@dataclass
class Engine:
    """A depth network, a prior and an optional captioner.

    ::

        engine = Engine.load(model="tiny", prior="tiny")
        run = engine.start(image)  # (H, W, 3) uint8 RGB
        for step in run.steps():
            print(step.step, step.loss)
        result = run.result().at_size(*image.shape[:2])
        print(result.message, result.depth.shape)
    """

    model: DepthAnything
    prior: DiffusionPrior
    load_captioner: Callable[[], Captioner] | None = None
    """Returns the captioner: always the same one, or loaded anew for each image."""

    @classmethod
    def load(
        cls,
        model: str = "tiny",
        prior: str = "tiny",
        *,
        vae: str = "",
        prior_runtime: str = "torch",
        captioner: str = "",
        cache_captioner: bool = True,
        device: str = "auto",
        precision: str = "auto",
        report: Report | None = None,
    ) -> Engine:
        """Load all networks; `load_depth_network`, `DiffusionPrior` and `Captioner` document the names.

        Args:
            cache_captioner: False frees the captioner after each image.
            report: called with the progress of a download; None draws progress bars.

        Raises:
            ConfigError: the device, the precision or the runtime is not available.
            ModelError: a network is missing, damaged or of another type.
        """
        options: dict[str, Any] = {"device": device, "precision": precision, "report": report}
        load_captioner: Callable[[], Captioner] | None = None
        if captioner:
            load_captioner = partial(Captioner.load, captioner, **options)
            cached = load_captioner()  # raises an error before the captioner is needed
            if cache_captioner:
                load_captioner = partial(lambda one: one, cached)
            del cached  # makes room for the other networks where it is not kept
        return cls(
            load_depth_network(model, **options),
            DiffusionPrior.load(prior, vae=vae, runtime=prior_runtime, **options),
            load_captioner,
        )

    def preset(self, name: str = "default") -> RefineSettings:
        """Return the settings of a preset that suit the prior; see `preset_for`."""
        return preset_for(name, self.prior.light_conditioned)

    def warm_up(self, settings: RefineSettings, input_size: int = 0) -> None:
        """Refine noise by one step; a prior that is to be compiled is compiled here.

        Args:
            settings: of the refinements to come, which decide how many images pass the prior at once.
            input_size: longer side of the network's input, pixels; 0 takes the network's default.

        Raises:
            ModelError: the prior can't be compiled.
        """
        image = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
        short = replace(settings, steps=1, time_budget=0.0)
        with compile_errors():
            for _ in self.start(image, short, prompt="noise", input_size=input_size).steps():
                pass

    def start(
        self,
        image: NDArray[Any],
        settings: RefineSettings | None = None,
        *,
        camera: PinholeCamera | None = None,
        prompt: str = "",
        input_size: int = 0,
        anchors: Anchors | None = None,
        scale: Scale | None = None,
    ) -> Run:
        """Start a run on one image.

        Args:
            image: (H, W, 3) RGB, or any image that `core.images.to_rgb8` takes.
            settings: those of `preset`, or a variation; None takes the preset `default`.
            camera: of the image; None takes parallel rays, as the paper does.
            prompt: describes the image; empty asks the captioner, if there is one.
            input_size: longer side of the network's input, pixels; 0 takes the network's default.
            anchors: measured depth of the image; also the prompt of a network that takes one.
            scale: of the network's output, if known; None fits it to the anchors.

        Raises:
            ImageError: the image can't be used, or is smaller than a patch.
            ConfigError: the camera's size is not that of the image.
            AnchorError: the anchors do not determine the scale, or are no prompt.
        """
        rgb = to_rgb8(image)
        height, width = rgb.shape[:2]
        if min(height, width) < self.model.patch:
            raise ImageError(
                f"image has {width}x{height} pixels; both sides must be at least the network's patch, "
                f"{self.model.patch} pixels"
            )
        if camera and (camera.height, camera.width) != (height, width):
            raise ConfigError(
                f"the camera has {camera.width}x{camera.height} pixels, the image {width}x{height}; "
                "they must be equal"
            )
        if self.load_captioner and not prompt:
            prompt = self.load_captioner().caption(rgb)
        model = with_prompt(self.model, anchors)
        pixels = model.preprocess(rgb, input_size)  # (1, 3, h, w)
        rows, columns = pixels.shape[-2:]
        return Refiner(model, self.prior, settings or self.preset()).start(
            pixels,
            camera=camera.resized(columns, rows) if camera else None,
            prompt=prompt,
            anchors=anchors,
            scale=scale,
        )
