"""Downloads from the hub that say how far they are, and that end if the hub does not answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Report", "DownloadStalledError", "download"]

Report = Callable[[str], None]
"""Called with the progress of a download, a line of text."""

ANSWER_TIMEOUT = 60.0
"""Seconds without a list of files after which a download is given up."""
STALL_TIMEOUT = 300.0
"""Seconds without progress after which it is given up later: the hub's client reports every 10 MB."""
REPORT_PERIOD = 5.0
"""Seconds between two reports."""
WAKE_PERIOD = 0.2
"""Seconds between two looks at a download."""


class DownloadStalledError(Exception):
    """The hub did not answer in time."""


@dataclass
class _State:
    """State of a download, written by its thread and read by the waiting one."""

    total: int = 0
    """Bytes of all files."""
    received: int = 0
    file: str = ""
    progress_at: float = field(default_factory=time.monotonic)
    """Time of the last byte, on the monotonic clock."""
    abandoned: bool = False
    """Whether the waiting thread has given up."""

    def note_progress(self, count: int) -> None:
        """Count bytes that have arrived; end the download if nothing waits for it."""
        if self.abandoned:
            raise DownloadStalledError
        self.received += count
        self.progress_at = time.monotonic()

    def text(self) -> str:
        if not self.file:
            return "asking the hub for the list of files"
        return f"{self.received / 1e6:.0f} of {self.total / 1e6:.0f} MB ({self.file})"


def download(
    name: str, choose: Callable[[Collection[str]], Collection[str]], report: Report | None = None
) -> Path:
    """Download files of a hub model to the cache; return their folder.

    The work is done by a thread that nothing waits for: a connection that hangs can't be interrupted.

    Args:
        name: hub id.
        choose: returns the files to download, of all files of the model; at least one, or it raises.
        report: called every REPORT_PERIOD by the calling thread; None draws the hub's own progress bars.

    Raises:
        DownloadStalledError: the hub did not answer for ANSWER_TIMEOUT, or later for STALL_TIMEOUT.
        Exception: any error of huggingface_hub and its HTTP library.
    """
    state, result = _State(), Future[Path]()

    def work() -> None:
        try:
            result.set_result(_fetch(name, choose, state, report is not None))
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=work, name="download", daemon=True).start()
    reported_at = time.monotonic()
    while not wait((result,), WAKE_PERIOD).done:
        now = time.monotonic()
        limit = STALL_TIMEOUT if state.file else ANSWER_TIMEOUT
        if now - state.progress_at > limit:
            state.abandoned = True
            raise DownloadStalledError(f"did not answer for {limit:g} s ({state.text()})")
        if report is not None and now - reported_at > REPORT_PERIOD:
            report(f"downloading {name}: {state.text()}")
            reported_at = now
    return result.result()


def _fetch(
    name: str, choose: Callable[[Collection[str]], Collection[str]], state: _State, quiet: bool
) -> Path:
    """Download file after file: a pool of threads would keep the process from ending."""
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.utils import tqdm

    class Bar(tqdm):
        """A progress bar of the hub's client that notes each arrival of bytes."""

        def __init__(self, *args: Any, **options: Any) -> None:
            # The client counts a file of its newer storage twice: as received, and as written.
            self._counts = not str(options.get("name")).endswith(".transfer")
            super().__init__(*args, **(options | {"disable": True} if quiet else options))

        def update(self, n: float | None = 1) -> bool | None:
            state.note_progress(int(n or 0) if self._counts else 0)
            return super().update(n)

    listed = HfApi().model_info(name, files_metadata=True).siblings or []
    sizes = {one.rfilename: one.size or 0 for one in listed}
    files = choose(sizes)
    state.total, done = sum(sizes[file] for file in files), 0
    folder = Path()
    for file in files:
        state.file, state.received = file, done
        state.note_progress(0)
        path = Path(hf_hub_download(name, file, tqdm_class=Bar))
        folder, done = path.parents[file.count("/")], done + sizes[file]
    return folder
