"""train.py as a command: its files, resumption, the store, and what it says of bad input."""

import json
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

import train
from conftest import PROJECT, read_history, read_record, small_run
from normres import attempt, fingerprint, history
from normres.devices import choose_device
from normres.errors import NO_DEVICE, STOPPED, InputError, run_command
from normres.grid import RUN_FILES

SMALL = ["--batch_size", "16", "--train_images", "58", "--test_images", "30"]


def command(data, out, *arguments, model="convnet", norm="batch", epochs=2):
    chosen = ["--model", model, "--norm", norm, "--epochs", str(epochs), *SMALL]
    train.main(["--data", str(data), "--out", str(out), *chosen, *map(str, arguments)])
    return out


def same_results(a, b):
    return read_history(a) == read_history(b) and all(
        (a / name).read_bytes() == (b / name).read_bytes()
        for name in ("model.pt", "test_logits.npy")
    )


def inode(folder):
    return (folder / "model.pt").stat().st_ino


def test_the_four_files(digits_folder, tmp_path):
    out = command(digits_folder, tmp_path / "run")
    assert sorted(path.name for path in out.iterdir()) == sorted(RUN_FILES)
    record = read_record(out)
    assert record["status"] == "ok" and record["exact"] is True and record["attempts"] == 1
    assert record["specification"]["learning_rate"] == 1e-4
    assert record["environment"]["torch"] == torch.__version__
    assert record["environment"]["cpu_threads"] == 1
    header, *rows = read_history(out)
    assert header[:5] == ["epoch", "train_loss", "test_loss", "test_correct", "test_accuracy"]
    assert [row[0] for row in rows] == ["0", "1", "2"]
    assert record["final"]["test_accuracy"] == float(rows[-1][4])
    assert record["best"]["test_accuracy"] == max(float(row[4]) for row in rows[1:])
    logits = np.load(out / "test_logits.npy")
    assert logits.dtype == np.float16 and logits.shape == (30, 10)
    weights = torch.load(out / "model.pt", weights_only=True)
    assert sum(value.numel() for name, value in weights.items() if "running" not in name) > 2e6


def test_the_same_command_gives_the_same_bytes(digits_folder, tmp_path):
    a = command(digits_folder, tmp_path / "a")
    b = command(digits_folder, tmp_path / "b")
    other = command(digits_folder, tmp_path / "c", "--seed", 1)
    assert same_results(a, b)
    assert not same_results(a, other)


def test_as_a_process_it_gives_the_same_bytes(digits_folder, tmp_path):
    a = command(digits_folder, tmp_path / "a")
    out = tmp_path / "b"
    script = PROJECT / "workflow" / "scripts" / "train.py"
    chosen = ["--model", "convnet", "--norm", "batch", "--epochs", "2", *SMALL]
    subprocess.run(
        [sys.executable, script, "--data", digits_folder, "--out", out, *chosen], check=True
    )
    assert same_results(a, out)


def rows(folder):
    """All of history.csv, the times too."""
    return history.read_history(folder / "history.csv")


@pytest.mark.parametrize("model, norm", [("convnet", "none"), ("resnet", "batch")])
def test_more_epochs_go_on_and_end_as_an_uninterrupted_run(digits_folder, tmp_path, model, norm):
    store = ["--store", tmp_path / "store"]
    command(digits_folder, tmp_path / "one", *store, model=model, norm=norm, epochs=1)
    long = command(digits_folder, tmp_path / "three", *store, model=model, norm=norm, epochs=3)
    whole = command(digits_folder, tmp_path / "whole", model=model, norm=norm, epochs=3)
    assert same_results(long, whole)
    assert read_record(long)["attempts"] == 2 and read_record(long)["exact"] is True
    times = [row["train_seconds"] for row in rows(long)]
    assert times == sorted(times)


def test_an_interrupted_run_goes_on_from_its_last_state(digits_folder, tmp_path, monkeypatch):
    whole = command(digits_folder, tmp_path / "whole", epochs=3)
    store = ["--store", tmp_path / "store", "--save-every", 0]

    def interrupt(run):
        if run.epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(attempt.ProgressFile, "after_epoch", lambda self, run: interrupt(run))
        with pytest.raises(KeyboardInterrupt):
            command(digits_folder, tmp_path / "cut", *store, epochs=3)
    assert not (tmp_path / "cut").exists()
    assert same_results(command(digits_folder, tmp_path / "cut", *store, epochs=3), whole)
    assert read_record(tmp_path / "cut")["attempts"] == 2


