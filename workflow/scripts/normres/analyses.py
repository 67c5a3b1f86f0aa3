"""Tables beyond the summary that a study may ask for, by the name of the table.

Each is made by a command of its own from what the runs of the study have left. Used while Snakemake
reads the Snakefile, so nothing here imports torch or pandas.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from normres.errors import InputError


@dataclass(frozen=True)
class Analysis:
    """A table: the command that makes it, and what of a study it needs."""

    command: str
    axes: tuple[str, ...] = ()  # all of them
    either: tuple[str, ...] = ()  # one of them
    options: tuple[str, ...] = ()  # set to something


ANALYSES = {
    "gradients": Analysis("collect_gradients"),
    "calibration": Analysis("measure_calibration"),
    "reliability": Analysis("measure_reliability"),
    "batch_sizes": Analysis("compare_batch_sizes", axes=("batch_size",)),
    "depths": Analysis("compare_depths", axes=("depth",)),
    "learning_rates": Analysis(
        "choose_learning_rates", axes=("learning_rate",), options=("validation_images",)
    ),
    "equivalence": Analysis("check_equivalence", either=("affine", "conv_bias")),
    "variance": Analysis("estimate_variance", axes=("initialization_seed", "order_seed")),
}
NORM_COST = "norm_cost"  # measured, not made from runs: a rule of its own
ONE_WAY = ("precision", "cpu_threads")  # how all norms are computed when they are timed


def lacking_axes(analysis: Analysis, axes: Mapping[str, Any]) -> list[str]:
    """The axes that an analysis needs and a study of these `axes` lacks, in words."""
    lacking = [f"{axis} as an axis" for axis in analysis.axes if axis not in axes]
    if analysis.either and not set(analysis.either) & set(axes):
        lacking.append(f"{' or '.join(analysis.either)} as an axis")
    return lacking


def check_analyses(
    asked: Sequence[str],
    norms: Sequence[str],
    axes: Mapping[str, Any],
    specification: Mapping[str, Any],
    where: str,
) -> None:
    """Raise InputError where a study lacks what an analysis needs; `specification` is a run's."""
    for i, name in enumerate(asked):
        analysis = ANALYSES.get(name, Analysis(""))
        lacking = lacking_axes(analysis, axes)
        lacking += [option for option in analysis.options if not specification[option]]
        if name == NORM_COST:
            lacking += ["a norm"] * (set(norms) == {"none"})
            lacking += [f"one {axis}, not an axis" for axis in ONE_WAY if axis in axes]
        if lacking:
            raise InputError(f"{where}.analyses.{i}: {name} needs {' and '.join(lacking)}")
