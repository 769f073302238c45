"""The HTML report: whole, offline, hostile text inert, and drawn by a real browser where there is one."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from tests.ui.samples import HOSTILE, make_table, tensor_range
from trtd.calibrate.table import CalibrationTable, TensorRange
from trtd.ui import plots
from trtd.ui.html import render
from trtd.verify.report import Report

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
INFO = {"version": 3, "method": "entropy", "activation": "uint8", "device": {"cores": 2}, "spec": "a = 1\nb = 2\n"}


class Page(HTMLParser):
    """Collects what a browser would see: tags with attributes, visible text, the content of scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self._inside = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.text += data

    def island(self) -> dict[str, object]:
        loaded = json.loads(self.scripts[0], parse_constant=lambda name: pytest.fail(f"bare {name} in the page"))
        assert isinstance(loaded, dict)
        return loaded


def hostile_table() -> CalibrationTable:
    ordinary = next(iter(make_table(1).tensors.values()))
    return make_table(1).model_copy(update={"tensors": {HOSTILE: ordinary}})


def test_hostile_text_is_shown_and_never_parsed(hostile_report: Report) -> None:
    """A model whose tensors are named like markup would run script in the browser of whoever opens its report."""
    page = Page(render(hostile_report, hostile_table(), {HOSTILE: HOSTILE, "version": HOSTILE, "method": HOSTILE}))
    assert [tag for tag, _ in page.tags if tag in {"img", "iframe", "object", "link", "base"}] == []
    assert [tag for tag, _ in page.tags].count("script") == 3
    assert [key for _, attrs in page.tags for key in attrs if key.startswith("on")] == []
    assert "</script><img src=x onerror=alert(1)>" in page.text
    assert r"\x1b[31m" in page.text
    assert "\x1b" not in page.text
    assert "\u202e" not in page.text


def test_data_survives_the_way_into_the_page(hostile_report: Report) -> None:
    """JSON cut short by ``</script>`` in a name, or made invalid by NaN, would leave a report without charts."""
    data = Page(render(hostile_report, hostile_table(), {})).island()
    assert isinstance(data["tensors"], list)
    assert data["tensors"][0]["name"] == HOSTILE.replace("\x1b", r"\x1b").replace("\u202e", r"\u202e")
    assert data["errors"] == [{"name": data["tensors"][0]["name"], "edges": [], "counts": []}]


