"""What is done again: that table of docs/running.md, each line held by a count of jobs."""

import csv
import os
import shutil
import time

import pytest
import yaml

from conftest import read_history, read_record
from documentation import example
from normres import gallery
from normres.grid import RUN_FILES, expand
from snakemake_project import TINY, Project

TRAINED = "results/tiny/runs.csv"  # a target: everything is trained, nothing is drawn
FIGURES = len(gallery.figures(expand("tiny", TINY)))
# What follows new times: all tables and figures but those of the runs themselves.
SUMMARY = {"summarize_runs": 1, "check_claims": 1, "plot_figure": FIGURES, "render_report": 1}
TIMED_ANEW = {**SUMMARY, "verdict": 1}
AGGREGATION = {"collect_runs": 1, "evaluate_predictions": 1, "compare_configurations": 1, **SUMMARY}
TIMING = {"write_list": 1, "time_training": 1}
NETWORKS_AND_TIMING = {"write_list": 2, "count_complexity": 1, "time_training": 1}
REDEFINED = {"mark_definition": 1, "resolve_study": 1, **AGGREGATION, "verdict": 1}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The tiny study, run to its end in a folder with a space and an umlaut in its name."""
    project = Project.create(tmp_path_factory.mktemp("project") / "a b ü", tiny=TINY)
    project.run()
    return project


@pytest.fixture
def project(finished, tmp_path):
    """A copy of the finished study that a test may edit."""
    return finished.copy(tmp_path / "project")


def test_all_is_there_and_nothing_is_left_to_do(finished):
    assert finished.planned() == {}
    assert (finished.results() / "verdict.txt").read_text().startswith("8 ok of 8 runs")


def test_touched_files(project):
    now = time.time()
    for path in project.folder.rglob("*"):
        if ".snakemake" not in path.parts and not path.is_symlink():
            os.utime(path, (now, now))
            now += 0.001
    assert project.planned() == {}


def test_a_fresh_clone_beside_old_results(project):
    """A clone's files are all newer than the results, and Snakemake has no records of them."""
    shutil.rmtree(project.folder / ".snakemake")
    now = time.time()
    for part in ("Snakefile", "config.yaml", "workflow", "profiles", "envs"):
        for path in [project.folder / part, *(project.folder / part).rglob("*")]:
            os.utime(path, (now, now))
    assert project.planned() == {}


def test_results_that_were_copied_without_time_stamps_are_not_trained_again(project):
    """As by `cp -r`, in any order: here what runs and the timing read is the newest."""
    records = project.folder / ".snakemake"
    records.rename(project.folder / "records")
    for name in ("data/digits/dataset.json", "data/digits/images.npy"):
        os.utime(project.folder / "results" / name)
    assert "no run to train, 8 to take from the store" in project.run("--dry-run")
    assert project.planned()["time_training"] == 1
    shutil.rmtree(records)
    (project.folder / "records").rename(records)
    assert project.planned() == {}


@pytest.mark.parametrize(
    "path, old, new",
    [
        ("workflow/scripts/normres/training.py", "# after a resumption", "# when resumed"),
        ("workflow/scripts/normres/networks/resnet.py", '"""The exercise\'s', '"""An exercise\'s'),
        ("workflow/scripts/normres/figures.py", "\n\n\ndef ", "\n\n\n\n\ndef "),
        ("workflow/scripts/plot_test_accuracy.py", '"""', '"""\n'),
        ("workflow/rules/train.smk", "# Every model", "# Each model"),
        ("workflow/rules/train.smk", '"exec > {log:q}', '"exec  > {log:q}'),
        ("workflow/scripts/normres/progress.py", "LINE_SECONDS = 30", "LINE_SECONDS = 60"),
        ("workflow/scripts/train.py", '"wrote', '"has written'),
        ("workflow/scripts/time_training.py", "SAY_SECONDS = 15", "SAY_SECONDS = 16"),
        ("workflow/scripts/normres/measurement.py", '"""Fix how often', '"""Choose how often'),
        ("workflow/rules/timing.smk", "# Times that", "# Times which"),
        ("envs/requirements.txt", "#", "##"),
    ],
)
def test_comments_layout_and_messages(project, path, old, new):
    file = project.folder / path
    text = file.read_text()
    file.write_text(text.replace(old, new, 1))
    assert old in text
    assert project.planned() == {}


