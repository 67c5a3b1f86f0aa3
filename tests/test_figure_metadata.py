"""What a figure's files say about themselves, read back by libraries that did not write it."""

import json
from xml.etree import ElementTree

import pandas as pd
import pytest
from PIL import Image
from pypdf import PdfReader

import plot_test_accuracy
import plot_training_loss
import synthetic
from normres import fingerprint
from normres.figure_metadata import describe_origin, file_metadata
from normres.svg import embed_svg

DUBLIN_CORE = "{http://purl.org/dc/elements/1.1/}"
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
TITLE = 'Is "a < b" & c über 漢?'


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    study = synthetic.write_study(folder, "single")
    study.write_text(json.dumps(json.loads(study.read_text()) | {"title": TITLE}))
    return synthetic.aggregate(study)


@pytest.fixture(scope="module")
def prefix(files):
    path = files["study"].parent / "figures" / "test_accuracy"
    plot_test_accuracy.main(
        [f"--{option}={path}" for option, path in {**files, "out": path}.items()]
    )
    return path


@pytest.fixture(scope="module")
def expected():
    return {
        "study": "single",
        "dataset": "synthetic digits (8x8)",
        "data_checksum": "sha256:0",
        "git_commit": "0123abc",
        "figure_code": f"plot_test_accuracy {fingerprint.fingerprint('plot_test_accuracy')}",
    }


def test_png_has_text_chunks(prefix, expected):
    with Image.open(f"{prefix}.png") as image:
        chunks = image.text
    assert {key: chunks[key] for key in expected} == expected
    assert chunks["Title"] == f"Test accuracy: {TITLE}"
    assert "trained at commit 0123abc" in chunks["Description"]
    assert set(chunks) == {*expected, "Title", "Description"}  # no date, no version


def test_svg_has_dublin_core(prefix, expected):
    root = ElementTree.parse(f"{prefix}.svg").getroot()
    assert root.find(f".//{DUBLIN_CORE}title").text == f"Test accuracy: {TITLE}"
    keywords = [item.text for item in root.findall(f".//{DUBLIN_CORE}subject//{RDF}li")]
    assert keywords == [f"{key}={value}" for key, value in expected.items()]
    assert "0123abc" in root.find(f".//{DUBLIN_CORE}description").text
    assert root.find(f".//{DUBLIN_CORE}date") is None


def test_pdf_has_document_information(prefix, expected):
    information = PdfReader(f"{prefix}.pdf").metadata
    assert information.title == f"Test accuracy: {TITLE}"
    assert information["/Keywords"] == "; ".join(f"{k}={v}" for k, v in expected.items())
    assert "0123abc" in information.subject
    assert "/CreationDate" not in information


def test_a_page_that_embeds_the_drawing_shows_none_of_it(prefix):
    markup = embed_svg(prefix.with_suffix(".svg"), "f1-")
    assert "0123abc" not in markup and "<title" not in markup


def test_figures_of_one_command_have_titles_of_their_own(files):
    for against in ("epoch", "time"):
        prefix = files["study"].parent / "figures" / f"training_loss_by_{against}"
        arguments = [f"--{option}={path}" for option, path in {**files, "out": prefix}.items()]
        plot_training_loss.main(["--against", against, *arguments])
        with Image.open(f"{prefix}.png") as image:
            assert image.text["Title"].startswith(f"Training loss by {against}: ")
            assert image.text["figure_code"].startswith("plot_training_loss ")


def test_runs_of_several_commits_are_all_named_and_failed_ones_are_not(files):
    study = json.loads(files["study"].read_text())
    runs = pd.DataFrame(
        {
            "git_commit": ["b", "a+changes", "b", None],
            "data_checksum": ["sha256:1", "sha256:1", "sha256:1", None],
        }
    )
    origin = describe_origin(study, runs, "parameters_vs_macs", "plot_parameters_vs_macs")
    assert origin["git_commit"] == "a+changes, b" and origin["data_checksum"] == "sha256:1"
    assert origin["title"].startswith("Parameters vs MACs: ")
    none = describe_origin(study, runs.iloc[3:], "test_accuracy", "plot_test_accuracy")
    assert none["git_commit"] == none["data_checksum"] == "unknown"


def test_a_title_that_no_format_could_hold_becomes_one_line(files):
    study = json.loads(files["study"].read_text()) | {"title": "two\nlines\x1b[2J"}
    runs = pd.DataFrame({"git_commit": [None], "data_checksum": [None]})
    origin = describe_origin(study, runs, "test_accuracy", "plot_test_accuracy")
    for kind in ("png", "svg", "pdf"):
        assert file_metadata(origin, kind)["Title"] == "Test accuracy: two lines[2J"
