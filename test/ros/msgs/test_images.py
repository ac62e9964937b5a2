"""Conversion of image messages: encodings, row padding, byte order, and rejected input."""

import array
import sys
import types
import zlib

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")

from sensor_msgs.msg import Image
from std_msgs.msg import Header

from redepth_ros.core.errors import ConfigError, ImageError
from redepth_ros.recordings.messages.images import ENCODINGS, image_from_fields
from redepth_ros.ros.msgs import images
from redepth_ros.ros.msgs.images import (
    depth_from_msg,
    image_from_compressed_msg,
    image_from_msg,
    image_to_msg,
    load_cv_bridge,
)

CACHED = (load_cv_bridge, images._conversion)


def smooth_image(height=48, width=64):
    """Return 8-bit RGB without fine detail, which Bayer and YUV would lose."""
    v, u = np.mgrid[0:height, 0:width]
    return np.stack((40 + 2 * u, 60 + 3 * v, 200 - u - v), axis=-1).astype(np.uint8)


def mosaic(image, pattern):
    """Return the values behind a Bayer filter; the pattern names the first two rows."""
    raw = np.empty(image.shape[:2], np.uint8)
    for index, letter in enumerate(pattern):
        row, column = divmod(index, 2)
        raw[row::2, column::2] = image[row::2, column::2, "rgb".index(letter)]
    return raw


def yuv422(image, *, luma_first):
    ycrcb = cv2.cvtColor(image, cv2.COLOR_RGB2YUV)
    luma, u, v = ycrcb[..., 0], ycrcb[:, ::2, 1], ycrcb[:, ::2, 2]
    # BT.601 in studio range, as cameras send it.
    luma = (luma.astype(float) * 219 / 255 + 16).round().astype(np.uint8)
    chroma = np.empty_like(luma)
    chroma[:, ::2] = ((u.astype(float) - 128) * 224 / 255 * 1.14 + 128).round()
    chroma[:, 1::2] = ((v.astype(float) - 128) * 224 / 255 * 0.81 + 128).round()
    return np.stack((luma, chroma) if luma_first else (chroma, luma), axis=-1)


def message_of(data, encoding, padding=0):
    """Make a message of an array, with `padding` bytes of 255 after each row."""
    data = np.ascontiguousarray(data)
    rows = data.reshape(data.shape[0], -1).view(np.uint8)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=255)
    message = Image(height=data.shape[0], width=data.shape[1], encoding=encoding, step=rows.shape[1])
    message.data = array.array("B", rows.tobytes())
    return message


def encoded(encoding):
    """Return the smooth image in an encoding, and the expected 8-bit RGB."""
    image = smooth_image()
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    grey_rgb = np.repeat(grey[..., None], 3, axis=2)
    if encoding.startswith("bayer"):
        raw = mosaic(image, encoding[6:10])
        return (raw.astype(np.uint16) * 257 if encoding.endswith("16") else raw), image
    if encoding in ("yuv422", "uyvy"):
        return yuv422(image, luma_first=False), image
    if encoding in ("yuv422_yuy2", "yuyv"):
        return yuv422(image, luma_first=True), image
    table = {
        "rgb8": (image, image),
        "bgr8": (image[..., ::-1], image),
        "8UC3": (image[..., ::-1], image),
        "rgba8": (cv2.cvtColor(image, cv2.COLOR_RGB2RGBA), image),
        "bgra8": (cv2.cvtColor(image, cv2.COLOR_RGB2BGRA), image),
        "mono8": (grey, grey_rgb),
        "8UC1": (grey, grey_rgb),
        "rgb16": (image.astype(np.uint16) * 257, image),
        "bgr16": (image[..., ::-1].astype(np.uint16) * 257, image),
        "mono16": (grey.astype(np.uint16) * 257, grey_rgb),
        "16UC1": (grey.astype(np.uint16) * 257, grey_rgb),
        "32FC1": (grey.astype(np.float32) / 255, grey_rgb),
        "32FC3": (image[..., ::-1].astype(np.float32) / 255, image),
    }
    return table[encoding]


@pytest.mark.parametrize("padding", [0, 12])
@pytest.mark.parametrize("encoding", list(ENCODINGS))
def test_image_from_msg_converts_every_encoding(encoding, padding):
    data, expected = encoded(encoding)
    found = image_from_msg(message_of(data, encoding, padding))
    assert found.shape == expected.shape
    assert found.dtype == np.uint8
    lossy = encoding.startswith(("bayer", "yu", "uy"))
    # Interpolated colours are off at the border, and a little everywhere.
    inside = np.s_[2:-2, 2:-2]
    difference = np.abs(found[inside].astype(int) - expected[inside].astype(int))
    assert difference.max() <= (14 if lossy else 1), encoding
    if lossy:  # a swapped pattern would exchange red and blue
        assert difference.mean() < 5


