"""Files of measured depth."""

import struct
import zlib

import cv2
import numpy as np
import pytest

from redepth_ros.core.errors import ImageError
from redepth_ros.recordings.depth_files import read_depth_file, read_npy, read_one_channel
from redepth_ros.recordings.images import read_image

METRES = np.array([[0.0, 1.5], [np.nan, 65.0]], np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, ">f4"])
def test_npy_holds_metres(tmp_path, dtype):
    np.save(tmp_path / "depth.npy", METRES.astype(dtype)[..., None])
    depth = read_depth_file(tmp_path / "depth.npy")
    np.testing.assert_array_equal(depth, [[np.nan, 1.5], [np.nan, 65.0]])
    assert depth.dtype == np.float32


def test_png_holds_millimetres(tmp_path):
    cv2.imwrite(str(tmp_path / "depth.png"), np.array([[0, 1500]], np.uint16))
    np.testing.assert_allclose(read_depth_file(tmp_path / "depth.png"), [[np.nan, 1.5]])
    cv2.imwrite(str(tmp_path / "depth.png"), np.array([[0, 150]], np.uint8))
    with pytest.raises(ImageError, match="not a 16-bit PNG"):
        read_depth_file(tmp_path / "depth.png")


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (np.zeros((2, 2), complex), "holds complex128 of shape"),
        (np.zeros((2, 2, 2)), r"float64 of shape \(2, 2, 2\)"),
        (np.array([["far"]]), "holds <U3"),
    ],
)
def test_npy_of_other_things_is_refused(tmp_path, stored, message):
    np.save(tmp_path / "depth.npy", stored)
    with pytest.raises(ImageError, match=message):
        read_npy(tmp_path / "depth.npy")


def test_archives_are_refused(tmp_path):
    np.savez(tmp_path / "depth.npz", depth=METRES)
    (tmp_path / "depth.npz").rename(tmp_path / "depth.npy")
    with pytest.raises(ImageError, match=r"can't be read as \.npy"):
        read_npy(tmp_path / "depth.npy")


@pytest.mark.parametrize("shape", ["(1000000, 1000000)", "(4000000000000, 4000000000000)"])
def test_a_shape_that_the_file_can_not_hold_takes_no_memory(tmp_path, recwarn, shape):
    """NumPy takes memory for the shape in the header, here 4 TB and more, before it reads."""
    path = tmp_path / "depth.npy"
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(96))
    with pytest.raises(ImageError, match=r"can't be read as \.npy"):
        read_npy(path)
    assert not recwarn.list


def test_a_png_of_more_pixels_than_opencv_takes_is_refused(tmp_path):
    data = cv2.imencode(".png", np.zeros((9, 9), np.uint16))[1].tobytes()
    huge = data[:16] + (60_000).to_bytes(4, "big") * 2 + data[24:29]
    huge += zlib.crc32(huge[12:29]).to_bytes(4, "big") + data[33:]
    (tmp_path / "depth.png").write_bytes(huge)
    with pytest.raises(ImageError, match="is too large: Image size"):
        read_one_channel(tmp_path / "depth.png")


def test_the_size_in_a_damaged_header_takes_no_memory(tmp_path, monkeypatch):
    """OpenCV takes a gigabyte for this header before it sees that it is damaged."""
    data = bytearray(cv2.imencode(".png", np.zeros((6, 8), np.uint16))[1].tobytes())
    data[20:24] = (0x06100000).to_bytes(4, "big")  # the height, without a checksum that fits

    def decode(*arguments):
        raise AssertionError("was decoded")

    monkeypatch.setattr(cv2, "imread", decode)
    monkeypatch.setattr(cv2, "imdecode", lambda data, flags: decode() if len(data) else None)
    path = tmp_path / "depth.png"
    path.write_bytes(data)
    for read in (read_one_channel, read_image):
        with pytest.raises(ImageError, match="is not an image that Pillow or OpenCV can read"):
            read(path)
