"""Images, depth, videos, calibrations, COLMAP models and names of files that hold anything."""

import io
import struct

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fuzz.harness import FLOATS, NUMBERS, TEXTS, bytes_like, decode, mostly, slow
from redepth_ros.core.camera import PinholeCamera
from redepth_ros.recordings.annotate import with_camera, with_colmap
from redepth_ros.recordings.calibration import camera_from_numbers, camera_from_yaml, read_colmap
from redepth_ros.recordings.image_files import open_image_files, read_depth_file
from redepth_ros.recordings.images import read_image, read_image_size
from redepth_ros.recordings.order import natural_key, stamps_from_names
from redepth_ros.recordings.recording import RecordedFrame, Recording, Selection
from redepth_ros.recordings.video import open_video

HEIGHT, WIDTH = 6, 8
PIXELS = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


def saved(mode, kind, **options):
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PIXELS).convert(mode).save(stream, kind, exif=exif, **options)
    return stream.getvalue()


def encoded(suffix, image):
    return cv2.imencode(suffix, image)[1].tobytes()


WIDE = PIXELS[..., 0].astype(np.uint16) * 257
IMAGES = [
    saved("RGB", "PNG"),
    saved("P", "PNG", transparency=1),
    saved("LA", "PNG"),
    saved("RGB", "JPEG"),
    saved("CMYK", "JPEG"),
    saved("RGB", "WEBP"),
    saved("RGB", "TIFF"),
    saved("RGB", "TIFF", compression="tiff_lzw"),
    encoded(".bmp", PIXELS),
    encoded(".ppm", PIXELS),
    encoded(".pgm", WIDE),
    encoded(".png", WIDE),
    encoded(".png", PIXELS.astype(np.uint16) * 257),
    encoded(".tiff", WIDE),
    encoded(".tiff", PIXELS.astype(np.float32) / 255),
    encoded(".hdr", PIXELS.astype(np.float32) / 255),
]


@given(st.sampled_from(IMAGES).flatmap(bytes_like))
def test_image_files(folder, data):
    path = folder / "image.png"
    path.write_bytes(data)
    size, image = decode(read_image_size, path), decode(read_image, path)
    if image is not None:
        assert (image.dtype, image.shape) == (np.uint8, (*size, 3))


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npz(array):
    stream = io.BytesIO()
    np.savez(stream, depth=array)
    return stream.getvalue()


def npy_of(shape, kind):
    """A header of any shape and type, with 96 bytes of data."""
    header = str({"descr": kind, "fortran_order": False, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(96)


METRES = np.linspace(0.5, 9.0, HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH)
numpy_files = st.sampled_from([npy(METRES), npy(METRES.astype(np.float64)[..., None]), npz(METRES)]).flatmap(
    bytes_like
) | st.builds(
    npy_of,
    st.lists(st.sampled_from([0, 1, 4, 6, -1, 10**5, 10**10, 2**63]), max_size=4).map(tuple),
    st.sampled_from(["<f4", ">f8", "<i2", "|b1", "|O", "<U3", "<c8", "<M8[s]", "|V8", "f", [("x", "<f4")]]),
)


@given(numpy_files, st.sampled_from([encoded(".png", WIDE), encoded(".png", PIXELS)]).flatmap(bytes_like))
def test_depth_files(folder, numbers, png):
    for name, data in (("depth.npy", numbers), ("depth.png", png)):
        path = folder / name
        path.write_bytes(data)
        depth = decode(read_depth_file, path)
        if depth is not None:
            assert (depth.ndim, depth.dtype) == (2, np.float32)
            assert not (depth <= 0).any()


def read_all(recording):
    """Decode every frame; pass those that can't be."""
    return [frame for frame in recording.read(Selection()) if isinstance(frame, RecordedFrame)]


@given(st.sampled_from(IMAGES[:4]).flatmap(bytes_like), numpy_files)
def test_folders_of_images_with_depth(folder, image, depth):
    (folder / "frame.png").write_bytes(image)
    (folder / "good.png").write_bytes(IMAGES[0])
    (folder / "depth").mkdir(exist_ok=True)
    (folder / "depth" / "frame.npy").write_bytes(depth)
    paths = [folder / "frame.png", folder / "good.png"]
    recording = decode(open_image_files, paths, "images", folder / "depth")
    assert decode(read_all, recording)[-1].name == "good"


VIDEO_SIZE = (64, 48)


@pytest.fixture(scope="module")
def videos(folder):
    found = []
    for suffix, code in (("avi", "MJPG"), ("mp4", "mp4v"), ("mkv", "MJPG")):
        path = folder / f"video.{suffix}"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*code), 20.0, VIDEO_SIZE)
        for number in range(4):
            writer.write(np.full((VIDEO_SIZE[1], VIDEO_SIZE[0], 3), 40 * number, np.uint8))
        writer.release()
        found.append((suffix, path.read_bytes()))
    return found


