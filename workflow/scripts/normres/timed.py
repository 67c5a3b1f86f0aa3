"""What of a study is timed: its configurations, told apart by what can change their times.

Used while Snakemake reads the Snakefile, so nothing here imports torch or pandas.
"""

import json
from pathlib import Path
from typing import Any

from normres import fingerprint
from normres.errors import InputError
from normres.files import read_json
from normres.grid import Study
from normres.options import UNTIMED_OPTIONS, option_schemas, resolve

TIMINGS = ("time_training", "time_norms")  # rules that have the machine to themselves


def list_timed(study: Study, repeats: int) -> dict[str, Any]:
    """The configurations of a study to time, how often, and the code that is timed.

    Each has its options that are not at their defaults. Seeds, epochs and UNTIMED_OPTIONS are not
    in it: nothing is timed anew for them.
    """
    defaults = {name: option["default"] for name, option in option_schemas().items()}
    timed: dict[str, dict[str, Any]] = {}
    code, axes, used = {}, {}, set()
    # One run stands for its configuration: seeds share a time.
    for run in {run.configuration: run for run in study.runs}.values():
        taken = [k for k in defaults if k in run.specification and k not in UNTIMED_OPTIONS]
        used.update(taken)
        chosen = {axis: value for axis, value in run.axes.items() if axis in taken}
        axes |= {axis: study.axes[axis] for axis in chosen}
        options = {
            k: run.specification[k]
            for k in taken
            if k not in chosen and run.specification[k] != defaults[k]
        }
        entry = {"model": run.model, "norm": run.norm, "axes": chosen, "options": options}
        timed[json.dumps(entry, sort_keys=True)] = entry
        if (pair := f"{run.model}/{run.norm}") not in code:
            modules = (f"normres.networks.{run.model}", f"normres.norms.{run.norm}")
            code[pair] = fingerprint.fingerprint("normres.timing", *modules)
    return {
        "study": study.name,
        "repeats": repeats,
        "axes": axes,
        "timed": [timed[key] for key in sorted(timed)],
        "defaults": {key: defaults[key] for key in sorted(used)},
        "code": code,
        "data": study.dataset["id"],
    }


def read_timed(path: str | Path) -> dict[str, Any]:
    """Read a list of `list_timed`, each configuration with its `specification`.

    Raises InputError where it is none. Options that are not timed have their defaults.
    """
    listed = read_json(path)
    try:
        for entry in listed["timed"]:
            options = {**entry["options"], **entry["axes"]}
            entry["specification"] = resolve(entry["model"], entry["norm"], 0, 1, options)
        return {key: listed[key] for key in ("axes", "repeats", "timed")}
    except (KeyError, TypeError):
        raise InputError(f"{path}: not a list of configurations to time") from None