def test_table_gives_the_same_images_as_cv_bridge():
    pytest.importorskip("cv_bridge")
    convertible = {encoding: images._conversion(encoding) for encoding in ENCODINGS}
    convertible = {encoding: convert for encoding, convert in convertible.items() if convert}
    expected = {"rgb8", "bgr8", "rgba8", "bgra8", "mono8", "bayer_rggb8", "bayer_bggr8", "bayer_gbrg8"}
    assert expected <= set(convertible)
    for encoding, convert in convertible.items():
        message = message_of(encoded(encoding)[0], encoding, padding=12)
        tolerance = 1 if encoding.endswith("16") else 0  # cv_bridge converts colours before it rounds
        by_cv_bridge, by_table = (one(message).astype(int) for one in (convert, image_from_fields))
        np.testing.assert_allclose(by_cv_bridge, by_table, atol=tolerance, err_msg=encoding)


def test_cv_bridge_converts_what_it_can(monkeypatch):
    monkeypatch.setattr(images, "image_from_fields", lambda msg: pytest.fail(msg.encoding))
    for encoding in ("bgr8", "rgba8", "mono8", "bayer_rggb8"):
        data, expected = encoded(encoding)
        assert image_from_msg(message_of(data, encoding, padding=12)).shape == expected.shape


def test_an_error_of_cv_bridge_is_an_error_of_the_image(monkeypatch):
    convert = load_cv_bridge().imgmsg_to_cv2

    def fail(msg, encoding):
        if msg.width % 2:
            raise RuntimeError("odd width")
        return convert(msg, encoding)

    monkeypatch.setattr(load_cv_bridge(), "imgmsg_to_cv2", fail)
    with pytest.raises(ImageError, match="can't convert an image of 63x48 bgr8: odd width"):
        image_from_msg(message_of(smooth_image(width=63), "bgr8"))


class CopyingBridge:
    """A cv_bridge that copies every image as it is, as some builds do with rgb8 and 8UC3."""

    def encoding_to_dtype_with_channels(self, encoding):
        return "uint8", 3

    def imgmsg_to_cv2(self, msg, encoding):
        return msg.data.copy()


def test_rgb8_and_encodings_without_named_colours_are_not_left_to_cv_bridge(monkeypatch):
    monkeypatch.setattr(images, "load_cv_bridge", CopyingBridge)
    data, expected = encoded("8UC3")
    np.testing.assert_array_equal(image_from_msg(message_of(data, "8UC3")), expected)
    message = message_of(smooth_image(), "rgb8")
    assert np.shares_memory(image_from_msg(message), np.frombuffer(message.data, np.uint8))


def test_encoding_that_only_cv_bridge_knows_is_converted(monkeypatch):
    data, expected = encoded("bgra8")
    monkeypatch.delitem(ENCODINGS, "bgra8")
    np.testing.assert_array_equal(image_from_msg(message_of(data, "bgra8", padding=12)), expected)


def test_missing_cv_bridge_is_reported_with_a_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv_bridge", None)
    with pytest.raises(ConfigError, match=r"cv_bridge is not installed; install it: sudo apt install"):
        load_cv_bridge()


def _raise_array_api():
    raise AttributeError("_ARRAY_API not found")


@pytest.mark.parametrize(
    ("bridge", "reason"),
    [
        (_raise_array_api, "AttributeError: _ARRAY_API not found"),
        (lambda: types.SimpleNamespace(imgmsg_to_cv2=lambda msg, _: msg.data), "wrong colours"),
    ],
)
def test_cv_bridge_built_for_other_versions_is_reported_with_a_remedy(monkeypatch, bridge, reason):
    monkeypatch.setitem(sys.modules, "cv_bridge", types.SimpleNamespace(CvBridge=bridge))
    with pytest.raises(ConfigError, match=rf"NumPy {np.__version__} and .*{reason}.*pip install 'numpy<2'"):
        image_from_msg(message_of(smooth_image(), "bgr8"))


@pytest.fixture(autouse=True)
def _forget_conversions():
    """Keep no conversion of a cv_bridge or table that a test changes."""
    yield
    for function in CACHED:
        function.cache_clear()


@pytest.mark.parametrize("encoding", ["mono16", "bgr8"])
def test_image_from_msg_reads_big_endian_values(encoding):
    data, expected = encoded(encoding)
    message = message_of(data.astype(data.dtype.newbyteorder(">")), encoding)
    message.is_bigendian = 1
    np.testing.assert_array_equal(image_from_msg(message), expected)


def test_image_from_msg_does_not_copy_rgb8():
    message = message_of(smooth_image(), "rgb8")
    found = image_from_msg(message)
    message.data[0] = 7
    assert found[0, 0, 0] == 7


