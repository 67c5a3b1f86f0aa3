"""How long jobs take, before they have begun: from runs trained here, else from a reference."""

import json
import math
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from normres.dataset_facts import SHAPES, SIZES
from normres.energy import find_meter
from normres.gpus import mps_is_running
from normres.grid import Run, Study
from normres.options import UNTIMED_OPTIONS
from normres.pipeline import RESULTS, Pipeline
from normres.store import STATE, run_key


@dataclass(frozen=True)
class Reference:
    """What was measured on a machine, for others that nothing is known of."""

    machine: str
    # Seconds of one thread beside another one's run, or of a GPU with one run on it, to train on
    # 1,000 images of 32 x 32 pixels in batches of 128; the mean over norms.
    seconds: Mapping[str, float]
    step: Mapping[str, float]  # seconds of a step, beside: the optimiser's, of many parameters
    float32: float  # how many times as long float32 takes, about
    start: float  # seconds of a run beside its training: start, imports, compilation, outputs
    warm_up: float  # seconds until a configuration can be timed


BFLOAT16_CPU = Reference(
    "two threads of an AMD EPYC in bfloat16",
    {"convnet": 0.8, "vgg11": 4.8, "resnet": 6.5, "plainnet": 6.5},
    step={"vgg11": 0.15},
    float32=1.8,
    start=5,
    warm_up=1,
)
FLOAT32_CPU = Reference(
    "two threads of an AMD EPYC with AVX2 only, in float32",
    {"convnet": 2.7, "vgg11": 13.0, "resnet": 18.0, "plainnet": 18.0},
    step={"vgg11": 0.24},
    float32=1.0,
    start=5,
    warm_up=1,
)
GPU = Reference(
    "an H200 in bfloat16",
    {"convnet": 0.0033, "vgg11": 0.0107, "resnet": 0.0152, "plainnet": 0.0152},
    step={},
    float32=5.0,
    start=15,
    warm_up=15,
)
REFERENCE_SIDE, REFERENCE_DEPTH = 32, 3  # pixels; blocks per stage of a residual network
PROCESSOR = Path("/proc/cpuinfo")
JOB_SECONDS = 2.5  # of a core: a table or a figure
FORWARD = 1 / 4  # of the time of training is what an image to evaluate takes, about
# A timing's turns last at least that long (measurement.py); on a CPU a step takes less than in
# training, since nothing computes beside it.
TURN_SECONDS = 0.15
# Of norms alone (norm_timing.py): shapes times layouts of a network, about, and a turn of one.
CASES, CASE_SECONDS = 7, 0.06
ALONE = {"cpu": 0.75, "cuda": 1.0}
# From which number on, how much more runs that share a GPU train together than one alone
# (performance.md).
SHARING_GAIN = {"MPS": {2: 1.3, 4: 1.5}, "turns": {2: 0.93}}
# Of a repeat, where energy is counted: 0.2 s between two updates, and until the first (energy.py).
ENERGY_SECONDS = 0.3
RECORDS_READ = 300  # of earlier runs, the newest
STORE = RESULTS / "store"
LINK_SECONDS = 1.0  # of a run that is taken from the store: Python's start, checksums of its files
OUTPUTS = math.inf  # epochs that need no training where the store has a run's outputs

# What reading a file raises that is not there, was edited, or was written by another version: an
# estimate does without it.
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError)


class Cost(NamedTuple):
    """What a run takes of a call."""

    beside: float  # seconds beside its training
    whole: float  # seconds of training from its start to its end
    begun: float = 0.0  # the part of these that the store has

    @property
    def seconds(self) -> float:
        """All that it takes."""
        return self.beside + self.whole * (1 - self.begun)


