"""A copy of the project in which studies are finished without training, to measure all the rest.

Finished runs are written by the project's own writers, with made-up curves and tiny weights, and
the command that trains is replaced by one that copies them. Everything else is the project's own,
as it stands in the working tree.
"""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import yaml

PROJECT = Path(__file__).resolve().parents[1]
SCRIPTS = PROJECT / "workflow" / "scripts"
sys.path.insert(0, str(SCRIPTS))

from normres.devices import choose_computation
from normres.environment import describe, processor_name
from normres.errors import InputError
from normres.files import read_json
from normres.history import COLUMNS as HISTORY
from normres.images import open_images, split
from normres.outputs import write_outputs
from normres.store import StoredRun, link_outputs, run_key

PARTS = ("Snakefile", "config.yaml", "workflow", "profiles", "envs")
TEST_IMAGES, CLASSES = 250, 10  # of the logits that are written

# A study of 100 configurations; with 100 seeds it has 10,000 runs.
LARGE_GRID = {
    "dataset": "digits",
    "models": ["convnet", "vgg11", "resnet", "plainnet"],
    "norms": ["none", "batch", "group", "layer", "instance"],
    "learning_rate": [1e-4, 2e-4, 3e-4, 4e-4, 5e-4],
    "epochs": 30,
    "test_images": TEST_IMAGES,
    "cpu_threads": 1,
}
# The same, small, to try a benchmark itself.
SMALL_GRID = LARGE_GRID | {
    "models": ["convnet", "resnet"],
    "norms": ["batch"],
    "learning_rate": [1e-4, 2e-4],
}

# Runs a command; prints its exit code, seconds, CPU seconds and peak memory in kB. A process of its
# own, since a child inherits the peak of the process that starts it.
LAUNCH = """
import resource, subprocess, sys, time
began = time.perf_counter()
code = subprocess.run(sys.argv[1:], stdout=2).returncode
seconds = time.perf_counter() - began
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(code, seconds, used.ru_utime + used.ru_stime, used.ru_maxrss)
"""

# In place of the training command: it copies what was written beforehand.
COPY = 'cp made/{wildcards.run:q}/* "$(dirname {output.record:q})"'


@dataclass(frozen=True)
class Usage:
    """What a command took; `said` is what it printed."""

    seconds: float
    cpu_seconds: float  # of it and its children; other load changes them less
    peak_mb: float  # of the largest process
    said: str


