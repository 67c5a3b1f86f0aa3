"""Hostile ground, met by single commands; see test_hostile.py and docs/reliability.md."""

import ast
import gzip
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import collect_runs
import prepare_data
import train
from conftest import PROJECT, read_history, read_record
from normres.config import read_config
from normres.errors import InputError
from normres.estimates import Estimates
from normres.files import check_seal, replacing, seal, write_text
from normres.housekeeping import is_temporary
from normres.pipeline import Pipeline
from normres.training import TrainingRun
from normres.workplace import Workplace
from preparing import prepare, refusal

SCRIPTS = PROJECT / "workflow" / "scripts"
SMALL = ["--model", "convnet", "--norm", "none", "--batch_size", "16", "--train_images", "58"]
SMALL += ["--test_images", "30", "--train_eval_images", "20"]


def command(data, out, *arguments, epochs=2):
    given = ["--data", data, "--out", out, *SMALL, "--epochs", epochs, *arguments]
    return train.main([str(value) for value in given])


def overflow(*_, **__):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 8 GiB.")


@pytest.fixture
def photos(tmp_path):
    """An image folder of 2 classes with 3 images for training and 2 for testing each."""
    folder = tmp_path / "photos"
    for part, count in (("train", 3), ("test", 2)):
        for name in ("cats", "dogs"):
            add_images(folder / part / name, count)
    return folder


def add_images(folder, count):
    folder.mkdir(parents=True)
    for i in range(count):
        pixels = np.random.default_rng(i).integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")


# ---- Memory and numbers ----


@pytest.mark.parametrize("runs_per_gpu", [1, 3])
def test_out_of_memory_says_what_to_try(digits_folder, tmp_path, monkeypatch, capsys, runs_per_gpu):
    store = ["--store", tmp_path / "store"]
    with monkeypatch.context() as patch:
        patch.setattr(TrainingRun, "train", overflow)
        shared = ["--runs-per-gpu", runs_per_gpu]
        assert command(digits_folder, tmp_path / "run", *store, *shared) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: CUDA out of memory; try a batch_size below 16")
    with monkeypatch.context() as patch:
        patch.setattr(TrainingRun, "train", overflow)
        options = ["--batch_size", 1, "--train_images", 20]
        assert command(digits_folder, tmp_path / "run", *store, *options) == 1
    assert "try a smaller image_size" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        patch.setattr("normres.evaluation.cross_entropy", overflow)
        assert command(digits_folder, tmp_path / "run", *store) == 1
    evaluated = capsys.readouterr().err
    assert "CUDA out of memory; for 1024 images to evaluate; try a smaller" in evaluated
    with monkeypatch.context() as patch:
        patch.setattr(TrainingRun, "__init__", overflow)  # it moves the images to the GPU
        assert command(digits_folder, tmp_path / "run", *store, *shared) == 1
    (placed,) = capsys.readouterr().err.splitlines()
    assert "the images take up to 0.0 GB: try a smaller image_size, fewer" in placed
    assert ("runs_per_gpu below 3" in placed) == (runs_per_gpu == 3)
    assert ("runs_per_gpu below 3" in line) == (runs_per_gpu == 3)
    assert not (tmp_path / "run").exists()
    assert command(digits_folder, tmp_path / "run", *store) == 0


def no_room():
    raise RuntimeError("CUDA error: out of memory")


