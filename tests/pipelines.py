"""Pipelines of a large study, and as much of Snakemake as looks at one."""

from types import SimpleNamespace

from snakemake.resources import Resources

from normres.config import read_config
from normres.pipeline import Pipeline
from project_copy import LARGE_GRID


def pipeline(seeds, settings=None, **changes):
    study = {**LARGE_GRID, "seeds": list(range(seeds)), **changes}
    return Pipeline(read_config({"study": "many", "studies": {"many": study}, **(settings or {})}))


def workflow(gpus=0, memory_mb=1_000_000, **settings):
    """As much of Snakemake's as a display looks at."""
    slots = {"gpu": SimpleNamespace(value=gpus), "mem_mb": SimpleNamespace(value=memory_mb)}
    defaults = {"nodes": None, "cores": 8, "dryrun": False, "global_resources": slots}
    return SimpleNamespace(**defaults | settings)


def machine(nodes=None, main=True, **limits):
    """As much of Snakemake's as shares out a machine: its limits, which can be registered."""
    resources = Resources.from_mapping(limits)
    return SimpleNamespace(
        is_main_process=main,
        nodes=nodes,
        global_resources=resources,
        register_resource=resources.__setitem__,
    )
