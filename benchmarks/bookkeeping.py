"""Measure what the pipeline costs beside training: dry runs, jobs, tables, figures, housekeeping.

    python benchmarks/bookkeeping.py --seeds 10 30 100 --out bookkeeping.csv

For each number of seeds, a copy of this project gets a study of 100 configurations (4 models x 5
norms x 5 learning rates) x seeds, with histories of 30 epochs. Nothing is trained: finished runs
are written by the project's own writers, with made-up curves and tiny weights, and the training
command is replaced by one that copies them. Everything else is the project's own, as it stands in
the working tree. Writes a row a step: seconds, CPU seconds (which other load changes less), peak
memory (MB) of the largest process, and what the times rest on (processor, load, versions). Steps
that change nothing are repeated, and the fastest counts. 100 seeds take half an hour and more on
two cores, and 1 GB of disk space.
"""

import argparse
import csv
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
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
from normres.errors import InputError, run_command
from normres.files import read_json, replacing
from normres.history import COLUMNS as HISTORY
from normres.outputs import write_outputs
from normres.pipeline import FIGURES
from normres.store import StoredRun, link_outputs, run_key

PARTS = ("Snakefile", "workflow", "profiles", "envs")
STUDY = {
    "dataset": "digits",
    "models": ["convnet", "vgg11", "resnet", "plainnet"],
    "norms": ["none", "batch", "group", "layer", "instance"],
    "learning_rate": [1e-4, 2e-4, 3e-4, 4e-4, 5e-4],
    "epochs": 30,
    "cpu_threads": 1,
}
TEST_IMAGES, CLASSES = 250, 10  # of the logits that are written
COLUMNS = ["runs", "step", "seconds", "cpu_seconds", "peak_mb", "repeats", "detail"]
MACHINE = ["processor", "cores", "load", "python", "snakemake", "pandas", "platform"]

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


