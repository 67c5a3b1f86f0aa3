"""Hostile ground, met through Snakemake: each fault is one clear line, and the next call recovers.

docs/reliability.md lists the faults. Those of a single command are in test_hostile_commands.py.
"""

import os
import random
import signal
import subprocess
import time
from contextlib import contextmanager

import pytest

from conftest import read_history, read_record
from snakemake_project import TINY, Project

ONE = {**TINY, "models": ["convnet"], "norms": ["none"], "seeds": [0]}
RUN = "results/tiny/runs/convnet/none/seed0"
TARGET = f"{RUN}/run.json"
# Named one by one: Snakemake does not miss what only leads to a file that is there.
SUMMARY = (TARGET, "results/tiny/curves.csv", "results/tiny/summary.csv")


@contextmanager
def mounted(folder, *options):
    """Mount something on `folder`; skip where this is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = subprocess.run(["mount", *options, folder], capture_output=True, text=True)
    if mount.returncode != 0:
        pytest.skip(f"mounting is not allowed here: {mount.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def remount(folder, options):
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)


def wait_for(condition, process, seconds=120):
    """Wait until `condition` holds while `process` runs."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.05)


def read(path):
    """The text of a file that may not be there yet, or for a moment."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def end_group(process):
    """Kill what a call of Snakemake has started, itself included."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.communicate()


def leftovers(project):
    """Files that a killed process has left under a temporary name."""
    return [path for path in project.folder.rglob("*") if "partial" in path.name]


def complaints(result):
    """The lines that a call said of what went wrong; no traceback may be among them."""
    print(result.stdout)
    assert "Traceback" not in result.stdout
    return [line for line in result.stdout.splitlines() if "rror: " in line]


def test_a_full_disk(tmp_path):
    """The disk is full while data are prepared, then while training; then there is space again."""
    project = Project.create(tmp_path / "project", tiny=ONE)
    results = project.folder / "results"
    with mounted(results, "-t", "tmpfs", "-o", "size=3m", "tmpfs"):
        result = project.snakemake(TARGET)
        assert result.returncode == 1
        said = complaints(result)
        assert "  error: results/data/digits: No space left on device" in said
        assert not leftovers(project)
        remount(results, "size=16m")
        result = project.snakemake(TARGET, "--retries", "0")
        log = (project.results() / "logs/convnet/none/seed0.log").read_text()
        assert "No space left on device" in log and "Traceback" not in log
        assert result.returncode == 1 or read_record(project.folder / RUN)["status"] == "failed"
        complaints(result)
        assert not leftovers(project)
        remount(results, "size=200m")
        project.run(TARGET)
        assert read_record(project.folder / RUN)["status"] == "ok"


def test_read_only_results(tmp_path):
    project = Project.create(tmp_path / "project", tiny=ONE)
    results = project.folder / "results"
    with mounted(results, "-t", "tmpfs", "tmpfs"):
        remount(results, "ro")
        result = project.snakemake()
        assert result.returncode == 2
        assert complaints(result) == [
            "error: results: nothing can be written there (Read-only file system)"
        ]
        assert project.planned()["train"] == 1
        remount(results, "rw")
        project.run("results/data/digits/dataset.json")


@pytest.fixture
def training(tmp_path):
    """A project with a run in training, stopped for now; what was started ends with the test."""
    project = Project.create(tmp_path / "project", tiny={**ONE, "epochs": 30})
    process = project.start(TARGET)
    try:
        wait_for(lambda: list(project.folder.rglob("*.progress.json")), process)
        os.killpg(process.pid, signal.SIGSTOP)
        yield project, process
    finally:
        end_group(process)


def test_a_second_call_ends_at_once_and_a_killed_one_leaves_no_lock(training):
    """Two calls in one folder; then the first is killed alone, and what it started trains on."""
    project, first = training
    log = project.results() / "logs/convnet/none/seed0.log"
    before = {path: path.stat().st_mtime_ns for path in project.folder.glob("results/**/*")}
    result = project.snakemake("--config", "device=cpu", "--", TARGET)
    assert result.returncode == 2
    (line,) = complaints(result)
    assert f"results: in use by process {first.pid} on {os.uname().nodename}, since 20" in line
    after = {path: path.stat().st_mtime_ns for path in project.folder.glob("results/**/*")}
    assert after == before
    assert project.planned(TARGET) == {"train": 1}

    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    second = project.start(TARGET)
    try:
        wait_for(lambda: "another process trains" in read(log), second)
        os.killpg(first.pid, signal.SIGCONT)
        said, _ = second.communicate(timeout=120)
    finally:
        end_group(second)
    assert second.returncode == 0, said
    record = read_record(project.folder / RUN)
    assert record["status"] == "ok" and record["attempts"] == 1
    assert project.planned(TARGET) == {}


