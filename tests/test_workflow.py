"""The whole pipeline through Snakemake: success, failure, bad input, what a person sees."""

import csv
import itertools
import json
import re
import shutil
import subprocess
import sys
from datetime import datetime

import pytest

import train
from conftest import PROJECT, read_record
from documentation import undocumented
from preparing import write_image_folder
from snakemake_project import TINY, Project

ONE = {**TINY, "models": ["convnet"], "norms": ["none"], "seeds": [0]}


@pytest.fixture
def folder_with_images(tmp_path):
    """An image folder whose name a shell must not read."""
    folder = tmp_path / "my images; $(touch no) 'ä'"
    write_image_folder(folder)
    return folder


def rows(path):
    with path.open(newline="") as table:
        return list(csv.DictReader(table))


def test_failed_runs_stop_nothing_and_diverged_ones_are_results(tmp_path, folder_with_images):
    study = {
        "dataset": {"folder": str(folder_with_images)},
        **{key: TINY[key] for key in ("epochs", "batch_size")},
        "models": ["convnet"],
        "norms": ["none", "batch"],
        "seeds": [0],
        "learning_rate": [1e-4, 1e30],
    }
    project = Project.create(tmp_path / "project", tiny=study)
    results = project.results()
    result = project.snakemake()
    assert result.returncode == 1
    run = "convnet/batch/learning_rate=0.0001/seed0"
    lines = [line for line in result.stdout.splitlines() if run in line]
    assert any("21 training images" in line and f"logs/{run}.log" in line for line in lines)
    assert "Traceback" not in result.stdout
    found = [(row["run"].split("/")[1], row["status"]) for row in rows(results / "runs.csv")]
    assert found == [("none", "ok"), ("none", "diverged"), ("batch", "failed"), ("batch", "failed")]
    report = (results / "report.html").read_text()
    assert run in report and "21 training images" in report
    assert (results / "figures" / "test_accuracy.png").stat().st_size > 10_000
    assert not (results / "verdict.txt").exists()

    assert project.planned()["train"] == 2  # the next call tries the failed runs again
    again = project.snakemake("results/tiny/runs.csv")
    assert again.returncode == 1 and "21 training images" in again.stdout
    failures = results / "failures" / f"{run}.txt"
    assert failures.read_text().count("\n") == 2

    project.configure(tiny={**study, "batch_size": 7})
    project.run()
    assert project.planned() == {}
    assert (results / "verdict.txt").read_text().startswith("2 ok, 2 diverged of 4 runs")
    summary = rows(results / "summary.csv")
    assert [row["diverged"] for row in summary] == ["0", "1", "0", "1"]
    assert "diverged" in (results / "report.html").read_text()
    for table in results.glob("*.csv"):
        assert undocumented(table, axes=["learning_rate"]) == [], table
    assert not list(project.folder.rglob("no"))  # the folder's name reached no shell


def test_a_gpu_that_is_not_there_is_tried_again_and_then_recorded(tmp_path):
    """The limit promises a GPU, this machine has none: 3 attempts, then figures without the run."""
    project = Project.create(tmp_path / "project", tiny=ONE)
    result = project.snakemake("--resources", "gpu=1")
    assert result.returncode == 1
    assert result.stdout.count("is tried again: training convnet/none/seed0 of tiny") == 2
    record = read_record(project.results() / "runs/convnet/none/seed0")
    assert record["status"] == "failed" and "a GPU was promised" in record["reason"]
    assert (project.results() / "report.html").exists()
    shutil.rmtree(project.folder / ".snakemake")
    for way in ([], ["--rerun-triggers", "mtime"]):
        assert project.planned(*way)["train"] == 1
    without = ("figures", "--resources", "gpu=0")  # no GPU promised: the CPU
    project.run(*without)
    assert project.planned(*without) == {}
    assert read_record(project.results() / "runs/convnet/none/seed0")["status"] == "ok"


