"""Studies on a real SLURM: two nodes with two pretended GPUs each (see slurm_cluster.py)."""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path

import pytest

import slurm_cluster
from conftest import read_history, read_record
from preparing import write_image_folder
from slurm_cluster import NODES, training_processes, wait_until
from snakemake_project import TINY, Project

RUNS = [f"convnet/{norm}/seed{seed}" for norm in ("none", "batch") for seed in (0, 1)]
# Long enough to be met while it trains: seconds.
STUDY = {
    **TINY,
    "models": ["convnet"],
    "epochs": 10,
    "train_images": 60,
    "batch_size": 10,
}
SETTINGS = {"device": "cpu", "save_every": 0}
MEGA = 10**6
CURVES = "results/tiny/runs.csv"  # a target: everything is trained, nothing is drawn


@pytest.fixture(scope="module")
def cluster():
    reason = slurm_cluster.why_not()
    if reason and os.environ.get("NORMRES_REQUIRE_SLURM"):
        pytest.fail(f"{reason}; NORMRES_REQUIRE_SLURM forbids to skip")
    if reason:
        pytest.skip(reason)
    yield from slurm_cluster.started()


def create(folder: Path, **study) -> Project:
    """A project whose runs compute on the CPU, and yet ask the cluster for a GPU each."""
    options = {key: value for key, value in {**STUDY, **study}.items() if value is not None}
    project = Project.create(folder, tiny=options, settings=SETTINGS)
    project.edit("profiles/slurm/config.yaml", "    slot: 1\n", "    slot: 1\n    gpu: 1\n")
    return project


# The plugin asks how jobs are less and less often, up to every three minutes; here, every second.
SNAKEMAKE = """
import sys
from snakemake.cli import main
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
RemoteExecutor.next_seconds_between_status_checks = property(lambda _: 1, lambda _, seconds: None)
main()
"""


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", SNAKEMAKE, "--workflow-profile", "profiles/slurm", *arguments]


