"""One reader of image files, whatever they hold."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from redepth_ros.core.errors import ImageError
from redepth_ros.recordings.images import read_image, read_image_size
from redepth_ros.recordings.order import natural_key, stamps_from_names

RAMP = np.linspace(0, 255, 64 * 48).reshape(48, 64).astype(np.uint8)
COLOURS = np.stack((RAMP, RAMP[::-1], RAMP[:, ::-1]), axis=2)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm", "webp"])
def test_reads_lossless_formats(tmp_path, suffix):
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(COLOURS).save(path, **({"lossless": True} if suffix == "webp" else {}))
    assert np.array_equal(read_image(path), COLOURS)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_applies_exif_orientation(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "image.png"
    Image.fromarray(COLOURS).save(path, exif=exif)
    upright = read_image(path)
    turned = orientation >= 5
    assert upright.shape[:2] == ((64, 48) if turned else (48, 64))
    assert read_image_size(path) == upright.shape[:2]
    # The same rules for files that OpenCV decodes.
    wide = tmp_path / "wide.png"
    Image.fromarray(RAMP.astype(np.uint16) * 257).save(wide, exif=exif)
    grey = tmp_path / "grey.png"
    Image.fromarray(RAMP).save(grey, exif=exif)
    assert np.array_equal(read_image(wide), read_image(grey))


def test_exif_orientation_6_turns_the_left_side_up(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = np.zeros((48, 64, 3), np.uint8)
    image[:, :32] = 255  # the left half as stored
    path = tmp_path / "phone.jpg"
    Image.fromarray(image).save(path, exif=exif, quality=95)
    upright = read_image(path)
    assert upright.shape == (64, 48, 3)
    assert upright[:28].mean() > 250
    assert upright[36:].mean() < 5


def test_drops_alpha_and_keeps_the_colours_under_it(tmp_path):
    path = tmp_path / "alpha.png"
    Image.fromarray(np.dstack((COLOURS, np.zeros((48, 64), np.uint8)))).save(path)
    assert np.array_equal(read_image(path), COLOURS)


def test_converts_palettes_grey_and_cmyk(tmp_path):
    palette = Image.fromarray(COLOURS).quantize(16)
    palette.save(tmp_path / "palette.png", transparency=3)
    expected = np.asarray(palette.convert("RGB"), np.int16)
    assert np.array_equal(read_image(tmp_path / "palette.png"), expected)
    Image.fromarray(RAMP).save(tmp_path / "grey.png")
    assert np.array_equal(read_image(tmp_path / "grey.png"), np.repeat(RAMP[..., None], 3, axis=2))
    Image.fromarray(RAMP > 127).save(tmp_path / "bits.png")
    assert set(np.unique(read_image(tmp_path / "bits.png"))) == {0, 255}
    Image.fromarray(COLOURS).convert("CMYK").save(tmp_path / "print.jpg", quality=95)
    assert abs(read_image(tmp_path / "print.jpg").astype(int) - COLOURS).mean() < 6


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_scales_16_bits(tmp_path, suffix):
    path = tmp_path / f"wide.{suffix}"
    cv2.imwrite(str(path), RAMP.astype(np.uint16) * 257)
    assert np.array_equal(read_image(path)[..., 0], RAMP)


def test_reads_16_bit_colour_as_rgb(tmp_path):
    for suffix in ("png", "tif"):
        path = tmp_path / f"wide.{suffix}"
        cv2.imwrite(str(path), COLOURS[..., ::-1].astype(np.uint16) * 257)
        assert np.array_equal(read_image(path), COLOURS)


def test_refuses_12_bits_in_16(tmp_path):
    path = tmp_path / "dark.png"
    cv2.imwrite(str(path), RAMP.astype(np.uint16) * 16)
    with pytest.raises(ImageError, match=r"uses 12.*dark image.*16"):
        read_image(path)


def test_scales_12_bits_that_the_file_declares(tmp_path):
    twelve = RAMP.astype(np.uint16) * 16
    path = tmp_path / "declared.png"
    data = cv2.imencode(".png", twelve)[1].tobytes()
    chunk = b"sBIT" + bytes([12])
    chunk = struct.pack(">I", 1) + chunk + struct.pack(">I", zlib.crc32(chunk))
    path.write_bytes(data[:33] + chunk + data[33:])  # after IHDR
    assert abs(read_image(path)[..., 0].astype(int) - RAMP).max() <= 1
    header = b"P5\n64 48\n4095\n"
    (tmp_path / "declared.pgm").write_bytes(header + twelve.astype(">u2").tobytes())
    assert abs(read_image(tmp_path / "declared.pgm")[..., 0].astype(int) - RAMP).max() <= 1


def test_reads_floats_up_to_1_and_refuses_floats_up_to_255(tmp_path):
    path = tmp_path / "float.tif"
    cv2.imwrite(str(path), RAMP.astype(np.float32) / 255)
    assert np.array_equal(read_image(path)[..., 0], RAMP)
    cv2.imwrite(str(path), RAMP.astype(np.float32))
    with pytest.raises(ImageError, match=r"up to 255.*\[0, 1\]"):
        read_image(path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "tif"])
def test_refuses_truncated_files(tmp_path, suffix):
    path = tmp_path / f"image.{suffix}"
    noise = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)
    Image.fromarray(noise).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 3])
    with pytest.raises(ImageError, match=r"truncated|read"):
        read_image(path)


def test_refuses_animations(tmp_path):
    frames = [Image.fromarray(np.full((20, 20, 3), value, np.uint8)) for value in (0, 100, 200)]
    path = tmp_path / "moving.webp"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match="3 frames"):
        read_image(path)


def test_refuses_what_is_no_image(tmp_path):
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.png").write_bytes(b"")
    for name in ("text.png", "empty.png"):
        with pytest.raises(ImageError, match="not an image"):
            read_image(tmp_path / name)
    with pytest.raises(ImageError, match="there is no image"):
        read_image(tmp_path / "missing.png")
    with pytest.raises(ImageError, match="can't be read"):
        read_image(tmp_path)


def test_reads_awkward_paths(tmp_path):
    folder = tmp_path / "a $HOME #1: ünï 日本"
    folder.mkdir()
    Image.fromarray(COLOURS).save(folder / "x y.png")
    assert np.array_equal(read_image(folder / "x y.png"), COLOURS)


def test_natural_order_puts_2_before_10():
    names = ["b1.png", "a10.png", "a2.png", "A1.png", "10.png", "9.png"]
    assert sorted(names, key=natural_key) == ["9.png", "10.png", "A1.png", "a2.png", "a10.png", "b1.png"]


def test_natural_order_knows_any_digits():
    long = "9" * 5000  # more digits than int() takes
    names = [f"a{long}", "a\u00b2", "a01", "a1", "a0", "a"]
    assert sorted(names, key=natural_key) == ["a", "a0", "a01", "a1", f"a{long}", "a\u00b2"]


def test_names_that_are_times_give_stamps():
    assert stamps_from_names(["1305031102.175304", "1305031102.2"]) == [
        1305031102175304000,
        1305031102200000000,
    ]
    assert stamps_from_names(["1403636579763555584"]) == [1403636579763555584]
    assert stamps_from_names(["000001", "000002"]) is None
    assert stamps_from_names(["1305031102.1", "image"]) is None
    # Stamps of ROS end in 2038.
    assert stamps_from_names(["2147483647.5"]) == [2147483647500000000]
    assert stamps_from_names(["2147483648.5"]) is None
    assert stamps_from_names(["9999999999999999999", "9999999999999999998"]) is None


def test_a_name_with_a_null_byte_is_refused():
    with pytest.raises(ImageError, match="can't be read: embedded null byte"):
        read_image(Path("image\0.png"))
    with pytest.raises(ImageError, match="can't be read: embedded null byte"):
        read_image_size(Path("image\0.png"))


@pytest.mark.parametrize("orientation", [0, 9, 700])
def test_an_orientation_that_does_not_exist_is_upright(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "image.png"
    Image.fromarray(COLOURS).save(path, exif=exif)
    assert np.array_equal(read_image(path), COLOURS)
    assert read_image_size(path) == (48, 64)


@pytest.mark.parametrize(("maximum", "known"), [(4095, True), (0, False)])
def test_the_maximum_of_a_tiff_scales_if_it_is_one(tmp_path, maximum, known):
    path = tmp_path / "declared.tif"
    twelve = Image.fromarray(RAMP.astype(np.uint16) * 16)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags.tagtype[281] = 3
    tags[281] = maximum
    twelve.save(path, tiffinfo=tags)
    if known:
        assert abs(read_image(path)[..., 0].astype(int) - RAMP).max() <= 1
    else:
        with pytest.raises(ImageError, match="16 bits per value, of which it uses 12"):
            read_image(path)


def test_damaged_metadata_does_not_warn(tmp_path, recwarn):
    exif = Image.Exif()
    exif[0x010E] = "a description"
    path = tmp_path / "image.jpg"
    Image.fromarray(COLOURS).save(path, exif=exif.tobytes()[:-20], quality=95)
    assert read_image_size(path) == (48, 64)
    assert abs(read_image(path).astype(int) - COLOURS).mean() < 6
    assert not recwarn.list
