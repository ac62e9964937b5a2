"""Tasks for tests; worker processes import them from here."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redepth_ros.core.errors import ImageError


@dataclass(frozen=True)
class Echo:
    """Returns its value without any network; a negative one can't be used."""

    value: int

    def run(self, engine: Any, on_step: Any) -> str:
        if self.value < 0:
            raise ImageError(f"{self.value} is negative")
        return f"done {self.value}"

    def failed(self, reason: str) -> str:
        return f"failed {self.value}: {reason}"


@dataclass(frozen=True)
class Killed:
    """Kills its worker while a file does not have a number of lines; then it is another task."""

    task: Any
    deaths: int
    log: Path

    def run(self, engine: Any, on_step: Any) -> Any:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        if len(lines) < self.deaths:
            self.log.write_text("\n".join([*lines, str(os.getpid())]) + "\n")
            os.kill(os.getpid(), signal.SIGKILL)
        return self.task.run(engine, on_step)

    def failed(self, reason: str) -> Any:
        return self.task.failed(reason)


class Faulty(Echo):
    """A programming error."""

    def run(self, engine: Any, on_step: Any) -> str:
        return [""][self.value]
