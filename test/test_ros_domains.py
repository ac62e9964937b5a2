"""Runs of the tests on one machine do not meet."""

import subprocess
import sys
from pathlib import Path

from ros_domains import NUMBERS, claim_domain

CLAIM = "from ros_domains import claim_domain; print(claim_domain())"


def test_a_domain_belongs_to_one_process():
    ours = {claim_domain() for _ in range(3)}
    assert len(ours) == 3
    assert ours <= set(NUMBERS)
    command = [sys.executable, "-c", "\n".join(3 * [CLAIM])]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=60)
    theirs = {int(line) for line in done.stdout.split()}
    assert len(theirs) == 3, done.stderr
    assert not ours & theirs
