#!/usr/bin/env python3
"""Measure what the tests catch: apply single faults to the code and run the tests of the module.

    ./dev run python tools/mutate.py [--only TEXT] [--all] [--jobs 2] [--list]

Each fault of tools/mutations.py is applied to a copy of the repository, where the tests that mirror
the module run (redepth_ros/core/camera.py: test/core/test_camera.py, else the nearest folder of
tests); --all runs the whole suite. A fault is caught if a test fails. Unchanged code has to pass
first. Exit status: 0 if at least 90 % are caught, 1 if not, 2 if a fault no longer fits the code or
the tests fail without one.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

if __package__:
    from tools.mutations import MUTATIONS, Mutation
else:
    from mutations import MUTATIONS, Mutation

ROOT = Path(__file__).parents[1]
WANTED = 0.9
"""Share of the faults that has to be caught."""
TIMEOUT = 300.0
"""Seconds for the tests of one fault; tests that hang have caught it."""


TESTS_FAILED = 1
"""Exit status of pytest; any other one except 0 means that it could not run the tests."""


class StaleMutationError(Exception):
    """A mutation does not fit the code."""


class BrokenTestsError(Exception):
    """Tests fail on unchanged code."""


@dataclass(frozen=True)
class Outcome:
    """What the tests said of one mutation."""

    mutation: Mutation
    caught_by: str
    """Name of the first test that failed; empty if all passed."""
    seconds: float


def apply(mutation: Mutation, root: Path) -> str:
    """Apply a mutation to a tree; return the original text of the file.

    Raises:
        StaleMutationError: the file is missing, or does not contain the text exactly once.
    """
    path = root / mutation.file
    original = path.read_text(encoding="utf-8") if path.is_file() else ""
    found = original.count(mutation.old)
    if found != 1:
        raise StaleMutationError(
            f"{mutation.file}: {mutation.old!r} occurs {found} times; it must occur once"
        )
    path.write_text(original.replace(mutation.old, mutation.new), encoding="utf-8")
    return original


def tests_of(file: str, root: Path) -> str:
    """Return the test file that mirrors a module, or else the nearest folder of tests."""
    module = Path(file).relative_to("redepth_ros")
    mirror = Path("test", module.parent, f"test_{module.name}")
    while not (root / mirror).exists():
        mirror = mirror.parent
    return str(mirror)


def copy_tree(target: Path) -> None:
    """Copy the files that git tracks or would track."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)


