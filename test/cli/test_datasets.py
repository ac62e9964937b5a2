"""Data sets in the layouts of their publishers."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from redepth_ros.cli.datasets import read_pairs
from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.errors import ConfigError, ImageError
from redepth_ros.data.motorcycle import depth_from_stereo

IMAGE = np.full((12, 16, 3), 90, np.uint8)
DEPTH = np.linspace(1.0, 4.0, 192, dtype=np.float32).reshape(12, 16)
HEAD = "name,rgb,depth,kind,png_scale,width,height,fx,fy,cx,cy,ground_truth\n"


def write_png(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), values)


def millimetres(depth: np.ndarray) -> np.ndarray:
    return (depth * 1000.0).round().astype(np.uint16)


@pytest.fixture
def index(tmp_path):
    """Writes an index.csv whose rows share one image and one depth file."""
    write_png(tmp_path / "image.png", IMAGE)
    write_png(tmp_path / "depth.png", millimetres(DEPTH))

    def write(*rows):
        (tmp_path / "index.csv").write_text(HEAD + "\n".join(rows) + "\n")
        return tmp_path

    return write


def test_index(index):
    folder = index(
        "b,image.png,depth.png,depth,1000,16,12,70,71,8,6,", "a,image.png,depth.png,depth,1000,,,,,,,"
    )
    first, second = read_pairs(folder)
    assert (first.name, first.camera) == ("a", None)
    assert (second.name, second.camera) == ("b", PinholeCamera(70.0, 71.0, 8.0, 6.0, 16, 12))
    np.testing.assert_array_equal(second.image(), IMAGE)
    np.testing.assert_allclose(second.depth(), DEPTH, atol=6e-4)
    assert [pair.name for pair in read_pairs(folder / "index.csv")] == ["a", "b"]


def test_blurred_depth_is_not_sharp(index):
    row = "{},image.png,depth.png,depth,1000,,,,,,,{}"
    folder = index(
        *(row.format(*one) for one in (("a", '"rendered, exact"'), ("b", "Kinect v1"), ("c", "LiDAR")))
    )
    assert [pair.sharp for pair in read_pairs(folder)] == [True, False, False]


def test_disparity_of_an_unknown_camera_has_no_unit(index):
    (pair,) = read_pairs(index("a,image.png,depth.png,disparity,1000,,,,,,,"))
    assert not pair.metric
    np.testing.assert_allclose(pair.depth(), 100.0 / DEPTH, rtol=1e-3)


def test_motorcycle_is_metric(index):
    (pair,) = read_pairs(index("middlebury_motorcycle,image.png,depth.png,disparity,100,,,,,,,"))
    assert pair.metric
    np.testing.assert_allclose(pair.depth(), depth_from_stereo(10.0 * DEPTH), rtol=1e-3)
    assert depth_from_stereo(np.float32(50.0)) == pytest.approx(0.193001 * 994.978 / 81.086)


def test_an_invalid_line_of_an_index_is_named(index):
    with pytest.raises(ConfigError, match=r"the line of 'x' can't be used .*kind is 'y'"):
        read_pairs(index("x,image.png,depth.png,y,1000,,,,,,,"))


def test_kitti(tmp_path):
    name = "2011_09_26_drive_0002_sync_{}_0000000005_image_02.png"
    write_png(tmp_path / "image" / name.format("image"), IMAGE)
    write_png(
        tmp_path / "groundtruth_depth" / name.format("groundtruth_depth"), (DEPTH * 256).astype(np.uint16)
    )
    (tmp_path / "intrinsics").mkdir()
    (tmp_path / "intrinsics" / f"{name.format('image')[:-4]}.txt").write_text("70 0 8 0 71 6 0 0 1")
    (pair,) = read_pairs(tmp_path)
    np.testing.assert_allclose(pair.depth(), DEPTH, atol=1 / 256)
    assert pair.camera == PinholeCamera(70.0, 71.0, 8.0, 6.0, 16, 12)
    assert pair.image().shape == (12, 16, 3)
    assert not pair.sharp


def test_diode(tmp_path):
    write_png(tmp_path / "indoors" / "00019.png", IMAGE)
    mask = np.ones((12, 16))
    mask[0, 0] = 0
    np.save(tmp_path / "indoors" / "00019_depth.npy", DEPTH[..., None])
    np.save(tmp_path / "indoors" / "00019_depth_mask.npy", mask)
    (pair,) = read_pairs(tmp_path)
    depth = pair.depth()
    assert np.isnan(depth[0, 0])
    np.testing.assert_array_equal(depth[1:], DEPTH[1:])


def test_a_damaged_diode_file_is_named(tmp_path):
    write_png(tmp_path / "a.png", IMAGE)
    (tmp_path / "a_depth.npy").write_bytes(b"half of a file")
    np.save(tmp_path / "a_depth_mask.npy", np.ones((12, 16), np.float32))
    with pytest.raises(ImageError, match=r"a_depth.npy' or its mask can't be read.*; download it again"):
        read_pairs(tmp_path)[0].depth()


def test_eth3d(tmp_path):
    write_png(tmp_path / "pipes" / "images" / "dslr_images" / "DSC_1.png", IMAGE)
    stored = tmp_path / "pipes" / "ground_truth_depth" / "dslr_images" / "DSC_1.png"
    stored.parent.mkdir(parents=True)
    measured = DEPTH.copy()
    measured[3, 3] = np.inf
    measured.tofile(stored)
    (pair,) = read_pairs(tmp_path)
    assert pair.name == "pipes_DSC_1"
    assert np.isnan(pair.depth()[3, 3])
    measured[:5].tofile(stored)
    with pytest.raises(ImageError, match="holds 80 values, its image 16x12 pixels"):
        pair.depth()


def test_nyu_folder(tmp_path):
    write_png(tmp_path / "bathroom" / "rgb_00045.png", IMAGE)
    write_png(tmp_path / "bathroom" / "sync_depth_00045.png", millimetres(DEPTH))
    (pair,) = read_pairs(tmp_path)
    assert pair.name == "bathroom_00045"
    np.testing.assert_allclose(pair.depth(), DEPTH, atol=6e-4)


def test_nyu_file(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "nyu_depth_v2_labeled.mat", "w") as stored:
        stored["images"] = IMAGE.transpose(2, 1, 0)[None]
        stored["rawDepths"] = np.where(DEPTH > 3.5, 0.0, DEPTH).T[None]
    (pair,) = read_pairs(tmp_path)
    np.testing.assert_array_equal(pair.image(), IMAGE)
    np.testing.assert_array_equal(pair.depth(), np.where(DEPTH > 3.5, np.nan, DEPTH))


def test_an_unknown_folder_is_named_with_the_layouts(tmp_path):
    with pytest.raises(ConfigError, match=r"there is no .*name the folder of a data set: an index\.csv"):
        read_pairs(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="holds no pairs of image and depth"):
        read_pairs(tmp_path)


@pytest.mark.parametrize(
    ("encoding", "separator"), [("utf-8", ","), ("utf-8-sig", ","), ("latin-1", ","), ("utf-8", ";")]
)
def test_an_index_may_have_other_encodings_and_separators(tmp_path, encoding, separator):
    lines = ["name,rgb,depth,kind,png_scale", "k\u00fcche,a.png,a_depth.png,depth,1000"]
    text = "\n".join(lines).replace(",", separator)
    (tmp_path / "index.csv").write_bytes(text.encode(encoding))
    assert [pair.name for pair in read_pairs(tmp_path)] == ["k\u00fcche"]


def test_pairs_of_one_name_are_told_apart(tmp_path):
    lines = ["name,rgb,depth,kind,png_scale", "a,1.png,1d.png,depth,1000", "a,2.png,2d.png,depth,1000"]
    (tmp_path / "index.csv").write_text("\n".join(lines))
    assert [pair.name for pair in read_pairs(tmp_path)] == ["a", "a-2"]
