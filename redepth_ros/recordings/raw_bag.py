"""The messages of a bag as they are stored, for copying."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from redepth_ros.core.errors import ConfigError
from redepth_ros.recordings.bag_reader import open_reader

__all__ = ["read_raw_messages", "read_raw_topics"]


def read_raw_topics(paths: Sequence[Path], only: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return the topics of a bag: name, type, definition, digest and QoS profiles (qos) of each.

    Args:
        paths: of the bag, see `bag_reader.find_bag_files`.
        only: names or patterns such as /front/*; empty takes all topics.

    Raises:
        ConfigError: a pattern fits no topic.
    """
    reader = open_reader(paths)
    try:
        found = {}
        for connection in reader.connections:
            if connection.topic in found or not _is_wanted(connection.topic, only):
                continue
            definition, digest = str(connection.msgdef.data), str(connection.digest)
            if not definition or not digest:
                try:
                    definition, _ = reader.typestore.generate_msgdef(connection.msgtype, ros_version=2)
                    digest = reader.typestore.hash_rihs01(connection.msgtype)
                except Exception:  # a type whose definition is in neither the bag nor rosbags
                    digest = digest or "RIHS01_" + "0" * 64
            found[connection.topic] = {
                "name": connection.topic,
                "type": connection.msgtype,
                "definition": definition,
                "digest": digest,
                "qos": tuple(connection.ext.offered_qos_profiles),
            }
        for pattern in only:
            if not any(fnmatchcase(name, pattern) for name in found):
                names = ", ".join(sorted({one.topic for one in reader.connections})) or "none"
                raise ConfigError(f"--only is {pattern!r}, which fits no topic of the bag; it has: {names}")
        return list(found.values())
    finally:
        reader.close()


def read_raw_messages(
    paths: Sequence[Path], names: Sequence[str], start: int
) -> Iterator[tuple[str, int, bytes]]:
    """Yield topic, time and data of the messages of some topics from a time on, in order."""
    reader = open_reader(paths)
    try:
        wanted = [one for one in reader.connections if one.topic in set(names)]
        if not wanted:
            return
        try:
            for connection, time, data in reader.messages(connections=wanted, start=start):
                yield connection.topic, time, data
        except Exception:  # a damaged end, which the frames' own pass reports
            return
    finally:
        reader.close()


def _is_wanted(name: str, only: Sequence[str]) -> bool:
    return not only or any(fnmatchcase(name, pattern) for pattern in only)
