"""The time left where the store has runs, what a timing says of itself, and what Ctrl-C ended."""

import json
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

import time_training
import train
from normres import endings
from normres.estimates import LINK_SECONDS, OUTPUTS, STORE, progress_file
from normres.progress import INTERRUPTED, Display, waited_for
from normres.store import STATE, run_key
from normres.time_left import TimeLeft, record_of
from normres.timing import MOST_ALIVE, measure
from pipelines import pipeline, workflow
from time_training import SAY_SECONDS, Progress

CONVNET = {"models": ["convnet"], "norms": ["none"], "learning_rate": 1e-4, "epochs": 40}
SEED0 = ("many", "convnet/none/seed0")
CHECKSUM = "sha256:a"
NETWORK = {"model": "convnet", "norm": "none", "cpu_threads": 1}
EACH = NETWORK | {"warm_up": 20.0, "prepare": 0.01, "repeat": 2.0}


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    """An empty folder with prepared data."""
    monkeypatch.chdir(tmp_path)
    Path("results/data/digits").mkdir(parents=True)
    description = {"n_train": 1297, "n_test": 500, "shape": [32, 32, 3], "checksum": CHECKSUM}
    Path("results/data/digits/dataset.json").write_text(json.dumps(description))


def store(made, epochs=(), state=False, key=SEED0):
    """Put into the store what a run of a pipeline leaves there; returns the run's folder."""
    run = made.runs[key]
    folder = STORE / run_key(run.specification, run.fingerprint, CHECKSUM)
    folder.mkdir(parents=True)
    for number in epochs:
        (folder / f"epochs-{number}").mkdir()
        (folder / f"epochs-{number}" / "run.json").write_text("{}")
    if state:
        (folder / STATE).touch()
    return folder


def time_left(made, **settings):
    return TimeLeft(workflow(**settings), made, made.runs, [], made.run_mb)


def parts(made):
    """Seconds beside a run's training, and of the training, when nothing is stored."""
    left = time_left(made)
    start = left.estimates.reference.start
    return start, left.estimates.seconds("many", made.runs[SEED0]) - start


def said(made):
    display = Display(workflow(cores=1), made)
    display.to_train = set(made.runs)
    display.planned, display.total = {"train": len(made.runs), "other": 4}, len(made.runs) + 4
    display.estimate()
    return display.describe_plan()


@pytest.mark.parametrize(
    "epochs, state, expected",
    [
        ([40], False, None),
        ([100], True, None),  # the first epochs of a longer run
        ([10, 100], False, None),
        ([10, 30], True, 0.25),
        ([30], False, 1),  # after `make clean-store`: from its start
        ([], True, 1),  # stopped, and nobody says where
        ([], False, 1),
    ],
)
def test_what_the_store_has_takes_no_training(epochs, state, expected):
    made = pipeline(1, **CONVNET)
    start, whole = parts(made)
    store(made, epochs, state)
    seconds = LINK_SECONDS if expected is None else start + expected * whole
    assert time_left(made, cores=1).seconds(1) == pytest.approx(seconds)


@pytest.mark.parametrize("change", [{"learning_rate": 2e-4}, {"batch_size": 20}])
def test_the_store_of_other_runs_does_not_count(change):
    made = pipeline(1, **CONVNET)
    store(pipeline(1, **CONVNET | change), [40])
    assert time_left(made).linked == 0
    store(made, [40])
    assert time_left(made).linked == 1


def test_before_the_data_are_prepared_the_store_is_not_known():
    made = pipeline(1, **CONVNET)
    store(made, [40])
    Path("results/data/digits/dataset.json").unlink()
    start, whole = parts(made)
    assert time_left(made, cores=1).seconds(1) == pytest.approx(start + whole)


def test_folders_that_are_no_outputs_of_runs_do_not_count():
    made = pipeline(1, **CONVNET)
    folder = store(made)
    for name in ("epochs-40.partial", "epochs-old9", "epochs-9/more"):
        (folder / name).mkdir(parents=True)
        (folder / name / "run.json").write_text("{}")
    assert time_left(made).linked == 0


