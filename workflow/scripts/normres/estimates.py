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

# Seconds of one CPU thread for 1,000 training images of 32 x 32 pixels, evaluation included.
REFERENCE = {"convnet": 1.5, "vgg11": 10.0, "resnet": 9.0, "plainnet": 9.0}
REFERENCE_MACHINE = "two threads of an AMD EPYC in bfloat16"
OVERHEAD_SECONDS = 5  # of a run: start, imports, outputs
RECORDS_READ = 300  # of earlier runs, the newest

# What reading a file raises that is not there, was edited, or was written by another version: an
# estimate does without it.
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError)


class Estimates:
    """Seconds that the runs of a pipeline take. `source` says what that rests on."""

    def __init__(self, pipeline: Pipeline):
        self.sizes = {name: training_images(s.dataset) for name, s in pipeline.studies.items()}
        seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
        records = sorted(
            RESULTS.glob("store/*/epochs-*[0-9]/run.json"), key=lambda p: p.stat().st_mtime
        )
        for path in records[-RECORDS_READ:]:
            with suppress(*UNREADABLE):
                record = json.loads(path.read_text(encoding="utf-8"))
                last, run = record["final"], record["specification"]
                images = last["images_per_second"] * last["train_seconds"]
                spent = last["train_seconds"] + last["eval_seconds"]
                seconds[run["model"], run["norm"]].append(1000 * spent / images)
        self.measured = {key: median(values) for key, values in seconds.items()}
        self.source = (
            "from earlier runs here"
            if self.measured
            else f"nothing was trained here yet; from {REFERENCE_MACHINE}"
        )

    def run_seconds(self, run: Run, n_train: int) -> float:
        """Seconds of one run by itself."""
        per_thousand = self.measured.get((run.model, run.norm))
        if per_thousand is None:
            per_thousand = REFERENCE.get(run.model, max(REFERENCE.values()))
        images = run.specification["train_images"] or n_train
        return OVERHEAD_SECONDS + per_thousand * images / 1000 * run.specification["epochs"]

    def core_seconds(self, study: str, run: Run, cores: int) -> float:
        """Seconds of one run of a study, times the cores it uses."""
        threads = min(run.specification["cpu_threads"], cores)
        return self.run_seconds(run, self.sizes[study]) * threads


def training_images(dataset: Mapping[str, Any]) -> int:
    """How many training images a data set has, prepared or not."""
    if dataset["name"] in SIZES and "folder" not in dataset:
        return SIZES[dataset["name"]][0]
    description = RESULTS / "data" / dataset["id"] / "dataset.json"
    with suppress(*UNREADABLE):
        return int(json.loads(description.read_text(encoding="utf-8"))["n_train"])
    return sum(1 for _ in Path(dataset["folder"]).glob("train/*/*"))