@slow(4)
@given(st.data())
def test_videos(folder, videos, data):
    suffix, content = data.draw(st.sampled_from(videos))
    path = folder / f"damaged.{suffix}"
    path.write_bytes(data.draw(bytes_like(content)))
    recording = decode(open_video, path)
    if recording is not None:
        frames = decode(read_all, recording)
        assert frames is not None
        assert recording.rate > 0


scalars = st.none() | st.booleans() | st.integers() | FLOATS | TEXTS | st.dates() | st.just(10**400)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=12) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=12,
)
calibrations = st.fixed_dictionaries(
    {},
    optional={
        name: mostly(st.just(size), values)
        for name, size in (
            ("image_width", WIDTH),
            ("width", WIDTH),
            ("image_height", HEIGHT),
            ("height", HEIGHT),
        )
    }
    | {
        name: st.lists(NUMBERS, min_size=size, max_size=size).flatmap(
            lambda numbers: st.sampled_from([numbers, {"data": numbers}])
        )
        | values
        for name, size in (("camera_matrix", 9), ("k", 9), ("projection_matrix", 12), ("p", 12))
    },
)
CALIBRATION = yaml.safe_dump(
    {
        "image_width": WIDTH,
        "image_height": HEIGHT,
        "camera_matrix": {"rows": 3, "cols": 3, "data": [40.0, 0.0, 3.5, 0.0, 42.0, 2.5, 0.0, 0.0, 1.0]},
    }
)
TOKENS = (
    "image_width: |camera_matrix|: |- |[|]|{|}|!!int |!!float |!!bool |!!timestamp |!!binary |!!set |&a |*a|"
    "<<: |\n|  |1|.nan|.inf|1:2|'|\"|#|---|? |%YAML 9.9|\t|\0|é|1e400"
)
tokens = st.lists(st.sampled_from(TOKENS.split("|")), max_size=12).map("".join)
yaml_files = (
    calibrations.map(lambda content: yaml.safe_dump(content).encode())
    | tokens.map(str.encode)
    | tokens.map(lambda text: (CALIBRATION + text).encode())
    | bytes_like(CALIBRATION.encode())
    | st.sampled_from([10, 1500]).map(lambda depth: b"[" * depth)
)


def recording_of(height=HEIGHT, width=WIDTH):
    frame = RecordedFrame(0, 0, "one", np.zeros((height, width, 3), np.uint8))
    return Recording("a frame", "images", (height, width), 0.0, lambda selection: iter([frame]))


@given(yaml_files)
def test_calibration_files(folder, data):
    path = folder / "calibration.yaml"
    path.write_bytes(data)
    check_camera(decode(camera_from_yaml, path))


def check_camera(camera):
    if camera is not None:
        assert np.isfinite([camera.fx, camera.fy, camera.cx, camera.cy]).all()
        recording = decode(with_camera, recording_of(), camera, "calibration")
        if recording is not None:
            (frame,) = decode(read_all, recording)
            assert frame.camera.rays().isfinite().all()


