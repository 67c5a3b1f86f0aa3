"""The report: complete, escaped, and a page that works alone in a browser."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import yaml

import count_complexity
import plot_final_accuracy
import plot_test_accuracy
import render_report
import synthetic
from normres.errors import InputError
from normres.options import resolve
from normres.pipeline import FIGURES
from normres.svg import embed_svg

HOSTILE = '<script>alert(1)</script> & "x"'
DATASET = {
    "name": "synthetic digits (8x8)",
    "source": "made up",
    "n_train": 1297,
    "n_test": 500,
    "shape": [32, 32, 3],
    "class_names": [str(digit) for digit in range(9)] + [HOSTILE],
    "checksum": "sha256:0",
    "channel_mean": [0.5] * 3,
    "channel_std": [0.25] * 3,
}
ENVIRONMENT = {
    "device": "cpu",
    "device_name": "a processor",
    "cpu_count": 2,
    "cpu_capability": "AVX512",
    "cpu_threads": 1,
    "precision": "float32",
    "memory_format": "channels_last",
    "compiled": False,
    "torch": "2.14.1",
    "cuda": None,
    "python": "3.12.3",
    "numpy": "2.3.1",
    "torchvision": "0.29.1",
    "platform": "Linux",
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
    count_complexity.main(
        ["--study", str(path), "--dataset", str(dataset)]
        + ["--out-summary", str(folder / "complexity.csv")]
        + ["--out-layers", str(folder / "layers.csv")]
    )
    return path


def change(path: Path, **values: Any) -> None:
    """Change top-level keys of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def draw(folder: Path, command: Any, name: str) -> Path:
    """Draw one figure of the study in `folder`."""
    tables = ("bands", "curves", "summary", "runs")
    options = [part for table in tables for part in (f"--{table}", str(folder / f"{table}.csv"))]
    out = folder / "figures" / name
    command.main(["--study", str(folder / "study.json"), *options, "--out", str(out)])
    return out.with_name(f"{name}.svg")


def render(folder: Path, figures: list[Path] = ()) -> str:
    """Write report.html in `folder`; return its text."""
    tables = ("runs", "summary", "complexity", "layers")
    options = [part for table in tables for part in (f"--{table}", str(folder / f"{table}.csv"))]
    report = folder / "report.html"
    render_report.main(
        ["--study", str(folder / "study.json"), "--dataset", str(folder / "dataset.json")]
        + [*options, "--figures", *map(str, figures), "--out", str(report)]
    )
    return report.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of 27 runs, two without a result, with a hostile title; drawn and reported."""
    folder = tmp_path_factory.mktemp("quickstart")
    change(
        write_inputs(folder, "quickstart"),
        title=HOSTILE,
        excluded=[{"model": "resnet", "norm": "layer", "reason": "told <b>twice</b>"}],
    )
    figures = [
        draw(folder, plot_test_accuracy, "test_accuracy"),
        draw(folder, plot_final_accuracy, "final_accuracy"),
    ]
    render(folder, figures)
    return folder


@pytest.fixture(scope="module")
def page(study: Path) -> str:
    return (study / "report.html").read_text(encoding="utf-8")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Inputs of a study with two configurations, to change before reporting."""
    write_inputs(tmp_path, "normalization", norms=["none", "batch"], seeds=2, epochs=3)
    return tmp_path


def words(page: str) -> str:
    """What a reader sees: the body's text without markup, on one line."""
    body = re.sub(r"(?s)<(script|style|svg)\b.*?</\1>", " ", page.partition("<body>")[2])
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", body)))
