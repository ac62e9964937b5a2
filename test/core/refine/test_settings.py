"""Settings of a refinement, and the presets."""

import dataclasses

import pytest

from redepth_ros.core.errors import ConfigError
from redepth_ros.core.refine.settings import PRESETS, RefineSettings, preset_for


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": 0}, "steps is 0; it must be from 1 to 100000"),
        ({"ensemble_size": 9999}, "ensemble_size is 9999; it must be from 1 to 100"),
        ({"t_min": 0.7, "t_max": 0.6}, "t_min is 0.7 and t_max is 0.6; t_min must be smaller"),
        ({"t_min": 0.6, "t_max": 0.6}, "t_min must be smaller"),
        ({"t_min": 0.3, "t_anneal": 0.4}, "t_anneal is 0.4 and t_min is 0.3; t_anneal must not be larger"),
        ({"light_style": "hard"}, "light_style is 'hard'; it must be one of: paper, soft"),
        ({"embedding_learning_rate": float("nan")}, "embedding_learning_rate is nan"),
        ({"steps": 4.0}, "steps is 4.0; it must be of type int"),
        ({"time_budget": -1.0}, "time_budget is -1.0; it must be from 0 to 86400 s"),
    ],
)
def test_settings_out_of_range_are_rejected(changes, words):
    with pytest.raises(ConfigError, match=words):
        RefineSettings(**changes)


def test_annealing_down_to_noise_level_0_is_valid():
    assert RefineSettings(t_min=0.4, t_anneal=0.4).t_anneal == 0.4


def test_the_paper_preset_has_the_published_values():
    """Re-Depth Anything, sections 3 and 4, for Depth Anything V2 Small."""
    published = {
        "steps": 1000,
        "ensemble_size": 10,
        "ensemble_batch_size": 1,
        "lights_per_step": 1,
        "light_style": "paper",
        "embedding_learning_rate": 1e-3,
        "decoder_learning_rate": 2e-6,
        "scale_learning_rate": 1e-3,
        "weight_decay": 0.01,
        "cosine_decay": False,
        "averaging_fraction": 0.0,
        "depth_scale": 7.0,
        "disparity_offset": 0.1,
        "guidance_scale": 50.0,
        "t_min": 0.02,
        "t_max": 0.6,
        "t_anneal": 0.0,
        "mirror_augmentation": False,
        "sds_weight": 1.0,
        "sample_latents": True,
        "smoothness_weight": 1.0,
        "trust_region_radius": 0.0,
        "disparity_mean": 0.0,
        "min_initial_loss": 0.0,
        "max_early_loss_ratio": 0.0,
        "max_plane_loss_ratio": 0.0,
        "max_mirror_loss_ratio": 0.0,
    }
    found = dataclasses.asdict(PRESETS["paper"])
    assert {name: found[name] for name in published} == published


def test_a_preset_for_a_light_conditioned_prior_is_the_preset():
    assert preset_for("default", True) == PRESETS["default"] == RefineSettings()
    assert preset_for("paper", True) == preset_for("paper", False) == PRESETS["paper"]


def test_the_default_preset_suits_a_prompted_prior():
    settings, paper = preset_for("default", False), PRESETS["paper"]
    assert settings.guidance_scale == paper.guidance_scale
    assert (settings.t_min, settings.t_max, settings.t_anneal) == (0.02, 0.6, 0.0)
    assert settings.light_style == "paper"
    assert not settings.mirror_augmentation
    assert settings.smoothness_weight == 1.0
    for name in ("min_initial_loss", "max_early_loss_ratio", "max_plane_loss_ratio", "max_mirror_loss_ratio"):
        assert getattr(settings, name) == 0.0
    assert settings.disparity_mean == PRESETS["default"].disparity_mean
    assert settings.relit_batch_size == 2
    kept = ("steps", "ensemble_size", "cosine_decay", "averaging_fraction", "trust_region_radius")
    for name in kept:
        assert getattr(settings, name) == getattr(PRESETS["default"], name)
    # As far as the published run can get: a cosine's mean is a half.
    reach = 0.5 * settings.steps * settings.embedding_learning_rate
    assert reach == pytest.approx(paper.steps * paper.embedding_learning_rate)
    assert settings.anchored_learning_rate == settings.embedding_learning_rate


def test_an_unknown_preset_is_rejected():
    with pytest.raises(ConfigError, match="preset is 'slow'; it must be one of: default, paper"):
        preset_for("slow", True)