@pytest.mark.parametrize(
    "left, others",
    [
        (lambda: (1.0e9, 8e9), None),
        (lambda: (0.2e9, 8e9), "hold about 1 of the GPU's 8 GB: wait"),
        (no_room, "hold all of the GPU: wait"),  # not even a context of this process
    ],
)
def test_who_fills_a_gpu_is_said(digits_folder, tmp_path, monkeypatch, capsys, left, others):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 6.5e9)
    monkeypatch.setattr(torch.cuda, "mem_get_info", left)
    monkeypatch.setattr(TrainingRun, "train", overflow)
    assert command(digits_folder, tmp_path / "run") == 1
    (line,) = capsys.readouterr().err.splitlines()
    advice = "error: CUDA out of memory; try a batch_size below 16"
    if others is None:
        assert line == advice
    else:
        assert line.startswith(f"{advice}; other processes (nvidia-smi lists them) {others}")
    assert command(digits_folder, tmp_path / "run", "--runs-per-gpu", 2) == 1
    shared = "runs of this call may be among them) hold" in capsys.readouterr().err
    assert shared == (others is not None)


def test_a_full_gpu_is_not_blamed_for_memory_that_the_machine_lacks(
    digits_folder, tmp_path, monkeypatch, capsys
):
    def refuse(*_, **__):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 8 bytes. Code 12")

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", no_room)
    monkeypatch.setattr(TrainingRun, "train", refuse)
    assert command(digits_folder, tmp_path / "run") == 1
    assert "a batch_size below 16\n" in capsys.readouterr().err


def test_memory_that_python_itself_lacks(digits_folder, tmp_path, monkeypatch, capsys):
    def lack(*_):
        raise MemoryError

    for patched in ("normres.training.TrainingRun.train", "train.open_images"):
        with monkeypatch.context() as patch:
            patch.setattr(patched, lack)
            assert command(digits_folder, tmp_path / "run") == 1
        assert capsys.readouterr().err == "error: not enough memory\n"


def test_a_loss_that_is_not_a_number_ends_the_run_as_a_result(digits_folder, tmp_path):
    assert command(digits_folder, tmp_path / "run", "--learning_rate", "1e30", epochs=3) == 0
    record = read_record(tmp_path / "run")
    assert record["status"] == "diverged" and "not finite" in record["reason"]
    assert record["final"]["epoch"] < 3


# ---- Files that are cut, left behind or edited ----


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path):
    path = tmp_path / "a [1].txt"

    def write(text, end=""):
        code = (
            "import os, sys; from normres.files import replacing\n"
            "with replacing(sys.argv[1]) as temporary:\n"
            f"    temporary.write_text({text!r}); {end}\n"
        )
        subprocess.run([sys.executable, "-c", code, path], env={"PYTHONPATH": str(SCRIPTS)})

    for _ in range(2):
        write("half", end="os.kill(os.getpid(), 9)")
        (left,) = tmp_path.iterdir()
        assert is_temporary(left)
    with replacing(path) as temporary:
        temporary.write_text("whole")
        write("of another process, meanwhile")
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "whole"


def test_a_sealed_file_that_is_edited_is_refused_and_set_aside(tmp_path):
    path = tmp_path / "study" / "table.csv"
    workplace = Workplace(tmp_path)
    write_text(path, "a\n1\n")
    seal(path)
    check_seal(path)
    workplace.fail(["study", "none"])
    path.write_text("a\n2\n")
    with pytest.raises(InputError, match=r"table\.csv: edited since it was written"):
        check_seal(path)
    workplace.fail(["study", "none"])
    assert not path.exists() and path.with_name("table.csv.aside").read_text() == "a\n2\n"
    check_seal(path)


