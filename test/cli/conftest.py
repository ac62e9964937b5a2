"""What the tests of the command line share: the embedded networks, loaded once, and a way to call it."""

from dataclasses import dataclass

import pytest
from ros_domains import use_own_domain

from redepth_ros.cli.main import main
from redepth_ros.data.rendered import load_rendered_images
from redepth_ros.models.engine import Engine

use_own_domain()


@dataclass
class Called:
    """Exit status and output of a command; runs of white space are one space."""

    status: int
    out: str
    err: str


@pytest.fixture(scope="session")
def engine():
    """The embedded networks."""
    return Engine.load("tiny", "tiny", device="cpu")


@pytest.fixture
def redepth(capsys, monkeypatch):
    """Calls `redepth` in this process, as its entry point does."""
    monkeypatch.setenv("COLUMNS", "300")

    def call(*arguments):
        status = 0
        capsys.readouterr()
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as ended:
            status = ended.code
        captured = capsys.readouterr()
        err = captured.err
        if isinstance(status, str):  # a message, which the interpreter prints
            status, err = 1, err + status
        return Called(status or 0, " ".join(captured.out.split()), err)

    return call


@pytest.fixture
def redepth_tiny(redepth, engine, monkeypatch):
    """Calls `redepth` with the embedded networks that are loaded already."""
    monkeypatch.setattr(Engine, "load", lambda model, prior, **options: engine)
    return redepth


@pytest.fixture(scope="module")
def room():
    """A rendered room: image and depth, (H, W)."""
    rendered = next(one for one in load_rendered_images() if one.kind == "room")
    return rendered.image, rendered.depth
