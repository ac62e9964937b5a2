"""Progress bars."""

import io

from rich.console import Console

from redepth_ros.cli.progress import progress_bar, step_note


def test_step_note_names_one_or_several_members():
    assert step_note(2, 2, 4, 7, 160, 0.12345) == "member 2 of 4, step 7/160, loss 0.123"
    assert step_note(1, 2, 2, 160, 160, 1.5) == "member 1-2 of 2, step 160/160, loss 1.5"


def test_progress_fits_80_columns():
    stream = io.StringIO()
    with progress_bar(Console(file=stream, width=80, force_terminal=False)) as progress:
        note = step_note(9, 10, 10, 1000, 1000, 0.123)
        progress.add_task("IMG_2041.jpg", total=1.0, completed=1.0, note=note)
    lines = stream.getvalue().rstrip("\n").splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert note in lines[-1]