@pytest.mark.parametrize(
    "old, new, words",
    [
        ('"train_seconds": ', '"train_seconds": 1', "edited since"),
        ("{", "", "not valid JSON"),
        ('"status": "ok"', '"status": "good"', "not a run's record"),
    ],
)
def test_an_edited_record_is_set_aside(digits_folder, tmp_path, old, new, words):
    """Through collect_runs, in a study whose one run was really trained."""
    study = tmp_path / "study.json"
    folder = tmp_path / "runs" / "convnet" / "none" / "seed0"
    command(digits_folder, folder, epochs=1)
    record = read_record(folder)
    run = {"run": "convnet/none/seed0", "model": "convnet", "norm": "none", "seed": 0, "axes": {}}
    run |= {key: record[key] for key in ("specification", "fingerprint")}
    keys = {"study": "s", "title": "s", "dataset": {}, "models": ["convnet"], "norms": ["none"]}
    study.write_text(json.dumps({**keys, "seeds": [0], "axes": {}, "epochs": 1, "runs": [run]}))
    tables = ["--out-curves", tmp_path / "curves.csv", "--out-runs", tmp_path / "runs.csv"]
    arguments = ["--study", study, "--dataset", digits_folder / "dataset.json", *tables]
    collect_runs.main(list(map(str, arguments)))
    text = (folder / "run.json").read_text()
    (folder / "run.json").write_text(text.replace(old, new, 1))
    with pytest.raises(InputError) as caught:
        collect_runs.main(list(map(str, arguments)))
    assert words in str(caught.value) and "run snakemake again" in str(caught.value)
    assert not (folder / "run.json").exists()


