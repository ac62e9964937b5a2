"""tools/mutate.py, and whether its faults still fit the code."""

import subprocess
import sys
from pathlib import Path

import pytest

from tools import mutate
from tools.mutations import MUTATIONS, Mutation

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tree(tmp_path):
    """A repository of one module and its test."""
    (tmp_path / "redepth_ros" / "core").mkdir(parents=True)
    for folder in (tmp_path / "redepth_ros", tmp_path / "redepth_ros" / "core"):
        (folder / "__init__.py").write_text("")
    (tmp_path / "redepth_ros" / "core" / "sum.py").write_text("def add(a, b):\n    return a + b\n")
    (tmp_path / "test" / "core").mkdir(parents=True)
    (tmp_path / "test" / "core" / "test_sum.py").write_text(
        "from redepth_ros.core.sum import add\n\n\ndef test_sum():\n    assert add(2, 2) == 4\n"
    )
    return tmp_path


def fault(old, new):
    return Mutation("redepth_ros/core/sum.py", old, new, "a wrong sum")


def test_every_fault_fits_the_code():
    assert mutate.find_stale(MUTATIONS) == []


def test_there_are_enough_faults_of_each_part():
    parts = [Path(one.file).parts[1] for one in MUTATIONS]
    assert len(MUTATIONS) >= 40
    assert {part: parts.count(part) >= 10 for part in ("core", "ros", "nodes")} == dict.fromkeys(
        ("core", "ros", "nodes"), True
    )


def test_a_fault_whose_text_is_gone_is_stale(tree):
    for old in ("a - b", "a"):  # nowhere, and several times
        with pytest.raises(mutate.StaleMutationError, match=r"occurs \d times; it must occur once"):
            mutate.apply(fault(old, "x"), tree)


def test_tests_of_a_module_mirror_it(tree):
    assert mutate.tests_of("redepth_ros/core/sum.py", tree) == "test/core/test_sum.py"
    assert mutate.tests_of("redepth_ros/core/refine/other.py", tree) == "test/core"


@pytest.mark.parametrize(
    ("old", "new", "caught"),
    [
        ("a + b", "a - b", "test_sum"),
        ("a + b", "a * b", ""),
        ("def add", "def sub", "exit status|ERROR|test_sum.py"),
    ],
)
def test_a_fault_is_caught_if_a_test_fails(old, new, caught, tree, monkeypatch):
    monkeypatch.setattr(mutate, "ROOT", tree)
    subprocess.run(["git", "init", "-q"], cwd=tree, check=True)
    trees = mutate.Trees(1, tree / "copies")
    outcome = trees.try_out(fault(old, new), "test/core/test_sum.py")
    assert bool(outcome.caught_by) == bool(caught)
    assert any(part in outcome.caught_by for part in caught.split("|"))
    copied = tree / "copies" / "0" / "redepth_ros" / "core" / "sum.py"
    assert copied.read_text() == "def add(a, b):\n    return a + b\n"


def test_tests_that_fail_without_a_fault_catch_nothing(tree, monkeypatch):
    monkeypatch.setattr(mutate, "ROOT", tree)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    subprocess.run(["git", "init", "-q"], cwd=tree, check=True)
    trees = mutate.Trees(1, tree / "copies")
    with pytest.raises(mutate.BrokenTestsError, match=r"test_sum.py fails without a fault"):
        trees.check("test/core/test_sum.py")
