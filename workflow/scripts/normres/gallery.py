"""The gallery: which figures a study has, what draws each, and what it reads.

Asked while Snakemake reads the Snakefile, so nothing here imports pandas or torch.
"""

from collections.abc import Callable
from dataclasses import dataclass

from normres.analyses import ANALYSES
from normres.errors import InputError
from normres.grid import Study
from normres.options import SEED_OPTIONS

FORMATS = ("png", "svg", "pdf", "csv", "txt")  # txt: the finding, for the report's caption
EVERY_FIGURE_READS = ("bands", "curves", "summary", "runs")  # beside study.json


@dataclass(frozen=True)
class Entry:
    """A figure: the command that draws it, with its arguments, and what it needs.

    `tables` names the tables it reads beside EVERY_FIGURE_READS: "classes" is classes.csv of the
    study, passed as `--classes PATH`; "dataset" is the description of the prepared images.
    `applies` tells whether a study has the figure; `needs` says in words what it would need.
    """

    command: str
    arguments: str = ""
    tables: tuple[str, ...] = ()
    applies: Callable[[Study], bool] = lambda study: True
    needs: str = ""


def of_analysis(command: str, table: str, arguments: str = "") -> Entry:
    """The figure of a table that a study asks for under `analyses`."""
    needs = f"analyses: [{table}]"
    return Entry(command, arguments, (table,), lambda study: table in study.analyses, needs)


# The order is the report's.
AXIS_FIGURE = "final_accuracy_by_"  # and the name of an axis of numbers
ENTRIES = {
    "test_accuracy": Entry("plot_test_accuracy"),
    "final_accuracy": Entry("plot_final_accuracy"),
    "ranking": Entry("plot_ranking"),
    "seed_spread": Entry(
        "plot_seed_spread", applies=lambda study: len(study.seeds) > 1, needs="several seeds"
    ),
    "accuracy_by_time": Entry("plot_accuracy_by_time"),
    "training_loss_by_epoch": Entry("plot_training_loss", "--against epoch"),
    "training_loss_by_time": Entry("plot_training_loss", "--against time"),
    "generalization_gap": Entry("plot_generalization_gap"),
    "parameters_vs_macs": Entry("plot_parameters_vs_macs"),
    "pareto": Entry("plot_pareto"),
    "class_accuracy": Entry("plot_class_accuracy", tables=("classes",)),
    "confusion": Entry("plot_confusion", tables=("confusion",)),
    "gradient_norms": of_analysis("plot_gradient_norms", "gradients", "--against convolution"),
    "first_gradient": Entry(
        "plot_gradient_norms",
        "--against depth",
        ("gradients",),
        lambda study: "gradients" in study.analyses and "depth" in study.axes,
        "analyses: [gradients] and several values of depth",
    ),
    "depths": of_analysis("plot_depths", "depths"),
    "batch_sizes": of_analysis("plot_batch_sizes", "batch_sizes"),
    "learning_rates": of_analysis("plot_learning_rates", "learning_rates"),
    "equivalence": of_analysis("plot_equivalence", "equivalence"),
    "variance": of_analysis("plot_variance", "variance"),
    "norm_cost": of_analysis("plot_norm_cost", "norm_cost"),
    "calibration": of_analysis("plot_calibration", "calibration"),
    "reliability": of_analysis("plot_reliability", "reliability"),
    "hardest_images": Entry("plot_hardest_images", tables=("hardest_images", "dataset")),
}


def of_axis(axis: str) -> Entry:
    """The figure of an axis of numbers."""
    return Entry("plot_final_accuracy_by_axis", f"--axis {axis}")


def figures(study: Study) -> dict[str, Entry]:
    """The figures of a study, in the report's order.

    An axis of numbers has one, unless an analysis that the study asks for draws that axis.
    """
    drawn = {axis for name in study.analyses if name in ANALYSES for axis in ANALYSES[name].axes}
    found = {name: entry for name, entry in ENTRIES.items() if entry.applies(study)}
    return found | {
        f"{AXIS_FIGURE}{axis}": of_axis(axis)
        for axis, values in study.axes.items()
        if axis not in (*SEED_OPTIONS, *drawn)
        and len(values) > 1
        and all(type(value) in (int, float) and value > 0 for value in values)
    }


def is_figure(name: str) -> bool:
    """Whether some study may have a figure of this name."""
    return name in ENTRIES or name.startswith(AXIS_FIGURE)


def by_name(name: str) -> Entry:
    """The figure of this name, in whatever study; see `is_figure`."""
    if name.startswith(AXIS_FIGURE):
        return of_axis(name.removeprefix(AXIS_FIGURE))
    return ENTRIES[name]


def is_over_seeds(name: str) -> bool:
    """Whether all that a figure shows are means over a configuration's complete runs.

    Others rest on a table of their own, and say themselves what n is.
    """
    return name not in ENTRIES or not ENTRIES[name].tables


def find(study: Study, name: str) -> Entry:
    """A figure of a study by its name; raises InputError that says which there are."""
    known = figures(study)
    if name not in known:
        there = f"figures of study {study.name!r}: {', '.join(known)}"
        if name in ENTRIES:
            raise InputError(f"figure {name!r} needs {ENTRIES[name].needs}; {there}")
        if name.startswith(AXIS_FIGURE):
            axis = name.removeprefix(AXIS_FIGURE)
            needs = f"several positive numbers of {axis!r}, and no analysis that draws them"
            raise InputError(f"figure {name!r} needs {needs}; {there}")
        raise InputError(f"no figure is called {name!r}; {there}")
    return known[name]
