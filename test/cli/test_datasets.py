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


DRIVE = "2011_09_26_drive_0002_sync"
CALIBRATION = """calib_time: 09-Jan-2012 13:57:47
corner_dist: 9.950000e-02
P_rect_02: 70 0 8 44.8 0 71 6 0.2 0 0 1 0.003
P_rect_03: 72 0 9 -340 0 73 5 2.2 0 0 1 0.003
"""


@pytest.mark.parametrize("split", ["", "val/"])
def test_kitti_raw(tmp_path, split):
    """The raw data lie in folders of days, the annotated depth in those of its split, or all in one."""
    day = tmp_path / "raw" / "2011_09_26"
    depth = tmp_path / split / DRIVE / "proj_depth" / "groundtruth"
    for camera in ("image_02", "image_03"):
        for number in (4, 5):
            write_png(day / DRIVE / camera / "data" / f"{number:010d}.png", IMAGE)
        write_png(depth / camera / "0000000005.png", (DEPTH * 256).astype(np.uint16))
    write_png(depth / "image_02" / "0000000009.png", (DEPTH * 256).astype(np.uint16))  # without an image
    (day / "calib_cam_to_cam.txt").write_text(CALIBRATION)
    left, right = read_pairs(tmp_path)
    assert left.name == f"{DRIVE}_image_02_0000000005"
    assert left.camera == PinholeCamera(70.0, 71.0, 8.0, 6.0, 16, 12)
    assert right.camera == PinholeCamera(72.0, 73.0, 9.0, 5.0, 16, 12)
    np.testing.assert_allclose(right.depth(), DEPTH, atol=1 / 256)
    assert not left.sharp
    (day / "calib_cam_to_cam.txt").write_text("P_rect_02: 70 0")
    with pytest.raises(ConfigError, match=r"calib_cam_to_cam.txt has no valid line P_rect_02 .IndexError"):
        read_pairs(tmp_path)
    (day / "calib_cam_to_cam.txt").unlink()
    assert [pair.camera for pair in read_pairs(tmp_path)] == [None, None]


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
    with pytest.raises(ImageError, match=r"a_depth.npy' can't be read as .npy.*; download or copy it again"):
        read_pairs(tmp_path)[0].depth()
    np.save(tmp_path / "a_depth.npy", DEPTH[:5])
    with pytest.raises(ImageError, match=r"a_depth.npy' has the shape \(5, 16\), its mask \(12, 16\)"):
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
    with pytest.raises(ImageError, match="holds 80 values, its image 16x12 pixels; download both again"):
        pair.depth()


def write_eth3d(folder, model):
    """Write a scene of one image, calibrated as ETH3D does it."""
    write_png(folder / "images" / "dslr_images" / "DSC_1.png", IMAGE)
    stored = folder / "ground_truth_depth" / "dslr_images" / "DSC_1.png"
    stored.parent.mkdir(parents=True)
    DEPTH.tofile(stored)
    calibration = folder / "dslr_calibration_jpg"
    calibration.mkdir()
    (calibration / "cameras.txt").write_text(f"# CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]\n0 {model}\n")
    (calibration / "images.txt").write_text("# POINTS2D[]\n1 1 0 0 0 0 0 0 0 dslr_images/DSC_1.png\n\n")
    return calibration


def test_eth3d_without_distortion_is_not_changed(tmp_path):
    write_eth3d(tmp_path / "pipes", "PINHOLE 16 12 70 71 8.5 6.5")
    (pair,) = read_pairs(tmp_path)
    assert pair.camera == PinholeCamera(70.0, 71.0, 8.0, 6.0, 16, 12)
    np.testing.assert_array_equal(pair.depth(), DEPTH)
    np.testing.assert_array_equal(pair.image(), IMAGE)