def run_tests(tree: Path, tests: str) -> tuple[int, str]:
    """Run tests in a tree; return pytest's exit status and the name of the first test that failed, or ""."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(tree), os.environ.get("PYTHONPATH", "")))),
        # A changed file may have the size and the time of the original: its bytecode would be used.
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests.split()]
    try:
        done = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, timeout=TIMEOUT
        )
    except subprocess.TimeoutExpired:
        return TESTS_FAILED, "timeout"
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    return done.returncode, failed[1] if failed else f"exit status {done.returncode}"


class Trees:
    """Copies of the repository, one for each job."""

    def __init__(self, jobs: int, folder: Path) -> None:
        self._free: Queue[Path] = Queue()
        for number in range(jobs):
            tree = folder / str(number)
            copy_tree(tree)
            self._free.put(tree)

    @contextmanager
    def borrow(self):
        """Provide a copy that no other job uses."""
        tree = self._free.get()
        try:
            yield tree
        finally:
            self._free.put(tree)

    def check(self, tests: str) -> None:
        """Run tests on unchanged code.

        Raises:
            BrokenTestsError: one fails.
        """
        with self.borrow() as tree:
            self._check(tree, tests)

    def _check(self, tree: Path, tests: str) -> None:
        status, failed = run_tests(tree, tests)
        if status:
            raise BrokenTestsError(f"{tests} fails without a fault: {failed}")

    def try_out(self, mutation: Mutation, tests: str) -> Outcome:
        """Run tests on changed code.

        Raises:
            BrokenTestsError: the tests can't run any more, not even on unchanged code.
        """
        with self.borrow() as tree:
            original, start = apply(mutation, tree), time.monotonic()
            try:
                status, failed = run_tests(tree, tests)
            finally:
                (tree / mutation.file).write_text(original, encoding="utf-8")
            if status not in (0, TESTS_FAILED):  # the fault prevents the import, or the environment is broken
                self._check(tree, tests)
            return Outcome(mutation, failed if status else "", time.monotonic() - start)


def find_stale(mutations: list[Mutation]) -> list[str]:
    """Return a message for each mutation that does not fit the code."""
    messages = []
    with tempfile.TemporaryDirectory() as folder:
        for mutation in mutations:
            copy = Path(folder, mutation.file)
            copy.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / mutation.file).is_file():
                shutil.copy(ROOT / mutation.file, copy)
            try:
                apply(mutation, Path(folder))
            except StaleMutationError as error:
                messages.append(str(error))
    return messages


def run_all(mutations: list[Mutation], whole_suite: bool, jobs: int, console: Console) -> list[Outcome]:
    """Try every mutation.

    Raises:
        BrokenTestsError: tests fail on unchanged code.
    """
    targets = {one: "test" if whole_suite else tests_of(one.file, ROOT) for one in mutations}
    outcomes = []
    with (
        tempfile.TemporaryDirectory(prefix="redepth-mutate-") as folder,
        ThreadPoolExecutor(jobs) as pool,
        Progress(console=console) as progress,
    ):
        trees = Trees(jobs, Path(folder))
        names = sorted(set(targets.values()))
        try:
            task = progress.add_task("unchanged code", total=len(names))
            for _ in pool.map(trees.check, names):
                progress.advance(task)
            task = progress.add_task("faults", total=len(targets))
            for outcome in pool.map(lambda item: trees.try_out(*item), targets.items()):
                progress.advance(task)
                outcomes.append(outcome)
        except BrokenTestsError:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return outcomes


def print_outcomes(console: Console, outcomes: list[Outcome]) -> float:
    """Print which faults are caught; return their share."""
    table = Table("module", "fault", "caught by", "s", box=SIMPLE)
    for one in outcomes:
        test = one.caught_by.partition("::")[2] or one.caught_by or "[bold]survives[/]"
        table.add_row(
            one.mutation.file.removeprefix("redepth_ros/"), one.mutation.fault, test, f"{one.seconds:.0f}"
        )
    console.print(table)
    parts: dict[str, list[bool]] = {}
    for one in outcomes:
        parts.setdefault(Path(one.mutation.file).parts[1], []).append(bool(one.caught_by))
    for name, caught in parts.items():
        console.print(f"{name}: {sum(caught)} of {len(caught)} caught")
    share = sum(bool(one.caught_by) for one in outcomes) / len(outcomes)
    console.print(f"{share:.0%} of {len(outcomes)} faults are caught; at least {WANTED:.0%} are wanted")
    return share


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="TEXT", help="faults whose file contains this text")
    parser.add_argument("--all", action="store_true", help="run the whole suite on every fault (hours)")
    parser.add_argument(
        "--jobs", type=int, default=2, help="faults that are tried at the same time (default: 2)"
    )
    parser.add_argument("--list", action="store_true", help="list the faults and their tests")
    options = parser.parse_args()
    console = Console()
    mutations = [one for one in MUTATIONS if options.only in one.file]
    if not mutations:
        sys.exit(f"no fault in a file with {options.only!r} in its name")
    stale = find_stale(mutations)
    if stale:
        console.print("\n".join(stale), markup=False, highlight=False)
        sys.exit(2)
    if options.list:
        for one in mutations:
            console.print(f"{one.file}: {one.fault} ({tests_of(one.file, ROOT)})", soft_wrap=True)
        return
    try:
        outcomes = run_all(mutations, options.all, options.jobs, console)
    except BrokenTestsError as error:
        console.print(str(error), markup=False, highlight=False)
        sys.exit(2)
    if print_outcomes(console, outcomes) < WANTED:
        sys.exit(1)


if __name__ == "__main__":
    main()