@pytest.mark.parametrize(
    "text, part",
    [
        ('{"fraction": 0.75, "epochs": 40}', 0.25),
        ('{"fraction": 0.75, "epochs": 20}', 0.625),  # it was to be shorter
        ('{"fraction": 0.75, "epochs": 80}', 0),  # it was to be longer, and is beyond
        ('{"fraction": 0.', 1),
        ('{"fraction": null, "epochs": 40}', 1),
    ],
)
def test_a_run_that_was_stopped_goes_on_from_where_it_said_it_was(text, part):
    made = pipeline(1, **CONVNET)
    start, whole = parts(made)
    file = progress_file(*SEED0)
    file.parent.mkdir(parents=True)
    file.write_text(text)
    assert time_left(made, cores=1).seconds(1) == pytest.approx(start + whole)  # no state
    store(made, state=True)
    assert time_left(made, cores=1).seconds(1) == pytest.approx(start + part * whole)


def test_the_plan_tells_runs_to_train_from_those_in_the_store():
    made = pipeline(3, **CONVNET)
    assert said(made).startswith("3 runs to train, 4 other jobs: about ")
    store(made, [40])
    assert said(made).startswith("2 runs to train, 1 to take from the store, 4 other jobs: about ")
    for seed in (1, 2):
        store(made, [50], key=("many", f"convnet/none/seed{seed}"))
    # 3 s to link them, and 2.5 s for each other job.
    assert said(made) == "no run to train, 3 to take from the store, 4 other jobs: about 13 s"


def test_a_run_that_goes_on_takes_what_is_left_of_it():
    """Of 30 of 40 epochs in the store, half of the rest is trained, twice as slowly as expected."""
    made = pipeline(1, **CONVNET | {"models": ["resnet"]})
    key = ("many", "resnet/none/seed0")
    store(made, [30], state=True, key=key)
    left = time_left(made, cores=1)
    ((cost, _),) = left.count
    assert cost.begun == 0.75
    state = {"fraction": 0.875, "seconds_left": None}
    rest = cost.whole * 0.125
    assert left.seconds(1, [(*key, state)]) == pytest.approx(rest)
    state["seconds_left"] = 2 * rest
    assert left.seconds(1, [(*key, state)]) == pytest.approx(2 * rest, rel=0.1)
    assert left.seconds(1, [(*key, state)]) > 1.5 * rest


def test_a_stored_run_that_has_to_be_trained_after_all_is_waited_for():
    """As where its files are damaged."""
    made = pipeline(1, **CONVNET)
    _, whole = parts(made)
    store(made, [40])
    left = time_left(made, cores=1)
    state = {"fraction": 0.25, "seconds_left": 0.75 * whole}
    assert left.seconds(1, [(*SEED0, state)]) == pytest.approx(0.75 * whole)


def test_linked_runs_that_have_ended_are_not_waited_for():
    made = pipeline(2, **CONVNET)
    for run in made.runs:
        store(made, [40], key=run)
    left = time_left(made, cores=1)
    assert left.seconds(2) == pytest.approx(2 * LINK_SECONDS)
    left.end_run(SEED0)
    assert left.seconds(1) == pytest.approx(LINK_SECONDS) and left.linked == 1


def test_the_first_seconds_of_a_run_that_goes_on_say_little():
    """It is at 75 % from its first second on; that says nothing of how fast it is."""
    made = pipeline(1, **CONVNET | {"models": ["resnet"]})
    key = ("many", "resnet/none/seed0")
    store(made, [30], state=True, key=key)
    left = time_left(made, cores=1)
    before = left.seconds(1)
    state = {"fraction": 0.7501, "seconds_left": 20 * before}
    assert left.seconds(1, [(*key, state)]) < 2 * before


def test_a_linked_run_that_has_ended_is_no_new_evidence():
    """Not where its record is a new one either, as of the first epochs of a longer run."""
    made = pipeline(2, **CONVNET)
    store(made, [40])
    left, learnt = time_left(made), []
    left.estimates.learn = lambda record: bool(learnt.append(record))
    for run in made.runs:
        left.end_run(run)
    left.seconds(0)
    assert learnt == [record_of("many", "convnet/none/seed1")]


