"""Command-line options that are made from settings."""

import argparse

import pytest

from redepth_ros.cli.options import (
    add_network_options,
    add_refine_options,
    count,
    given_settings,
    replace_settings,
)
from redepth_ros.core.errors import ConfigError
from redepth_ros.core.refine.settings import RefineSettings


@pytest.fixture
def parser():
    parser = argparse.ArgumentParser()
    add_refine_options(parser)
    return parser


def test_every_setting_is_an_option(parser):
    options = vars(parser.parse_args([]))
    assert options == dict.fromkeys(field.name for field, _ in RefineSettings.declared())


def test_help_has_description_range_unit_and_defaults(parser):
    text = " ".join(parser.format_help().split())
    assert (
        "Independent runs whose depths are averaged (from 1 to 100; default: 2, 10 in preset paper)" in text
    )
    assert "(from 0 to 86400 s; default: 0.0)" in text
    assert "(one of: paper, soft; default: soft, paper in preset paper)" in text


def test_given_settings_are_those_that_were_typed(parser):
    options = parser.parse_args(
        ["--steps", "3", "--t-min", "0.25", "--no-cosine-decay", "--light-style", "paper", "--seed", "0"]
    )
    expected = {"steps": 3, "t_min": 0.25, "cosine_decay": False, "light_style": "paper", "seed": 0}
    assert given_settings(options) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ensemble-size", "101"], "--ensemble-size is 101; it must be from 1 to 100"),
        (["--steps", "0"], "--steps is 0; it must be from 1 to 100000"),
        (["--time-budget", "-1"], "--time-budget is -1.0; it must be from 0 to 86400 s"),
        (["--time-budget", "nan"], "--time-budget is nan; it must be a finite number"),
        (["--light-style", "x"], "--light-style is 'x'; it must be one of: paper, soft"),
    ],
)
def test_range_errors_name_the_option(parser, arguments, message):
    with pytest.raises(ConfigError) as error:
        given_settings(parser.parse_args(arguments))
    assert str(error.value) == message


def test_contradictions_name_the_options():
    with pytest.raises(ConfigError) as error:
        replace_settings(RefineSettings(), {"t_min": 0.99})
    assert str(error.value) == "--t-min is 0.99 and --t-max is 0.98; --t-min must be smaller"


def test_a_number_that_is_none_names_the_option(parser, capsys):
    with pytest.raises(SystemExit):
        parser.parse_args(["--steps", "many"])
    assert "argument --steps: invalid int value: 'many'" in capsys.readouterr().err


def test_some_settings_only():
    parser = argparse.ArgumentParser()
    add_refine_options(parser, ("steps",), default="the server's")
    assert vars(parser.parse_args([])) == {"steps": None}
    assert "default: the server's" in " ".join(parser.format_help().split())


def test_network_options_default_to_the_embedded_networks():
    parser = argparse.ArgumentParser()
    add_network_options(parser)
    options = parser.parse_args([])
    assert (options.model, options.prior, options.vae, options.input_size) == ("tiny", "tiny", "", 0)


def test_count_rejects_negative_numbers():
    assert count("12") == 12
    with pytest.raises(argparse.ArgumentTypeError, match="'-1' is not an integer of at least 0"):
        count("-1")