@pytest.mark.parametrize(
    ("change", "quoted"),
    [
        ({"encoding": "yuv999"}, "'yuv999' is not known"),
        ({"encoding": ""}, "'' is not known"),
        ({"step": 100}, "step of 100"),
        ({"data": array.array("B", bytes(10))}, "10 bytes of data"),
        ({"height": 0}, "64x0"),
        ({"width": 0}, "0x48"),
        ({"height": 49}, "64x49"),
        ({"encoding": "rgba8"}, "step of at least 256"),
    ],
)
def test_image_from_msg_rejects_invalid_messages(change, quoted):
    message = message_of(smooth_image(), "rgb8")
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(ImageError, match=quoted):
        image_from_msg(message)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_image_from_msg_rejects_values_that_are_not_finite(value):
    data = np.full((4, 5), 0.5, np.float32)
    data[1, 2] = value
    with pytest.raises(ImageError, match="has NaN or infinite values"):
        image_from_msg(message_of(data, "32FC1"))


def test_image_from_msg_rejects_too_large_images():
    with pytest.raises(ImageError, match=r"0\.0 megapixels, more than max_megapixels = 0\.001"):
        image_from_msg(message_of(smooth_image(), "rgb8"), max_megapixels=0.001)


def test_image_from_msg_rejects_yuv_with_an_odd_number_of_columns():
    with pytest.raises(ImageError, match="63 columns"):
        image_from_msg(message_of(np.zeros((48, 63, 2), np.uint8), "yuv422"))


def test_image_from_compressed_msg_decodes_complete_images_only():
    image = smooth_image()
    png = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
    np.testing.assert_array_equal(image_from_compressed_msg(png), image)
    jpeg = cv2.imencode(".jpg", image[..., ::-1])[1].tobytes()
    assert np.abs(image_from_compressed_msg(jpeg).astype(int) - image).mean() < 3
    for broken in (b"", b"no image", png[:30]):
        with pytest.raises(ImageError, match=f"{len(broken)} bytes can't be decoded"):
            image_from_compressed_msg(broken)
    with pytest.raises(ImageError, match="megapixels"):
        image_from_compressed_msg(png, max_megapixels=0.001)


@pytest.mark.parametrize(
    ("dtype", "encoding"), [(np.float32, "32FC1"), (np.uint16, "16UC1"), (np.uint8, "mono8")]
)
def test_image_to_msg_keeps_values_and_header(dtype, encoding):
    values = np.arange(12).reshape(3, 4).astype(dtype)
    header = Header(frame_id="camera")
    message = image_to_msg(values, encoding, header)
    assert (message.height, message.width, message.step) == (3, 4, 4 * values.itemsize)
    assert message.header == header
    np.testing.assert_array_equal(np.frombuffer(message.data, dtype).reshape(3, 4), values)


@pytest.mark.parametrize("padding", [0, 8])
def test_depth_from_msg_marks_invalid_depth_with_nan(padding):
    millimetres = np.array([[0, 1500], [65535, 1]], np.uint16)
    expected = np.array([[np.nan, 1.5], [65.535, 0.001]], np.float32)
    for encoding in ("16UC1", "mono16"):
        np.testing.assert_allclose(depth_from_msg(message_of(millimetres, encoding, padding)), expected)
    np.testing.assert_array_equal(depth_from_msg(message_of(expected, "32FC1", padding)), expected)


def test_depth_from_msg_rejects_other_encodings_and_sizes():
    with pytest.raises(ImageError, match="'32FC2'; publish 32FC1"):
        depth_from_msg(message_of(np.zeros((4, 4, 2), np.float32), "32FC2"))
    with pytest.raises(ImageError, match="more than max_megapixels"):
        depth_from_msg(message_of(np.zeros((40, 40), np.float32), "32FC1"), max_megapixels=0.001)


def test_a_compressed_image_above_the_limit_is_not_decoded(monkeypatch):
    data = cv2.imencode(".png", np.zeros((200, 100, 3), np.uint8))[1].tobytes()

    def decode(data, flags):
        raise AssertionError("was decoded")

    monkeypatch.setattr(cv2, "imdecode", decode)
    with pytest.raises(ImageError, match=r"image of 100x200 has 0\.0 megapixels, more than max_megapixels"):
        images.image_from_compressed_msg(data, 0.01)
    # The header of a PNG of 60,000 x 60,000 pixels, which Pillow refuses itself.
    huge = data[:16] + (60_000).to_bytes(4, "big") * 2 + data[24:29]
    huge += zlib.crc32(huge[12:29]).to_bytes(4, "big") + data[33:]
    with pytest.raises(ImageError, match=r"too large|megapixels"):
        images.image_from_compressed_msg(huge, 25.0)