def test_other_cores_resources_and_settings(project):
    assert project.planned("--cores", "1", "--resources", "mem_mb=8000") == {}
    project.configure(
        tiny=TINY,
        settings={"device": "cpu", "save_every": 1, "state_budget_gb": 1, "data_root": "elsewhere"},
    )
    assert project.planned() == {}


def test_event_files_and_a_crate_on_request(project):
    """Neither trains or draws anything anew; the report of Snakemake needs no network."""
    project.configure(tiny=TINY, settings={"tensorboard": True})
    assert project.planned() == {"export_tensorboard": 1}
    assert project.planned("crate") == {"export_crate": 1}
    project.run("crate", "all")
    assert len(list(project.results().rglob("*tfevents*"))) == 8
    assert (project.results() / "crate.zip").stat().st_size > 100_000
    assert project.planned("crate", "all") == {}
    project.configure(tiny=TINY)
    assert project.planned() == {}


def test_an_unrelated_study(project):
    project.configure(tiny=TINY, other={**TINY, "epochs": 7})
    assert project.planned() == {}


def test_a_default_that_is_named(project):
    named = {"learning_rate": "1e-4", "pooling": "sum", "beta1": 0.9, "image_size": 32}
    project.configure(tiny={**TINY, **named})
    assert project.planned() == {}


def test_an_edited_figure(project):
    project.edit("workflow/scripts/plot_test_accuracy.py", "how soon", "how fast")
    assert project.planned() == {"plot_figure": 1, "render_report": 1, "verdict": 1}


def test_an_edited_style(project):
    project.edit(
        "workflow/scripts/normres/figures.py", 'FAINT, GRID = "#222222"', 'FAINT, GRID = "#000000"'
    )
    assert project.planned() == {"plot_figure": FIGURES, "render_report": 1, "verdict": 1}


def test_an_edited_report(project):
    project.edit("workflow/report/report.html.j2", "</h1>", " </h1>")
    assert project.planned() == {"render_report": 1, "verdict": 1}


def test_an_edited_claim(project):
    project.edit("workflow/claims.yaml", "low: 91.5, high: 93.5", "low: 91, high: 94")
    assert project.planned() == {
        "write_list": 1,
        "check_claims": 1,
        "render_report": 1,
        "verdict": 1,
    }


def test_a_claim_of_ones_own(project):
    claim = {"id": "mine", "statement": "ConvNet is ahead.", "test": "params(convnet/none) > 1"}
    project.configure(tiny={**TINY, "claims": [claim]})
    assert project.planned() == {
        "write_list": 1,
        "check_claims": 1,
        "render_report": 1,
        "verdict": 1,
    }


def test_a_new_seed(project):
    project.configure(tiny={**TINY, "seeds": [0, 1, 2]})
    assert project.planned() == {"train": 4, **REDEFINED}


def test_a_new_norm(project):
    project.configure(tiny={**TINY, "norms": ["none", "batch", "group"]})
    assert project.planned() == {"train": 4, **NETWORKS_AND_TIMING, **REDEFINED}


def test_another_batch_size(project):
    project.configure(tiny={**TINY, "batch_size": 5})
    assert project.planned() == {"train": 8, **NETWORKS_AND_TIMING, **REDEFINED}


def test_another_title_or_sample_for_evaluation_is_not_timed_anew(project):
    project.configure(tiny={**TINY, "title": "Why?", "train_eval_images": 10, "epsilon": 1e-7})
    assert project.planned() == {"train": 8, **REDEFINED}


def test_more_repeats_of_the_timing(project):
    project.configure(tiny=TINY, settings={"timing_repeats": 2})
    assert project.planned() == {**TIMING, **TIMED_ANEW}


def test_edited_timing(project):
    project.edit("workflow/scripts/normres/measurement.py", "STEP: 0.05", "STEP: 0.06")
    assert project.planned() == {**TIMING, **TIMED_ANEW}


def test_another_comparison(project):
    compared = {"of": {"norm": "batch"}, "against": {"norm": "none"}}
    project.configure(tiny={**TINY, "comparisons": [compared]})
    again = {"write_list": 1, "compare_configurations": 1, "render_report": 1, "verdict": 1}
    assert project.planned() == again
    project.run()
    assert (
        "declared,convnet/batch,convnet/none" in project.results("tiny/comparisons.csv").read_text()
    )
    assert project.planned() == {}