class Bench:
    """Measures steps on one copy of the project and keeps a row for each."""

    def __init__(self, folder: Path, seeds: int, repeats: int):
        self.folder = folder
        self.seeds = seeds
        self.repeats = repeats
        self.runs = (
            seeds
            * int(np.prod([len(STUDY[k]) for k in ("models", "norms")]))
            * len(STUDY["learning_rate"])
        )
        self.results = folder / "results" / "many"
        self.rows: list[dict] = []

    def create(self) -> None:
        """Copy the project and put the copying command in the place of training."""
        if self.folder.exists() and any(self.folder.iterdir()):
            raise InputError(f"{self.folder}: is not empty")
        self.folder.mkdir(parents=True, exist_ok=True)
        ignore = shutil.ignore_patterns("__pycache__")
        for part in PARTS:
            if (PROJECT / part).is_dir():
                shutil.copytree(PROJECT / part, self.folder / part, ignore=ignore)
            else:
                shutil.copy2(PROJECT / part, self.folder / part)
        rule = self.folder / "workflow" / "rules" / "train.smk"
        head, found, _ = rule.read_text().partition("    shell:\n")
        if not found:
            raise InputError(f"{rule}: has no `shell:` to replace")
        rule.write_text(f"{head}{found}        {COPY!r}\n")
        self.configure(self.seeds)

    def configure(self, seeds: int) -> None:
        """Write config.yaml with `seeds` seeds."""
        config = {"study": "many", "studies": {"many": {**STUDY, "seeds": list(range(seeds))}}}
        (self.folder / "config.yaml").write_text(yaml.safe_dump(config))

    def measure(self, step: str, command: list[str], repeats: int = 1, expect: str = "") -> None:
        """Run `command` in the copy, `repeats` times; keep the fastest, and its peak memory.

        Raises InputError where the command fails or does not print `expect`.
        """
        best = (float("inf"), 0.0, 0.0)
        for _ in range(repeats):
            with tempfile.TemporaryFile("w+") as output:
                called = subprocess.run(
                    [sys.executable, "-c", LAUNCH, *command],
                    cwd=self.folder,
                    stdout=subprocess.PIPE,
                    stderr=output,
                    env=environment(),
                    text=True,
                )
                output.seek(0)
                text = output.read()
            code, *numbers = called.stdout.split()
            seconds, cpu_seconds, kilobytes = map(float, numbers)
            if int(code) or expect not in text:
                raise InputError(f"{step}: exit code {code}; {text[-2000:]}")
            best = min(best, (seconds, cpu_seconds, kilobytes / 1024))
        last = next((line for line in reversed(text.splitlines()) if line.strip()), "")
        self.note(step, *best, repeats, last)

    def note(
        self,
        step: str,
        seconds: float,
        cpu_seconds: float,
        peak_mb: float,
        repeats: int,
        detail: str,
    ) -> None:
        """Keep a row, and print it."""
        numbers = (round(seconds, 2), round(cpu_seconds, 2), round(peak_mb))
        row = [self.runs, step, *numbers, repeats, detail]
        self.rows.append(dict(zip(COLUMNS, row, strict=True)) | machine())
        print(
            f"{self.runs:>6} runs  {step:<38} {seconds:8.2f} s "
            f"{cpu_seconds:8.2f} s CPU {peak_mb:5.0f} MB  {detail}",
            flush=True,
        )

    def snakemake(self, step: str, *arguments: str, repeats: int = 1, expect: str = "") -> None:
        command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
        self.measure(step, command, repeats, expect)

    def command(self, name: str, *arguments: object, step: str = "") -> None:
        """Measure one command of workflow/scripts."""
        script = self.folder / "workflow" / "scripts" / f"{name}.py"
        called = [sys.executable, str(script), *map(str, arguments)]
        self.measure(step or name, called, self.repeats)

    def run(self) -> None:
        """All steps, in the order in which a study meets them."""
        self.create()
        reading = (
            "import yaml; from normres.pipeline import load_pipeline; "
            "print(len(load_pipeline(yaml.safe_load(open('config.yaml'))).runs), 'runs')"
        )
        self.measure("read config.yaml", [sys.executable, "-c", reading], self.repeats)
        plan = ("--dry-run", "--quiet", "all")
        self.snakemake("dry run, nothing there", *plan, repeats=self.repeats, expect="to train")
        self.snakemake(
            "data, study.json, complexity", "results/many/study.json", "results/many/complexity.csv"
        )
        began, used = time.perf_counter(), time.process_time()
        files = write_finished(self.folder)
        took = (time.perf_counter() - began, time.process_time() - used)
        self.note("write finished runs", *took, 0, 1, f"{files} files")
        self.snakemake("all jobs, training replaced by cp")
        self.snakemake(
            "dry run, all finished", *plan, repeats=self.repeats, expect="Nothing to be done"
        )
        self.configure(self.seeds + 1)
        self.snakemake(
            "dry run, one more seed", *plan, repeats=self.repeats, expect="100 runs to train"
        )
        self.configure(self.seeds)
        self.aggregate()
        self.keep_house()
        for name in ("results/many/runs", "results/store", ".snakemake", "results"):
            count, size = usage_of(self.folder / name)
            self.note(f"files in {name}", 0, 0, 0, 1, f"{count} files, {size / 1e6:.1f} MB")

    def aggregate(self) -> None:
        """The commands that make tables, figures and the report, as the rules call them."""
        there = {
            name: self.results / f"{name}.csv"
            for name in ("runs", "curves", "bands", "summary", "complexity", "layers")
        }
        study, data = self.results / "study.json", self.folder / "results/data/digits/dataset.json"
        given = [
            part
            for name in ("bands", "curves", "summary", "runs")
            for part in (f"--{name}", there[name])
        ]
        self.command(
            "collect_runs",
            "--study",
            study,
            "--dataset",
            data,
            "--out-curves",
            there["curves"],
            "--out-runs",
            there["runs"],
        )
        self.command(
            "summarize_runs",
            "--study",
            study,
            "--curves",
            there["curves"],
            "--runs",
            there["runs"],
            "--complexity",
            there["complexity"],
            "--out",
            self.results,
        )
        for figure, (command, arguments) in FIGURES.items():
            out = self.results / "figures" / figure
            self.command(
                command, *arguments.split(), "--study", study, *given, "--out", out, step=figure
            )
        figures = [self.results / "figures" / f"{name}.svg" for name in FIGURES]
        self.command(
            "render_report",
            "--study",
            study,
            "--runs",
            there["runs"],
            "--summary",
            there["summary"],
            "--complexity",
            there["complexity"],
            "--layers",
            there["layers"],
            "--dataset",
            data,
            "--figures",
            *figures,
            "--out",
            self.results / "report.html",
        )

    def keep_house(self) -> None:
        """Pruning after a run, cleaning and resetting."""
        states = list((self.folder / "results" / "store").glob("*/state.pt"))
        stored = StoredRun(self.folder / "results" / "store", states[0].parent.name)
        took = []
        for _ in range(self.repeats):
            began, used = time.perf_counter(), time.process_time()
            stored.prune_states(3)
            took.append((time.perf_counter() - began, time.process_time() - used))
        self.note(
            "prune_states, after each run", *min(took), 0, self.repeats, f"{len(states)} states"
        )
        self.command("reset_runs", "many", "resnet/batch/*/seed0", "--dry-run")
        self.command("clean_store", "--unused", "--dry-run")


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(SCRIPTS), "OMP_NUM_THREADS": "1", "COLUMNS": "120"}


