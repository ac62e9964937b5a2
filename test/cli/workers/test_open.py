"""The pool that the options choose."""

from argparse import ArgumentParser

import pytest

from redepth_ros.cli.options import add_network_options, add_worker_options
from redepth_ros.cli.workers import open as opening
from redepth_ros.cli.workers.pool import SerialPool


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "serial"),
        (["--workers", "1"], "serial"),
        (["--workers", "3"], ("processes", 3)),
        (["--ray"], ("ray", 0, "")),
        (["--ray", "head:6379", "--workers", "4"], ("ray", 4, "head:6379")),
    ],
)
def test_options_choose_where_tasks_are_done(arguments, expected, engine, monkeypatch):
    parser = ArgumentParser()
    add_network_options(parser)
    add_worker_options(parser, "work")
    parser.set_defaults(captioner="")
    monkeypatch.setattr(opening.EngineOptions, "load", lambda options: engine)
    monkeypatch.setattr(opening, "ProcessTeam", lambda networks, size: ("processes", size))
    monkeypatch.setattr(opening, "RayTeam", lambda networks, size, address: ("ray", size, address))
    monkeypatch.setattr(opening, "WorkerPool", lambda team, should_stop: team)
    pool = opening.open_pool(parser.parse_args(arguments))
    assert ("serial" if isinstance(pool, SerialPool) else pool) == expected