@contextmanager
def submitting(project: Project, *arguments: str):
    """Snakemake at work on the cluster; `said` in the project's folder is what it prints."""
    with open(project.folder / "said", "w") as said:
        process = subprocess.Popen(
            command(*arguments),
            cwd=project.folder,
            stdout=said,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PATH": "/usr/bin:/bin"},
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def submit(project: Project, *arguments: str) -> tuple[int, str]:
    """Snakemake on the cluster, to its end: its exit code, and what it has said."""
    with submitting(project, *arguments) as process:
        code = process.wait(timeout=300)
    return code, (project.folder / "said").read_text()


def run_folder(project: Project, run: str) -> Path:
    return project.results() / "runs" / run


def epoch_of(project: Project, run: str) -> int:
    """The epoch that a run says it is in; 0 before it trains."""
    progress = project.results() / "logs" / f"{run}.progress.json"
    try:
        return json.loads(progress.read_text())["epoch"]
    except FileNotFoundError:
        return 0


def strike(project: Project, run: str, fault: Callable[[int], None]) -> None:
    """Apply `fault` to the process that trains `run`, once it is in its third epoch or later."""
    wait_until(lambda: epoch_of(project, run) >= 3, 120, f"{run} trains")
    (process,) = training_processes(project.folder, run)
    fault(process)


def job_of(process: int) -> str:
    """The SLURM job that a process belongs to."""
    variables = Path(f"/proc/{process}/environ").read_bytes().decode().split("\0")
    return next(v.partition("=")[2] for v in variables if v.startswith("SLURM_JOB_ID="))


def assert_same_bytes(a: Project, b: Project, runs=RUNS) -> None:
    for run in runs:
        one, other = run_folder(a, run), run_folder(b, run)
        assert read_history(one) == read_history(other), run
        for name in ("model.pt", "test_logits.npy"):
            assert (one / name).read_bytes() == (other / name).read_bytes(), f"{run}/{name}"


@pytest.fixture(scope="module")
def trained(cluster, tmp_path_factory):
    """The study, trained on the cluster without a fault."""
    project = create(tmp_path_factory.mktemp("trained") / "a b ü")
    code, said = submit(project, CURVES)
    assert code == 0, said
    project.jobs = {job["id"]: job for job in cluster.jobs()}
    project.said = said
    return project


def test_a_study_is_spread_over_the_nodes(trained):
    places = {}
    for run in RUNS:
        environment = read_record(run_folder(trained, run))["environment"]
        job = trained.jobs[environment["slurm_job_id"]]
        assert job["gpus"] == "gres:gpu:1" and job["restarts"] == "0"
        places[run] = (job, job["node"], environment["cuda_visible_devices"])
    assert len({job["id"] for job, *_ in places.values()}) == len(RUNS)
    assert {node for _, node, _ in places.values()} == set(NODES)
    assert {device for *_, device in places.values()} <= {"0", "1"}
    for (one, *place), (other, *elsewhere) in combinations(places.values(), 2):
        at_once = one["start"] < other["end"] and other["start"] < one["end"]
        assert not at_once or place != elsewhere
    assert all("train" in job["comment"] for job in trained.jobs.values())  # nothing else


def test_locally_and_on_the_cluster_the_bytes_are_the_same(trained, tmp_path):
    local = create(tmp_path / "local", norms=["batch"])
    local.run(*(f"results/tiny/runs/{run}/run.json" for run in RUNS[2:]))
    assert_same_bytes(trained, local, RUNS[2:])


def test_runs_that_lose_their_job_go_on_in_another(trained, cluster, tmp_path):
    project = create(tmp_path / "project")
    exits, cancelled, killed, warned = RUNS
    faults = {
        # It cannot write its next state, as on a full disk: exit code 1.
        exits: lambda process: resource.prlimit(process, resource.RLIMIT_FSIZE, (MEGA, MEGA)),
        cancelled: lambda process: cluster.run("scancel", job_of(process)),
        killed: lambda process: os.kill(process, signal.SIGKILL),
        # As SLURM does before the time limit: every process of the job, the shell aside.
        warned: lambda process: cluster.run("scancel", "--signal=USR1", job_of(process)),
    }
    with submitting(project, CURVES) as snakemake:
        with ThreadPoolExecutor() as pool:  # all at once: none may end before its turn comes
            list(pool.map(lambda run: strike(project, run, faults[run]), RUNS))
        assert snakemake.wait(timeout=240) == 0, (project.folder / "said").read_text()
    for run in RUNS:
        record = read_record(run_folder(project, run))
        assert record["status"] == "ok" and record["attempts"] == 2, run
    said = (project.folder / "said").read_text()
    assert "File too large" in said and "stopped by SIGUSR1" in said
    assert_same_bytes(trained, project)
    assert not cluster.queue()


def test_a_preempted_run_returns_to_the_queue_and_goes_on(trained, cluster, tmp_path):
    project = create(tmp_path / "project", norms=["none"], seeds=[0])
    run = RUNS[0]
    with submitting(project, "--retries", "0", CURVES) as snakemake:
        strike(project, run, lambda process: cluster.preempt(1))
        assert snakemake.wait(timeout=120) == 0, (project.folder / "said").read_text()
    record = read_record(run_folder(project, run))
    job = next(j for j in cluster.jobs() if j["id"] == record["environment"]["slurm_job_id"])
    assert record["attempts"] == 2 and job["restarts"] == "1"
    assert not (project.results() / "failures").exists()
    assert_same_bytes(trained, project, [run])


def test_ctrl_c_leaves_no_job_in_the_queue(cluster, tmp_path):
    project = create(tmp_path / "project")
    with submitting(project, CURVES) as snakemake:
        wait_until(lambda: epoch_of(project, RUNS[0]) >= 1, 120, "it trains")
        assert cluster.queue()
        snakemake.send_signal(signal.SIGINT)
        wait_until(lambda: not cluster.queue(), 60, "the queue is empty")
        assert snakemake.wait(timeout=60) != 0
    assert not training_processes(project.folder)


def test_a_run_that_can_never_succeed_is_named_and_the_others_have_their_figures(cluster, tmp_path):
    folder = tmp_path / "images"  # batches of 10 leave one image, too few for batch norm
    write_image_folder(folder)
    options = {"train_images": None, "test_images": None, "train_eval_images": None}
    dataset = {"folder": str(folder)}
    project = create(tmp_path / "project", dataset=dataset, seeds=[0], epochs=1, **options)
    code, said = submit(project)
    assert code != 0
    assert "convnet/batch/seed0" in said and "21 training images" in said
    rows = (project.results() / "runs.csv").read_text()
    assert "convnet/none/seed0" in rows and "failed" in rows
    assert (project.results() / "figures" / "test_accuracy.png").stat().st_size > 10_000
    assert (project.results() / "report.html").exists()
    assert not (project.results() / "verdict.txt").exists()


def test_a_run_that_is_killed_in_every_attempt_is_given_up(cluster, tmp_path):
    project = create(tmp_path / "project", norms=["none"], seeds=[0])
    run = RUNS[0]
    with submitting(project, "--retries", "1", CURVES) as snakemake:
        wait_until((project.results() / "logs" / f"{run}.begun").exists, 60, "it has begun")
        (process,) = training_processes(project.folder, run)
        os.kill(process, signal.SIGKILL)
        assert snakemake.wait(timeout=120) != 0  # the second attempt only records it
    record = read_record(run_folder(project, run))
    assert record["status"] == "failed"
    assert record["reason"] == "killed in attempt 1; was there enough memory?"
    failures = project.results() / "failures" / f"{run}.txt"
    assert failures.read_text().count("\n") == 1


def test_several_runs_share_one_job(trained, cluster, tmp_path):
    project = create(tmp_path / "project")
    before = {job["id"] for job in cluster.jobs()}
    code, said = submit(project, CURVES, "--groups", "train=pack", "--group-components", "pack=4")
    assert code == 0, said
    (job,) = [job for job in cluster.jobs() if job["id"] not in before]
    assert job["gpus"] == "gres:gpu:1" and job["node"] in NODES
    assert job["limit"] == "8:00:00"  # two hours for each run, one after another
    assert_same_bytes(trained, project)


@pytest.mark.slow
def test_a_node_that_goes_down_loses_nothing(trained, cluster, tmp_path):
    project = create(tmp_path / "project", norms=["none"], seeds=[0])
    run = RUNS[0]

    def fail(process):
        job = next(job for job in cluster.jobs() if job["id"] == job_of(process))
        cluster.fail_node(job["node"])

    try:
        with submitting(project, CURVES) as snakemake:
            strike(project, run, fail)
            assert snakemake.wait(timeout=300) == 0, (project.folder / "said").read_text()
    finally:
        cluster.repair()
    record = read_record(run_folder(project, run))
    job = next(j for j in cluster.jobs() if j["id"] == record["environment"]["slurm_job_id"])
    assert record["attempts"] == 2 and job["restarts"] == "1"
    assert_same_bytes(trained, project, [run])


@pytest.mark.slow
def test_a_run_that_is_longer_than_its_time_limit_goes_on(trained, cluster, tmp_path):
    project = create(tmp_path / "project", norms=["none"], seeds=[0], epochs=300)
    profile = "profiles/slurm/config.yaml"
    project.edit(profile, "runtime: 120 * attempt", "runtime: 2 + 8 * (attempt - 1)")
    project.edit(profile, "USR1@120", "USR1@45")  # SLURM may send it half a minute before
    code, said = submit(project, CURVES)
    assert code == 0, said
    assert "tried again" in said and "stopped by SIGUSR1" in said
    folder, shorter = run_folder(project, RUNS[0]), run_folder(trained, RUNS[0])
    assert read_record(folder)["attempts"] == 2
    rows = read_history(shorter)
    assert read_history(folder)[: len(rows)] == rows