def test_nothing_is_loaded(report: Report, table: CalibrationTable) -> None:
    """A report that fetches anything is blank on a plane and tells a stranger that it was opened."""
    html = render(report, table, INFO)
    page = Page(html)
    loading = {"src", "srcset", "data", "poster", "action", "background"}
    assert [(tag, attrs) for tag, attrs in page.tags if loading & attrs.keys()] == []
    assert all(str(attrs["href"]).startswith("#") for _, attrs in page.tags if "href" in attrs)
    assert re.findall(r"@import|url\(", html) == []
    policy = next(attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert str(policy).startswith("default-src 'none'")


def test_tables_hold_the_findings_without_script(missed_report: Report, table: CalibrationTable) -> None:
    """Numbers that only a script draws would be lost to mail previews, printers and screen readers."""
    text = Page(render(missed_report, table, INFO)).text
    for expected in (
        "ppocr-det", "@3", "onnxruntime-cpu", "int8", "missed 1 of 4 gates", "≥ 20", "17.26", "FP32 alone",
        'quantization.exclude = ["Conv_12"]', "onnxruntime", "1.32.0", "device.cores", "p2o.pd_op.relu.1.0",
        table.set_digest, "9.7 → 2.6 MB",
    ):  # fmt: skip
        assert expected in text


def test_an_engine_without_table_or_gates_says_so(report: Report) -> None:
    """An FP16 engine has no table, and a report without gates must not read as passed."""
    bare = report.model_copy(update={"gates": (), "worst_tensors": (), "fidelity": {}, "conversion": {}, "notes": ()})
    text = Page(render(bare, None, {})).text
    assert "no gates: nothing was judged" in text
    assert "No output was compared" in text
    assert "✓ passed" not in text
    assert "Calibrated ranges" not in text


def test_emulated_is_named(report: Report) -> None:
    """What did not run on its target must never look verified."""
    text = Page(render(report.model_copy(update={"proof": "emulated"}), None, {})).text
    assert "emulated: not run on its target" in text
    assert "verified on its target" not in text


def test_page_of_200_tensors_stays_small(report: Report, table: CalibrationTable) -> None:
    """A report of tens of megabytes cannot be mailed and freezes a phone."""
    html = render(report, table, INFO)
    assert len(table.tensors) == 200
    assert len(html) < 3_000_000
    tensors = Page(html).island()["tensors"]
    assert isinstance(tensors, list)
    assert max(len(tensor["counts"]) for tensor in tensors) <= plots.MAX_BINS


def test_coarsening_keeps_every_count(table: CalibrationTable) -> None:
    """A bin lost on the way would hide the outliers that the plot is there to show."""
    for tensor in table.tensors.values():
        first, factor, counts = plots.coarsen(tensor.counts, 100)
        assert sum(counts) == sum(tensor.counts)
        assert len(counts) <= 100
        assert counts[0] > 0
        low = (tensor.first_bin + first) * tensor.bin_width
        assert low <= tensor.min + tensor.bin_width
        assert low + len(counts) * factor * tensor.bin_width >= tensor.max


def test_coarsening_nothing() -> None:
    """A tensor that was never run has an empty histogram."""
    assert plots.coarsen((), 10) == (0, 1, ())
    assert plots.coarsen((0, 0), 10) == (0, 1, ())


def test_clipped_share_agrees_with_the_values() -> None:
    """A wrong share would send people after the wrong calibration method."""
    values = np.random.default_rng(0).normal(0, 1, 50_000)
    tensor: TensorRange = tensor_range(values)
    bounds = [(-2.0, 2.0), (-0.5, 3.0), (tensor.min, tensor.max), (-100.0, 100.0)]
    expected = [float(np.mean((values < low) | (values > high))) for low, high in bounds]
    assert plots.clipped_shares(tensor, bounds) == pytest.approx(expected, abs=1e-3)
    assert plots.clipped_shares(tensor, bounds)[2:] == [0, 0]


def test_script_json_is_the_same_data() -> None:
    """Escaping for ``<script>`` must not change what the script reads."""
    data = {"</script>": ["<!--", "&amp;", "\u2028"], "n": [1, 2.5, None]}
    text = plots.script_json(data)
    assert json.loads(text) == data
    assert not set("<>&\u2028") & set(text)
    assert json.loads(plots.script_json(math.inf)) == "Infinity"


@pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")
@pytest.mark.parametrize("hostile", [False, True])
def test_a_browser_draws_it_without_complaint(
    hostile: bool, report: Report, hostile_report: Report, table: CalibrationTable, tmp_path: Path
) -> None:
    """A typo in the script, or a content policy that blocks it, shows up nowhere but in a browser."""
    path = tmp_path / "report.html"
    path.write_text(render(hostile_report, hostile_table(), {}) if hostile else render(report, table, INFO), "utf-8")
    done = subprocess.run(
        [
            str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
            f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--virtual-time-budget=5000",
            "--dump-dom", path.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    assert done.stdout.count("<canvas") == (2 if hostile else 3)
    assert 'id="range-name"></bdi>' not in done.stdout


def test_the_vendored_library_is_the_one_that_the_readme_names() -> None:
    """A library updated without its record cannot be checked for known faults."""
    assets = files("trtd.ui") / "assets"
    banner = re.search(r"uPlot \(v([\d.]+)\)", (assets / "uPlot.iife.min.js").read_text("utf-8"))
    assert banner is not None
    assert f"uPlot {banner[1]} (MIT" in (assets / "README.md").read_text("utf-8")
    assert "Permission is hereby granted" in (assets / "uPlot.LICENSE").read_text("utf-8")
    assert "</script" not in (assets / "uPlot.iife.min.js").read_text("utf-8")
