"""Progress bars of the commands."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["ConsoleLog", "progress_bar", "step_note"]


class ConsoleLog:
    """Prints the messages of a network, beside a progress bar of the same console."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def info(self, message: str) -> None:
        """Print a message."""
        self._console.print(message, style="dim")

    def warning(self, message: str) -> None:
        """Print a warning."""
        self._console.print(message, style="yellow")


def progress_bar(console: Console) -> Progress:
    """Return a progress display; each of its tasks has a field `note`, the text after the bar."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=16),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
        console=console,
    )


def step_note(first: int, last: int, ensemble_size: int, step: int, steps: int, loss: float) -> str:
    """Describe an optimisation step of the ensemble members `first` to `last`, counted from 1."""
    members = f"{first}-{last}" if last > first else str(first)
    return f"member {members} of {ensemble_size}, step {step}/{steps}, loss {loss:.3g}"
