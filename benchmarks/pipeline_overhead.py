"""Measure what the pipeline costs beside training.

    python benchmarks/pipeline_overhead.py --out overhead.csv                       # minutes
    python benchmarks/pipeline_overhead.py --seeds 10 30 100 --out many_runs.csv    # an hour
    python benchmarks/pipeline_overhead.py --small [--seeds 1] --out try.csv        # to try it

The first measures five things that a person waits for, against the goals of GOALS: one after
another, in rounds, so that what else the machine does meets all of them alike. It prints a table
with the median, minimum and maximum over the rounds.

The second measures how the cost grows: for each number of seeds, a study of 100 configurations (4
models x 5 norms x 5 learning rates) x seeds, with histories of 30 epochs. One row per step:
seconds, CPU seconds, peak memory (MB) of the largest process. Steps that change nothing are
repeated, and the fastest counts. 100 seeds take half an hour and more on two cores, and 1 GB of
disk space. With --small the studies are of 4 configurations, to try the benchmark; its times mean
nothing then.

But for the runs of the third goal, nothing is trained: see project_copy.py. The csv also holds what
the times rest on (processor, load, versions).
"""

import math
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow" / "scripts"))

from normres import gallery
from normres.command_line import make_parser
from normres.errors import run_command
from normres.files import write_csv
from normres.grid import expand
from normres.history import read_history
from normres.store import StoredRun
from project_copy import LARGE_GRID, SMALL_GRID, ProjectCopy, Usage, machine, usage_of

# What a person waits for -> seconds at most.
GOALS = {
    "dry run of the default study": 2.0,
    "dry run of 5,000 runs": 10.0,
    "run, beside training": 4.0,
    "nothing to do": 3.0,
    "figure drawn again": 6.0,
}
DRY_RUN = ("--dry-run", "--quiet", "all")
FIGURE = "results/quickstart/figures/test_accuracy.png"
SMALL_RUN = "--model convnet --norm none --epochs 1 --device cpu --train_images 20 --test_images 20"
COLUMNS = ["runs", "step", "seconds", "cpu_seconds", "peak_mb", "repeats", "detail"]


class Goals:
    """Measures what GOALS names, each in a copy of the project that is made ready for it."""

    def __init__(self, folder: Path, grid: dict):
        self.runs = 50 * configurations(grid)
        self.fresh = ProjectCopy(folder / "fresh")
        self.large = ProjectCopy(folder / "large")
        self.large.configure("many", grid | {"seeds": list(range(50))})
        self.finished = ProjectCopy(folder / "finished")
        self.finished.time_once()  # no step here waits for a timing
        if grid is SMALL_GRID:
            self.finished.configure("quickstart", grid | {"seeds": [0]})
        finish(self.finished, "quickstart")
        calls = (self.plan, self.plan_many, self.train, self.do_nothing, self.draw)
        self.steps: dict[str, Callable[[], float]] = dict(zip(GOALS, calls, strict=True))

    def measure(self, rounds: int) -> dict[str, list[float]]:
        """Seconds of each step, one number per round."""
        seconds: dict[str, list[float]] = {step: [] for step in self.steps}
        for number in range(rounds):
            for step, measure in self.steps.items():
                seconds[step].append(measure())
                print(f"round {number + 1}  {step:<30} {seconds[step][-1]:6.2f} s", flush=True)
        return seconds

    def plan(self) -> float:
        return self.fresh.snakemake(*DRY_RUN, expect="27 runs to train").seconds

    def plan_many(self) -> float:
        return self.large.snakemake(*DRY_RUN, expect=f"{self.runs} runs to train").seconds

    def train(self) -> float:
        """A process that trains ConvNet on 20 images, less what its history counts as training."""
        folder = self.finished.folder / "small_run"
        data = self.finished.folder / "results" / "data" / "digits"
        used = self.finished.script("train", *SMALL_RUN.split(), "--data", data, "--out", folder)
        last = read_history(folder / "history.csv")[-1]
        return used.seconds - last["train_seconds"] - last["eval_seconds"]

    def do_nothing(self) -> float:
        return self.finished.snakemake(expect="Nothing to be done").seconds

    def draw(self) -> float:
        (self.finished.folder / FIGURE).unlink()
        return self.finished.snakemake(FIGURE).seconds


