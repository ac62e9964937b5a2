"""The journal of `redepth process`."""

import pytest

from redepth_ros.cli.process.journal import Journal, count_done
from redepth_ros.exports.frames import FrameRecord


def open_journal(out):
    return Journal(out, {"model": "tiny"}, overwrite=False, formats=())


@pytest.mark.parametrize(
    "end", [b'{"index": 2, "stam', b"[]", b'{"index": "2"}', b'{"name": "k\xc3', b"[" * 3000]
)
def test_a_damaged_end_is_left_out_and_the_records_before_it_are_kept(tmp_path, end):
    records = [FrameRecord(index, 10 * index, f"k\u00fcche\u2028{index}") for index in range(2)]
    journal = open_journal(tmp_path)
    journal.add(records)
    journal.close()
    path = tmp_path / ".redepth" / "journal.jsonl"
    path.write_bytes(path.read_bytes() + end)
    assert count_done(tmp_path) == 2
    journal = open_journal(tmp_path)
    assert journal.ordered() == records
    journal.add([FrameRecord(2, 20, "new")])
    journal.close()
    assert count_done(tmp_path) == 3