def test_what_is_to_be_trained_is_noted_and_timed_first(tmp_path):
    """Also where the data are there; a train.py in the working directory is not the pipeline's."""
    other = {**ONE, "norms": ["batch"]}
    project = Project.create(tmp_path / "project", tiny={**ONE, "seeds": [0, 1]}, other=other)
    (project.folder / "train.py").write_text("raise SystemExit('not the pipeline')\n")
    project.run("data")
    results = project.results()
    project.run("--cores", "1", "results/tiny/runs.csv", "results/tiny/timing.csv")
    started = min(read_record(results / f"runs/convnet/none/seed{n}")["started"] for n in (0, 1))
    began = datetime.fromisoformat(started).timestamp()
    assert (results / "study.json").stat().st_mtime < began
    assert (results / "timing.csv").stat().st_mtime < began + 1  # `started` has no fractions
    target = "results/other/runs/convnet/none/seed0/run.json"
    missing = project.snakemake("--dry-run", "--config", "study=tiny,other", "--", target)
    assert missing.returncode == 2
    assert "error: study other has no run convnet/none/seed0" in missing.stdout
    assert "Traceback" not in missing.stdout


@pytest.mark.slow
def test_a_norm_timing_that_is_killed_leaves_the_rest(tmp_path):
    """Three attempts, then a report without its figure's numbers; the next call tries it again."""
    study = {**ONE, "norms": ["batch"], "analyses": ["norm_cost"]}
    project = Project.create(tmp_path / "project", tiny=study)
    ended = "__import__('os').kill(__import__('os').getpid(), 9)\n    rows = measure_cases("
    project.edit("workflow/scripts/time_norms.py", "rows = measure_cases(", ended)
    log = "results/tiny/logs/time_norms.log"
    result = project.snakemake("results/tiny/norm_cost.csv")  # no verdict is asked for
    assert result.returncode == 1
    # What is killed twice is not tried a third time: that attempt records it.
    failed = f"failed: tiny/time_norms: killed in attempt 2; was there enough memory? (log: {log})"
    assert result.stdout.rstrip().splitlines()[-1] == failed
    result = project.snakemake("--retries", "0")
    assert result.returncode == 1
    assert f"norm layers not timed: killed by SIGKILL; was there enough memory? (log: {log})" in (
        result.stdout
    )
    results = project.results()
    assert {row["n"] for row in rows(results / "norm_cost.csv")} == {"0"}
    assert "norm_cost" in (results / "report.html").read_text()
    assert not (results / "verdict.txt").exists()
    for way in ([], ["--rerun-triggers", "mtime"]):
        planned = project.planned(*way)
        assert planned["time_norms"] == 1 and not {"train", "time_training"} & planned.keys()
    project.edit("workflow/scripts/time_norms.py", ended, "rows = measure_cases(")
    table = "results/tiny/norm_cost.csv"
    project.run(table)
    assert {int(row["n"]) for row in rows(project.folder / table)} == {1}
    assert project.planned(table) == {}


@pytest.mark.slow
def test_a_run_that_is_killed_with_its_shell_stops_nothing(tmp_path):
    """As by a scheduler that watches memory: no process of the job is left to record anything."""
    project = Project.create(tmp_path / "project", tiny={**ONE, "seeds": [0, 1]})
    begins = "        run, computation = begin("
    kills = (
        "        if specification['seed'] == 1:\n"
        "            for process in (__import__('os').getppid(), __import__('os').getpid()):\n"
        "                __import__('os').kill(process, 9)\n"
    )
    project.edit("workflow/scripts/normres/attempt.py", begins, kills + begins)
    result = project.snakemake("results/tiny/runs.csv")
    assert result.returncode == 1
    reason = "killed in attempt 2; was there enough memory?"
    last = result.stdout.rstrip().splitlines()[-1]
    assert last.startswith("failed: tiny/convnet/none/seed1: ") and reason in last
    assert "Traceback" not in result.stdout and "--run" not in result.stdout
    runs = {row["seed"]: row for row in rows(project.results() / "runs.csv")}
    assert runs["0"]["status"] == "ok" and runs["1"]["status"] == "failed"
    assert not list(project.results().rglob("*.begun"))
    project.edit("workflow/scripts/normres/attempt.py", kills, "")
    project.run("results/tiny/runs.csv")
    assert {row["status"] for row in rows(project.results() / "runs.csv")} == {"ok"}


def test_touch_is_refused_and_an_analysis_without_its_axis(small):
    result = small.snakemake("results/tiny/runs.csv", "--touch", "--force")
    assert result.returncode == 2 and "error: --touch would call" in result.stdout
    result = small.snakemake("results/tiny/variance.csv")
    assert result.returncode == 2 and "Traceback" not in result.stdout
    assert "error: study tiny.analyses.0: variance needs" in result.stdout
    result = small.snakemake("results/tiny/norm_cost.csv")
    assert result.returncode == 2 and "norm_cost needs a norm" in result.stdout