class ProjectCopy:
    """The project's files in an empty folder, where training is replaced by copying."""

    def __init__(self, folder: Path):
        if folder.exists() and any(folder.iterdir()):
            raise InputError(f"{folder}: is not empty")
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        for part in PARTS:
            if (PROJECT / part).is_dir():
                ignore = shutil.ignore_patterns("__pycache__")
                shutil.copytree(PROJECT / part, folder / part, ignore=ignore)
            else:
                shutil.copy2(PROJECT / part, folder / part)
        rule = folder / "workflow" / "rules" / "train.smk"
        others, train, body = rule.read_text().partition("rule train:\n")
        head, found, _ = body.partition("    shell:\n")
        if not found:
            raise InputError(f"{rule}: has no rule `train` with a `shell:` to replace")
        rule.write_text(f"{others}{train}{head}{found}        {COPY!r}\n")

    def configure(self, name: str, study: dict) -> None:
        """Write a config.yaml with this study alone, its times measured once."""
        self._write_config({"study": name, "studies": {name: study}, "timing_repeats": 1})

    def time_once(self) -> None:
        """Let the project's own config.yaml measure times once."""
        config = yaml.safe_load((self.folder / "config.yaml").read_text(encoding="utf-8"))
        self._write_config(config | {"timing_repeats": 1})

    def _write_config(self, config: dict) -> None:
        text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
        (self.folder / "config.yaml").write_text(text, encoding="utf-8")

    def call(self, command: list[str], expect: str = "") -> Usage:
        """Run `command` in the copy.

        Raises InputError where the command fails or does not print `expect`.
        """
        variables = {"PYTHONPATH": str(SCRIPTS), "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
        with tempfile.TemporaryFile("w+") as output:
            called = subprocess.run(
                [sys.executable, "-c", LAUNCH, *command],
                cwd=self.folder,
                stdout=subprocess.PIPE,
                stderr=output,
                env={**os.environ, **variables},
                text=True,
            )
            output.seek(0)
            said = output.read()
        code, *numbers = called.stdout.split()
        if int(code) or expect not in said:
            raise InputError(f"{' '.join(command)[:200]}: exit code {code}; {said[-2000:]}")
        seconds, cpu_seconds, kilobytes = map(float, numbers)
        return Usage(seconds, cpu_seconds, kilobytes / 1024, said)

    def snakemake(self, *arguments: str, expect: str = "") -> Usage:
        """Call Snakemake on two cores; see `call`."""
        command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
        return self.call(command, expect)

    def script(self, name: str, *arguments: object) -> Usage:
        """Call a command of workflow/scripts; see `call`."""
        path = self.folder / "workflow" / "scripts" / f"{name}.py"
        return self.call([sys.executable, str(path), *map(str, arguments)])

    def write_finished(self, study: str) -> int:
        """Put every run of a study, finished, into the store and into made/; count the files.

        Wants study.json and the prepared digits. Curves are made up; formats and writers are those
        of training.
        """
        listed = read_json(self.folder / "results" / study / "study.json")
        description = read_json(self.folder / "results" / "data" / "digits" / "dataset.json")
        checksum = description["checksum"]
        random = np.random.default_rng(0)
        images = open_images(self.folder / "results" / "data" / "digits")
        labels = images.labels[split(images, test_images=TEST_IMAGES).test]
        tensors = {"weight": torch.zeros(10)}
        computation = choose_computation(listed["runs"][0]["specification"], "cpu")
        environment = describe(computation)
        for run in listed["runs"]:
            epochs = run["specification"]["epochs"]
            history = list(made_up_history(random, epochs))
            predicted = labels.copy()
            predicted[history[-1]["test_correct"] :] += 1
            logits = np.eye(CLASSES, dtype=np.float16)[predicted % CLASSES]
            # What write_outputs asks of a TrainingRun.
            trained = SimpleNamespace(
                history=history,
                weights=lambda: tensors,
                test_logits=lambda logits=logits: logits,
                computation=computation,
                images=SimpleNamespace(name="digits", checksum=checksum),
                epoch=epochs,
                fraction=0.0,
                optimizer=SimpleNamespace(
                    param_groups=[{"lr": run["specification"]["learning_rate"]}]
                ),
            )
            plan = {key: run[key] for key in ("specification", "fingerprint")}
            store = self.folder / "results" / "store"
            stored = StoredRun(store, run_key(*plan.values(), checksum))
            with stored.locked(lambda: None):
                stored.save_state({"run": tensors, "environments": [environment]})
                with stored.finishing(epochs) as place:
                    write_outputs(place, plan, trained, [environment], datetime.now(UTC))
                link_outputs(stored.finished(epochs), self.folder / "made" / run["run"])
        return sum(usage_of(self.folder / name)[0] for name in ("results/store", "made"))


def made_up_history(random: np.random.Generator, epochs: int) -> Iterator[dict]:
    """Rows of a history, from epoch 0 on: an exponential rise with noise."""
    end = 0.9 + random.normal(0, 0.01)
    for epoch in range(epochs + 1):
        part = 1 - np.exp(-epoch / 4)
        accuracy = np.clip(0.1 + (end - 0.1) * part + random.normal(0, 0.005), 0, 1)
        correct, loss = round(TEST_IMAGES * accuracy), float(2.3 * (1 - part) + 0.01)
        yield dict.fromkeys(HISTORY) | {
            "epoch": epoch,
            "train_loss": loss if epoch else None,
            "test_loss": loss + 0.2,
            "test_correct": correct,
            "test_accuracy": correct / TEST_IMAGES,
            "train_eval_loss": loss,
            "train_eval_accuracy": float(min(1, accuracy + 0.05)),
            "first_conv_grad_norm": float(random.uniform(0.1, 0.2)),
            "last_conv_grad_norm": float(random.uniform(0.1, 0.2)),
            "train_seconds": float(epoch * random.uniform(1.5, 1.6)),
            "eval_seconds": 0.2 * epoch,
            "images_per_second": 800.0 if epoch else None,
        }


def usage_of(folder: Path) -> tuple[int, int]:
    """Number of files below `folder` and their size on disk in bytes, a hard link once."""
    count, blocks, seen = 0, 0, set()
    for place, _, names in os.walk(folder):
        for name in names:
            status = (Path(place) / name).lstat()
            count += 1
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                blocks += status.st_blocks
    return count, 512 * blocks


def machine() -> dict[str, object]:
    """What times rest on; `load` is that of the last minute."""
    return {
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        **{name: version(name) for name in ("snakemake", "torch", "pandas", "matplotlib")},
        "platform": platform.platform(terse=True),
    }
