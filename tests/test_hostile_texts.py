"""Hostile texts: in titles, reasons, option values, and names of folders, classes and files.

No shell runs them, no path leaves results/, the report escapes them. test_config_fuzz.py tries many
more on the configuration alone.
"""

import numpy as np
import pytest
from PIL import Image

from normres.pipeline import load_pipeline
from preparing import prepare, refusal
from snakemake_project import TINY, Project

ONE = {**TINY, "models": ["convnet"], "norms": ["none"], "seeds": [0]}
TITLE = "</title><script>alert(1)</script> $(touch x) `touch x` {wildcards.study} {{7*7}} '\"\\ ü\n"
CLASSES = ["<script>alert(2)", "$(touch x)", "'; touch x #", '"q" & more', "-rf", "{x} {{7*7}} 漢"]


def add_images(folder):
    """Four images of one class."""
    folder.mkdir(parents=True)
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i} $(touch x).png")


def test_hostile_texts_reach_no_shell_and_no_page(tmp_path):
    """In the study's title and reasons, in names of folders and classes, and in the project's."""
    images = tmp_path / "my $(touch x) <b> 'images' ü; touch x"
    for part in ("train", "test"):
        for name in CLASSES:
            add_images(images / part / name)
    study = {key: TINY[key] for key in ("epochs", "batch_size")}
    study |= {"title": TITLE, "dataset": {"folder": str(images)}, "norms": ["none"], "seeds": [0]}
    study |= {"models": ["convnet", "resnet"], "exclude": [{"model": "resnet", "reason": TITLE}]}
    settings = {"data_root": "$(touch x)'\"; touch x"}
    project = Project.create(tmp_path / "a $(touch x) 'ü\" ;&|", settings=settings, tiny=study)
    project.run("report", "results/tiny/summary.md")
    touched = [path for path in tmp_path.rglob("*") if path.name.strip("'\"") == "x"]
    assert not touched
    assert {path.name for path in tmp_path.iterdir()} == {images.name, project.folder.name}
    page = (project.results() / "report.html").read_text()
    for number in (1, 2):
        assert f"<script>alert({number})" not in page and f"&lt;script&gt;alert({number})" in page
    assert "{{7*7}}" in page and "{wildcards.study}" in page
    assert "<script>" not in (project.results() / "summary.md").read_text()


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--config", "device=$(touch x)", "--"], "device: unknown value '$(touch x)'"),
        (["--config", "study=../../etc", "--"], "unknown name '../../etc'"),
        (["--config", 'studies={tiny: {title: "a\\0b"}}', "--"], "title: the character '\\x00'"),
        (["results/tiny/runs/../../../x/seed0/run.json"], "x/seed0"),
        (["results/tiny/runs/convnet/none/seed9/run.json"], "seed9"),
    ],
)
def test_hostile_words_on_the_command_line(tmp_path, arguments, words):
    project = Project.create(tmp_path / "project", tiny=ONE)
    result = project.snakemake(*arguments)
    assert result.returncode != 0
    assert words in result.stdout and "Traceback" not in result.stdout, result.stdout
    assert not (project.folder / "results").exists()
    assert not list(tmp_path.rglob("x"))


def test_hostile_class_names_are_names(tmp_path):
    folder = tmp_path / "photos"
    for part in ("train", "test"):
        for name in CLASSES:
            add_images(folder / part / name)
    images = prepare(tmp_path / "out", "--folder", folder)
    assert images.class_names == sorted(CLASSES)


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[2J", "caf\udce9"])  # the last one in Latin-1
def test_a_class_whose_name_is_no_text_is_refused_in_one_line(tmp_path, name):
    for part in ("train", "test"):
        add_images(tmp_path / "photos" / part / name)
    line = refusal(tmp_path / "out", "--folder", tmp_path / "photos")
    assert line.isprintable() and "train" in line and "cannot be printed" in line


def test_a_project_in_a_folder_with_a_colon_is_refused(tmp_path, capsys, monkeypatch):
    """Python would take the two halves for two folders (PYTHONPATH)."""
    monkeypatch.setattr("normres.fingerprint.SCRIPTS", tmp_path / "a:b" / "scripts")
    with pytest.raises(SystemExit):
        load_pipeline({})
    assert "a:b" in capsys.readouterr().err
