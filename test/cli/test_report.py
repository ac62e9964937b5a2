"""Reports of an evaluation."""

import base64
import csv
import io
import json
import re

import cv2
import numpy as np
import pytest
from browser import needs_browser, run_in_browser
from rich.console import Console

from redepth_ros.cli.report import (
    MEASURES,
    Mean,
    print_summary,
    read_results,
    write_report,
    write_results,
    write_summary,
)
from redepth_ros.core.errors import ConfigError

ERRORS = dict.fromkeys(MEASURES, 0.25) | {"rmse": None}
RESULTS = [
    {
        "name": "<b>room</b>",
        "sheet": "room.png",
        "errors": {"fast": ERRORS},
        "refused": {"anchored": "one depth"},
    }
]
METHODS = ("fast", "refined", "fast + anchors", "interpolated", "fused", "anchored")
SUMMARY = {
    method: {"abs_rel": Mean(0.25, (0.2, 0.31), 16), "silog": Mean(31.84, (20.0, 44.0), 16)}
    for method in METHODS
}


def printed_summary(summary):
    stream = io.StringIO()
    print_summary(Console(file=stream, width=80), 16, summary)
    assert max(map(len, stream.getvalue().splitlines())) <= 80
    return stream.getvalue()


def test_the_summary_fits_80_columns_and_counts_the_images():
    text = printed_summary(SUMMARY)
    assert text.count("0.250 (16)") == 6
    assert text.count(".200-.310") == 6
    assert text.count("31.8 (16)") == 6
    assert text.count("20.0-44.0") == 6
    assert "interpolated" in text  # in one piece
    printed_summary(
        {method: dict.fromkeys(MEASURES, Mean(100.25, (90.0, 110.0), 1449)) for method in METHODS}
    )


def test_one_image_has_no_interval_and_no_image_no_mean():
    text = printed_summary({"fast": {"abs_rel": Mean(0.25, None, 1)}, "fused": {}})
    assert "0.250 (1)" in text
    assert ".250-" not in text
    assert text.count("-\n") + text.count("- ") >= len(MEASURES)


def test_means_have_their_number_of_images(tmp_path):
    write_summary(
        tmp_path / "a.csv", {"fast": {"abs_rel": Mean(0.25, (0.2, 0.31), 2), "rmse": Mean(1.0, None, 1)}}
    )
    with (tmp_path / "a.csv").open(newline="") as stream:
        first, second = csv.DictReader(stream)
    assert first == {
        "method": "fast",
        "measure": "abs_rel",
        "mean": "0.25",
        "low": "0.2",
        "high": "0.31",
        "images": "2",
    }
    assert (second["low"], second["images"]) == ("", "1")


def test_results_have_a_row_per_image_and_method(tmp_path):
    write_results(tmp_path / "results.csv", RESULTS)
    with (tmp_path / "results.csv").open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert (row["image"], row["method"], row["abs_rel"], row["rmse"]) == ("<b>room</b>", "fast", "0.25", "")


@pytest.fixture
def report(tmp_path):
    """The page of one image."""
    (tmp_path / "sheets").mkdir()
    cv2.imwrite(str(tmp_path / "sheets" / "room.png"), np.zeros((60, 2000, 3), np.uint8))
    methods = {"fast": "<explained>"}
    write_report(tmp_path, "tiny with tiny", methods, ["200 anchors & noise"], RESULTS, SUMMARY)
    return (tmp_path / "report.html").read_text()


def test_the_report_escapes_names_and_embeds_figures(report, tmp_path):
    assert "<b>room</b>" not in report
    assert "&lt;b&gt;room&lt;/b&gt;" in report
    assert "<dt>fast</dt><dd>&lt;explained&gt;</dd>" in report
    assert "<p>200 anchors &amp; noise</p>" in report
    figure = base64.b64encode((tmp_path / "sheets" / "room.png").read_bytes()).decode()
    assert f'src="data:image/png;base64,{figure}"' in report
    assert not re.search(r'(src|href)="(?!data:)', report)
    assert "<td>0.250 (16)\n.200-.310</td>" in report
    assert "<td>31.8 (16)\n20.0-44.0</td>" in report
    assert '<th scope="row">fast</th><td>0.250</td><td>-</td><td>0.250</td>' in report
    assert "No anchored: one depth" in report


@needs_browser
def test_the_report_opens_in_a_browser(report, tmp_path):
    script = """
    const picture = document.querySelector("img");
    finish([picture.naturalWidth, picture.clientWidth, document.querySelectorAll("table").length,
      document.documentElement.scrollWidth <= innerWidth, getComputedStyle(document.body).backgroundColor]);
    """
    dark = "rgb(23, 24, 26)"
    assert run_in_browser(report, script, tmp_path, width=800, dark=True) == [
        "2000",
        "1500",  # scrolls within the page
        "2",
        "true",
        dark,
    ]


def test_damaged_results_are_left_out_and_the_others_kept(tmp_path):
    stored = {**RESULTS[0], "folder": "rooms"}
    read_results(tmp_path, {"steps": 4})
    lines = [b'{"name": "half', b"[]", b'{"name": "room 2"}', b"\xff\xfe", b"[" * 3000]
    (tmp_path / "results.jsonl").write_bytes(b"\n".join([json.dumps(stored).encode(), *lines]))
    for _ in range(2):
        assert read_results(tmp_path, {"steps": 4}) == {"<b>room</b>": stored}
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 1


def test_results_of_other_or_damaged_settings_are_not_mixed(tmp_path):
    read_results(tmp_path, {"steps": 4})
    with pytest.raises(ConfigError, match="results of other settings"):
        read_results(tmp_path, {"steps": 5})
    (tmp_path / "configuration.json").write_bytes(b'{"steps": \xff')
    with pytest.raises(ConfigError, match="results of other settings"):
        read_results(tmp_path, {"steps": 4})
