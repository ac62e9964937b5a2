"""The rules of bench/soak.py, on plain numbers."""

import math

import pytest

from bench.soaking.rules import longest_silence, slope_per_hour, worst_growth


@pytest.mark.parametrize(
    ("arrivals", "pauses", "silence", "began"),
    [
        ([0.0, 0.1, 0.2, 3.2, 3.3], [], 3.0, 0.2),
        ([0.0, 5.0], [(1.0, 4.0)], 2.0, 0.0),
        ([0.0, 5.0], [(-1.0, 1.0), (1.0, 2.0), (4.5, 9.0)], 2.5, 0.0),
        ([0.0, 1.0, 9.0], [(1.0, 9.0), (20.0, 30.0)], 1.0, 0.0),
        ([0.0, 2.0, 4.5], [(2.0, 3.0)], 2.0, 0.0),
    ],
)
def test_silence_counts_beyond_the_injected_pauses_only(arrivals, pauses, silence, began):
    assert longest_silence(arrivals, pauses) == pytest.approx((silence, began))


def rising(start, seconds, first, per_hour):
    return [(start + t, first + per_hour * t / 3600.0) for t in range(seconds)]


def test_slopes_are_common_to_the_lives_of_a_process_and_levels_are_not():
    lives = [rising(0.0, 100, 300.0, 50.0), rising(500.0, 300, 250.0, 50.0), [(900.0, 1.0)], []]
    assert slope_per_hour(lives) == pytest.approx(50.0)
    assert slope_per_hour([[(t, 7.0) for t in range(100)]]) == 0.0


def test_the_start_of_a_process_is_no_growth():
    life = [(t, 10.0 * min(t, 30)) for t in range(100)]
    assert slope_per_hour([life]) == pytest.approx(0.0)
    assert worst_growth([life]) == pytest.approx(0.0)


def test_growth_is_that_of_the_worst_life():
    lives = [rising(0.0, 130, 300.0, 360.0), rising(500.0, 130, 250.0, -360.0)]
    assert worst_growth(lives) == pytest.approx(9.0)


def test_too_short_a_life_has_no_slope():
    assert math.isnan(slope_per_hour([rising(0.0, 20, 1.0, 1.0), []]))
    assert math.isnan(worst_growth([rising(0.0, 20, 1.0, 1.0), []]))
