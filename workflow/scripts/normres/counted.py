"""What of a study is counted: its networks, told apart by what can change their costs.

Used while Snakemake reads the Snakefile, so nothing here imports torch or pandas.
"""

import json
from typing import Any

from normres import catalog, fingerprint
from normres.grid import Study
from normres.options import MEMORY_OPTIONS, option_schemas


def list_networks(study: Study) -> dict[str, Any]:
    """The distinct networks of a study, each with those options that are not at their defaults."""
    defaults = {name: option["default"] for name, option in option_schemas().items()}
    networks: dict[str, dict[str, Any]] = {}
    code, axes, used = {}, {}, set()
    # One run stands for its configuration: seeds share a network.
    for run in {run.configuration: run for run in study.runs}.values():
        taken = catalog.options("networks", run.model) + catalog.options("norms", run.norm)
        kept = [k for k in (*taken, *MEMORY_OPTIONS) if k in run.specification]
        axes |= {axis: study.axes[axis] for axis in run.axes if axis in kept}
        used.update(kept)
        options = {key: run.specification[key] for key in kept}
        network = {
            "model": run.model,
            "norm": run.norm,
            "axes": {axis: value for axis, value in run.axes.items() if axis in kept},
            "options": {key: value for key, value in options.items() if value != defaults[key]},
        }
        networks[json.dumps(network, sort_keys=True)] = network
        if (pair := f"{run.model}/{run.norm}") not in code:
            modules = (f"normres.networks.{run.model}", f"normres.norms.{run.norm}")
            code[pair] = fingerprint.fingerprint("count_complexity", *modules)
    listed = [networks[key] for key in sorted(networks)]
    return {
        "axes": axes,
        "runs": listed,
        "defaults": {key: defaults[key] for key in sorted(used)},
        "code": code,
        "data": study.dataset["id"],
    }