def test_what_is_said_of_the_store_is_what_train_does(digits_folder):
    """Linked, cut down and gone on with: as train.py itself decides, by its own keys."""
    small = {"train_images": 20, "test_images": 20, "train_eval_images": 20, "batch_size": 10}
    shutil.copytree(digits_folder, "results/data/digits", dirs_exist_ok=True)

    def call(epochs):
        made = pipeline(1, **CONVNET | small | {"epochs": epochs})
        plan = made.run_parameter(SimpleNamespace(study="many", run=SEED0[1]))
        stored = time_left(made).stored[SEED0]
        options = {"--data": "results/data/digits", "--out": "out", "--store": STORE, "--run": plan}
        assert train.main([str(part) for pair in options.items() for part in pair]) == 0
        return stored

    assert [call(epochs) for epochs in (2, 2, 1, 3)] == [0, OUTPUTS, OUTPUTS, 2]


def test_thousands_of_stored_runs_are_found_at_once():
    made = pipeline(1000, **CONVNET)
    for run in made.runs:
        store(made, [40], key=run)
    left = time_left(made)
    start = time.perf_counter()
    found = [left.estimates.stored_epochs("many", run) for run in made.runs.values()]
    assert (time.perf_counter() - start) / len(found) < 200e-6
    assert set(found) == {OUTPUTS}


# ---- What a timing says of itself ----


class Clock:
    """The seconds that turns have taken, in place of time.monotonic."""

    now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def told(tmp_path, monkeypatch):
    """What gives, from what turns take, what was told: when, the fraction and what was left.

    The turns are given by timing.measure itself.
    """
    clock = Clock()

    class Turns:
        def __init__(self, context, arguments):
            self.takes, self.failure = arguments[0], None

        def take(self, asked):
            clock.now += self.takes[asked]

        def end(self):
            pass

        def result(self):
            return {}

    monkeypatch.setattr("normres.timing.Turns", Turns)
    monkeypatch.setattr(time_training, "time", clock)

    def call(configurations, repeats):
        progress, states = Progress(tmp_path / "progress.json"), []

        def after_turn(fraction):
            progress.after_turn(fraction)
            state = json.loads((tmp_path / "progress.json").read_text())
            states.append((clock.now, state["fraction"], state["seconds_left"]))

        measure(configurations, Path("nowhere"), "cpu", 0, repeats, 2, after_turn)
        return states

    return call


def test_warm_ups_tell_nothing_of_what_is_left(told):
    """From the first round of repeats on, it is right; it was ten times too long at first."""
    states = told([EACH] * 3, repeats=10)
    end = states[-1][0]
    assert [fraction for _, fraction, _ in states] == pytest.approx([n / 36 for n in range(1, 37)])
    assert [left for *_, left in states[:8]] == [None] * 8  # warm-ups, preparations, two repeats
    for now, _, left in states[8:]:
        assert left == pytest.approx(end - now)


def test_configurations_that_take_longer_than_others_are_all_waited_for(told):
    states = told([EACH, EACH | {"repeat": 20.0}, EACH | {"repeat": 0.2}], repeats=20)
    end = states[-1][0]
    for now, _, left in states[8:]:
        assert left == pytest.approx(end - now, abs=20.0)  # what one of them takes
    for now, _, left in states[8::3]:  # at the end of a round
        assert left == pytest.approx(end - now)


def test_a_single_repeat_is_over_when_it_can_be_told(told):
    states = told([EACH] * 2, repeats=1)
    assert [left for *_, left in states] == [None] * 5 + [0.0]


