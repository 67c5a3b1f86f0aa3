"""The small file in which a run says how far it is; a display reads it (see progress.py)."""

import json
import math
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from normres.files import replacing
from normres.outputs import finite
from normres.training import TrainingRun


class ProgressFile:
    """Tells a display how far the run is, at most once a second. Its times are estimates."""

    def __init__(self, path: Path | None, specification: Mapping[str, Any]):
        self.path = path
        self.epochs = specification["epochs"]
        self.written = -math.inf
        self.started: tuple[float, float] | None = None  # when, and at which fraction of the run

    def after_batch(self, run: TrainingRun) -> None:
        if time.monotonic() - self.written >= 1:
            self._write(run)

    def after_epoch(self, run: TrainingRun) -> None:
        self._write(run)

    def _write(self, run: TrainingRun) -> None:
        if self.path is None:
            return
        now, fraction = time.monotonic(), (max(run.epoch, 0) + run.fraction) / self.epochs
        self.started = self.started or (now, fraction)
        elapsed, gained = now - self.started[0], fraction - self.started[1]
        last = run.history[-1] if run.history else {}
        state = {
            "epoch": min(run.epoch + 1, self.epochs),
            "epochs": self.epochs,
            "fraction": fraction,
            "train_loss": finite(last).get("train_loss"),
            "test_accuracy": last.get("test_accuracy"),
            "seconds_left": elapsed / gained * (1 - fraction) if gained > 0 else None,
        }
        # Written in the time that is measured as training, so it must not wait for the disk; and
        # no run should end because a display cannot be told how far it is.
        with suppress(OSError), replacing(self.path, durable=False) as temporary:
            temporary.write_text(json.dumps(state), encoding="utf-8")
        self.written = now