def test_nobody_who_listens_is_no_reason_to_hang(small, tmp_path):
    """The reader of the output ends, and a log holds what is no text; a job fails meanwhile."""
    project = small.copy(tmp_path / "copy")
    script = project.folder / "workflow" / "scripts" / "summarize_runs.py"
    text = script.read_text()
    start = text.index("def main(")
    body = text.index("\n", text.index(":\n", start)) + 1
    noise = "    __import__('sys').stdout.buffer.write(b'caf\\xe9\\n'); raise SystemExit(9)\n"
    script.write_text(text[:body] + noise + text[body:])
    process = project.start("results/tiny/summary.csv")
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=120) == 1
    result = project.snakemake("results/tiny/summary.csv")
    assert result.returncode == 1 and "Failed: " in result.stdout


def test_bad_configuration_is_one_line(tmp_path):
    project = Project.create(tmp_path / "project", tiny={**ONE, "batchsize": 3})
    result = project.snakemake()
    assert result.returncode != 0
    lines = [line for line in result.stdout.splitlines() if "profile" not in line]
    assert lines == [lines[0]] and "did you mean 'batch_size'" in lines[0], result.stdout
    assert not (project.folder / "results").exists()


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--configfile", "nope.yaml"], ["nope.yaml"]),
        (["--config", "study=[tiny,", "--"], ["study"]),
        (["--config", "studies=1", "--"], ["studies", "not a mapping"]),
        (["no/such/target"], ["no/such/target"]),
        (["data", "--jobs", "3"], ["error: --jobs 3 is for a cluster"]),
        (["data", "--cores", "0"], ["error: --cores 0: this takes a number from 1 on, or all"]),
    ],
)
def test_a_mistake_on_the_command_line_is_said(tmp_path, arguments, words):
    project = Project.create(tmp_path / "project", tiny=ONE)
    result = project.snakemake(*arguments)
    assert result.returncode != 0
    assert all(word in result.stdout for word in words), result.stdout


def test_a_configuration_that_is_not_yaml_is_said_with_its_line(tmp_path):
    project = Project.create(tmp_path / "project", tiny=ONE)
    (project.folder / "config.yaml").write_text("study: tiny\nstudies: {tiny: [a\n")
    result = project.snakemake()
    assert result.returncode == 2
    (line,) = [line for line in result.stdout.splitlines() if "profile" not in line]
    assert line.startswith("error: config.yaml: no YAML at line 3 in what begins in line 2: ")
    (project.folder / "mine.yaml").write_text("study: [a")  # Snakemake reads it before us
    result = project.snakemake("--configfile", "mine.yaml")
    assert result.returncode != 0 and "not valid JSON or YAML" in result.stdout