def configurations(grid: dict) -> int:
    """How many runs a study of `grid` has for each seed."""
    return math.prod(map(len, (grid["models"], grid["norms"], grid["learning_rate"])))


def finish(project: ProjectCopy, study: str) -> tuple[Usage, float, int, Usage]:
    """Make all files of a study of digits, without training.

    Returns what its parts took: study.json, complexity and data; seconds to write the runs, and how
    many files that gave; all jobs, runs copied.
    """
    # The timing is real: here, so that it is no part of what the jobs cost.
    wanted = [f"results/{study}/{name}" for name in ("study.json", "complexity.csv", "timing.csv")]
    prepared = project.snakemake(*wanted)
    began = time.perf_counter()
    files = project.write_finished(study)
    took = time.perf_counter() - began
    return prepared, took, files, project.snakemake()


def compare(seconds: dict[str, list[float]]) -> list[dict]:
    """One row per goal, also printed."""
    rows = []
    print(f"\n{'':<30} {'n':>3} {'median':>8} {'min':>8} {'max':>8} {'goal':>8}")
    for step, goal in GOALS.items():
        numbers = (median(seconds[step]), min(seconds[step]), max(seconds[step]))
        shown = " ".join(f"{number:6.2f} s" for number in (*numbers, goal))
        met, n = ("met" if numbers[0] <= goal else "missed"), len(seconds[step])
        print(f"{step:<30} {n:>3} {shown}  {met}")
        values = [step, n, *(round(number, 3) for number in numbers), goal, met]
        keys = ["step", "n", "median", "minimum", "maximum", "goal", "met"]
        rows.append(dict(zip(keys, values, strict=True)) | machine())
    return rows


