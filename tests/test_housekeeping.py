"""Resetting runs by name and cleaning the store: what goes, what stays, what is refused."""

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

import clean_store
import reset_runs
from conftest import PROJECT, read_record
from normres.errors import InputError
from normres.files import file_checksum, write_json, write_text
from normres.outputs import write_record
from normres.store import StoredRun, link_outputs, run_key
from normres.workplace import Workplace
from snakemake_project import TINY, Project

RUNS = [
    f"{model}/{norm}/seed{seed}"
    for model in ("convnet", "resnet")
    for norm in ("none", "batch")
    for seed in (0, 1)
]
CHECKSUM = "sha256:1"


def specification(run, epochs=2):
    model, norm, seed = run.split("/")
    return {"model": model, "norm": norm, "seed": int(seed[4:]), "epochs": epochs}


def key_of(run):
    return run_key(specification(run), "code", CHECKSUM)


def write_finished(results, study, runs=RUNS, trained=RUNS):
    """A study with its description; `trained` are its runs in the store and the study."""
    write_json(
        results / study / "study.json",
        {
            "study": study,
            "dataset": {"id": "digits", "name": "digits"},
            "runs": [
                {"run": run, "specification": specification(run), "fingerprint": "code"}
                for run in runs
            ],
        },
    )
    write_json(results / "data" / "digits" / "dataset.json", {"checksum": CHECKSUM})
    for run in trained:
        stored = StoredRun(results / "store", key_of(run))
        if stored.finished(2) is None:
            stored.folder.mkdir(parents=True)
            stored.state_file.write_bytes(bytes(50_000))
            with stored.finishing(2) as folder:
                for name in ("history.csv", "model.pt", "test_logits.npy"):
                    (folder / name).write_bytes(bytes(10_000))
                record = {"specification": specification(run), "fingerprint": "code"}
                record["weights_epoch"] = 2
                record["files"] = {path.name: file_checksum(path) for path in folder.iterdir()}
                write_record(folder, {**record, "data": {"checksum": CHECKSUM}})
        link_outputs(stored.finished(2), results / study / "runs" / run)


@pytest.fixture
def results(tmp_path):
    """A results folder with the study `tiny`, all of whose runs are finished."""
    write_finished(tmp_path / "results", "tiny")
    return tmp_path / "results"


def reset(results, *arguments):
    return reset_runs.main(["--results", str(results), *arguments])


def clean(results, *arguments):
    return clean_store.main(["--results", str(results), *arguments])


def remaining(results, study="tiny"):
    runs = results / study / "runs"
    return sorted(str(path.parent.relative_to(runs)) for path in runs.rglob("run.json"))


def stored(results):
    return {path.parent.parent.name for path in results.glob("store/*/epochs-2/run.json")}


def states(results):
    return {path.parent.name for path in results.glob("store/*/state.pt")}