def test_eth3d_is_rectified(tmp_path):
    write_eth3d(tmp_path / "pipes", "THIN_PRISM_FISHEYE 16 12 9 9 8.5 6.5 0.05 0 0 0 0 0 0 0")
    (pair,) = read_pairs(tmp_path)
    assert pair.camera == PinholeCamera(9.0, 9.0, 8.0, 6.0, 16, 12)
    depth = pair.depth()
    assert depth[6, 8] == DEPTH[6, 8]  # the principal point stays
    # A ray 7 / 9 beside the axis is seen at 9 atan(7 / 9) (1 + 0.05 atan(7 / 9)^2) = 6.1 pixels.
    assert depth[6, 15] == DEPTH[6, 14]
    assert set(np.unique(depth)) <= set(np.unique(DEPTH))
    assert pair.image().shape == IMAGE.shape


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("OPENCV 16 12 70 71 8 6 0 0 0 0", "the camera 0 can't be used: OPENCV with 8 parameters"),
        ("PINHOLE 16 12 70", "PINHOLE with 1 parameters; ETH3D's models are PINHOLE and THIN_PRISM_FISHEYE"),
        ("PINHOLE 16 12 0 71 8 6", "focal length fx is 0.0"),
        ("PINHOLE x 12 70 71 8 6", "invalid literal"),
    ],
)
def test_another_calibration_of_eth3d_is_named(model, words, tmp_path):
    write_eth3d(tmp_path / "pipes", model)
    with pytest.raises(ConfigError, match=rf"cameras\.txt: .*{words}"):
        read_pairs(tmp_path)


def test_damaged_files_of_eth3d_are_named(tmp_path):
    calibration = write_eth3d(tmp_path / "pipes", "PINHOLE 16 12 70 71 8.5 6.5")
    images = calibration / "images.txt"
    images.write_text(images.read_text().replace("0 dslr_images", "7 dslr_images"))
    with pytest.raises(ConfigError, match=r"DSC_1.png' names no camera of cameras.txt"):
        read_pairs(tmp_path)
    images.unlink()
    with pytest.raises(ConfigError, match=r"images.txt can't be read: .*; download the calibration again"):
        read_pairs(tmp_path)


def test_an_image_of_eth3d_of_another_size_is_named(tmp_path):
    write_eth3d(tmp_path / "pipes", "PINHOLE 32 24 70 71 8.5 6.5")
    with pytest.raises(ImageError, match=r"DSC_1.png' has 16x12 pixels, its calibration 32x24; download"):
        read_pairs(tmp_path)[0].image()


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


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a,a.png,d.png,depth,0", "png_scale is 0.0; it must be positive"),
        ("a,a.png,d.png,depth,nan", "png_scale is nan; it must be positive"),
        ("a,a.png,d.png,depth," + "1" * 200_000, "no table of comma-separated values: field larger"),
        ("a,a.png,d.png,depth,1000,40,42,3,2,inf,6", r"line of 'a' can't be used \(ValueError"),
    ],
)
def test_lines_of_an_index_that_mean_nothing_are_refused(tmp_path, line, message):
    header = "name,rgb,depth,kind,png_scale,fx,fy,cx,cy,width,height"
    (tmp_path / "index.csv").write_text(f"{header}\n{line}\n")
    with pytest.raises(ConfigError, match=message):
        read_pairs(tmp_path)


def test_an_index_may_name_files_that_no_disk_can_have(tmp_path):
    (tmp_path / "index.csv").write_text("name,rgb,depth,kind,png_scale\n\u00b2,a\0.png,d\0.png,depth,1000\n")
    (pair,) = read_pairs(tmp_path)
    assert pair.name == "\u00b2"
    with pytest.raises(ImageError, match="can't be read: embedded null byte"):
        pair.image()
    with pytest.raises(ImageError, match="can't be read: embedded null byte"):
        pair.depth()


def test_a_nyu_file_of_another_shape_is_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "nyu_depth_v2_labeled.mat", "w") as stored:
        stored["images"] = IMAGE[None, ..., 0]
        stored["other"] = DEPTH[None]
    (pair,) = read_pairs(tmp_path)
    with pytest.raises(ImageError, match=r"images 0 of .* has the shape \(16, 12\)"):
        pair.image()
    with pytest.raises(ImageError, match=r"rawDepths 0 of .* can't be read"):
        pair.depth()


def test_a_folder_in_place_of_a_depth_file_is_refused(tmp_path):
    write_png(tmp_path / "pipes" / "images" / "dslr_images" / "DSC_1.png", IMAGE)
    (tmp_path / "pipes" / "ground_truth_depth" / "dslr_images" / "DSC_1.png").mkdir(parents=True)
    (pair,) = read_pairs(tmp_path)
    with pytest.raises(ImageError, match="can't be read: Is a directory"):
        pair.depth()
