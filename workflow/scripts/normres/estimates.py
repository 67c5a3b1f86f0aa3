"""How long training takes, before it has begun: from runs trained here, else from a reference."""

import json
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

from normres.dataset_facts import SIZES
from normres.grid import Run
from normres.pipeline import RESULTS, Pipeline

# Seconds of one CPU thread, or of a GPU with one run on it, for 1,000 training images of 32 x 32
# pixels, evaluation included; of a GPU in batches of 128, the mean over norms.
REFERENCE = {
    "cpu": {"convnet": 1.5, "vgg11": 10.0, "resnet": 9.0, "plainnet": 9.0},
    "cuda": {"convnet": 0.005, "vgg11": 0.0145, "resnet": 0.0185, "plainnet": 0.0185},
}
FLOAT32 = {"cpu": 1.8, "cuda": 5.0}  # times as long as bfloat16, about
REFERENCE_MACHINE = {
    "cpu": "two threads of an AMD EPYC in bfloat16",
    "cuda": "an H100 in bfloat16",
}
OVERHEAD_SECONDS = {"cpu": 5, "cuda": 15}  # of a run: start, imports, compilation, outputs
SHARING_GAIN = 1.4  # how much more runs that share a GPU by MPS train together (performance.md)
RECORDS_READ = 300  # of earlier runs, the newest

# What reading a file raises that is not there, was edited, or was written by another version: an
# estimate does without it.
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError)


class Estimates:
    """Seconds that the runs of a pipeline take on `device`. `source` says what that rests on."""

    def __init__(self, pipeline: Pipeline, device: str = "cpu"):
        self.device = device
        # What was trained here before has shared its GPU, too.
        sharing = pipeline.config.runs_per_gpu if device == "cuda" else 1
        self.slower = sharing / SHARING_GAIN if sharing > 1 else 1.0
        self.sizes = {name: training_images(s.dataset) for name, s in pipeline.studies.items()}
        seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
        records = sorted(
            RESULTS.glob("store/*/epochs-*[0-9]/run.json"), key=lambda p: p.stat().st_mtime
        )
        for path in records[-RECORDS_READ:]:
            with suppress(*UNREADABLE):
                record = json.loads(path.read_text(encoding="utf-8"))
                if record["environment"]["device"] != device:
                    continue
                last, run = record["final"], record["specification"]
                images = last["images_per_second"] * last["train_seconds"]
                spent = last["train_seconds"] + last["eval_seconds"]
                seconds[run["model"], run["norm"]].append(1000 * spent / images)
        self.measured = {key: median(values) for key, values in seconds.items()}
        self.source = (
            "from earlier runs here"
            if self.measured
            else f"nothing was trained here yet; from {REFERENCE_MACHINE[device]}"
        )

    def seconds(self, study: str, run: Run) -> float:
        """Seconds of one run of a study, beside others on its GPU where `runs_per_gpu` says so."""
        per_thousand = self.measured.get((run.model, run.norm))
        if per_thousand is None:
            reference = REFERENCE[self.device]
            per_thousand = self.slower * reference.get(run.model, max(reference.values()))
            if run.specification["precision"] == "float32":
                per_thousand *= FLOAT32[self.device]
        images = run.specification["train_images"] or self.sizes[study]
        trained = per_thousand * images / 1000 * run.specification["epochs"]
        return OVERHEAD_SECONDS[self.device] + trained

    def core_seconds(self, study: str, run: Run, cores: int) -> float:
        """Seconds of one run of a study, times the cores it uses."""
        threads = min(run.specification["cpu_threads"], cores)
        return self.seconds(study, run) * threads


def training_images(dataset: Mapping[str, Any]) -> int:
    """How many training images a data set has, prepared or not."""
    if dataset["name"] in SIZES and "folder" not in dataset:
        return SIZES[dataset["name"]][0]
    description = RESULTS / "data" / dataset["id"] / "dataset.json"
    with suppress(*UNREADABLE):
        return int(json.loads(description.read_text(encoding="utf-8"))["n_train"])
    return sum(1 for _ in Path(dataset["folder"]).glob("train/*/*"))
