"""Let rosbags read mcap files without an end, as a recorder leaves them that was killed."""

from __future__ import annotations

import os
import struct
from io import BytesIO
from typing import Any

__all__ = ["tolerate_truncation"]

MAGIC = b"\x89MCAP0\r\n"
FOOTER_SIZE = 37


def tolerate_truncation() -> None:
    """Give rosbags' reader of mcap files a way to open files without a footer; others are read as before."""
    from rosbags.rosbag2 import reader
    from rosbags.rosbag2.storage_mcap import McapReader

    if getattr(McapReader, "reads_truncated", False):
        return

    class TolerantMcapReader(McapReader):
        """Reads the complete records of a truncated file."""

        reads_truncated = True
        bio: Any

        def _open(self) -> None:
            stream: Any = self.bio
            stream.seek(0, os.SEEK_END)
            size = stream.tell()
            stream.seek(max(0, size - len(MAGIC)))
            complete = stream.read() == MAGIC and size > FOOTER_SIZE
            stream.seek(0)
            if complete or size <= FOOTER_SIZE:
                super()._open()
                return
            end = _end_of_complete_records(stream, size)
            # The same file with an empty footer: the reader then scans the records.
            file: Any = _WithFooter(stream, end)
            self.bio = file
            try:
                super()._open()
            finally:
                self.bio = stream
            self.truncated_at = end

    readers: Any = (reader.Reader, reader.DirectoryReader)
    for kind, key in zip(readers, (".mcap", "mcap"), strict=True):
        kind.STORAGE_PLUGINS = {**kind.STORAGE_PLUGINS, key: TolerantMcapReader}


def _end_of_complete_records(stream: Any, size: int) -> int:
    """Return the position after the last record that is complete."""
    position = len(MAGIC)
    while position + 9 <= size:
        stream.seek(position)
        length = struct.unpack("<Q", stream.read(9)[1:])[0]
        if position + 9 + length > size:
            break
        position += 9 + length
    return position


class _WithFooter:
    """A file that ends at a position, followed by an mcap footer without a summary."""

    def __init__(self, stream: Any, end: int) -> None:
        self._stream, self._end = stream, end
        self._footer = BytesIO(struct.pack("<BQQQI", 0x02, 20, 0, 0, 0) + MAGIC)
        self._position = 0

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = 0) -> int:
        base = (0, self._position, self._end + FOOTER_SIZE)[whence]
        self._position = base + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        total = self._end + FOOTER_SIZE
        stop = total if size < 0 else min(total, self._position + size)
        data = b""
        if self._position < self._end:
            self._stream.seek(self._position)
            data = self._stream.read(min(stop, self._end) - self._position)
        if stop > self._end:
            self._footer.seek(max(0, self._position - self._end))
            data += self._footer.read(stop - max(self._end, self._position))
        self._position += len(data)
        return data
