"""ROS domains that belong to one run of the tests alone."""

import fcntl
import functools
import os
import tempfile
from pathlib import Path

NUMBERS = range(1, 102)
"""Domains whose ports Linux gives to nothing else."""

_locks: list = []
"""Open files; their locks end with this process."""


def claim_domain() -> int:
    """Return the number of a domain that no other run of the tests on this machine has."""
    start = os.getpid()
    for number in (NUMBERS[(start + offset) % len(NUMBERS)] for offset in range(len(NUMBERS))):
        path = Path(tempfile.gettempdir()) / f"redepth_test_domain_{number}.lock"
        try:
            lock = path.open("a")
        except OSError:  # of another user
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            continue
        _locks.append(lock)
        return number
    raise RuntimeError(
        f"other runs of the tests have all domains from {NUMBERS[0]} to {NUMBERS[-1]}: end some"
    )


@functools.cache
def use_own_domain() -> None:
    """Let this process and its children not meet other ROS 2 systems, on this machine or in the network."""
    os.environ["ROS_DOMAIN_ID"] = str(claim_domain())
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
