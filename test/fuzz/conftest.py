"""Profiles of the fuzz tests: `suite`, the default, and `long`, with 100 times as many inputs.

./dev test test/fuzz --hypothesis-profile=long
"""

from hypothesis import HealthCheck, Phase, settings

from fuzz.harness import ACCEPTED, REFUSED

COMMON = {
    "deadline": None,
    "database": None,
    "phases": [Phase.explicit, Phase.generate, Phase.shrink],
    "suppress_health_check": list(HealthCheck),
}
settings.register_profile("suite", max_examples=40, derandomize=True, **COMMON)
settings.register_profile("long", max_examples=4000, **COMMON)


def pytest_configure(config):
    settings.load_profile(config.getoption("--hypothesis-profile") or "suite")


def pytest_terminal_summary(terminalreporter):
    names = sorted({*ACCEPTED, *REFUSED})
    if not names:
        return
    terminalreporter.section("inputs of the fuzz tests")
    for name in names:
        terminalreporter.line(f"{ACCEPTED[name]:9d} decoded {REFUSED[name]:9d} refused  {name}")
    terminalreporter.line(f"{ACCEPTED.total():9d} decoded {REFUSED.total():9d} refused  in all")
