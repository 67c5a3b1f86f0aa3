"""The gallery: every entry leads to a command and a caption, and a study has what it needs."""

import importlib
from types import SimpleNamespace

import pytest
import yaml

import render_report
from conftest import PROJECT
from normres import fingerprint, gallery
from normres.config import read_config
from normres.errors import InputError
from normres.gallery import ENTRIES, EVERY_FIGURE_READS, Entry
from normres.grid import expand
from normres.pipeline import Pipeline
from snakemake_project import TINY, Project

ONE_NORM = {**TINY, "norms": ["none"]}


@pytest.fixture
def several_norms(monkeypatch):
    """A gallery with a figure that only studies of several norms have."""
    entry = Entry(
        "plot_norms",
        "--by norm",
        ("classes", "dataset"),
        lambda study: len(study.norms) > 1,
        "several norms",
    )
    monkeypatch.setitem(gallery.ENTRIES, "norms", entry)
    return entry


def test_a_study_has_the_figures_that_apply_to_it(several_norms):
    assert list(gallery.figures(expand("a", TINY)))[-1] == "norms"
    assert "norms" not in gallery.figures(expand("a", ONE_NORM))
    assert gallery.find(expand("a", TINY), "norms") is several_norms
    with pytest.raises(
        InputError, match="figure 'norms' needs several norms; figures of study 'a'"
    ):
        gallery.find(expand("a", ONE_NORM), "norms")
    with pytest.raises(InputError, match=r"no figure is called 'nonsense'; .*: test_accuracy, "):
        gallery.find(expand("a", TINY), "nonsense")


def test_names_of_figures():
    assert gallery.is_figure("ranking") and gallery.is_figure("final_accuracy_by_depth")
    assert not gallery.is_figure("ranking-old")


def test_a_studys_own_figures_come_with_its_tables_and_axes():
    config = yaml.safe_load((PROJECT / "config.yaml").read_text())
    always = gallery.figures(expand("a", ONE_NORM))
    own = {}
    for name in ("batch-size", "skip", "learning-rate", "affine-and-bias", "variance", "norm-cost"):
        (study,) = read_config({**config, "study": name}).studies
        own[name] = {*gallery.figures(study)} - {*always}
    assert own == {
        "batch-size": {"batch_sizes"},
        "skip": {"gradient_norms", "first_gradient", "depths"},
        "learning-rate": {"learning_rates"},
        "affine-and-bias": {"equivalence", "calibration", "reliability"},
        "variance": {"variance"},
        "norm-cost": {"norm_cost"},
    }


def test_the_rules_ask_for_a_studys_own_figures(several_norms):
    studies = {"a": TINY, "b": ONE_NORM}
    pipeline = Pipeline(read_config({"study": ["a", "b"], "studies": studies}))
    drawn = {name: len(pipeline.figure_files(name)) for name in studies}
    assert drawn == {"a": 5 * len(gallery.figures(expand("a", TINY))), "b": drawn["a"] - 5}
    wildcards = SimpleNamespace(study="a", figure="norms")
    assert pipeline.drawings(wildcards)[-1] == "results/a/figures/norms.svg"
    assert pipeline.figure_command(wildcards) == "plot_norms --by norm"
    tables = {"classes": "results/a/classes.csv", "dataset": "results/data/digits/dataset.json"}
    assert pipeline.figure_tables(wildcards) == tables
    assert pipeline.figure_options(wildcards) == " ".join(f"--{k} {v}" for k, v in tables.items())


@pytest.mark.parametrize("name", ENTRIES)
def test_a_command_takes_the_tables_of_its_entry(name, capsys):
    entry = ENTRIES[name]
    assert (fingerprint.SCRIPTS / f"{entry.command}.py").exists()
    with pytest.raises(SystemExit):
        importlib.import_module(entry.command).main(["--help"])
    said = capsys.readouterr().out
    for option in ("study", *EVERY_FIGURE_READS, *entry.tables, "out"):
        assert f"--{option} " in said


def test_a_figure_that_is_not_there_is_one_clear_error(tmp_path):
    project = Project.create(tmp_path / "project", tiny=TINY)
    result = project.snakemake("--dry-run", "results/tiny/figures/nonsense.png")
    assert result.returncode != 0
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: no figure is called 'nonsense'; figures of study 'tiny': test_")
    assert "Traceback" not in result.stdout


def test_only_figures_of_means_over_runs_have_their_number_in_the_caption():
    assert gallery.is_over_seeds("test_accuracy")
    assert gallery.is_over_seeds(f"{gallery.AXIS_FIGURE}depth")
    others = ("class_accuracy", "confusion", "hardest_images", "norm_cost", "variance")
    assert not any(map(gallery.is_over_seeds, others))


def test_the_caption_of_curves_holds_for_studies_with_axes():
    """There each panel has one network, and a line for each combination of values."""
    template = render_report.load_templates().get_template("figure.rst")
    caption = template.render(snakemake={"wildcards": {"figure": "test_accuracy"}})
    assert "with axes one panel per network and norm, and one line per combination" in caption
