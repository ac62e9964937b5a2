"""`redepth demo` where it can't start."""

import pytest

pytest.importorskip("rclpy")


def test_an_invalid_path_is_named_before_anything_starts(redepth, tmp_path):
    called = redepth("demo", "/no/such/path", "--out", tmp_path / "out")
    assert called.status == 1
    assert "redepth: path is '/no/such/path', which does not exist" in called.err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_can_not_be_made_is_named_before_anything_starts(redepth, tmp_path):
    (tmp_path / "file").write_text("")
    called = redepth("demo", "--out", tmp_path / "file" / "out")
    assert called.status == 1
    assert called.err == f"redepth: '{tmp_path}/file/out' can't be written: Not a directory"