def tree(folder):
    """Every file with its bytes, locks aside: taking one makes its file."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("lock", ".lock")
    }


@contextmanager
def training(results, run):
    """Another process holds the lock of a run, as if it trained it."""
    code = (
        "import sys; from normres.store import StoredRun\n"
        "with StoredRun(sys.argv[1], sys.argv[2]).locked(lambda: None):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(results / "store"), key_of(run)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PROJECT / "workflow" / "scripts")},
    )
    try:
        assert process.stdout.readline().strip() == "held"
        yield
    finally:
        process.communicate(timeout=60)


@pytest.mark.parametrize(
    "patterns, gone",
    [
        (["resnet/batch/seed0"], ["resnet/batch/seed0"]),
        (["resnet/*/seed*"], [run for run in RUNS if run.startswith("resnet")]),
        (["*/seed1", "convnet/none/seed0"], [r for r in RUNS if r.endswith("1")] + [RUNS[0]]),
        (["convnet/none/seed[0]/"], ["convnet/none/seed0"]),
        (["*"], RUNS),
    ],
)
def test_runs_are_reset_by_name_or_pattern(results, patterns, gone):
    write_text(results / "tiny/failures/resnet/batch/seed0.txt", "once\n")
    before = tree(results)
    assert reset(results, "--dry-run", "tiny", *patterns) == 0
    assert tree(results) == before
    reset(results, "tiny", *patterns)
    kept = [run for run in RUNS if run not in gone]
    assert remaining(results) == sorted(kept)
    assert stored(results) == states(results) == {key_of(run) for run in kept}
    assert (results / "tiny/failures/resnet/batch/seed0.txt").exists() == (
        "resnet/batch/seed0" in kept
    )
    untouched = {path: content for path, content in before.items() if path in tree(results)}
    assert tree(results) == untouched


def test_nothing_is_reset_while_snakemake_works_there(results):
    workplace = Workplace(results)
    workplace.take()
    before = tree(results)
    assert reset(results, "--dry-run", "tiny", "*") == 0
    with pytest.raises(InputError, match="in use by process"):
        reset(results, "tiny", "*")
    assert tree(results) == before
    workplace.lock.release()
    assert reset(results, "tiny", "*") == 0


def test_what_was_reset_is_said(results, capsys):
    reset(results, "tiny", "resnet/batch/seed0")
    said = capsys.readouterr().out
    assert (
        said.startswith("resnet/batch/seed0: ") and f"store/{key_of('resnet/batch/seed0')}" in said
    )
    assert "1 run reset, " in said and "--config study=tiny" in said and "Also linked" not in said


def test_a_run_that_has_not_finished_is_reset_by_its_description(results):
    run = "resnet/batch/seed1"
    reset(results, "tiny", run)
    StoredRun(results / "store", key_of(run)).state_file.write_bytes(b"half way")
    reset(results, "tiny", run)
    assert key_of(run) not in states(results)


def test_a_run_that_the_study_asks_no_longer_for_is_reset_by_its_record(results):
    write_finished(results, "tiny", runs=RUNS[:4], trained=[])
    reset(results, "tiny", "resnet/batch/seed1")
    assert key_of("resnet/batch/seed1") not in stored(results)
    assert "resnet/batch/seed1" not in remaining(results)


def test_other_studies_keep_a_shared_run_unless_everywhere_is_said(results, capsys):
    write_finished(results, "other", runs=RUNS[:2], trained=RUNS[:2])
    reset(results, "tiny", RUNS[0])
    assert "Also linked by other" in capsys.readouterr().out
    assert remaining(results, "other") == sorted(RUNS[:2])
    reset(results, "tiny", RUNS[1], "--everywhere")
    assert "study=tiny,other" in capsys.readouterr().out
    assert remaining(results, "other") == [RUNS[0]]


@pytest.mark.parametrize(
    "study, run, words",
    [
        ("tiny", "resnet/batch/seed7", ["none of the 8 runs", "resnet/batch/seed0"]),
        ("tiny", "resnt/batch/seed1", ["the nearest: resnet/batch/seed1"]),
        ("tiny", "resnet", ["fits none"]),
        ("tiny", "../other", ["fits none"]),
        ("tinny", "*", ["no such study", "tiny"]),
        ("data", "*", ["no such study"]),
    ],
)
def test_a_name_that_fits_nothing_is_one_line(results, study, run, words):
    before = tree(results)
    with pytest.raises(InputError) as error:
        reset(results, study, "convnet/none/seed0", run)
    assert all(word in str(error.value) for word in words) and "\n" not in str(error.value)
    assert tree(results) == before


def test_a_run_in_training_is_not_reset_and_nothing_else_either(results):
    before = tree(results)
    with training(results, "resnet/none/seed1"):
        with pytest.raises(InputError, match="resnet/none/seed1: a process is training it"):
            reset(results, "tiny", "resnet/*")
        assert tree(results) == before
    reset(results, "tiny", "resnet/*")
    assert len(remaining(results)) == 4


def test_states_of_finished_runs_are_removed_and_outputs_stay(results, capsys):
    runs, before = remaining(results), tree(results)
    clean(results, "--dry-run")
    assert "states of finished runs: 8" in capsys.readouterr().out
    assert tree(results) == before
    clean(results)
    assert "states of finished runs: 8" in capsys.readouterr().out
    assert states(results) == set()
    assert (remaining(results), len(stored(results))) == (runs, 8)
    clean(results)
    assert "freed 0 kB" in capsys.readouterr().out


def test_the_newest_states_are_kept_within_the_budget(results):
    for age, run in enumerate(RUNS):
        state = StoredRun(results / "store", key_of(run)).state_file
        os.utime(state, (time.time() - 100 - age,) * 2)
    size = state.stat().st_blocks * 512
    clean(results, "--budget-gb", str(3.5 * size / 1e9))
    assert states(results) == {key_of(run) for run in RUNS[:3]}


def test_unfinished_runs_keep_their_states(results):
    started = StoredRun(results / "store", "started")
    started.folder.mkdir()
    started.state_file.write_bytes(b"half way")
    longer = StoredRun(results / "store", key_of(RUNS[0]))  # goes on to more epochs
    os.utime(longer.state_file, (time.time() + 5,) * 2)
    clean(results)
    assert states(results) == {"started", key_of(RUNS[0])}


def test_first_epochs_of_an_unfinished_run_do_not_make_its_state_spare(results):
    """Interrupted after 30 epochs, then asked for 2: read off the state, which is older then."""
    stored = StoredRun(results / "store", key_of(RUNS[0]))
    record = json.loads((stored.folder / "epochs-2" / "run.json").read_text())
    write_record(stored.folder / "epochs-2", {**record, "weights_epoch": 30})
    clean(results)
    assert states(results) == {key_of(RUNS[0])}
    stored.prune_states(0)
    assert stored.state_file.exists()


def test_unused_is_not_guessed(results):
    study = results / "tiny" / "study.json"
    text = study.read_text()
    study.unlink()
    with pytest.raises(InputError, match=r"results/tiny: of a study without study\.json"):
        clean(results, "--unused")
    study.write_text(text)
    mark = results / "tiny" / ".definition-abc"
    mark.touch()
    with pytest.raises(InputError, match=r"study\.json: lists an earlier definition of the study"):
        clean(results, "--unused")
    mark.unlink()
    begun = results / "new" / "logs"
    begun.mkdir(parents=True)  # all that a run leaves that was stopped early
    with pytest.raises(InputError, match=r"results/new: of a study without study\.json"):
        clean(results, "--unused")
    begun.rmdir()
    (results / "data" / "digits" / "dataset.json").unlink()
    with pytest.raises(InputError, match="its data are not prepared"):
        clean(results, "--unused")
    assert len(stored(results)) == 8


def test_what_killed_processes_left_is_removed(results):
    folder = StoredRun(results / "store", key_of(RUNS[0])).folder
    stored_leftovers = [
        folder / ".state.vm-123.partial.pt",
        folder / "epochs-3.partial" / "model.pt",
        folder / "state.unreadable",
    ]
    runs = results / "tiny" / "runs" / RUNS[0]
    old, young = runs / ".run.vm-123.partial.json", runs / ".model.vm-123.partial.pt"
    for path in (*stored_leftovers, old, young):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"part")
    os.utime(old, (time.time() - 7200,) * 2)
    clean(results, "--budget-gb", "1")
    assert not any(path.exists() for path in (*stored_leftovers, folder / "epochs-3.partial", old))
    assert young.exists()  # its writer may be at work, on this machine or another
    assert len(states(results)) == len(stored(results)) == 8


def test_runs_that_no_study_has_are_removed_when_asked(results):
    write_finished(results, "gone", trained=RUNS[:1])
    write_finished(results, "tiny", runs=RUNS[:2], trained=[])  # the others: by their records
    StoredRun(results / "store", key_of(RUNS[7])).folder.rename(results / "store" / "unused")
    for path in sorted((results / "tiny/runs" / RUNS[7]).iterdir()):
        path.unlink()
    interrupted = results / "store" / key_of(RUNS[1])
    clean(results)
    assert "unused" in stored(results)
    (results / "tiny/runs" / RUNS[1] / "run.json").unlink()
    clean(results, "--unused")
    assert stored(results) == {key_of(run) for run in RUNS[:7]}
    assert interrupted.exists() and not (results / "store" / "unused").exists()


def test_a_run_in_training_is_left_alone(results, capsys):
    (results / "store" / key_of(RUNS[3]) / ".state.vm-1.partial.pt").write_bytes(b"part")
    with training(results, RUNS[3]):
        clean(results)
    assert states(results) == {key_of(RUNS[3])}
    assert (results / "store" / key_of(RUNS[3]) / ".state.vm-1.partial.pt").exists()
    assert "left alone, as a process trains them: 1" in capsys.readouterr().out


def test_bad_arguments_of_cleaning_are_one_line(tmp_path):
    with pytest.raises(InputError, match="--budget-gb"):
        clean(tmp_path, "--budget-gb", "-1")
    with pytest.raises(InputError, match="no such folder"):
        clean(tmp_path / "nowhere")


def test_through_snakemake_exactly_the_reset_run_trains_again(tmp_path):
    project = Project.create(tmp_path / "a b ü", tiny={**TINY, "models": ["convnet"]})
    targets = [f"results/tiny/runs/{name}/run.json" for name in RUNS[:4]]
    project.run(*targets, "results/tiny/study.json")
    results = project.results().parent
    run = "convnet/batch/seed1"
    before = {name: read_record(results / "tiny/runs" / name) for name in RUNS[:4]}
    assert reset(results, "tiny", run) == 0
    assert project.planned("figures")["train"] == 1
    assert project.planned(*targets, "results/tiny/study.json") == {"train": 1}
    project.run(*targets)
    after = {name: read_record(results / "tiny/runs" / name) for name in RUNS[:4]}
    assert after[run]["started"] > before[run]["started"] and after[run]["attempts"] == 1
    assert all(after[name] == before[name] for name in RUNS[:4] if name != run)
    assert project.planned(*targets) == {}

    assert len(states(results)) == 4
    said = project.run("clean_store")
    assert "states of finished runs: 4" in said
    assert states(results) == set() and project.planned(*targets) == {}
    assert "states" in (results / "store" / "clean_store.log").read_text()


def test_after_a_run_the_oldest_states_of_finished_runs_make_room(results):
    folders = [StoredRun(results / "store", key_of(run)) for run in RUNS]
    for age, run in enumerate(folders):
        os.utime(run.state_file, (time.time() - 100 - age,) * 2)
    goes_on = folders[7]  # the oldest one, but younger than its outputs
    record = goes_on.folder / "epochs-2" / "run.json"
    os.utime(record, (time.time() - 1000,) * 2)
    (goes_on.folder / "epochs-1").mkdir()
    (goes_on.folder / "epochs-1" / "run.json").write_text("{}")  # fewer epochs, read off later
    folders[0].prune_states(8 * 50_000 / 1e9)
    assert len(states(results)) == 8
    with training(results, RUNS[6]):
        folders[0].prune_states(3 * 50_000 / 1e9)
    assert states(results) == {key_of(RUNS[i]) for i in (0, 1, 2, 6, 7)}
    folders[0].prune_states(0)
    assert states(results) == {goes_on.key}