class Estimates:
    """Seconds that the runs of a pipeline take on `device`. `source` says what that rests on.

    `sharing` is how many runs train on a GPU at a time; what was trained here before has shared its
    GPU, too.
    """

    def __init__(self, pipeline: Pipeline, device: str = "cpu", sharing: int = 1):
        self.device = device
        gains = SHARING_GAIN["MPS" if mps_is_running() else "turns"]
        gain = max(((n, g) for n, g in gains.items() if n <= sharing), default=(1, 1.0))[1]
        self.slower = sharing / gain
        self.datasets = {name: study.dataset for name, study in pipeline.studies.items()}
        self.descriptions = {name: describe(data) for name, data in self.datasets.items()}
        self.reference = reference(device)
        # Seconds for 1,000 images of runs that cost the same, and a model's per guessed second.
        self.measured: dict[tuple, list[float]] = defaultdict(list)
        self.ratios: dict[str, list[float]] = defaultdict(list)
        self.read: set[str] = set()  # checksums of records
        records = sorted(STORE.glob("*/epochs-*[0-9]/run.json"), key=lambda p: p.stat().st_mtime)
        self.stored = Stored(records)
        for path in records[-RECORDS_READ:]:
            self.learn(path)
        self.source = (
            "from earlier runs here"
            if self.measured
            else f"nothing was trained here yet; from {self.reference.machine}"
        )

    def learn(self, record: Path) -> bool:
        """Take into account what a run has taken, if its record says so and did not before.

        `record` is its run.json; returns whether something new stood there.
        """
        with suppress(*UNREADABLE):
            run = json.loads(record.read_text(encoding="utf-8"))
            data, specification, last = run["data"]["checksum"], run["specification"], run["final"]
            known = self._description(data)
            if run["environment"]["device"] != self.device or known is None:
                return False
            if run["checksum"] in self.read:  # linked from a study where it was read
                return False
            images = images_trained(specification, known, last["epoch"])
            taken = 1000 * (last["train_seconds"] + last["eval_seconds"]) / images
            guess = self._guess(specification, known["shape"][0])
            self.measured[what_costs(specification, data)].append(taken)
            self.ratios[specification["model"]].append(taken / guess)
            self.read.add(run["checksum"])
            return True
        return False

    def _description(self, checksum: str) -> Mapping[str, Any] | None:
        """That of a study's data with this checksum, which may be prepared since it was guessed."""
        for name, dataset in self.datasets.items():
            if "checksum" not in self.descriptions[name]:
                self.descriptions[name] |= prepared(dataset)
            if self.descriptions[name].get("checksum") == checksum:
                return self.descriptions[name]
        return None

    def seconds(self, study: str, run: Run) -> float:
        """Seconds of one run of a study from its start, beside others that share its GPU."""
        return self.cost(study, run).seconds

    def cost(self, study: str, run: Run, stored: float = 0.0) -> Cost:
        """What a run of a study takes where the store has it after `stored` epochs."""
        options = run.specification
        images = images_trained(options, self.descriptions[study], options["epochs"])
        whole = self._per_thousand(study, run) * images / 1000
        beside = LINK_SECONDS if stored == OUTPUTS else self.reference.start
        return Cost(beside, whole, min(stored / options["epochs"], 1.0))

    def stored_epochs(self, study: str, run: Run) -> float:
        """How many epochs of a run need no training; OUTPUTS where it is taken from the store.

        Not known, so 0, before its data are prepared. Those that are there are believed to stay.
        """
        data = self.descriptions[study].get("checksum")
        return self.stored.epochs(study, run, data) if data and self.stored.keys else 0.0

    def _per_thousand(self, study: str, run: Run) -> float:
        """Seconds that a run trains for 1,000 images.

        A run unlike all that were trained here differs from the reference as those of its model do.
        """
        description = self.descriptions[study]
        alike = what_costs(run.specification, description.get("checksum"))
        if alike in self.measured:
            return median(self.measured[alike])
        others = [ratio for ratios in self.ratios.values() for ratio in ratios]
        ratio = median(self.ratios.get(run.model, others) or [1.0])
        return ratio * self._guess(run.specification, description["shape"][0])

    def _guess(self, specification: Mapping[str, Any], side: int) -> float:
        """Seconds for 1,000 images of `side` x `side` pixels, by the reference alone."""
        model, known = specification["model"], self.reference.seconds
        per_thousand = known.get(model, max(known.values()))
        if specification["precision"] == "float32":
            per_thousand *= self.reference.float32
        depth = specification.get("depth", REFERENCE_DEPTH)
        per_thousand *= side**2 / REFERENCE_SIDE**2 * depth / REFERENCE_DEPTH
        steps = 1000 / specification["batch_size"]
        return self.slower * (per_thousand + steps * self.reference.step.get(model, 0.0))

    def timing_seconds(self, study: Study, repeats: int, cores: int) -> float:
        """Seconds of a study's timing: warm-ups side by side, then turns one by one."""
        configurations = timed_configurations(study)
        seconds = len(configurations) * self.reference.warm_up / cores
        for run in configurations:
            # Two steps, and a prediction of 128 images.
            most = run.specification["train_images"] or self.descriptions[study.name]["n_train"]
            images = 2 * min(run.specification["batch_size"], most) + 128 * FORWARD
            computed = ALONE[self.device] * self._per_thousand(study.name, run) * images / 1000
            seconds += (repeats + 2) * (TURN_SECONDS + computed)
        metered = self.device == "cuda" or find_meter(None)[0] is not None
        return seconds + metered * len(configurations) * repeats * ENERGY_SECONDS

    def norm_timing_seconds(self, study: Study, repeats: int) -> float:
        """Seconds of the timing of a study's norm layers alone."""
        normed = sum(run.norm != "none" for run in timed_configurations(study))
        return self.reference.start + normed * CASES * (repeats + 1) * CASE_SECONDS


