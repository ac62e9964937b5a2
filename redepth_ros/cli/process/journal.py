"""What was done, so that a second call goes on: OUT/.redepth/settings.json and journal.jsonl."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from redepth_ros.core.errors import ConfigError, RedepthError
from redepth_ros.exports.files import ExportError
from redepth_ros.exports.frames import FrameRecord

__all__ = ["Journal", "count_done"]

FOLDER = ".redepth"
OURS = (FOLDER, "frames.csv", "report.json")


class Journal:
    """Records of frames, one line each; a later line of the same frame replaces the former one."""

    def __init__(
        self, out: Path, settings: dict[str, Any], *, overwrite: bool, formats: tuple[str, ...]
    ) -> None:
        """Open or begin the journal of a folder.

        Args:
            out: folder of all results.
            settings: everything that the results depend on; JSON types only.
            overwrite: whether results of other settings are removed.
            formats: names of the folders that results go into.

        Raises:
            ConfigError: the folder holds results of other settings or other things, and `overwrite` is
                not given; or it can't be written.
        """
        self.out = out
        self._stream: TextIO | None = None
        known = self._known_settings()
        differing = _differences(known, settings) if known is not None else []
        entries = [one.name for one in out.iterdir()] if out.is_dir() else []
        if out.exists() and not out.is_dir():
            raise ConfigError(f"{str(out)!r} is a file; name a folder for the results")
        if not overwrite and differing:
            raise ConfigError(
                f"{str(out)!r} holds results of other settings ({'; '.join(differing)}); give the same "
                "ones to "
                "go on, name another folder, or replace them by --overwrite"
            )
        if not overwrite and known is None and entries:
            raise ConfigError(
                f"{str(out)!r} is not empty ({', '.join(sorted(entries)[:3])} ...) and holds no results of "
                "redepth process; name another folder, or write into it by --overwrite"
            )
        # Only what this command made is ever removed: the folder may be that of the input.
        foreign = [name for name in (*OURS, *formats) if known is None and (out / name).exists()]
        if foreign:
            raise ConfigError(
                f"{str(out / foreign[0])!r} exists and was not made by redepth process; name another "
                "folder for "
                "the results"
            )
        try:
            out.mkdir(parents=True, exist_ok=True)
            if overwrite and known is not None:
                for name in (*OURS, *formats):
                    _remove(out / name)
            (out / FOLDER).mkdir(exist_ok=True)
            self.records = self._read()
            (out / FOLDER / "settings.json").write_text(
                json.dumps(settings, indent=1) + "\n", encoding="utf-8"
            )
            self._stream = (out / FOLDER / "journal.jsonl").open("a", encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{str(out)!r} can't be written: {error.strerror or error}") from error

    def _known_settings(self) -> dict[str, Any] | None:
        try:
            known = json.loads((self.out / FOLDER / "settings.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        return known if isinstance(known, dict) else None

    def _read(self) -> dict[int, FrameRecord]:
        """Return the records by index, and write the file again without its damaged lines."""
        path = self.out / FOLDER / "journal.jsonl"
        records = _read_records(path)
        if path.is_file():
            path.write_text("".join(f"{one.to_json()}\n" for one in records.values()), encoding="utf-8")
        return records

    def add(self, records: list[FrameRecord]) -> None:
        """Write records down.

        Raises:
            ExportError: the disk is full.
        """
        assert self._stream is not None
        for record in records:
            self.records[record.index] = record
        try:
            self._stream.write("".join(f"{record.to_json()}\n" for record in records))
            self._stream.flush()
        except OSError as error:
            raise ExportError(
                f"the journal in {str(self.out)!r} can't be written: {error.strerror}"
            ) from error

    def ordered(self) -> list[FrameRecord]:
        """Return all records in the order of the recording."""
        return [self.records[index] for index in sorted(self.records)]

    def close(self) -> None:
        """Close the file."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def _differences(known: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    return [
        f"{key}: {_show(known.get(key))}, now {_show(settings.get(key))}"
        for key in sorted({*known, *settings})
        if known.get(key) != settings.get(key)
    ]


def _show(value: Any) -> str:
    """Return a setting for a message; an option that was not given is None or empty."""
    return "not given" if value in (None, "None", "") else repr(value)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def count_done(out: Path) -> int:
    """Return how many frames a folder has records of, without changing it."""
    return len(_read_records(out / FOLDER / "journal.jsonl"))


def _read_records(path: Path) -> dict[int, FrameRecord]:
    """Return the records of a journal by index; a damaged line is left out, as an abrupt end leaves it."""
    records = {}
    with suppress(OSError):
        # Bytes: the end may be inside of a character.
        for line in path.read_bytes().splitlines():
            with suppress(RedepthError):
                record = FrameRecord.from_json(line)
                records[record.index] = record
    return records
