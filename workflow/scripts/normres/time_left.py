"""How long a call of Snakemake still takes: from what is left to do, and how fast it goes."""

import math
import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from normres.config import Config
from normres.estimates import JOB_SECONDS, OUTPUTS, Estimates
from normres.grid import RECORD
from normres.pipeline import RESULTS, Pipeline
from normres.store import run_key
from normres.timed import TIMINGS

# What a run has taken so far counts the more, the longer it trains, since its first steps are slow
# and evaluations come at the end of epochs: as if it had trained so long before, as estimated.
BELIEVED_SECONDS = 10.0

Key = tuple[str, str]  # study and run, or rule and study
State = tuple[str, str, Mapping[str, Any]]  # study, run, and what its progress file says


class Places:
    """How much a call of Snakemake does at a time; asked when Snakemake has settled it."""

    def __init__(self, workflow, config: Config, run_mb: int):
        self.workflow, self.config, self.run_mb = workflow, config, run_mb

    @property
    def on_cluster(self) -> bool:
        """Whether a scheduler runs the jobs: it counts jobs, where one machine counts cores."""
        return self.workflow.nodes is not None

    @property
    def gpus(self) -> int:
        """How many runs may have a GPU, or a part of one, at a time."""
        if self.config.device == "cpu":
            return 0
        return self.workflow.global_resources.get("gpu").value or 0

    @property
    def device(self) -> str:
        """What runs train on, as far as can be told without starting CUDA."""
        return "cuda" if self.gpus else "cpu"

    @property
    def runs(self) -> int:
        """How many runs may train at a time; on this machine's CPU, its cores."""
        most = self.workflow.nodes if self.on_cluster else self.workflow.cores
        return max(1, min(most, self.gpus or most))

    @property
    def fitting(self) -> int:
        """How many runs this machine has memory for; a cluster's scheduler counts by itself."""
        limit = None if self.on_cluster else self.workflow.global_resources.get("mem_mb").value
        if not limit or not self.run_mb:  # Snakemake lets no job ask for more than 0 then
            return sys.maxsize
        return max(1, limit // self.run_mb)

    @property
    def together(self) -> int:
        """How many runs train at a time where each takes one place, as on a GPU or a cluster."""
        return min(self.runs, self.fitting)

    @property
    def sharing(self) -> int:
        """How many runs train on a GPU at a time; a cluster gives each its own."""
        if not self.gpus or self.on_cluster:
            return 1
        return math.ceil(self.together * self.config.runs_per_gpu / self.gpus)

    @property
    def cores(self) -> int:
        """How many jobs that are no runs this machine does at a time."""
        return (os.cpu_count() or 1) if self.on_cluster else self.workflow.cores

    @property
    def threads(self) -> int:
        """The most places that a run takes."""
        return self.workflow.cores if self.device == "cpu" and not self.on_cluster else 1


class TimeLeft:
    """The time until the runs `to_train`, the timings `to_time` and all other jobs are done.

    `to_time` are rules and studies, `run_mb` the memory of a run. What ends is told by `end_run`,
    `end_timing` and `end_job`, by another thread than the one that asks for `seconds`, if need be.
    """

    def __init__(
        self,
        workflow,
        pipeline: Pipeline,
        to_train: Iterable[Key],
        to_time: Iterable[Key],
        run_mb: int,
    ):
        self.pipeline, self.places = pipeline, Places(workflow, pipeline.config, run_mb)
        self.estimates = Estimates(pipeline, self.places.device, self.places.sharing)
        self.to_train = set(to_train)
        self.stored = {
            key: self.estimates.stored_epochs(key[0], pipeline.runs[key]) for key in self.to_train
        }
        if len(pipeline.studies) > 1:
            self._link_shared()
        # Runs of a configuration take equally long, but for what the store has of them: there may
        # be thousands of them.
        self.alike = {
            key: (key[0], pipeline.runs[key].configuration, stored)
            for key, stored in self.stored.items()
        }
        self.to_time = {(rule, study): self._timing(rule, study) for rule, study in to_time}
        self.job_seconds: list[float] = []  # what other jobs have taken
        self.ended: list[Key] = []  # runs that nothing was learnt from yet
        self.believed = BELIEVED_SECONDS  # what the estimates of all runs rest on
        self._estimate()

    def _link_shared(self) -> None:
        """Count a run that several studies have once: the others take it from the store."""
        seen = set()
        for key, run in self.pipeline.runs.items():
            if key not in self.to_train:
                continue
            data = self.pipeline.studies[key[0]].dataset["id"]
            same = run_key(run.specification, run.fingerprint, data)
            if same in seen:
                self.stored[key] = OUTPUTS
            seen.add(same)

    def _timing(self, rule: str, name: str) -> float:
        study, repeats = self.pipeline.studies[name], self.pipeline.config.timing_repeats
        if rule == TIMINGS[0]:
            return self.estimates.timing_seconds(study, repeats, self.places.cores)
        return self.estimates.norm_timing_seconds(study, repeats)

    def _estimate(self) -> None:
        """Estimate seconds and places of each run."""
        left, most = list(self.to_train), self.places.threads
        kinds = {}
        for key, run in {self.alike[key]: self.pipeline.runs[key] for key in left}.items():
            places = min(run.specification["cpu_threads"], most)
            kinds[key] = self.estimates.cost(key[0], run, stored=key[-1]), places
        self.kinds = {key: kinds[self.alike[key]] for key in left}
        self.count = Counter(self.kinds.values())

    @property
    def linked(self) -> int:
        """How many of the runs that are left are taken from the store, as far as is known."""
        return sum(self.stored[key] == OUTPUTS for key in self.to_train)

    @property
    def memory_binds(self) -> bool:
        """Whether more runs would train at a time if there were more memory."""
        threads = min((places for _, places in self.count), default=1)
        trained = len(self.to_train) - self.linked
        return self.places.fitting < min(trained, self.places.runs // threads)

    def end_run(self, key: Key) -> None:
        """A run has ended; what it took, if it was trained, tells about those that are left."""
        self.to_train.discard(key)
        self.ended.append(key)

    def end_timing(self, rule: str, study: str) -> None:
        """A timing has ended."""
        self.to_time.pop((rule, study), None)

    def end_job(self, seconds: float) -> None:
        """A job that is neither has ended, after `seconds`."""
        self.job_seconds.append(seconds)

    def seconds(
        self, jobs: int, states: Iterable[State] = (), timings: Mapping[Key, float] | None = None
    ) -> float:
        """Seconds until `jobs`, all those that are left, are done.

        `states` are those of the runs in training, `timings` what timings say of themselves.
        """
        if self.ended:
            while self.ended:
                key = self.ended.pop()
                linked = self.stored[key] == OUTPUTS
                if not linked and self.estimates.learn(record_of(*key)):
                    self.believed += self.estimates.seconds(key[0], self.pipeline.runs[key])
            self._estimate()
        to_time = self.to_time | (timings or {})
        others = max(jobs - len(self.to_train) - len(to_time), 0)
        each = fmean(self.job_seconds) if self.job_seconds else JOB_SECONDS
        return self._runs(states) + sum(to_time.values()) + others * each / self.places.cores

    def _runs(self, states: Iterable[State]) -> float:
        """Seconds until all runs have ended.

        Those that wait are stretched by what those in training take compared with estimates; the
        less, the more runs have ended, which the estimates follow.
        """
        waiting, left = self.count.copy(), []
        expected = taken = self.believed
        for study, run, state in states:
            if (kind := self.kinds.get((study, run))) is None:
                continue
            waiting[kind] -= 1
            # A run says how far it is from when it has started. What it went on from took no time
            # of this call; what the store was believed to have, and has not, it takes now.
            (_, whole, begun), places = kind
            fraction = state["fraction"]
            gained = max(fraction - begun, 0.0)
            took = done = whole * gained
            if state["seconds_left"]:
                took = state["seconds_left"] / (1 - fraction) * gained
            expected, taken = expected + done, taken + took
            pace = (BELIEVED_SECONDS + took) / (BELIEVED_SECONDS + done)
            left.append((pace * whole * (1 - fraction), places, 1))
        pace = taken / expected
        for (cost, places), n in waiting.items():
            if n > 0:
                left.append((cost.beside + pace * (cost.seconds - cost.beside), places, n))
        longest = max((seconds for seconds, *_ in left), default=0.0)
        by_places = sum(math.prod(parts) for parts in left) / self.places.runs
        by_memory = sum(seconds * n for seconds, _, n in left) / self.places.fitting
        return max(longest, by_places, by_memory)


def record_of(study: str, run: str) -> Path:
    """Where a run of a study says what it took."""
    return RESULTS / study / "runs" / run / RECORD
