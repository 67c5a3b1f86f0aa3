"""What of a study is counted, and what is timed: told apart by what can change costs or times.

Used while Snakemake reads the Snakefile, so nothing here imports torch or pandas.
"""

import json
from collections.abc import Callable
from typing import Any

from normres import catalog, fingerprint
from normres.grid import Run, Study
from normres.options import MEMORY_OPTIONS, UNTIMED_OPTIONS, option_schemas


def list_networks(study: Study) -> dict[str, Any]:
    """The distinct networks of a study, and the code that is counted; a new seed has no new one."""

    def counted(run: Run) -> list[str]:
        own = catalog.options("networks", run.model) + catalog.options("norms", run.norm)
        return [*own, *MEMORY_OPTIONS]

    networks, beside = _distinct(study, counted, "count_complexity")
    return {"runs": networks, **beside}


def list_timed(study: Study, repeats: int) -> dict[str, Any]:
    """The configurations of a study to time, how often, and the code that is timed.

    Seeds, epochs and UNTIMED_OPTIONS are not in it: nothing is timed anew for them.
    """

    def timed(run: Run) -> list[str]:
        return [option for option in option_schemas() if option not in UNTIMED_OPTIONS]

    configurations, beside = _distinct(study, timed, "normres.timing")
    return {"study": study.name, "repeats": repeats, "timed": configurations, **beside}


def _distinct(
    study: Study, counting: Callable[[Run], list[str]], module: str
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The configurations that differ in a `counting` option; and what these rest on.

    Each has the axes among such options, and the others that are not at their defaults. `module`
    is what counts or times them.
    """
    defaults = {name: option["default"] for name, option in option_schemas().items()}
    found: dict[str, dict[str, Any]] = {}
    code, axes, used = {}, {}, set()
    # One run stands for its configuration: seeds share a network and a time.
    for run in {run.configuration: run for run in study.runs}.values():
        taken = {k: run.specification[k] for k in counting(run) if k in run.specification}
        used |= taken.keys()
        chosen = {axis: value for axis, value in run.axes.items() if axis in taken}
        axes |= {axis: study.axes[axis] for axis in chosen}
        options = {k: v for k, v in taken.items() if k not in chosen and v != defaults[k]}
        entry = {"model": run.model, "norm": run.norm, "axes": chosen, "options": options}
        found[json.dumps(entry, sort_keys=True)] = entry
        if (pair := f"{run.model}/{run.norm}") not in code:
            modules = (f"normres.networks.{run.model}", f"normres.norms.{run.norm}")
            code[pair] = fingerprint.fingerprint(module, *modules)
    return [found[key] for key in sorted(found)], {
        "axes": axes,
        "defaults": {key: defaults[key] for key in sorted(used)},
        "code": code,
        "data": study.dataset["id"],
    }