def test_what_is_empty_or_the_name_changes_nothing(project):
    empty = {"exclude": [], "overrides": {}, "reported": [], "comparisons": []}
    project.configure(tiny={**TINY, "title": "tiny", **empty})
    assert project.planned() == {}


def test_a_changed_learning_rate(project):
    project.configure(tiny={**TINY, "learning_rate": 0.01})
    assert project.planned() == {"train": 8, **REDEFINED}


def test_a_learning_rate_for_one_model(project):
    project.configure(tiny={**TINY, "overrides": {"resnet": {"learning_rate": 0.01}}})
    assert project.planned() == {"train": 4, **REDEFINED}


def test_two_options_that_swap_their_values(project):
    one = {**TINY, "models": ["convnet"], "norms": ["none"], "seeds": [0]}
    project.configure(tiny={**one, "learning_rate": 0.25, "weight_decay": 0.5})
    project.run(TRAINED)
    assert project.planned(TRAINED) == {}
    project.configure(tiny={**one, "learning_rate": 0.5, "weight_decay": 0.25})
    assert project.planned(TRAINED)["train"] == 1


def test_an_edited_network(project):
    project.edit("workflow/scripts/normres/networks/convnet.py", "(1, 2, 1)", "(1, 2, 2)")
    assert project.planned() == {"train": 4, **NETWORKS_AND_TIMING, **REDEFINED}


def test_an_edited_norm(project):
    project.edit(
        "workflow/scripts/normres/norms/batch.py", "affine=affine", "affine=affine, eps=1e-4"
    )
    assert project.planned() == {"train": 4, **NETWORKS_AND_TIMING, **REDEFINED}


def test_edited_training(project):
    project.edit("workflow/scripts/normres/steps.py", "set_to_none=True", "set_to_none=False")
    assert project.planned() == {"train": 8, **NETWORKS_AND_TIMING, **REDEFINED}


def test_models_in_another_order(project):
    project.configure(tiny={**TINY, "models": ["resnet", "convnet"]})
    assert project.planned() == REDEFINED


def test_a_deleted_intermediate(project):
    (project.results() / "bands.csv").unlink()
    assert project.planned() == {
        "summarize_runs": 1,
        "plot_figure": FIGURES,
        "render_report": 1,
        "verdict": 1,
    }


def test_a_deleted_run_is_linked_again_not_trained(project):
    run = project.results() / "runs" / "resnet" / "batch" / "seed1"
    before = read_record(run)
    shutil.rmtree(run)
    assert project.planned() == {"train": 1, **AGGREGATION, "verdict": 1}
    project.run("results/tiny/runs/resnet/batch/seed1/run.json")
    assert read_record(run) == before


@pytest.mark.parametrize("name", RUN_FILES)
def test_a_deleted_file_of_a_run(project, name):
    (project.results() / "runs" / "resnet" / "batch" / "seed1" / name).unlink()
    assert project.planned() == {"train": 1, **AGGREGATION, "verdict": 1}


def test_lost_records_of_snakemake_are_nothing_by_themselves(project):
    shutil.rmtree(project.folder / ".snakemake")
    assert project.planned() == {}


def test_stale_runs_are_not_believed_when_snakemakes_records_are_lost(project):
    shutil.rmtree(project.folder / ".snakemake")
    project.configure(tiny={**TINY, "learning_rate": 0.01})
    result = project.snakemake()
    assert result.returncode != 0
    assert "learning_rate" in result.stdout and "convnet/none/seed0" in result.stdout
    assert project.planned()["train"] == 8  # the next call makes them anew


def test_other_data_is_noticed_when_snakemakes_records_are_lost(project):
    shutil.rmtree(project.folder / ".snakemake")
    project.configure(tiny={**TINY, "image_size": 16})
    assert project.planned() == {
        "prepare_data": 1,
        "train": 8,
        **NETWORKS_AND_TIMING,
        **REDEFINED,
    }


def test_edited_code_is_noticed_when_snakemakes_records_are_lost(project):
    shutil.rmtree(project.folder / ".snakemake")
    project.edit("workflow/scripts/normres/networks/convnet.py", "(1, 2, 1)", "(1, 2, 2)")
    result = project.snakemake()
    assert result.returncode != 0
    assert "fingerprint" in result.stdout and "convnet" in result.stdout


