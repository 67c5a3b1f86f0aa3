"""Inputs of a report, the report made from them, and what a reader sees of it."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from html import unescape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import check_claims
import count_complexity
import render_report
import synthetic
from normres.options import resolve

HOSTILE = '<script>alert(1)</script> & "x"'
DATASET = {
    "name": "synthetic digits (8x8)",
    "source": "made up",
    "n_train": 1297,
    "n_test": 500,
    "shape": [32, 32, 3],
    "class_names": [str(digit) for digit in range(9)] + [HOSTILE],
    "checksum": "sha256:0",
}
ENVIRONMENT = {
    "device": "cpu",
    "device_name": "a processor",
    "cpu_capability": "AVX512",
    "cpu_threads": 1,
    "precision": "float32",
    "memory_format": "channels_last",
    "compiled": False,
    "torch": "2.14.1",
    "cuda": None,
    "python": "3.12.3",
    "numpy": "2.3.1",
    "git_commit": "41eaeb9f00",
}


def write_inputs(folder: Path, name: str, **changes: Any) -> Path:
    """Write all that the report reads, but figures, with real specifications and costs."""
    path = synthetic.write_study(folder, name, **changes)
    synthetic.aggregate(path)
    study = json.loads(path.read_text())
    study["options"] = {"learning_rate": 1e-3}
    for run in study["runs"]:
        options = {"learning_rate": 1e-3, **run["axes"]}
        run["specification"] = resolve(
            run["model"], run["norm"], run["seed"], study["epochs"], options
        )
        record_path = folder / "runs" / run["run"] / "run.json"
        if record_path.exists():
            record = json.loads(record_path.read_text())
            if record["status"] != "failed":
                record |= {"environment": ENVIRONMENT, "exact": True, "attempts": 1}
            record_path.write_text(json.dumps(record))
    path.write_text(json.dumps(study))
    dataset = folder / "dataset.json"
    dataset.write_text(json.dumps(DATASET))
    networks = [run for run in study["runs"] if run["seed"] == study["seeds"][0]]
    texts = count_networks(json.dumps({"axes": study["axes"], "runs": networks}))
    for name, text in zip(("complexity.csv", "layers.csv"), texts, strict=True):
        (folder / name).write_text(text)
    check_claims.main(
        [
            *("--study", str(path), "--dataset", str(dataset)),
            *table_options(folder, "curves", "complexity", "timing"),
            *("--out", str(folder / "claims.csv")),
        ]
    )
    return path


@cache
def count_networks(study: str) -> list[str]:
    """complexity.csv and layers.csv of a study as JSON; it takes seconds, and most are the same."""
    with TemporaryDirectory() as folder:
        Path(folder, "study.json").write_text(study)
        Path(folder, "dataset.json").write_text(json.dumps(DATASET))
        count_complexity.main(
            [
                *(f"--study={folder}/study.json", f"--dataset={folder}/dataset.json"),
                *(f"--out-summary={folder}/complexity.csv", f"--out-layers={folder}/layers.csv"),
            ]
        )
        return [Path(folder, name).read_text() for name in ("complexity.csv", "layers.csv")]


def change(path: Path, **values: Any) -> None:
    """Change top-level keys of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def table_options(folder: Path, *tables: str) -> list[str]:
    """Command-line options that name csv files of the study in `folder`."""
    return [part for name in tables for part in (f"--{name}", str(folder / f"{name}.csv"))]


def draw(folder: Path, command: Any, name: str, *arguments: str) -> Path:
    """Draw one figure of the study in `folder`; `arguments`: further ones of its command."""
    options = table_options(folder, "bands", "curves", "summary", "runs")
    out = folder / "figures" / name
    command.main(["--study", str(folder / "study.json"), *options, *arguments, "--out", str(out)])
    return out.with_name(f"{name}.svg")


def render(folder: Path, figures: list[Path] = (), call: str | None = None) -> str:
    """Write report.html in `folder`, as made by `call`; return its text."""
    options = table_options(
        folder, "runs", "summary", "comparisons", "complexity", "layers", "claims"
    )
    report = folder / "report.html"
    render_report.main(
        [
            *("--study", str(folder / "study.json"), "--dataset", str(folder / "dataset.json")),
            *("--timing", str(folder / "timing.json")),
            *(*options, "--figures", *map(str, figures), "--out", str(report)),
            *(("--call", call) if call else ()),
        ]
    )
    return report.read_text(encoding="utf-8")


@contextmanager
def opened(browser: Any, path: Path, **options: Any) -> Iterator[Any]:
    """A report in a tab; afterwards: no error on the console, no request but the file itself."""
    tab = browser.new_page(**{"viewport": {"width": 1200, "height": 900}} | options)
    requests, errors = [], []
    tab.on("request", lambda request: requests.append(request.url))
    tab.on("console", lambda message: errors.append(message.text))
    tab.on("pageerror", lambda error: errors.append(str(error)))
    url = path.as_uri()
    tab.goto(url)
    yield tab
    assert requests == [url]
    assert errors == []
    tab.close()


def words(page: str) -> str:
    """What a reader sees: the body's text without markup, on one line."""
    body = re.sub(r"(?s)<(script|style|svg)\b.*?</\1>", " ", page.partition("<body>")[2])
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", body)))