def test_an_image_that_cannot_be_read_is_named(tmp_path, folder_with_images):
    broken = folder_with_images / "test" / "dogs" / "3.png"
    broken.write_bytes(broken.read_bytes()[:500])
    study = {**ONE, "dataset": {"folder": str(folder_with_images)}}
    del study["train_images"], study["test_images"]
    project = Project.create(tmp_path / "project", tiny=study)
    result = project.snakemake()
    assert result.returncode != 0
    assert str(broken) in result.stdout and "Traceback" not in result.stdout
    data = project.folder / "results" / "data"
    assert [path.name for path in data.rglob("*") if path.is_file()] == ["prepare_data.log"]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A study of one run, finished."""
    project = Project.create(tmp_path_factory.mktemp("small") / "project", tiny=ONE)
    said = project.run("--dry-run")
    assert "Dry run: 1 run to train, 29 other jobs: about" in said
    assert not (project.folder / "results").exists()
    project.said = project.run()
    return project


def test_a_study_that_is_defined_and_not_asked_for_is_told(small):
    study = "{dataset: digits, models: [convnet], norms: [none], seeds: [0], epochs: 1}"
    (small.folder / "mine.yaml").write_text(f"studies: {{mine: {study}}}")
    said = small.run("--dry-run", "--configfile", "mine.yaml")
    assert "Made is tiny, not mine of --configfile: that takes --config study=mine" in said


def test_what_a_person_sees(small):
    assert "1 run to train, 29 other jobs: about" in small.said
    assert "tiny: 1 ok of 1 runs" in small.said
    assert small.said.rstrip().splitlines()[-1] == "Report: results/tiny/report.html"
    lines = [line for line in small.said.splitlines() if " of 30 jobs, " not in line]
    assert len(lines) < 10  # beside one now and then that says how far it is
    log = (small.results() / "logs" / "convnet" / "none" / "seed0.log").read_text()
    assert "test_accuracy" in log and len(log.splitlines()) >= 3
    assert not list(small.results().rglob("*.progress.json"))


@pytest.mark.parametrize(
    "lost, target, line",
    [
        ("tiny/figures/pareto.png", "figures", "Figures: results/tiny/figures"),
        ("tiny/runs.csv", "results/tiny/runs.csv", "Made: results/tiny/runs.csv"),
        ("tiny/tensorboard", "tensorboard", "Event files: results/tiny/tensorboard"),
        ("tiny/crate.zip", "crate", "Crate: results/tiny/crate.zip"),
        (
            "tiny/complexity.csv",
            "--until=count_complexity",
            "Made: results/tiny/complexity.csv, results/tiny/layers.csv",
        ),
    ],
)
def test_the_last_line_says_where_that_is_which_was_asked_for(small, lost, target, line):
    (small.folder / "results" / lost).unlink(missing_ok=True)
    assert small.run(target).rstrip().splitlines()[-1] == line


def test_no_more_runs_at_a_time_than_memory_has_room_for(tmp_path):
    project = Project.create(tmp_path / "project", tiny={**ONE, "seeds": [0, 1, 2]})
    limit = ("--resources", "mem_mb=3000", "gpu=0")
    said = project.run("--dry-run", *limit)
    assert "on 2 cores, 1 run at a time, since memory is free for no more" in said
    targets = [f"results/tiny/runs/convnet/none/seed{seed}/run.json" for seed in range(3)]
    project.run(*targets, *limit)
    jobs = [json.loads(path.read_text()) for path in project.folder.glob(".snakemake/metadata/*")]
    # A record of each output: the four of a job have one end.
    begins = {job["endtime"]: job["starttime"] for job in jobs if job["rule"] == "train"}
    ends = sorted(begins)
    assert len(ends) == 3
    assert all(end <= begins[later] for end, later in itertools.pairwise(ends))


@pytest.mark.parametrize("quiet", [[], ["progress"], ["all"]])
def test_a_quiet_call_says_where_the_results_are_and_no_progress(small, quiet):
    """Snakemake tells no display then which jobs have ended: 0 of all jobs were done to the end."""
    for lost in ("complexity.csv", "runs/convnet/none/seed0/run.json"):
        (small.results() / lost).unlink()
    target = "results/tiny/complexity.csv"
    said = small.run(target, "results/tiny/runs/convnet/none/seed0/run.json", "--quiet", *quiet)
    assert said.rstrip().splitlines()[-1].startswith("Made: results/tiny/complexity.csv")
    assert "to train" not in said and " jobs, " not in said


def test_the_files_of_a_study(small):
    results = small.results()
    for name in (
        "study.json",
        "curves.csv",
        "runs.csv",
        "bands.csv",
        "complexity.csv",
        "layers.csv",
        "timing.csv",
        "timing.json",
    ):
        assert (results / name).stat().st_size > 50, name
    for figure in ("test_accuracy", "training_loss_by_epoch", "training_loss_by_time"):
        for extension in ("png", "svg", "pdf", "csv"):
            assert (results / "figures" / f"{figure}.{extension}").stat().st_size > 50
    assert [row["epoch"] for row in rows(results / "curves.csv")] == ["0", "1"]
    assert not [path for path in results.rglob("*") if "partial" in path.name]


def test_a_figure_alone_from_the_command_line(small):
    target = "results/tiny/figures/test_accuracy.png"
    (small.folder / target).unlink()
    assert small.planned(target) == {"plot_figure": 1}
    assert small.planned("figures") == {"plot_figure": 1}
    small.run(target)
    assert (small.folder / target).exists()
    small.run()
    assert small.planned() == {}


def test_settings_from_the_command_line_and_a_file_of_ones_own(small, tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("studies: {tiny: {seeds: [0, 7]}}\n")
    assert small.planned("--configfile", "config.yaml", str(own))["train"] == 1
    assert small.planned("--config", "device=cpu", "--") == {}
    result = small.snakemake("--dry-run", "--config", "study=tinny", "--")
    assert (
        result.returncode != 0 and "'tinny'" in result.stdout and "Allowed: tiny" in result.stdout
    )


def test_a_snakefile_elsewhere_may_include_this_one_and_not_take_it_as_a_module(small, tmp_path):
    """As a module it had neither lock nor attempts, or ended with a traceback about `normres`."""
    inner = small.folder / "Snakefile"
    asked = '"results/tiny/runs.csv"'
    rule = f'rule extra:\n    input: {asked}\n    output: "x"\n    shell: "wc {{input}}"\n'
    outer = tmp_path / "outer.smk"
    outer.write_text(f'include: "{inner}"\n{rule}')
    assert small.planned("--snakefile", str(outer), "extra") == {"extra": 1}
    for folder in (tmp_path, small.folder):  # in the project's folder it would be found
        outer = folder / "outer.smk"
        outer.write_text(f'module norms:\n    snakefile: "{inner}"\nuse rule * from norms\n{rule}')
        result = small.snakemake("--snakefile", str(outer), "--dry-run")
        assert result.returncode == 1
        assert "\nthis workflow cannot be a module of another one; include its" in result.stdout
        outer.unlink()


def test_snakemakes_own_report_needs_no_network(small, tmp_path, monkeypatch):
    for scheme in ("http", "https", "all"):
        monkeypatch.setenv(f"{scheme}_proxy", "http://127.0.0.1:9")  # nobody answers there
    out = tmp_path / "overview.html"
    small.run("--report", str(out))
    text = out.read_text()
    assert "test_accuracy" in text and out.stat().st_size > 100_000
    assert "pointwise 95 % interval" in text  # captions
    assert not re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=.?https?:", text)


def test_the_result_does_not_depend_on_snakemake(small, tmp_path):
    """The same run by the command alone: the same bytes."""
    record = read_record(small.results() / "runs/convnet/none/seed0")
    options = {k: v for k, v in record["specification"].items() if k not in ("model", "norm")}
    arguments = [f"--{key}={value}" for key, value in options.items()]
    data = small.folder / "results" / "data" / "digits"
    chosen = ["--model", "convnet", "--norm", "none"]
    train.main(["--data", str(data), "--out", str(tmp_path / "run"), *chosen, *arguments])
    for name in ("model.pt", "test_logits.npy"):
        there = small.results() / "runs/convnet/none/seed0" / name
        assert (tmp_path / "run" / name).read_bytes() == there.read_bytes()


def test_lint_is_clean():
    result = subprocess.run(
        [sys.executable, "-m", "snakemake", "--lint"], cwd=PROJECT, capture_output=True, text=True
    )
    assert "Congratulations" in result.stdout + result.stderr


def test_every_target_says_what_it_makes():
    command = [sys.executable, "-m", "snakemake", "--list-target-rules"]
    targets = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True).stdout
    assert targets and not [line for line in targets.splitlines() if not line.endswith(".)")]


@pytest.mark.slow
def test_a_study_of_batch_sizes_ends_in_its_table(tmp_path):
    """Ghost batches, calibration and the cost of norms, of four runs on images of 8 x 8 pixels."""
    study = {**TINY, "models": ["resnet"], "norms": ["none", "batch"], "seeds": [0], "depth": 1}
    study |= {"image_size": 8, "batch_size": [4, 10], "statistics_images": [0, 2]}
    study["exclude"] = [{"batch_size": 4, "statistics_images": 2, "reason": "at 10 only"}]
    tables = ["batch_sizes", "calibration", "gradients"]
    project = Project.create(tmp_path / "project", tiny={**study, "analyses": tables})
    paths = [f"results/tiny/{name}.csv" for name in [*tables, "norm_cost"]]
    project.run(*paths)
    found = {path: rows(project.folder / path) for path in paths}
    lines = [(row["norm"], row["arm"], row["images"]) for row in found[paths[0]]]
    assert lines == [
        *(("none", "batch", images) for images in ("4", "10")),
        *(("batch", "batch", images) for images in ("4", "10")),
        *(("batch", "ghost", images) for images in ("2", "10")),
    ]
    assert [row["n"] for row in found[paths[1]]] == ["1"] * 5
    assert len(found[paths[2]]) == 5 * 2 * 7  # configurations, epochs, convolutions
    shapes = {(row["channels"], row["side"]) for row in found[paths[3]]}
    assert shapes == {("32", "8"), ("64", "4"), ("128", "2")}
    assert project.planned(*paths) == {}
