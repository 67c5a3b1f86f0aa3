"""Small data sets and runs that several tests use."""

import gc
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: tests run side by side
# Each worker is a machine of its own, or runs of one would wait for timings of the other.
if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    apart = Path(tempfile.gettempdir(), f"normres-tests-{os.getuid()}-{worker}")
    apart.mkdir(mode=0o700, exist_ok=True)
    os.environ["TMPDIR"] = tempfile.tempdir = str(apart)

import prepare_data
from normres.images import open_images
from normres.options import resolve

PROJECT = Path(__file__).parents[1]

SMALL = {"batch_size": 16, "learning_rate": 1e-3, "train_images": 58, "test_images": 30}


# The files that take longest, from the longest: they begin first, so that no worker has to wait for
# another's last file.
LONGEST = ("resumption", "slurm", "workflow", "reruns", "hostile", "scale", "steps", "training")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of LONGEST first; --no-loadscope-reorder keeps that order."""
    places = {f"test_{name}": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


def pytest_collection_finish() -> None:
    """Let no collection of garbage look through the modules again, as in a command.

    Else a test that simulates 200 studies waits two minutes for the collections of statsmodels.
    """
    gc.freeze()


@pytest.fixture(scope="session")
def digits_folder(tmp_path_factory):
    """The prepared digits."""
    folder = tmp_path_factory.mktemp("data") / "digits"
    prepare_data.main(["--dataset", "digits", "--data-root", "none", "--out", str(folder)])
    return folder


@pytest.fixture(scope="session")
def digits(digits_folder):
    return open_images(digits_folder)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium; skipped where there is none, but not in continuous integration."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sync_playwright = None
    chromium = shutil.which("chromium")
    if not (chromium and sync_playwright):
        lacking = "needs playwright and chromium"
        pytest.fail(lacking) if os.environ.get("CI") else pytest.skip(lacking)
    options = "no-sandbox disable-gpu disable-quic disable-background-networking no-first-run"
    options += " disable-component-update disable-sync"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=[f"--{option}" for option in options.split()]
        )
        yield browser
        browser.close()


def small_run(model="convnet", norm="none", seed=0, epochs=2, **options):
    """A run of a second or two; its 58 images in batches of 16 leave a last batch of 10.

    Not compiled, which some processors would do by default: it takes longer than the run.
    """
    return resolve(model, norm, seed, epochs, {"compile": False, **SMALL, **options})


def read_history(folder):
    """history.csv without the columns of times, as text."""
    lines = (Path(folder) / "history.csv").read_text().splitlines()
    names = lines[0].split(",")
    times = {"train_seconds", "eval_seconds", "images_per_second"}
    kept = [i for i, name in enumerate(names) if name not in times]
    return [[line.split(",")[i] for i in kept] for line in lines]


def read_record(folder):
    return json.loads((Path(folder) / "run.json").read_text())


def stop_at(run, images):
    """Train, and stop as a signal would once an epoch has had that many images."""

    def stop():
        if run.progress and run.progress.images == images:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(run.train(stop))