class Scaling:
    """Measures the steps of a study of `grid`, LARGE_GRID or SMALL_GRID; keeps a row for each."""

    def __init__(self, folder: Path, grid: dict, seeds: int, repeats: int):
        self.project = ProjectCopy(folder)
        self.grid = grid
        self.folder = folder
        self.seeds = seeds
        self.repeats = repeats
        self.configurations = configurations(grid)
        self.runs = seeds * self.configurations
        self.results = folder / "results" / "many"
        self.rows: list[dict] = []

    def note(self, step: str, used: Usage, repeats: int = 1) -> None:
        """Keep a row, and print it; its detail is the last line that was printed."""
        detail = next((line for line in reversed(used.said.splitlines()) if line.strip()), "")
        numbers = (round(used.seconds, 2), round(used.cpu_seconds, 2), round(used.peak_mb))
        row = [self.runs, step, *numbers, repeats, detail]
        self.rows.append(dict(zip(COLUMNS, row, strict=True)) | machine())
        print(
            f"{self.runs:>6} runs  {step:<38} {used.seconds:8.2f} s "
            f"{used.cpu_seconds:8.2f} s CPU {used.peak_mb:5.0f} MB  {detail}",
            flush=True,
        )

    def repeat(self, step: str, call: Callable[..., Usage], *arguments: object, **expected) -> None:
        """Note the fastest of some calls."""
        used = [call(*arguments, **expected) for _ in range(self.repeats)]
        self.note(step, min(used, key=lambda usage: usage.seconds), self.repeats)

    def command(self, name: str, *arguments: object, step: str = "") -> None:
        """Measure one command of workflow/scripts."""
        self.repeat(step or name, self.project.script, name, *arguments)

    def configure(self, seeds: int) -> None:
        self.project.configure("many", self.study(seeds))

    def study(self, seeds: int) -> dict:
        """The study as config.yaml has it, with this number of seeds."""
        return self.grid | {"seeds": list(range(seeds))}

    def run(self) -> None:
        """All steps, in the order in which a study meets them."""
        self.configure(self.seeds)
        reading = (
            "import yaml; from normres.pipeline import load_pipeline; "
            "print(len(load_pipeline(yaml.safe_load(open('config.yaml'))).runs), 'runs')"
        )
        plan = self.project.snakemake
        self.repeat("read config.yaml", self.project.call, [sys.executable, "-c", reading])
        self.repeat("dry run, nothing there", plan, *DRY_RUN, expect="to train")
        prepared, took, files, worked = finish(self.project, "many")
        self.note("data, study.json, complexity, timing", prepared)
        self.note("write finished runs", Usage(took, 0, 0, f"{files} files"))
        self.note("all jobs, training replaced by cp", worked)
        self.repeat("dry run, all finished", plan, *DRY_RUN, expect="Nothing to be done")
        self.configure(self.seeds + 1)
        self.repeat(
            "dry run, one more seed", plan, *DRY_RUN, expect=f"{self.configurations} runs to train"
        )
        self.configure(self.seeds)
        self.aggregate()
        self.keep_house()
        for name in ("results/many/runs", "results/store", ".snakemake", "results"):
            count, size = usage_of(self.folder / name)
            self.note(f"files in {name}", Usage(0, 0, 0, f"{count} files, {size / 1e6:.1f} MB"))

    def aggregate(self) -> None:
        """The commands that make tables, figures and the report, as the rules call them."""
        study = ("--study", self.results / "study.json")
        data = self.tables("dataset")
        out = ("--out-curves", self.results / "curves.csv", "--out-runs", self.results / "runs.csv")
        self.command("collect_runs", *study, *data, *out)
        given = self.tables("curves", "runs", "complexity", "timing")
        self.command("summarize_runs", *study, *given, "--out", self.results)
        (declared,) = self.results.glob(".comparisons-*.json")
        out = ("--out", self.results / "comparisons.csv")
        out += ("--markdown", self.results / "comparisons.md")
        given = ("--declared", declared, *self.tables("runs"))
        self.command("compare_configurations", *study, *given, *data, *out)
        figures = gallery.figures(expand("many", self.study(self.seeds)))
        for name, entry in figures.items():
            given = self.tables(*gallery.EVERY_FIGURE_READS, *entry.tables)
            out = ("--out", self.results / "figures" / name)
            self.command(entry.command, *entry.arguments.split(), *study, *given, *out, step=name)
        drawn = [self.results / "figures" / f"{name}.svg" for name in figures]
        given = self.tables("runs", "summary", "comparisons", "complexity", "layers", "claims")
        given += ["--timing", self.results / "timing.json"]
        out = ("--figures", *drawn, "--out", self.results / "report.html")
        self.command("render_report", *study, *given, *data, *out)

    def tables(self, *names: str) -> list[object]:
        """Arguments that name tables of the study, or the description of its data."""
        others = {"dataset": self.folder / "results/data/digits/dataset.json"}
        paths = {name: others.get(name, self.results / f"{name}.csv") for name in names}
        return [part for name, path in paths.items() for part in (f"--{name}", path)]

    def keep_house(self) -> None:
        """Pruning after a run, cleaning and resetting."""
        store = self.folder / "results" / "store"
        states = list(store.glob("*/state.pt"))
        stored = StoredRun(store, states[0].parent.name)

        def prune() -> Usage:
            began, used = time.perf_counter(), time.process_time()
            stored.prune_states(3)
            took = (time.perf_counter() - began, time.process_time() - used)
            return Usage(*took, 0, f"{len(states)} states")

        self.repeat("prune_states, after each run", prune)
        self.command("reset_runs", "many", "resnet/batch/*/seed0", "--dry-run")
        self.command("clean_store", "--unused", "--dry-run")


def main(argv: list[str] | None = None) -> int:
    parser = make_parser(__doc__)
    parser.add_argument(
        "--seeds", type=int, nargs="+", help="large studies instead, 100 runs per seed"
    )
    parser.add_argument(
        "--small", action="store_true", help="studies of 4 runs per seed instead of 100"
    )
    parser.add_argument("--repeats", type=int, help="rounds [5]; with --seeds [3]")
    parser.add_argument("--folder", type=Path, help="where to work [a temporary folder, removed]")
    parser.add_argument("--out", type=Path, required=True, help="csv to write")
    arguments = parser.parse_args(argv)
    grid = SMALL_GRID if arguments.small else LARGE_GRID
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        if arguments.seeds is None:
            write(arguments.out, compare(Goals(folder, grid).measure(arguments.repeats or 5)))
            return 0
        rows: list[dict] = []
        for seeds in arguments.seeds:
            scaling = Scaling(folder / f"{seeds}-seeds", grid, seeds, arguments.repeats or 3)
            scaling.run()
            rows += scaling.rows
            write(arguments.out, rows)
    return 0


def write(path: Path, rows: list[dict]) -> None:
    """Write the rows as csv."""
    write_csv(path, list(rows[0]), rows)
    print(f"wrote {path}")


if __name__ == "__main__":
    run_command(main)
