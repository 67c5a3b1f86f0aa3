"""The last lines of a call of Snakemake: where its results are, and what it recorded as failed."""

from collections.abc import Collection, Container, Iterable, Iterator
from pathlib import Path

from normres.failures import count_failures
from normres.pipeline import RESULTS, Pipeline

# What a call may make of a study as a whole, in the order in which it is named.
WHOLE_RESULTS = {"Event files": "tensorboard", "Report": "report.html", "Crate": "crate.zip"}
FILES_NAMED = 4


def verdicts(asked: Container[str], studies: Iterable[str]) -> Iterator[str]:
    """How the runs of each study ended, where that is `asked` for (see `outputs`)."""
    for study in studies:
        verdict = RESULTS / study / "verdict.txt"
        if str(verdict) in asked and verdict.exists():
            yield f"{study}: {verdict.read_text().strip()}"


def places(asked: Collection[str], dag, studies: Iterable[str]) -> Iterator[str]:
    """Where the results are that are `asked` for; the last line names the most of them."""
    folders = [RESULTS / study for study in studies]
    found = {
        words: [str(p) for folder in folders if str(p := folder / name) in asked and p.exists()]
        for words, name in WHOLE_RESULTS.items()
    }
    if not any(found.values()):  # figures alone, data alone, or files that were named
        drawn = {str(Path(path).parent) for path in asked if Path(path).suffix == ".svg"}
        found = {"Figures": sorted(drawn)} if drawn else {"Made": targets(dag)}
    for words, there in found.items():
        if there:
            yield f"{words}: {', '.join(there)}"


def new_failures(pipeline: Pipeline) -> list[str]:
    """What this call recorded as failed: each run or timing, why, and its log."""
    now = count_failures(RESULTS, pipeline.studies)
    new = [key for key, count in now.items() if count > pipeline.failures.get(key, 0)]
    lines = []
    for study, name in sorted(new):
        noted = (RESULTS / study / "failures" / f"{name}.txt").read_text(encoding="utf-8")
        reason = noted.splitlines()[-1].partition(" ")[2]
        lines.append(f"failed: {study}/{name}: {reason} (log: {RESULTS}/{study}/logs/{name}.log)")
    return lines


def outputs(dag) -> set[str]:
    """The files of all jobs of Snakemake's `dag`: what a call asks for, there before or not."""
    return {str(path) for job in dag.jobs for path in job.output}


def targets(dag) -> list[str]:
    """The first few files that the call names, or that a rule it names collects or makes.

    Those that are there: `--batch` and `--omit-from` leave out what makes a file that was named.
    """
    collected = {path for job in dag.targetjobs if not job.output for path in job.input}
    made = {path for job in dag.targetjobs for path in job.output}  # as for --until
    paths = _there({*dag.targetfiles, *collected}) or _there(made)
    shown = [path for path in paths if not Path(path).name.startswith(".")]
    return shown[:FILES_NAMED] + ["..."] * (len(shown) > FILES_NAMED)


def _there(paths: Iterable[str | Path]) -> list[str]:
    return sorted(str(path) for path in paths if Path(path).exists())