def test_fewer_epochs_are_the_first_ones_of_a_longer_run(digits_folder, tmp_path, monkeypatch):
    store = ["--store", tmp_path / "store"]
    long = command(digits_folder, tmp_path / "long", *store, epochs=3)
    state = next((tmp_path / "store").glob("*/state.pt"))
    before = state.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(attempt, "TrainingRun", None)  # training would fail
        short = command(digits_folder, tmp_path / "short", *store, epochs=2)
        shorter = command(digits_folder, tmp_path / "shorter", *store, epochs=1)
    assert state.read_bytes() == before
    whole = command(digits_folder, tmp_path / "whole", epochs=2)
    assert read_history(short) == read_history(whole)
    assert len(read_history(shorter)) == 3
    record, expected = read_record(short), read_record(whole)
    assert rows(short) == rows(long)[:3]
    for key in ("status", "specification", "fingerprint", "data", "exact"):
        assert record[key] == expected[key]
    for key in ("epoch", "test_loss", "test_accuracy"):
        assert record["final"][key] == expected["final"][key]
    assert record["best"] == expected["best"]
    # The weights are those of the longer run, and the record says so.
    for folder in (short, shorter):
        assert read_record(folder)["weights_epoch"] == 3
        assert (folder / "model.pt").read_bytes() == (long / "model.pt").read_bytes()
    assert expected["weights_epoch"] == 2
    again = command(digits_folder, tmp_path / "again", *store, epochs=3)
    assert same_results(again, long)


def test_fewer_epochs_than_an_interrupted_run_has(digits_folder, tmp_path, monkeypatch):
    store = ["--store", tmp_path / "store", "--save-every", 0]

    with monkeypatch.context() as patch:
        train_epoch = attempt.TrainingRun._train_epoch
        patch.setattr(attempt.TrainingRun, "_train_epoch", stop_at(3, train_epoch))
        with pytest.raises(KeyboardInterrupt):
            command(digits_folder, tmp_path / "cut", *store, epochs=4)
        short = command(digits_folder, tmp_path / "short", *store, epochs=1)
    assert read_history(short) == read_history(command(digits_folder, tmp_path / "w", epochs=1))
    assert read_record(short)["weights_epoch"] == 2


def stop_at(epoch, train_epoch):
    def stopping(run, after_batch):
        if run.epoch + 1 == epoch:
            raise KeyboardInterrupt
        train_epoch(run, after_batch)

    return stopping


@pytest.mark.parametrize("store", [[], ["--store", "store"]])
def test_a_stopped_run_is_saved_only_in_a_store(
    digits_folder, tmp_path, monkeypatch, capsys, store
):
    monkeypatch.chdir(tmp_path)
    stop = lambda self, run: signal.raise_signal(signal.SIGTERM)  # noqa: E731
    monkeypatch.setattr(attempt.ProgressFile, "after_epoch", stop)
    arguments = ["--data", digits_folder, "--out", "run", "--model", "convnet", "--norm", "none"]
    arguments += ["--epochs", 2, "--train_images", 40, "--test_images", 20, *store]
    assert train.main([*map(str, arguments)]) == STOPPED
    said = capsys.readouterr().out
    assert ("saved epoch 0" in said) == bool(store)
    assert ("not saved: there is no --store" in said) == (not store)


@pytest.mark.parametrize("content", [b"", b"no state", None])
def test_a_state_that_cannot_be_read_is_kept_aside(digits_folder, tmp_path, capsys, content):
    store = ["--store", tmp_path / "store"]
    command(digits_folder, tmp_path / "one", *store, epochs=1)
    state = next((tmp_path / "store").glob("*/state.pt"))
    state.write_bytes(state.read_bytes()[:-1000] if content is None else content)
    long = command(digits_folder, tmp_path / "two", *store, epochs=2)
    assert same_results(long, command(digits_folder, tmp_path / "whole", epochs=2))
    assert f"{state}: not a state of this run" in capsys.readouterr().out
    assert state.with_suffix(".unreadable").exists()


def test_a_stored_run_that_lost_a_file_is_made_again(digits_folder, tmp_path):
    store = ["--store", tmp_path / "store"]
    first = command(digits_folder, tmp_path / "a", *store)
    next((tmp_path / "store").glob("*/epochs-2/model.pt")).unlink()
    again = command(digits_folder, tmp_path / "b", *store)
    assert same_results(first, again)
    assert read_record(again)["attempts"] == 1  # nothing was left to train


@pytest.mark.parametrize("epochs", [2, 1])
def test_a_trained_run_is_linked_or_shortened_without_torch(digits_folder, tmp_path, epochs):
    store = ["--store", tmp_path / "store"]
    first = command(digits_folder, tmp_path / "a", *store, epochs=2)
    record = read_record(first)
    plan = {"specification": {**record["specification"], "epochs": epochs}}
    plan["fingerprint"] = record["fingerprint"]
    arguments = ["--data", digits_folder, "--out", tmp_path / "b", *store]
    arguments += ["--run", json.dumps(plan)]
    code = "import sys, train; train.main(sys.argv[1:]); print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=fingerprint.SCRIPTS,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1:] == ["False"], done.stderr
    assert inode(first) == inode(tmp_path / "b")
    assert read_history(tmp_path / "b") == read_history(first)[: epochs + 2]