def test_of_further_groups_only_the_warm_ups_are_not_foreseen(told):
    """Two groups of as many as are timed together."""
    n, repeats = MOST_ALIVE, 10
    states = told([EACH] * n + [EACH | {"model": "resnet"}] * n, repeats)
    end = states[-1][0]
    first, second = states[: len(states) // 2], states[len(states) // 2 :]
    untold = 3 * n - 1  # warm-ups, preparations, a round but for its end
    assert [left is None for *_, left in first] == [turn < untold for turn in range(len(first))]
    for now, _, left in first[untold:]:
        assert 0.8 * (end - now - n * 20.0) < left < end - now
    for now, _, left in second[n:]:
        assert left == pytest.approx(end - now, abs=n * 2.0)


def test_the_log_says_how_far_it_is_and_what_is_left_once_it_can_be_told(told, capsys):
    told([EACH | {"warm_up": SAY_SECONDS, "repeat": SAY_SECONDS}], repeats=2)
    assert capsys.readouterr().out.splitlines() == [
        "25% done",
        "75% done, about 15 s left",
    ]


@pytest.mark.parametrize(
    "rule, log, said",
    [
        ("time_training", "waiting: runs are at work here\n", "waiting: runs are at work here"),
        ("train", "goes on\nwaiting: a timing\n", "waiting: a timing"),
        ("train", "waiting: a timing\nwaited for it\n", ""),
        ("train", "waiting: a timing\n" + 400 * "x", ""),
        ("train", "", ""),
        ("plot_figure", "waiting: for nothing\n", ""),
    ],
)
def test_what_a_job_waits_for_is_shown(tmp_path, rule, log, said):
    (tmp_path / "log").write_text(log)
    job = SimpleNamespace(rule_name=rule, rule_msg="its work", log=[str(tmp_path / "log")])
    job.wildcards = {"study": "none", "run": "none"}
    assert waited_for(job) == said
    display = Display(workflow(), pipeline(1))
    display.estimate()
    display.jobs[1] = job
    assert (f"its work is {said}" in display._line()) == bool(said)
    for missing in ([], None, [str(tmp_path / "none")]):
        job.log = missing
        assert waited_for(job) == ""


# ---- What Ctrl-C ended ----


@pytest.fixture
def ended(tmp_path, monkeypatch):
    """What gives what is said where a job's log ends in a line; after Ctrl-C or not."""
    monkeypatch.chdir(tmp_path)

    def call(last, before=None, rule="time_training"):
        said = []
        display = Display(workflow(), pipeline(1))
        monkeypatch.setattr(display.console, "print", lambda text: said.append(str(text)))
        monkeypatch.setattr(display, "_is_tried_again", lambda job_id: True)
        if before:
            message = SimpleNamespace(getMessage=lambda: f"{before}, this might take some time.")
            display.emit(message)
        Path("job.log").write_text(f"50% done\n{last}\n")
        failed = {"jobid": 1, "rule_name": rule, "rule_msg": "", "log": ["job.log"]}
        display._explain_failure(SimpleNamespace(**failed))
        return said

    return call


@pytest.mark.parametrize("rule", ["time_training", "time_norms", "train", "plot_figure"])
@pytest.mark.parametrize("last", ["interrupted", "KeyboardInterrupt", "killed by SIGTERM"])
def test_what_ctrl_c_ended_is_not_said_to_be_tried_again(ended, rule, last):
    assert ended(last, INTERRUPTED, rule) == [f"Stopped: {rule}; the next call starts it again"]


def test_what_was_ended_while_the_call_goes_on_is_tried_again(ended):
    said = ended("interrupted")
    assert said == ["Ended without a result, is tried again: time_training: interrupted"]


def test_what_fails_after_ctrl_c_has_failed(ended):
    said = ended("error: No space left on device", INTERRUPTED)
    assert said[0] == "Failed: time_training" and "  error: No space left on device" in said
    assert not [line for line in said if "tried again" in line or line.startswith("Stopped")]


def planned(stats, **settings):
    dag = SimpleNamespace(needrun_jobs=list)
    display = Display(workflow(cores=1, dag=dag, **settings), pipeline(1))
    for _ in range(2):  # as a dry run says it
        display.emit(SimpleNamespace(event=LogEvent.RUN_INFO, stats=stats))
    return display


def test_a_dry_run_without_jobs_is_told_once(monkeypatch):
    told = []
    monkeypatch.setattr("atexit.register", lambda *what: told.append(what))
    planned({"total": 0}, dryrun=True)
    assert len(told) == 1


def test_jobs_that_until_leaves_out_are_not_waited_for():
    """Snakemake counts them: "4 of 25 steps", of a call that has four."""
    display = planned({"train": 4, "total": 4})
    display.emit(SimpleNamespace(event=LogEvent.PROGRESS, done=3, total=25))
    assert (display.done, display.total) == (3, 4)


@pytest.mark.parametrize(
    "there, said", [((), []), (("a.json",), ["a.json"]), (("a.json", "runs.csv"), ["runs.csv"])]
)
def test_what_a_batch_leaves_for_later_is_not_said_to_be_made(there, said):
    """Of `--batch collect_runs=1/2 runs.csv` that table is made by the second call."""
    for name in there:
        Path(name).touch()
    run = SimpleNamespace(output=["a.json"], input=[])
    dag = SimpleNamespace(targetfiles=["runs.csv"], targetjobs=[run])
    assert endings.targets(dag) == said
