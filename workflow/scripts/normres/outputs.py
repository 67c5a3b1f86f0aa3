"""The four files that a run leaves behind: history.csv, run.json, model.pt, test_logits.npy.

What writes weights imports torch when it does, which takes seconds; a run that is only shortened
needs none.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from normres.files import (
    file_checksum,
    link_or_copy,
    read_json,
    record_checksum,
    replacing,
    write_json,
)
from normres.grid import HISTORY, LOGITS, RECORD, RUN_FILES, WEIGHTS
from normres.history import Row, best_epoch, is_diverged, read_history, write_history

if TYPE_CHECKING:
    from normres.training import TrainingRun


def write_outputs(
    folder: Path,
    plan: Mapping[str, Any],
    run: "TrainingRun",
    environments: Sequence[Mapping[str, Any]],
    started: datetime,
) -> None:
    """Write the files of a run that has ended, diverged or not.

    `run` may be beyond the epochs asked for; then the history ends there and the weights and logits
    are later ones, as the record's `weights_epoch` says. `environments` has one for each attempt
    whose work is in it.
    """
    from normres.environment import EXACT, describe
    from normres.tensors import save_tensors

    history = run.history[: plan["specification"]["epochs"] + 1]
    save_tensors(run.weights(), folder / WEIGHTS)
    with replacing(folder / LOGITS) as temporary:
        np.save(temporary, run.test_logits())
    now = describe(run.computation)  # of the logits, though no epoch may have been left to train
    record = {
        "data": {"name": run.images.name, "checksum": run.images.checksum},
        "environment": environments[-1],
        "attempts": len(environments),
        "exact": all(e.get(key) == now[key] for e in environments for key in EXACT),
        "weights_epoch": run.epoch + run.fraction,
        "effective_learning_rate": run.optimizer.param_groups[0]["lr"],
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    _write_result(folder, plan, history, record)


def write_first_epochs(folder: Path, plan: Mapping[str, Any], longer: Path) -> None:
    """Write the files of a run of fewer epochs than the one in the folder `longer`.

    Its history is the first rows of that one's, as it would be had it ended there. Its weights and
    logits are those after the longer run's last epoch; the record's `weights_epoch` says so.
    """
    history = read_history(longer / HISTORY)[: plan["specification"]["epochs"] + 1]
    for name in (WEIGHTS, LOGITS):
        with replacing(folder / name) as temporary:
            link_or_copy(longer / name, temporary, link=name == WEIGHTS)
    _write_result(folder, plan, history, read_json(longer / RECORD))


def _write_result(
    folder: Path, plan: Mapping[str, Any], history: list[Row], record: Mapping[str, Any]
) -> None:
    """Write history and record, once the other two files are there."""
    write_history(history, folder / HISTORY)
    last = history[-1]
    diverged = is_diverged(last)
    result = {
        "status": "diverged" if diverged else "ok",
        "reason": f"loss not finite in epoch {last['epoch']}" if diverged else None,
        "specification": plan["specification"],
        "fingerprint": plan["fingerprint"],
        "final": finite(last),
        "best": best_epoch(history),
        "train_seconds": last["train_seconds"],
        "files": {name: file_checksum(folder / name) for name in RUN_FILES if name != RECORD},
    }
    write_record(folder, {**record, **result})


def write_failure(folder: Path, plan: Mapping[str, Any], reason: str) -> None:
    """Write the files of a run without a result: its status, and nothing that was measured."""
    from normres.tensors import save_tensors

    write_history([], folder / HISTORY)
    save_tensors({}, folder / WEIGHTS)
    with replacing(folder / LOGITS) as temporary:
        np.save(temporary, np.empty((0, 0), np.float16))
    record = {
        "status": "failed",
        "reason": reason,
        "specification": plan["specification"],
        "fingerprint": plan["fingerprint"],
    }
    write_record(folder, record)


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write run.json with its own checksum; last of a run's files, since it holds theirs."""
    write_json(folder / RECORD, {**record, "checksum": record_checksum(record)})


def finite(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with None for numbers that JSON cannot hold."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in row.items()
    }
