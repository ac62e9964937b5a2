"""Which networks a command loads, and what is known of them afterwards."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version

from redepth_ros import __version__
from redepth_ros.core.refine.settings import RefineSettings, preset_for
from redepth_ros.models.engine import Engine
from redepth_ros.models.hub import network_hash

__all__ = ["EngineFacts", "EngineOptions", "package_versions"]


@dataclass(frozen=True)
class EngineOptions:
    """Names of the networks, and how they are loaded; see `Engine.load`."""

    model: str
    prior: str
    vae: str = ""
    captioner: str = ""
    device: str = "auto"
    precision: str = "auto"

    @classmethod
    def of(cls, options: argparse.Namespace) -> EngineOptions:
        """Return those of a command line."""
        return cls(
            options.model, options.prior, options.vae, options.captioner, options.device, options.precision
        )

    def load(self, device: str = "") -> Engine:
        """Load the networks, on another device if one is named."""
        return Engine.load(
            self.model,
            self.prior,
            vae=self.vae,
            captioner=self.captioner,
            device=device or self.device,
            precision=self.precision,
        )


@dataclass(frozen=True)
class EngineFacts:
    """Properties of loaded networks; equal if they give equal results."""

    version: str
    """Of this package, where the networks are loaded."""
    model: str
    model_hash: str
    metric: bool
    longer_side: int
    """Default of the longer side of the network's input, pixels."""
    prior: str
    prior_hash: str
    light_conditioned: bool
    dtype: str
    device: str = field(compare=False)

    @classmethod
    def of(cls, engine: Engine) -> EngineFacts:
        """Return those of an engine."""
        model, prior = engine.model, engine.prior
        return cls(
            __version__,
            model.name,
            network_hash(model.network),
            model.metric,
            model.longer_side,
            prior.name,
            network_hash(*prior.modules),
            prior.light_conditioned,
            str(model.dtype),
            str(model.device),
        )

    def preset(self, name: str) -> RefineSettings:
        """Return the settings of a preset that suit the prior."""
        return preset_for(name, self.light_conditioned)


def package_versions() -> dict[str, str]:
    """Return the versions of all packages that change results; empty for those that are not installed."""
    versions = {"redepth_ros": __version__, "python": sys.version.split()[0]}
    for name in ("torch", "transformers", "diffusers", "numpy", "rosbags"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = ""
    return versions