def write_finished(folder: Path) -> int:
    """Put every run of the study, finished, into the store and into made/; return how many files.

    Curves are made up; formats and writers are those of training.
    """
    study = read_json(folder / "results" / "many" / "study.json")
    checksum = read_json(folder / "results" / "data" / "digits" / "dataset.json")["checksum"]
    random = np.random.default_rng(0)
    logits = random.normal(size=(TEST_IMAGES, CLASSES)).astype(np.float16)
    tensors = {"weight": torch.zeros(10)}
    environment = describe(choose_computation(study["runs"][0]["specification"], "cpu"))
    for run in study["runs"]:
        epochs = run["specification"]["epochs"]
        # What write_outputs asks of a TrainingRun.
        trained = SimpleNamespace(
            history=list(made_up_history(random, epochs)),
            weights=lambda: tensors,
            test_logits=lambda: logits,
            images=SimpleNamespace(name="digits", checksum=checksum),
            epoch=epochs,
            fraction=0.0,
        )
        plan = {key: run[key] for key in ("specification", "fingerprint")}
        stored = StoredRun(folder / "results" / "store", run_key(*plan.values(), checksum))
        with stored.locked(lambda: None):
            stored.save_state({"run": tensors, "environments": [environment]})
            with stored.finishing(epochs) as place:
                write_outputs(place, plan, trained, [environment], datetime.now(UTC))
            link_outputs(stored.finished(epochs), folder / "made" / run["run"])
    return sum(usage_of(folder / name)[0] for name in ("results/store", "made"))


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
    """What times rest on."""
    return {
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "snakemake": version("snakemake"),
        "pandas": version("pandas"),
        "platform": platform.platform(terse=True),
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[10, 30, 100], help="100 runs each")
    parser.add_argument("--repeats", type=int, default=3, help="of steps that change nothing")
    parser.add_argument(
        "--folder", type=Path, help="where to work, kept [a temporary folder, removed]"
    )
    parser.add_argument("--out", type=Path, required=True, help="csv to write")
    arguments = parser.parse_args(argv)
    rows: list[dict] = []
    for seeds in arguments.seeds:
        with ExitStack() as stack:
            kept = arguments.folder and arguments.folder / f"{seeds}-seeds"
            folder = kept or stack.enter_context(tempfile.TemporaryDirectory())
            bench = Bench(Path(folder), seeds, arguments.repeats)
            bench.run()
            rows += bench.rows
        with replacing(arguments.out) as temporary, open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, [*COLUMNS, *MACHINE], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    print(f"wrote {arguments.out}")
    return 0


if __name__ == "__main__":
    run_command(main)
