"""The gallery: which figures a study has, what draws each, and what it reads.

Asked while Snakemake reads the Snakefile, so nothing here imports pandas or torch.
"""

from collections.abc import Callable
from dataclasses import dataclass

from normres.errors import InputError
from normres.grid import Study

FORMATS = ("png", "svg", "pdf", "csv")
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


# The order is the report's.
ENTRIES = {
    "test_accuracy": Entry("plot_test_accuracy"),
    "final_accuracy": Entry("plot_final_accuracy"),
    "training_loss_by_epoch": Entry("plot_training_loss", "--against epoch"),
    "training_loss_by_time": Entry("plot_training_loss", "--against time"),
    "generalization_gap": Entry("plot_generalization_gap"),
    "parameters_vs_macs": Entry("plot_parameters_vs_macs"),
}


def figures(study: Study) -> dict[str, Entry]:
    """The figures of a study, in the report's order."""
    return {name: entry for name, entry in ENTRIES.items() if entry.applies(study)}


def find(study: Study, name: str) -> Entry:
    """A figure of a study by its name; raises InputError that says which there are."""
    known = figures(study)
    if name not in known:
        there = f"figures of study {study.name!r}: {', '.join(known)}"
        if name in ENTRIES:
            raise InputError(f"figure {name!r} needs {ENTRIES[name].needs}; {there}")
        raise InputError(f"no figure is called {name!r}; {there}")
    return known[name]
