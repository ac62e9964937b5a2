"""Pictures through messages: every encoding, row padding, byte order, and what is refused."""

import array

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")

from sensor_msgs.msg import Image
from std_msgs.msg import Header

from redepth_ros.core.errors import ImageError
from redepth_ros.ros.msgs.images import ENCODINGS, decode_compressed, decode_image, encode_image


def smooth_picture(height=48, width=64):
    """RGB bytes without fine detail, which Bayer and YUV would lose."""
    v, u = np.mgrid[0:height, 0:width]
    return np.stack((40 + 2 * u, 60 + 3 * v, 200 - u - v), axis=-1).astype(np.uint8)


def mosaic(picture, pattern):
    """What a sensor behind a Bayer filter sees; the pattern names the first two rows."""
    raw = np.empty(picture.shape[:2], np.uint8)
    for index, letter in enumerate(pattern):
        row, column = divmod(index, 2)
        raw[row::2, column::2] = picture[row::2, column::2, "rgb".index(letter)]
    return raw


def yuv422(picture, *, luma_first):
    ycrcb = cv2.cvtColor(picture, cv2.COLOR_RGB2YUV)
    luma, u, v = ycrcb[..., 0], ycrcb[:, ::2, 1], ycrcb[:, ::2, 2]
    # BT.601 in studio range, as cameras send it.
    luma = (luma.astype(float) * 219 / 255 + 16).round().astype(np.uint8)
    chroma = np.empty_like(luma)
    chroma[:, ::2] = ((u.astype(float) - 128) * 224 / 255 * 1.14 + 128).round()
    chroma[:, 1::2] = ((v.astype(float) - 128) * 224 / 255 * 0.81 + 128).round()
    return np.stack((luma, chroma) if luma_first else (chroma, luma), axis=-1)


def message_of(data, encoding, padding=0):
    """A message of an array, with so many bytes of rubbish behind each row."""
    data = np.ascontiguousarray(data)
    rows = data.reshape(data.shape[0], -1).view(np.uint8)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=255)
    message = Image(height=data.shape[0], width=data.shape[1], encoding=encoding, step=rows.shape[1])
    message.data = array.array("B", rows.tobytes())
    return message


def encoded(encoding):
    """The smooth picture in an encoding, and what it should be decoded to."""
    picture = smooth_picture()
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    grey_rgb = np.repeat(grey[..., None], 3, axis=2)
    if encoding.startswith("bayer"):
        raw = mosaic(picture, encoding[6:10])
        return (raw.astype(np.uint16) * 257 if encoding.endswith("16") else raw), picture
    if encoding in ("yuv422", "uyvy"):
        return yuv422(picture, luma_first=False), picture
    if encoding in ("yuv422_yuy2", "yuyv"):
        return yuv422(picture, luma_first=True), picture
    table = {
        "rgb8": (picture, picture),
        "bgr8": (picture[..., ::-1], picture),
        "8UC3": (picture[..., ::-1], picture),
        "rgba8": (cv2.cvtColor(picture, cv2.COLOR_RGB2RGBA), picture),
        "bgra8": (cv2.cvtColor(picture, cv2.COLOR_RGB2BGRA), picture),
        "mono8": (grey, grey_rgb),
        "8UC1": (grey, grey_rgb),
        "rgb16": (picture.astype(np.uint16) * 257, picture),
        "bgr16": (picture[..., ::-1].astype(np.uint16) * 257, picture),
        "mono16": (grey.astype(np.uint16) * 257, grey_rgb),
        "16UC1": (grey.astype(np.uint16) * 257, grey_rgb),
        "32FC1": (grey.astype(np.float32) / 255, grey_rgb),
        "32FC3": (picture[..., ::-1].astype(np.float32) / 255, picture),
    }
    return table[encoding]