class Stored:
    """What the store has of runs, told by names alone, since there may be thousands of runs.

    `records` are all that it has. Whether the files are whole is left to train.py, which trains
    anew where they are not.
    """

    def __init__(self, records: Iterable[Path]):
        self.outputs: dict[str, int] = {}  # key -> the most epochs after which there are outputs
        for record in records:
            key, epochs = record.parts[-3], record.parts[-2].removeprefix("epochs-")
            if epochs.isdecimal():
                self.outputs[key] = max(int(epochs), self.outputs.get(key, 0))
        self.keys: set[str] = set()  # of these, and of runs that were stopped
        with suppress(OSError), os.scandir(STORE) as entries:  # there is none yet, or none to read
            self.keys.update(entry.name for entry in entries)

    def epochs(self, study: str, run: Run, data: str) -> float:
        """Estimates.stored_epochs; `data` is a checksum."""
        key = run_key(run.specification, run.fingerprint, data)
        if key not in self.keys:
            return 0.0
        most = self.outputs.get(key, 0)
        if most >= run.specification["epochs"]:
            return OUTPUTS
        if not (STORE / key / STATE).exists():  # as after `make clean-store`
            return 0.0
        return max(most, epochs_said(study, run.name))


def epochs_said(study: str, run: str) -> float:
    """How many epochs a run had trained when it was stopped; 0 where nothing says so.

    To read its state takes torch; what it last told the display does not. Where it was killed, that
    is up to `save_every` seconds ahead of the state. What another study's run told is not read.
    """
    with suppress(*UNREADABLE):
        state = json.loads(progress_file(study, run).read_text(encoding="utf-8"))
        return float(state["fraction"] * state["epochs"])
    return 0.0


def progress_file(study: str, run: str) -> Path:
    """Where a run, or the timing, says how far it is."""
    return RESULTS / study / "logs" / f"{run}.progress.json"


def timed_configurations(study: Study) -> list[Run]:
    """A run of each configuration that is timed by itself (see distinct.py)."""
    found = {}
    for run in study.runs:
        axes = [axis for axis in run.axes.items() if axis[0] not in UNTIMED_OPTIONS]
        found[run.model, run.norm, *axes] = run
    return list(found.values())


def reference(device: str) -> Reference:
    """That of a machine like this one, as far as can be told without torch."""
    if device == "cuda":
        return GPU
    with suppress(OSError):  # there is no such file but on Linux
        if "bf16" not in PROCESSOR.read_text(encoding="utf-8"):
            return FLOAT32_CPU
    return BFLOAT16_CPU


def describe(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """A data set's `n_train`, `n_test` and `shape`, as dataset.json has them, or has not yet."""
    if there := prepared(dataset):
        return there
    if "folder" not in dataset:
        (train, test), side = SIZES[dataset["name"]], SHAPES[dataset["name"]][0]
    else:
        folder, side = Path(dataset["folder"]), REFERENCE_SIDE
        train, test = (sum(1 for _ in folder.glob(f"{part}/*/*")) for part in ("train", "test"))
    side = dataset.get("image_size") or side
    return {"n_train": train, "n_test": test, "shape": [side, side]}


def prepared(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """A data set's dataset.json; nothing where it is not prepared."""
    with suppress(*UNREADABLE):
        description = json.loads((RESULTS / "data" / dataset["id"] / "dataset.json").read_text())
        counts = {key: int(description[key]) for key in ("n_train", "n_test")}
        return description | counts | {"shape": [int(size) for size in description["shape"]]}
    return {}


def images_trained(
    specification: Mapping[str, Any], description: Mapping[str, Any], epochs: int
) -> float:
    """Images that a run trains on, and those it evaluates as far as they cost as much.

    It evaluates after each epoch, and before the first one.
    """
    train = specification["train_images"] or description["n_train"]
    test = specification["test_images"] or description["n_test"]
    sample = min(specification["train_eval_images"], train)
    evaluated = test + sample + specification["validation_images"]
    return epochs * train + (epochs + 1) * FORWARD * evaluated


def what_costs(specification: Mapping[str, Any], data: str | None) -> tuple:
    """What runs have to share for one to tell how long another takes; `data` is a checksum."""
    options = ("model", "norm", "depth", "batch_size", "precision", "compile", "cpu_threads")
    return (data, *(specification.get(option) for option in options))
