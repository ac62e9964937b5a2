"""Files of data sets, and what former calls of `redepth evaluate` and `redepth process` left."""

import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.harness import FLOATS, TEXTS, bytes_like, decode, mostly, slow
from fuzz.test_files import encoded, npy, numpy_files
from redepth_ros.cli.datasets import read_pairs
from redepth_ros.cli.process.journal import Journal, count_done
from redepth_ros.cli.report import read_results
from redepth_ros.exports.frames import FrameRecord

HEIGHT, WIDTH = 6, 8
IMAGE = encoded(".png", np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
DEPTH = encoded(".png", np.full((HEIGHT, WIDTH), 2000, np.uint16))
pngs = st.sampled_from([IMAGE, DEPTH]).flatmap(bytes_like)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


def write(folder, files):
    """Write the files of a data set into an empty folder."""
    for path in sorted(folder.glob("**/*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def check_pairs(path):
    pairs = decode(read_pairs, path)
    for pair in pairs or ():
        image, depth = decode(pair.image), decode(pair.depth)
        assert image is None or (image.ndim, image.dtype) == (3, np.uint8)
        assert depth is None or (depth.ndim, depth.dtype) == (2, np.float32)
        assert depth is None or not (depth <= 0).any()
    if pairs:
        assert len({pair.name for pair in pairs}) == len(pairs)


cells = st.sampled_from(
    ["image.png", "depth.png", "depth", "disparity", "1000", "0", "-1", "²", '"', "a,b", "kinect"]
)
cells = cells | TEXTS | FLOATS.map(str) | st.integers(10**4, 10**5).map(lambda length: "1" * length)
COLUMNS = [
    "name",
    "rgb",
    "depth",
    "kind",
    "png_scale",
    "ground_truth",
    "fx",
    "fy",
    "cx",
    "cy",
    "width",
    "height",
]
VALID = ["one", "image.png", "depth.png", "depth", "1000", "lidar", "40", "42", "3.5", "2.5", "8", "6"]


@st.composite
def indices(draw):
    rows = [draw(st.just(COLUMNS) | st.lists(st.sampled_from(COLUMNS), max_size=9))]
    for _ in range(draw(st.integers(0, 4))):
        row = list(VALID)
        for _ in range(draw(st.integers(0, 2))):
            row[draw(st.integers(0, len(row) - 1))] = draw(cells)
        rows.append(row[: draw(st.just(12) | st.integers(0, 12))])
    separator = draw(st.sampled_from([",", ",", ";", "\t"]))
    text = draw(st.sampled_from(["\n", "\r\n", "\r", "\x85"])).join(separator.join(row) for row in rows)
    return draw(st.just(text.encode(errors="replace")) | bytes_like(text.encode(errors="replace")))


@given(indices(), pngs)
def test_index_files(folder, index, depth):
    check_pairs(write(folder, {"index.csv": index, "image.png": IMAGE, "depth.png": depth}))


@slow(2)
@given(numpy_files, st.just(npy(np.ones((HEIGHT, WIDTH)))) | numpy_files, pngs)
def test_diode(folder, depth, mask, image):
    check_pairs(write(folder, {"a.png": image, "a_depth.npy": depth, "a_depth_mask.npy": mask}))


@slow(2)
@given(
    pngs,
    pngs,
    st.just(b"70 0 8 0 71 6 0 0 1").flatmap(bytes_like) | st.lists(FLOATS).map(repr).map(str.encode),
)
def test_kitti(folder, image, depth, intrinsics):
    files = {"image/a_image_1.png": image, "groundtruth_depth/a_groundtruth_depth_1.png": depth}
    check_pairs(write(folder, {**files, "intrinsics/a_image_1.txt": intrinsics}))


@slow(2)
@given(pngs, bytes_like(np.ones((HEIGHT, WIDTH), np.float32).tobytes()))
def test_eth3d(folder, image, depth):
    check_pairs(write(folder, {"s/images/d/1.png": image, "s/ground_truth_depth/d/1.png": depth}))


@slow(2)
@given(pngs, pngs)
def test_nyu_folders(folder, image, depth):
    check_pairs(write(folder, {"s/rgb_1.png": image, "s/sync_depth_1.png": depth}))


def nyu(images, depths):
    h5py = pytest.importorskip("h5py")
    stream = io.BytesIO()
    with h5py.File(stream, "w") as stored:
        stored["images"], stored["rawDepths"] = images, depths
    return stream.getvalue()


@slow(2)
@given(st.data())
def test_nyu_files(folder, data):
    image, depth = np.full((1, 3, WIDTH, HEIGHT), 90, np.uint8), np.full((1, WIDTH, HEIGHT), 2.0, np.float32)
    shapes = st.lists(st.integers(0, 3), min_size=1, max_size=4).map(np.zeros)
    content = nyu(data.draw(st.just(image) | shapes), data.draw(st.just(depth) | shapes))
    files = {"nyu_depth_v2_labeled.mat": data.draw(st.just(content) | bytes_like(content))}
    check_pairs(write(folder, files))


CONFIGURATION = {"model": "tiny", "settings": {"steps": 4}}
RESULT = {"name": "a", "folder": "f", "sheet": "a.png", "outcome": "REFINED", "errors": {}, "refused": {}}
documents = st.recursive(
    st.none() | st.booleans() | FLOATS | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(TEXTS | st.sampled_from(sorted(RESULT)), inner)
    ),
    max_leaves=6,
)
lines = st.lists(st.just(RESULT) | documents, max_size=4).map(
    lambda items: "".join(json.dumps(item) + "\n" for item in items).encode()
)


@given(
    st.just(json.dumps(CONFIGURATION).encode()) | bytes_like(json.dumps(CONFIGURATION).encode()),
    lines | bytes_like(json.dumps(RESULT).encode() + b"\n"),
)
def test_results_of_a_former_call(folder, configuration, results):
    out = write(folder, {"configuration.json": configuration, "results.jsonl": results})
    known = decode(read_results, out, CONFIGURATION)
    for name, result in (known or {}).items():
        assert result["name"] == name
        assert isinstance(result["errors"], dict)


RECORD = json.loads(FrameRecord(1, 10, "a", height=6, width=8, camera=(40.0, 42.0, 3.5, 2.5)).to_json())
records = st.lists(
    mostly(st.just({}), st.dictionaries(st.sampled_from(sorted(RECORD)), documents)).map(
        lambda one: {**RECORD, **one}
    )
).map(lambda items: "".join(json.dumps(item) + "\n" for item in items).encode())


@given(records | bytes_like(json.dumps(RECORD).encode() + b"\n"))
def test_journals(folder, data):
    settings = json.dumps({"model": "tiny"}).encode()
    out = write(folder, {".redepth/settings.json": settings, ".redepth/journal.jsonl": data})
    journal = decode(lambda: Journal(out, {"model": "tiny"}, overwrite=False, formats=()))
    assert len(decode(journal.ordered)) == decode(count_done, out)
    journal.close()