def test_another_option_or_other_data_is_another_run(digits_folder, tmp_path):
    store = ["--store", tmp_path / "store"]
    command(digits_folder, tmp_path / "a", *store)
    command(digits_folder, tmp_path / "b", *store, "--beta1", 0.8)
    assert len(list((tmp_path / "store").iterdir())) == 2
    other = tmp_path / "other"
    other.mkdir()
    for path in digits_folder.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    description = json.loads((other / "dataset.json").read_text())
    (other / "dataset.json").write_text(json.dumps({**description, "checksum": "sha256:0"}))
    command(other, tmp_path / "c", *store)
    assert len(list((tmp_path / "store").iterdir())) == 3


def test_states_beyond_the_budget_are_removed_and_results_stay(digits_folder, tmp_path):
    store = ["--store", tmp_path / "store", "--state-budget-gb", 0.05]
    for seed in (0, 1):
        command(digits_folder, tmp_path / f"seed{seed}", *store, "--seed", seed)
    states = list((tmp_path / "store").glob("*/state.pt"))
    assert len(states) == 1 and states[0].stat().st_size < 0.05e9
    assert len(list((tmp_path / "store").glob("*/epochs-2/model.pt"))) == 2


def test_a_diverged_run_is_a_result(digits_folder, tmp_path):
    out = command(digits_folder, tmp_path / "run", "--learning_rate", "1e30", epochs=3)
    record = read_record(out)
    assert record["status"] == "diverged" and "epoch" in record["reason"]
    assert 2 <= len(read_history(out)) < 5


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--train_images", "33"], ["33 training images", "'batch'"]),
        (["--model", "resnt"], ["resnt", "resnet"]),
        (["--learning_rate", "-1"], ["--learning_rate", "above 0"]),
        (["--depth", "5"], ["--depth", "convnet"]),
        (["--epochs", "0"], ["--epochs"]),
        (["--seed", "-1"], ["--seed", "too small"]),
        (["--affine", "["], ["--affine", "true or false"]),
        (["--compile", "["], ["--compile", "auto"]),
        (["--optimizer", "sgd", "--beta1", ".5"], ["--beta1: does not apply to sgd"]),
        (["--momentum", ".5"], ["--momentum: does not apply to adam"]),
        (["--norm", "group", "--groups", "5"], ["--groups: 5 groups", "32 channels"]),
        (["--statistics_images", "1"], ["--statistics_images: 1 of"]),
        (["--run", "{"], ["--run", "JSON"]),
        (["--run", "{}"], ["--run", "specification"]),
        (["--test_images", "501"], ["test_images", "501"]),
        (["--data", "nowhere"], ["nowhere"]),
    ],
)
def test_bad_input_is_one_line(digits_folder, tmp_path, arguments, words):
    with pytest.raises(InputError) as caught:
        command(digits_folder, tmp_path / "run", *arguments)
    assert all(word in str(caught.value) for word in words) and "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_promised_gpu_that_is_not_there(digits_folder, tmp_path, capsys, monkeypatch):
    """One line and an exit code of its own; the CPU is taken only where that was asked for."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    promised = ["--gpus", "1"]
    with pytest.raises(SystemExit) as caught:
        run_command(lambda: command(digits_folder, tmp_path / "run", *promised))
    assert caught.value.code == NO_DEVICE == 69
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "a GPU was promised, but torch sees none" in lines[0]
    assert not (tmp_path / "run").exists()
    command(digits_folder, tmp_path / "cpu", *promised, "--device", "cpu")
    command(digits_folder, tmp_path / "auto", "--gpus", "0")
    assert same_results(tmp_path / "cpu", tmp_path / "auto")
    assert read_record(tmp_path / "cpu")["environment"]["device"] == "cpu"


def test_without_a_promise_the_cpu_is_taken_even_beside_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("normres.devices.check_capability", lambda: None)
    assert [choose_device("auto", promised) for promised in (None, 1, 0)] == ["cuda", "cuda", "cpu"]
    assert [choose_device("cpu", promised) for promised in (None, 1, 0)] == ["cpu"] * 3
    assert choose_device("cuda", 0) == "cuda"


def test_code_that_changed_since_the_study_started_is_refused(digits_folder, tmp_path):
    plan = {"specification": small_run("convnet", "none"), "fingerprint": "0" * 16}
    arguments = ["--data", str(digits_folder), "--out", str(tmp_path / "run"), "--run"]
    with pytest.raises(InputError, match="code of this run has changed"):
        train.main([*arguments, json.dumps(plan)])
    plan["fingerprint"] = fingerprint.of_run("convnet", "none")
    train.main([*arguments, json.dumps(plan)])
    assert read_record(tmp_path / "run")["fingerprint"] == plan["fingerprint"]


def test_the_progress_file(digits_folder, tmp_path):
    progress = tmp_path / "progress.json"
    command(digits_folder, tmp_path / "run", "--progress", progress)
    state = json.loads(progress.read_text())
    assert state["epoch"] == state["epochs"] == 2 and state["fraction"] == 1
    assert 0 <= state["test_accuracy"] <= 1 and state["train_loss"] > 0


def test_help_names_every_option(capsys):
    with pytest.raises(SystemExit) as caught:
        train.main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("--learning_rate", "--groups", "resnet", "history.csv"))
