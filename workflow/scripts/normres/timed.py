"""The list of what is timed of a study, as the commands that time read it; distinct.py makes it."""

from pathlib import Path
from typing import Any

from normres.errors import InputError
from normres.files import read_json
from normres.options import resolve

TIMINGS = ("time_training", "time_norms")  # rules that have the machine to themselves


def read_timed(path: str | Path) -> dict[str, Any]:
    """Read what `distinct.list_timed` has made, each configuration with its `specification`.

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