@pytest.mark.parametrize("name", ["model.pt", "history.csv", "run.json", "test_logits.npy"])
def test_an_edit_in_the_store_is_noticed_before_it_is_linked(digits_folder, tmp_path, name):
    """model.pt of a run is a link to the store's: who edits one edits both."""
    store = ["--store", tmp_path / "store"]
    command(digits_folder, tmp_path / "a", *store)
    before = (tmp_path / "a" / "model.pt").read_bytes()
    (kept,) = (tmp_path / "store").glob(f"*/epochs-2/{name}")
    content = bytearray(kept.read_bytes())
    content[len(content) // 2] ^= 1
    kept.write_bytes(content)
    command(digits_folder, tmp_path / "b", *store)
    assert (tmp_path / "b" / "model.pt").read_bytes() == before
    assert read_history(tmp_path / "a") == read_history(tmp_path / "b")
    assert read_record(tmp_path / "b")["attempts"] == 1  # from the state; nothing was trained


def test_records_that_cannot_be_read_do_not_keep_from_estimating(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    studies = {"s": {"dataset": "digits", "models": ["convnet"], "norms": ["none"], "seeds": [0]}}
    studies["s"]["epochs"] = 1
    pipeline = Pipeline(read_config({"study": "s", "studies": studies}))
    for i, text in enumerate(["", "{", "[]", "null", '{"final": 1}', '{"final": {}}', "\xff"]):
        folder = tmp_path / "results" / "store" / str(i) / "epochs-1"
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(text, encoding="latin-1")
    assert "nothing was trained here" in Estimates(pipeline).source


# ---- Data that vanish, and downloads that are cut ----


def test_an_image_folder_that_vanishes_midway(photos, tmp_path, monkeypatch):
    away = tmp_path / "away"

    def vanish(batches, total, what):
        for batch in batches:
            yield batch
            if photos.exists():
                photos.rename(away)

    monkeypatch.setattr(prepare_data, "report", vanish)
    out = tmp_path / "out"
    assert "train/cats/0.png: not a readable image" in refusal(out, "--folder", photos)
    assert "no such folder" in refusal(out, "--folder", photos)
    away.rename(photos)
    monkeypatch.setattr(prepare_data, "report", lambda batches, total, what: batches)
    assert prepare(out, "--folder", photos).n_train == 6


def test_a_vanished_image_folder_is_said_before_anything_starts(photos):
    def study():
        chosen = {"models": ["convnet"], "norms": ["none"], "seeds": [0], "epochs": 1}
        return read_config({"study": "s", "studies": {"s": {**chosen, "dataset": dataset}}})

    dataset = {"folder": str(photos)}
    study()
    shutil.rmtree(photos)
    with pytest.raises(InputError, match=r"there is no folder '.*/photos'"):
        study()


@pytest.mark.parametrize("change", ["add", "remove", "replace", "class"])
def test_a_changed_image_folder_is_noticed(photos, change):
    """By the time stamps of its folders: no call looks at every image."""
    chosen = {"models": ["convnet"], "norms": ["none"], "seeds": [0], "epochs": 1}
    chosen["dataset"] = {"folder": str(photos)}
    pipeline = Pipeline(read_config({"study": "s", "studies": {"s": chosen}}))
    (identity,) = pipeline.datasets

    def state():
        return pipeline.folder_state(SimpleNamespace(dataset=identity))

    before = state()
    assert state() == before
    time.sleep(0.02)
    image = photos / "train" / "cats" / "0.png"
    match change:
        case "add":
            shutil.copy(image, image.with_name("new.png"))
        case "remove":
            image.unlink()
        case "replace":
            os.replace(shutil.copy(photos / "train" / "dogs" / "1.png", photos), image)
        case "class":
            (photos / "test" / "birds").mkdir()
    assert state() != before


def test_a_download_killed_midway_starts_anew(tmp_path):
    """The server sends half and waits; prepare_data is killed; the next call gets it all."""
    from test_datasets import FASHION_MNIST, idx

    files = {f"{name}.gz": gzip.compress(idx(array)) for name, array in FASHION_MNIST.items()}
    root, out = tmp_path / "root", tmp_path / "out"
    with socket.create_server(("127.0.0.1", 0)) as server:
        stalling = threading.Event()
        stalling.set()
        half_sent = threading.Event()

        def serve():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                request = connection.recv(10_000).split()
                body = files[request[1].decode()[1:]]
                head = f"HTTP/1.0 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                if stalling.is_set():
                    connection.sendall(head + body[: len(body) // 2])
                    half_sent.set()
                    connection.recv(1)  # until the client is gone
                else:
                    connection.sendall(head + body)
                connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        sums = [(name, hashlib.md5(body).hexdigest()) for name, body in files.items()]
        code = (
            "import sys, prepare_data; from torchvision.datasets import FashionMNIST as F\n"
            f"F.mirrors, F.resources = [{url!r}], {sums!r}\n"
            f"prepare_data.main(['--dataset', 'fashion_mnist', '--data-root', {str(root)!r}, "
            f"'--out', {str(out)!r}])"
        )
        try:
            environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
            process = subprocess.Popen([sys.executable, "-c", code], env=environment)
            assert half_sent.wait(60)
            time.sleep(0.3)
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert [path.name.count("partial") for path in root.iterdir()] == [1]
            assert not out.exists() or not list(out.glob("*.json"))
            stalling.clear()
            subprocess.run([sys.executable, "-c", code], env=environment, check=True)
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
    assert sorted(path.name for path in root.iterdir()) == sorted(files)
    assert (out / "dataset.json").exists()


# ---- Clocks ----


def test_no_duration_is_read_off_a_clock_that_can_jump():
    """time.time and datetime.now say when, never how long: only these modules may ask them.

    workplace.py and housekeeping.py compare them with the time stamps of files.
    """
    when = {"workplace.py", "attempt.py", "outputs.py", "failures.py", "housekeeping.py"}
    when |= {"time_training.py", "record_untimed.py"}
    asked = set()
    for path in SCRIPTS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and (
                (node.attr == "time" and getattr(node.value, "id", "") == "time")
                or node.attr in ("now", "utcnow", "today")
            ):
                asked.add(path.name)
    assert asked <= when, asked - when


# ---- The documentation ----


def test_the_tests_that_the_documentation_names_are_there():
    text = (PROJECT / "docs" / "reliability.md").read_text()
    named = re.findall(r"`(?:(test_\w+\.py))?(?:::(\w+))?`", text)
    tests = "".join(path.read_text() for path in (PROJECT / "tests").glob("test_*.py"))
    assert sum(bool(name) for _, name in named) > 30
    for file, name in named:
        assert not file or (PROJECT / "tests" / file).exists(), file
        assert not name or f"def {name}(" in tests, name