@given(
    (st.lists(NUMBERS, min_size=4, max_size=4) | st.lists(FLOATS | TEXTS | st.integers(), max_size=5)).map(
        lambda items: ",".join(map(str, items))
    )
)
def test_intrinsics(text):
    check_camera(decode(camera_from_numbers, text, HEIGHT, WIDTH))


def colmap_files(number, q, t, points, width=WIDTH, height=HEIGHT, count=1, model=1):
    """A binary COLMAP model of one image, with any numbers."""
    cameras = struct.pack("<QiiQQ4d", count, 1, model, width, height, 40.0, 42.0, 4.0, 3.0)
    images = struct.pack("<Qi7di", count, 1, *q, *t, number) + b"one.png\0" + struct.pack("<Q", len(points))
    images += b"".join(struct.pack("<ddq", 1.0, 1.0, index) for index in range(len(points)))
    stored = struct.pack("<Q", len(points)) + b"".join(
        struct.pack("<Q3d", index, *point) + bytes(11) + struct.pack("<Q", 0)
        for index, point in enumerate(points)
    )
    return {"cameras.bin": cameras, "images.bin": images, "points3D.bin": stored}


coordinates = st.tuples(NUMBERS, NUMBERS, NUMBERS)
COLMAP = colmap_files(1, (1, 0, 0, 0), (0, 0, 0), [(0.1, 0.1, 2.0)])
COLMAP_TEXT = {
    "cameras.txt": b"# cameras\n1 PINHOLE 8 6 40 42 4 3\n",
    "images.txt": b"# images\n1 1 0 0 0 0 0 0 1 one.png\n1 1 0 2 2 -1\n",
    "points3D.txt": b"# points\n0 0.1 0.1 2 0 0 0 1 1 0\n",
}
models = (
    st.builds(
        colmap_files,
        st.just(1) | st.integers(-(2**31), 2**31 - 1),
        st.just((1, 0, 0, 0)) | st.tuples(FLOATS, FLOATS, FLOATS, FLOATS),
        coordinates,
        st.lists(coordinates, max_size=4),
        st.just(WIDTH) | st.integers(0, 2**64 - 1),
        st.just(HEIGHT) | st.integers(0, 2**64 - 1),
        st.just(1) | st.integers(0, 2**64 - 1),
        st.just(1) | st.integers(-1, 12),
    )
    | st.fixed_dictionaries({name: bytes_like(data) for name, data in COLMAP.items()})
    | st.fixed_dictionaries({name: bytes_like(data) for name, data in COLMAP_TEXT.items()})
    | st.sampled_from([COLMAP, COLMAP_TEXT]).flatmap(
        lambda files: st.sampled_from(sorted(files)).flatmap(
            lambda name: bytes_like(files[name]).map(lambda data: {**files, name: data})
        )
    )
)


@given(models)
def test_colmap_models(folder, files):
    model = folder / "colmap"
    model.mkdir(exist_ok=True)
    for path in model.iterdir():
        path.unlink()
    for name, data in files.items():
        (model / name).write_bytes(data)
    read = decode(read_colmap, model)
    recording = decode(with_colmap, recording_of(), read) if read is not None else None
    if recording is not None:
        (frame,) = decode(read_all, recording)
        assert np.isfinite(frame.pose).all()


@given(st.lists(st.text("²³٣0129.-a/\0", max_size=24) | st.integers(0, 10**20).map(str) | TEXTS))
def test_names_of_files(names):
    assert len(sorted(names, key=natural_key)) == len(names)
    stamps = stamps_from_names(names)
    if stamps is not None:
        assert len(set(stamps)) == len(names)
        assert all(0 <= stamp < 2**31 * 10**9 for stamp in stamps)


def test_a_camera_of_nowhere_is_refused():
    assert decode(PinholeCamera, 40.0, 40.0, float("nan"), 2.0, WIDTH, HEIGHT) is None