@pytest.mark.parametrize("padding", [0, 12])
@pytest.mark.parametrize("encoding", list(ENCODINGS))
def test_every_encoding(encoding, padding):
    data, expected = encoded(encoding)
    found = decode_image(message_of(data, encoding, padding))
    assert found.shape == expected.shape
    assert found.dtype == np.uint8
    lossy = encoding.startswith(("bayer", "yu", "uy"))
    # Interpolated colours are off at the border, and a little everywhere.
    inside = np.s_[2:-2, 2:-2]
    difference = np.abs(found[inside].astype(int) - expected[inside].astype(int))
    assert difference.max() <= (14 if lossy else 1), encoding
    if lossy:  # a swapped pattern would exchange red and blue
        assert difference.mean() < 5


@pytest.mark.parametrize(
    "encoding", ["rgb8", "bgr8", "rgba8", "bgra8", "mono8", "bayer_rggb8", "bayer_bggr8", "bayer_gbrg8"]
)
def test_cv_bridge_agrees_where_it_can_convert(encoding):
    cv_bridge = pytest.importorskip("cv_bridge")
    message = message_of(encoded(encoding)[0], encoding)
    expected = cv_bridge.CvBridge().imgmsg_to_cv2(message, "rgb8")
    np.testing.assert_array_equal(decode_image(message), expected)


def test_big_endian_values():
    data = (smooth_picture()[..., 0].astype(np.uint16) * 257).astype(">u2")
    message = message_of(data, "mono16")
    message.is_bigendian = 1
    np.testing.assert_array_equal(decode_image(message)[..., 0], smooth_picture()[..., 0])


def test_rgb8_is_not_copied():
    message = message_of(smooth_picture(), "rgb8")
    found = decode_image(message)
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
def test_a_message_that_is_wrong_is_refused(change, quoted):
    message = message_of(smooth_picture(), "rgb8")
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(ImageError, match=quoted):
        decode_image(message)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_float_pixels_that_are_no_numbers_are_refused(value):
    data = np.full((4, 5), 0.5, np.float32)
    data[1, 2] = value
    with pytest.raises(ImageError, match="1 NaN or infinite of 20"):
        decode_image(message_of(data, "32FC1"))


def test_an_image_that_is_too_large_is_refused():
    with pytest.raises(ImageError, match=r"0\.0 megapixels, more than max_megapixels = 0\.001"):
        decode_image(message_of(smooth_picture(), "rgb8"), max_megapixels=0.001)


def test_odd_columns_can_not_share_colours():
    with pytest.raises(ImageError, match="63 columns"):
        decode_image(message_of(np.zeros((48, 63, 2), np.uint8), "yuv422"))


def test_compressed_pictures():
    picture = smooth_picture()
    png = cv2.imencode(".png", picture[..., ::-1])[1].tobytes()
    np.testing.assert_array_equal(decode_compressed(png), picture)
    jpeg = cv2.imencode(".jpg", picture[..., ::-1])[1].tobytes()
    assert np.abs(decode_compressed(jpeg).astype(int) - picture).mean() < 3
    for broken in (b"", b"no picture", png[:30]):
        with pytest.raises(ImageError, match=f"{len(broken)} bytes can't be decoded"):
            decode_compressed(broken)
    with pytest.raises(ImageError, match="megapixels"):
        decode_compressed(png, max_megapixels=0.001)


@pytest.mark.parametrize(
    ("dtype", "encoding"), [(np.float32, "32FC1"), (np.uint16, "16UC1"), (np.uint8, "mono8")]
)
def test_what_is_encoded_is_what_was_given(dtype, encoding):
    values = np.arange(12).reshape(3, 4).astype(dtype)
    header = Header(frame_id="camera")
    message = encode_image(values, encoding, header)
    assert (message.height, message.width, message.step) == (3, 4, 4 * values.itemsize)
    assert message.header == header
    np.testing.assert_array_equal(np.frombuffer(message.data, dtype).reshape(3, 4), values)