def test_a_clock_that_jumps_back_in_training(training):
    """The prepared data come from the future then: Snakemake refuses what is made from them."""
    project, process = training
    data = list((project.folder / "results/data/digits").glob("*.[nj]*"))
    for path in data:
        os.utime(path, (time.time() + 86_400,) * 2)
    os.killpg(process.pid, signal.SIGCONT)
    said, _ = process.communicate(timeout=200)
    assert process.returncode == 1 and "Traceback" not in said
    assert "older modification time" in said and "clock" in said
    project.run(TARGET)
    assert len(data) == 3 and max(path.stat().st_mtime for path in data) <= time.time()
    assert read_record(project.folder / RUN)["attempts"] == 1
    assert project.planned(TARGET) == {}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A study of one run, finished up to its summary."""
    project = Project.create(tmp_path_factory.mktemp("finished") / "project", tiny=ONE)
    project.run(*SUMMARY)
    return project


@pytest.fixture
def project(finished, tmp_path):
    """A copy of the finished study that a test may spoil."""
    return finished.copy(tmp_path / "project")


@pytest.mark.parametrize("days", [-10_000, 10_000])
def test_time_stamps_from_the_past_and_the_future_change_nothing(project, days):
    then = time.time() + days * 86_400
    for path in project.results().rglob("*"):
        os.utime(path, (then + random.random(),) * 2)
    assert project.planned(*SUMMARY) == {}


def test_time_stamps_from_the_future_end_with_the_next_call(project):
    then = time.time() + 86_400
    for path in project.folder.glob("results/**/*.*"):
        os.utime(path, (then, then))
    (project.folder / SUMMARY[-1]).unlink()
    project.run(*SUMMARY)
    assert project.planned(*SUMMARY) == {}


@pytest.mark.parametrize("name", ["runs/convnet/none/seed0/history.csv", "curves.csv"])
def test_a_result_edited_by_hand_is_noticed_and_made_anew(project, name):
    path = project.results() / name
    before = path.read_bytes()
    project.edit(f"results/tiny/{name}", "0.", "1.")
    result = project.snakemake(*SUMMARY)
    assert result.returncode == 1
    (line,) = {line.strip() for line in complaints(result) if name in line}
    assert "edited since" in line
    project.run(*SUMMARY)
    assert path.read_bytes() == before
    assert project.planned(*SUMMARY) == {}


def test_results_of_another_version(project):
    """Of one that was killed, left Snakemake's own kind of lock and wrote other records."""
    locks = project.folder / ".snakemake" / "locks"
    locks.mkdir(exist_ok=True)
    for kind in ("input", "output"):
        (locks / f"0.{kind}.lock").write_text("\n".join(SUMMARY))
    records = list(project.folder.glob("results/store/*/epochs-*/run.json"))
    for record in [project.folder / TARGET, *records]:
        record.write_text('{"status": "ok", "metrics": {"accuracy": 1}}\n')
    result = project.snakemake(*SUMMARY)
    assert result.returncode == 1
    assert any("stale results: " in line for line in complaints(result))
    project.run(*SUMMARY)
    assert project.planned(*SUMMARY) == {}
    assert read_record(project.folder / RUN)["final"]["epoch"] == 1


def kill_and_recover(project, kills, seed):
    """Kill a study's whole process group at random instants, then let it come to its end."""
    randomness = random.Random(seed)
    killed = 0
    while killed < kills:
        process = project.start()
        try:
            said, _ = process.communicate(timeout=randomness.uniform(0.5, 25))
            assert process.returncode == 0, said
            for name in ("tiny", "store"):
                subprocess.run(["rm", "-r", project.folder / "results" / name], check=True)
        except subprocess.TimeoutExpired:
            end_group(process)
            killed += 1
    said = project.run()
    assert "--unlock" not in said
    assert project.planned() == {}
    assert not leftovers(project)
    assert not list(project.folder.rglob("*.progress.json"))
    return said


@pytest.mark.slow
def test_a_study_killed_at_random_instants_comes_to_the_same_end(tmp_path):
    study = {**ONE, "norms": ["none", "batch"], "epochs": 3}
    whole = Project.create(tmp_path / "whole", tiny=study)
    whole.run(*(f"results/tiny/runs/convnet/{norm}/seed0/run.json" for norm in study["norms"]))
    project = Project.create(tmp_path / "killed", tiny=study)
    kill_and_recover(project, 12, seed=random.randrange(10**6))
    for norm in study["norms"]:
        run = f"runs/convnet/{norm}/seed0"
        assert read_history(project.results() / run) == read_history(whole.results() / run)
        a, b = (p.results() / run / "model.pt" for p in (project, whole))
        assert a.read_bytes() == b.read_bytes()