def test_more_epochs_go_on(project):
    project.configure(tiny={**TINY, "epochs": 2})
    assert project.planned() == {"train": 8, **REDEFINED}
    runs = ("convnet/none/seed0", "resnet/batch/seed1")
    project.run(*(f"results/tiny/runs/{run}/run.json" for run in runs))
    for run in runs:
        folder = project.results() / "runs" / run
        assert read_record(folder)["attempts"] == 2
        assert [row[0] for row in read_history(folder)[1:]] == ["0", "1", "2"]


def test_fewer_epochs_train_nothing(tmp_path):
    """What is collected are the first epochs of the longer run."""
    one = {**TINY, "models": ["convnet"], "norms": ["none"], "seeds": [0]}
    project = Project.create(tmp_path / "project", tiny={**one, "epochs": 3})
    run = project.results() / "runs" / "convnet/none/seed0"
    project.run(TRAINED)
    long = (run / "history.csv").read_text().splitlines()
    project.configure(tiny={**one, "epochs": 2})
    project.run(TRAINED)
    assert (run / "history.csv").read_text().splitlines() == long[:4]
    log = project.results() / "logs" / "convnet/none/seed0.log"
    assert "already trained: the first 2 epochs of" in log.read_text()
    record = read_record(run)
    assert record["final"]["epoch"] == 2 and record["weights_epoch"] == 3


def test_a_run_of_another_study_is_linked(project):
    project.configure(tiny=TINY, other={**TINY, "models": ["convnet"]}, study=["tiny", "other"])
    assert project.planned()["train"] == 4
    project.run(TRAINED, "results/other/runs.csv")
    for run in ("convnet/none/seed0", "convnet/batch/seed1"):
        log = project.results("other") / "logs" / f"{run}.log"
        assert "already trained" in log.read_text()
        folders = [project.results(study) / "runs" / run for study in ("tiny", "other")]
        assert read_record(folders[0]) == read_record(folders[1])


def test_the_norm_of_the_documentation_needs_one_file(project):
    """docs/adding.md: its example, saved as a file, is a norm; nothing else is edited."""
    path = "workflow/scripts/normres/norms/mynorm.py"
    (project.folder / path).write_text(example("adding.md", "A norm", "python"))
    project.configure(tiny={**TINY, "models": ["convnet"], "norms": ["none", "batch", "mynorm"]})
    assert project.planned() == {"train": 2, **NETWORKS_AND_TIMING, **REDEFINED}
    project.run("results/tiny/summary.md")
    run = project.results() / "runs" / "convnet" / "mynorm" / "seed0"
    assert read_record(run)["status"] == "ok"
    assert "mynorm" in (project.results() / "summary.md").read_text()


def test_the_claims_of_the_documentation_are_checked(project):
    """docs/claims.md: its example is a study whose first claim is supported; nothing is trained."""
    config = yaml.safe_load(example("claims.md", "A claim of your own", "yaml"))
    (project.folder / "config.yaml").write_text(yaml.safe_dump(config | {"timing_repeats": 1}))
    project.run("results/mine/claims.csv")
    with (project.results("mine") / "claims.csv").open(newline="") as table:
        rows = {row["id"]: row for row in csv.DictReader(table)}
    assert len(rows) == 40
    assert rows["convnet-larger"]["verdict"] == "supported"
    assert rows["convnet-larger"]["evidence"] == (
        "parameters of convnet/none over resnet/none: 2.269 (exact), claimed above 2: holds"
    )
    assert rows["batch-norm-helps"]["verdict"] in ("supported", "refuted", "undecided")
    for run in ("convnet/none/seed0", "resnet/batch/seed1"):
        log = project.results("mine") / "logs" / f"{run}.log"
        assert "already trained" in log.read_text()


@pytest.mark.parametrize("target", ["figures", "report", "tensorboard", "crate"])
def test_a_changed_study_is_noticed_by_every_target_when_records_are_lost(project, target):
    """Snakemake does not miss an input of a file that is there, so targets ask for it."""
    shutil.rmtree(project.folder / ".snakemake")
    project.configure(tiny={**TINY, "seeds": [0]})
    planned = project.planned(target)
    assert (planned["mark_definition"], planned["resolve_study"]) == (1, 1)
