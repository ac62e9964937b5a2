"""Settings of the nodes: combinations, and what the nodes make of them."""

import dataclasses

import pytest

from redepth_ros.core.errors import ConfigError
from redepth_ros.core.metric.scale import Scale
from redepth_ros.core.metric.uncertainty import DepthLimits
from redepth_ros.core.refine.settings import preset_for
from redepth_ros.nodes.player_settings import PlayerSettings
from redepth_ros.nodes.settings import DepthSettings, ServerSettings


@pytest.mark.parametrize("kind", [DepthSettings, ServerSettings, PlayerSettings])
def test_every_parameter_is_described_in_a_sentence(kind):
    for field, declared in kind.declared():
        assert declared.description.endswith("."), field.name
        assert declared.description[0].isupper() or declared.description.startswith(field.name), field.name
        kind(**{field.name: field.default})


@pytest.mark.parametrize(
    ("kind", "name", "value", "words"),
    [
        (DepthSettings, "scale", -1.0, "scale is -1.0"),
        (DepthSettings, "max_depth", float("nan"), "max_depth is nan"),
        (
            DepthSettings,
            "depth_encoding",
            "64FC1",
            "depth_encoding is '64FC1'; it must be one of: 32FC1, 16UC1",
        ),
        (DepthSettings, "input_size", 9999, "input_size is 9999; it must be from 0 to 4096 pixels"),
        (DepthSettings, "min_depth", 2000.0, "min_depth is 2000.0 m and max_depth 100.0 m"),
        (DepthSettings, "min_depth", 100.0, "min_depth must be smaller"),
        (DepthSettings, "anchors", "height", "camera_height 0.0 m; give the camera's height"),
        (ServerSettings, "preset", "fast", "preset is 'fast'; it must be one of: default, paper"),
        (ServerSettings, "policy", "none", "policy is 'none'"),
        (ServerSettings, "ensemble_size", 101, "ensemble_size is 101"),
        (PlayerSettings, "horizontal_fov", 180.0, "horizontal_fov is 180.0"),
    ],
)
def test_an_invalid_value_is_refused_with_a_reason(kind, name, value, words):
    with pytest.raises(ConfigError, match=words):
        kind(**{name: value})


def test_limits_are_those_of_the_parameters():
    settings = DepthSettings(min_depth=0.5, max_depth=9.0, max_relative_stddev=0.2, max_relative_gradient=0.3)
    assert settings.limits == DepthLimits(0.5, 9.0, 0.2, 0.3)


def test_the_parameter_scale_multiplies_a_known_scale():
    settings = DepthSettings(scale=2.0, shift=0.5)
    assert settings.fixed_scale(metric=False, known=Scale(3.0)) == Scale(6.0)


def test_fixed_scale_ignores_the_shift_of_a_metric_network():
    settings = DepthSettings(scale=2.0, shift=0.5)
    assert settings.fixed_scale(metric=False) == Scale(2.0, 0.5)
    assert settings.fixed_scale(metric=True) == Scale(2.0, 0.0)


@pytest.mark.parametrize(
    "change",
    [
        {"keyframes": "all"},
        {"keyframe_interval": 2.0},
        {"keyframe_min_interval": 0.5},
        {"keyframe_motion_threshold": 0.3},
    ],
)
def test_same_keyframes_compares_every_keyframe_parameter(change):
    settings = DepthSettings()
    assert settings.same_keyframes(dataclasses.replace(settings, scale=2.0))
    assert not settings.same_keyframes(dataclasses.replace(settings, **change))


def test_refinement_takes_the_preset_where_a_parameter_is_zero():
    found = ServerSettings(seed=5, time_budget=9.0).refinement(light_conditioned=True)
    assert found == dataclasses.replace(preset_for("default", True), seed=5, time_budget=9.0)
    assert ServerSettings().refinement(light_conditioned=True).time_budget == 60.0


@pytest.mark.parametrize(
    ("time_budget", "max_age", "words"),
    [
        (60.0, 0.0, ""),
        (0.0, 0.0, ""),
        (6.0, 8.0, ""),
        (8.0, 8.0, "time_budget is 8 s and max_age 8 s"),
        (60.0, 8.0, "time_budget is 60 s and max_age 8 s"),
        (0.0, 8.0, "time_budget is 0 (no limit) and max_age 8 s"),
    ],
)
def test_a_budget_beyond_max_age_is_a_warning_that_quotes_both(time_budget, max_age, words):
    warning = ServerSettings(time_budget=time_budget, max_age=max_age).age_warning
    assert warning.startswith(words)
    assert bool(warning) == bool(words)
    assert ("set time_budget below max_age" in warning) == bool(words)


def test_refinement_takes_the_parameters_that_are_set():
    found = ServerSettings(steps=7, ensemble_size=3, preset="paper").refinement(light_conditioned=True)
    assert (found.steps, found.ensemble_size) == (7, 3)
    assert found.guidance_scale == preset_for("paper", True).guidance_scale


def test_refinement_suits_the_prior_and_the_given_preset():
    settings = ServerSettings()
    budget = {"time_budget": settings.time_budget}
    found = settings.refinement(light_conditioned=False)
    assert found == dataclasses.replace(preset_for("default", False), **budget)
    found = settings.refinement(light_conditioned=True, preset="paper")
    assert found == dataclasses.replace(preset_for("paper", True), **budget)
    with pytest.raises(ConfigError, match="preset is 'slow'"):
        settings.refinement(light_conditioned=True, preset="slow")
