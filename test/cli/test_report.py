"""Reports of an evaluation."""

import csv
import io

from rich.console import Console

from redepth_ros.cli.report import MEASURES, print_summary, write_report, write_results

ERRORS = dict.fromkeys(MEASURES, 0.25) | {"rmse": None}
RESULTS = [{"name": "<b>room</b>", "sheet": "room.png", "errors": {"fast": ERRORS}, "refused": "one depth"}]
SUMMARY = {
    method: {"abs_rel": (0.25, 0.2, 0.31)} for method in ("fast", "refined", "fast + anchors", "anchored")
}


def test_the_summary_fits_80_columns():
    stream = io.StringIO()
    print_summary(Console(file=stream, width=80), 3, SUMMARY)
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line.count("0.200-0.310") for line in lines) == 4


def test_results_have_a_row_per_image_and_method(tmp_path):
    write_results(tmp_path / "results.csv", RESULTS)
    with (tmp_path / "results.csv").open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert (row["image"], row["method"], row["abs_rel"], row["rmse"]) == ("<b>room</b>", "fast", "0.25", "")


def test_the_report_escapes_names_and_embeds_figures(tmp_path):
    (tmp_path / "sheets").mkdir()
    (tmp_path / "sheets" / "room.png").write_bytes(b"figure")
    write_report(tmp_path, "tiny with tiny", "fast: <explained>", RESULTS, SUMMARY)
    page = (tmp_path / "report.html").read_text()
    assert "<b>room</b>" not in page
    assert "&lt;b&gt;room&lt;/b&gt;" in page
    assert "fast: &lt;explained&gt;" in page
    assert 'src="data:image/png;base64,ZmlndXJl"' in page
    assert "<td>0.250; 0.200-0.310</td>" in page
    assert "No anchored results: one depth" in page
