"""What the rules ask: which files a study consists of and which parameters a job has.

Used while Snakemake reads the Snakefile and builds its graph, so nothing here imports torch or
pandas. A job reruns when its inputs or parameters change, never because of time stamps of code: the
parameters hold fingerprints of the code instead (see fingerprint.py).
"""

import os
import shlex
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from normres import fingerprint, gallery
from normres.analyses import ANALYSES, NORM_COST, check_analyses
from normres.claims import study_claims
from normres.config import Config, check_file, read_config
from normres.distinct import list_networks, list_timed
from normres.errors import InputError, one_line
from normres.failures import count_failures, retry_files
from normres.files import canonical, digest
from normres.gpus import visible_gpus
from normres.grid import RUN_FILES, Run, Study
from normres.housekeeping import DEFINITION
from normres.memory import RUN_MB, share_memory
from normres.options import option_schemas
from normres.timed import TIMINGS

RESULTS = Path("results")

TABLES = (
    *("study.json", "curves.csv", "runs.csv", "complexity.csv", "layers.csv"),
    *("timing.csv", "timing.json", "bands.csv", "summary.csv", "summary.md"),
    *("summary.tex", "classes.csv", "confusion.csv", "hardest_images.csv", "claims.csv"),
    *("comparisons.csv", "comparisons.md"),
)
LISTS = ("networks", *TIMINGS, "claims", "comparisons")  # see Pipeline.listed
COLLECTED = ("history.csv", "run.json")  # of a run's files, those that tables are made from
ALL_CORES = 1_000_000  # threads of a job that wants the machine alone: Snakemake has fewer to give
LONGEST_ARGUMENT = 100_000  # bytes; Linux allows 131,072 for a whole shell command
REPORT_TEXTS = (
    "report/report.html.j2",
    "report/abstract.html.j2",
    "report/filter.html.j2",
    "report/claims.html.j2",
    "report/comparisons.html.j2",
    "report/figure.rst",
    "schemas/config.schema.yaml",
)


def load_pipeline(config: Mapping[str, Any], files: Iterable[str | Path] = ()) -> "Pipeline":
    """Check the configuration, and the `files` that were given on top of config.yaml.

    A mistake ends in one line and exit code 2.
    """
    with one_line():
        if os.pathsep in str(fingerprint.SCRIPTS):
            raise InputError(
                f"{fingerprint.SCRIPTS}: PYTHONPATH cannot hold {os.pathsep!r}; move it"
            )
        for path in files:
            check_file(path)
        return Pipeline(read_config(config))


class Pipeline:
    """The selected studies, as the rules see them. Methods take a job's wildcards."""

    def __init__(self, config: Config):
        self.config = config
        self.studies: dict[str, Study] = {study.name: study for study in config.studies}
        self.datasets = {study.dataset["id"]: study.dataset for study in config.studies}
        self.runs: dict[tuple[str, str], Run] = {
            (study.name, run.name): run for study in config.studies for run in study.runs
        }
        self._lists: dict[str, dict[str, Any]] = {
            name: {
                "networks": list_networks(study),
                **dict.fromkeys(TIMINGS, list_timed(study, config.timing_repeats)),
                "claims": study_claims(config.claims, study, gallery.ENTRIES),
                "comparisons": study.comparisons,
            }
            for name, study in self.studies.items()
        }
        self.on_this_machine = True  # jobs, and not on a cluster's nodes
        self.gpus_looked_for = False  # how many this machine has decides where runs train
        self.run_mb = RUN_MB["cuda"]  # of this machine's memory, for a run
        for name in self.studies:
            self._check_length(name)

    def _check_length(self, name: str) -> None:
        """Refuse a study whose lists a command line cannot hold."""
        lists = {kind: canonical(listed) for kind, listed in self._lists[name].items()}
        if len(lists["claims"]) > LONGEST_ARGUMENT:
            raise InputError("config.claims: too many or too long; put some into single studies")
        texts = (lists["networks"], lists["time_training"], self.definition(name))
        if max(map(len, texts)) > LONGEST_ARGUMENT:
            raise InputError(
                f"config.studies.{name}: too many different networks "
                f"({len(self._lists[name]['networks']['runs'])}) or seeds "
                f"({len(self.studies[name].seeds)}); split the study"
            )

    @property
    def run_pattern(self) -> str:
        """A regular expression for the names of runs (Run.name): others fit no rule."""
        runs = self.runs.values()
        models, norms, seeds = (
            "|".join(sorted({str(getattr(run, part)) for run in runs}))
            for part in ("model", "norm", "seed")
        )
        return f"(?:{models})/(?:{norms})/(?:[a-z0-9_]+=[^/]+/)*seed(?:{seeds})"

    def share_machine(self, workflow) -> None:
        """Let runs share this machine's memory, and `runs_per_gpu` each GPU (see leases.py).

        Snakemake's limit `gpu` counts GPUs; without one, all that this machine has may be used. On
        a cluster (`nodes` is its number of jobs), each run has a GPU that the scheduler gives it.
        """
        if not workflow.is_main_process or workflow.nodes is not None:
            self.on_this_machine = False
            return
        cores = workflow.global_resources.get("_cores").value
        if cores is not None and cores < 1:  # with none Snakemake would wait for ever
            with one_line():
                raise InputError(f"--cores {cores}: this takes a number from 1 on, or all")
        limit = workflow.global_resources.get("gpu").value
        self.gpus_looked_for = limit is None and self.config.device != "cpu"
        gpus = len(visible_gpus()) if limit is None else limit
        workflow.register_resource("gpu", gpus * self.config.runs_per_gpu)
        self.run_mb = RUN_MB["cuda" if gpus and self.run_gpus else "cpu"]
        share_memory(workflow)

    def constant(self, function: Callable[[Any], Any]) -> Any:
        """What `function` returns where that is the same for every run, else `function`.

        Snakemake inspects and calls a function several times for each job, of which there may be
        thousands.
        """
        values = [
            function(SimpleNamespace(study=name, run=run.name))
            for name, study in self.studies.items()
            for run in study.runs
            if run.seed == study.seeds[0]  # seeds share what a configuration asks for
        ]
        return values[0] if all(value == values[0] for value in values) else function

    @cached_property
    def failures(self) -> dict[tuple[str, str], int]:
        """How often runs and timings have failed: a number more makes the next call try again."""
        return count_failures(RESULTS, self.studies)

    @property
    def retry_input(self) -> Callable[[Any], list[str]] | list[str]:
        """What gives the file by which a failed run is tried again; nothing where none has failed.

        Its name changes with each failure: it is missing also where Snakemake's records are.
        """
        if not self.failures.keys() & self.runs.keys():
            return []
        return lambda job: retry_files(RESULTS, self.failures, [(job.study, job.run)])

    def run_parameter(self, wildcards) -> str:
        """What a run is, as one canonical JSON text.

        One text, since Snakemake compares parameters as a set of values: two options that swap
        their values would go unnoticed.
        """
        if (run := self.runs.get((wildcards.study, wildcards.run))) is None:
            with one_line():  # another selected study has a run of that name
                raise InputError(f"study {wildcards.study} has no run {wildcards.run}")
        return canonical({"specification": dict(run.specification), "fingerprint": run.fingerprint})

    def run_threads(self, wildcards) -> int:
        """CPU threads of a run."""
        return self.runs[wildcards.study, wildcards.run].specification["cpu_threads"]

    @property
    def run_gpus(self) -> int:
        """GPUs of a run; Snakemake makes it 0 where its limit `gpu` is 0."""
        return 0 if self.config.device == "cpu" else 1

    def timing_threads(self, wildcards) -> int:
        """CPU threads of a timing: all, so that nothing else is computed here meanwhile."""
        if self.on_this_machine:
            return ALL_CORES
        return max(run.specification["cpu_threads"] for run in self.studies[wildcards.study].runs)

    def timing_gpus(self, wildcards) -> int:
        """Slots of a timing, those of a whole GPU; see run_gpus."""
        whole = self.config.runs_per_gpu if self.on_this_machine else 1
        return whole * self.run_gpus

    def study_parameter(self, wildcards) -> str:
        """What a job's study is; see `definition`."""
        return self.definition(wildcards.study)

    def definition(self, name: str) -> str:
        """A study's definition and the code of its runs, as one canonical JSON text.

        The definition leaves out what is at its default, so the defaults are a part of it, too.
        """
        study = self.studies[name]
        code = {f"{run.model}/{run.norm}": run.fingerprint for run in study.runs}
        first = (run.specification for run in study.runs if run.seed == study.seeds[0])
        used = set().union(*first)
        defaults = {name: s["default"] for name, s in option_schemas().items() if name in used}
        parts = {"study": study.name, "definition": dict(study.definition), "code": code}
        return canonical(parts | {"defaults": digest(canonical(defaults).encode())})

    def definition_file(self, study: str) -> str:
        """An empty file whose name changes with the study's definition."""
        return f"{RESULTS}/{study}/{DEFINITION}{digest(self.definition(study).encode())}"

    def definition_of(self, wildcards) -> str:
        """`definition_file` of a job's study."""
        return self.definition_file(wildcards.study)

    def listed(self, kind: str, study: str) -> str:
        """A list about a study, as one canonical JSON text, for jobs that need no more of it.

        kind: "networks", the distinct ones with their code and data (so a new seed recounts
        nothing); "claims", see claims.py; "comparisons", those declared; one of TIMINGS, see
        distinct.py. Of a timing it holds how often that one has failed: one failure more makes the
        next call try again, and leaves the other timing alone.
        """
        listed = self._lists[study][kind]
        if kind in TIMINGS and (failed := self.failures.get((study, kind))):
            listed = listed | {"failures": failed}
        return canonical(listed)

    def list_text(self, wildcards) -> str:
        """`listed` of a job's study and kind."""
        return self.listed(wildcards.kind, wildcards.study)

    def list_file(self, kind: str, study: str) -> str:
        """A file whose name changes with `listed`, which it holds."""
        return f"{RESULTS}/{study}/.{kind}-{digest(self.listed(kind, study).encode())}.json"

    def file_of(self, kind: str) -> Callable[[Any], str]:
        """What gives `list_file` of a job's study."""
        return lambda wildcards: self.list_file(kind, wildcards.study)

    def dataset_arguments(self, wildcards) -> str:
        """Arguments of prepare_data.py for one data set, quoted for the shell."""
        dataset = self.datasets[wildcards.dataset]
        if "folder" in dataset:
            arguments = ["--folder", dataset["folder"], "--name", dataset["name"]]
        else:
            arguments = ["--dataset", dataset["name"]]
        if "image_size" in dataset:
            arguments += ["--image-size", str(dataset["image_size"])]
        return shlex.join(arguments)

    def folder_state(self, wildcards) -> str:
        """A text that changes when images of an image folder are added, removed or replaced.

        It rests on the time stamps of train/, test/ and the class folders: 60,000 images are not
        looked at by every call. Where only the stamps changed, the data that are prepared again
        have the same checksum, and no run is trained again.
        """
        folder = Path(self.datasets[wildcards.dataset].get("folder", ""))
        if folder == Path():
            return ""
        stamps = {}
        for part in ("train", "test"):
            with suppress(OSError):  # what is not there is prepare_data's to say
                inside = [entry for entry in os.scandir(folder / part) if entry.is_dir()]
                stamps |= {f"{part}/{entry.name}": entry.stat().st_mtime_ns for entry in inside}
                stamps[part] = (folder / part).stat().st_mtime_ns
        return digest(canonical(stamps).encode())

    def data_folder(self, wildcards) -> str:
        """Folder of the prepared data set of a study."""
        return str(RESULTS / "data" / self.studies[wildcards.study].dataset["id"])

    def dataset_file(self, wildcards) -> str:
        """Description of the prepared data set of a study."""
        return f"{self.data_folder(wildcards)}/dataset.json"

    def array_files(self, wildcards) -> list[str]:
        """Images and labels of a study. Large files: compared by time, so ask for `ancient`."""
        return [f"{self.data_folder(wildcards)}/{name}.npy" for name in ("images", "labels")]

    def run_files(self, wildcards) -> list[str]:
        """The small files of every run of a study."""
        return [
            f"{RESULTS}/{wildcards.study}/runs/{run.name}/{name}"
            for run in self.studies[wildcards.study].runs
            for name in COLLECTED
        ]

    def norm_cost_file(self, wildcards) -> list[str]:
        """The table of what a job's study's norms cost; none where it does not ask for it."""
        asked = NORM_COST in self.studies[wildcards.study].analyses
        return [f"{RESULTS}/{wildcards.study}/{NORM_COST}.csv"] * asked

    def figure_entry(self, wildcards) -> gallery.Entry:
        """What the gallery says of a job's figure; ends with one line where the study has none."""
        with one_line():
            return gallery.find(self.studies[wildcards.study], wildcards.figure)

    def figure_command(self, wildcards) -> str:
        """The command that draws a figure, with its own arguments."""
        entry = self.figure_entry(wildcards)
        return f"{entry.command} {entry.arguments}".strip()

    def figure_tables(self, wildcards) -> dict[str, str]:
        """What a figure reads beside the tables that all figures read, by its option's name."""
        own = {"dataset": self.dataset_file}
        return {
            name: own[name](wildcards) if name in own else f"{RESULTS}/{wildcards.study}/{name}.csv"
            for name in self.figure_entry(wildcards).tables
        }

    def figure_options(self, wildcards) -> str:
        """`figure_tables` as a command's options, quoted for the shell."""
        tables = self.figure_tables(wildcards)
        return shlex.join(part for name, path in tables.items() for part in (f"--{name}", path))

    def figure_code(self, wildcards) -> str:
        """Fingerprint of the command that draws a figure, with the style it imports."""
        return fingerprint.fingerprint(self.figure_entry(wildcards).command)

    def drawings(self, wildcards) -> list[str]:
        """The figures of a job's study as the report shows them, in its order."""
        return [
            f"{RESULTS}/{wildcards.study}/figures/{name}.svg"
            for name in self.figure_names(wildcards)
        ]

    def report_code(self, wildcards) -> str:
        """Fingerprint of the report's command and of the texts it fills in."""
        texts = [Path(__file__).parents[2] / name for name in REPORT_TEXTS]
        content = b"".join(path.read_bytes() for path in texts)
        return f"{fingerprint.fingerprint('render_report')} {digest(content)}"

    def figure_files(self, study: str) -> list[str]:
        """Every figure of a study, in every format."""
        return [
            f"{RESULTS}/{study}/figures/{name}.{extension}"
            for name in gallery.figures(self.studies[study])
            for extension in gallery.FORMATS
        ]

    def all_figures(self, wildcards) -> list[str]:
        """Every figure of every selected study."""
        return [path for study in self.studies for path in self.figure_files(study)]

    def asked_analyses(self, wildcards) -> list[str]:
        """The analyses that a job's study asks for."""
        return list(self.studies[wildcards.study].analyses)

    def figure_names(self, wildcards) -> list[str]:
        """The figures of a job's study, in the report's order."""
        return list(gallery.figures(self.studies[wildcards.study]))

    def crate_files(self, wildcards) -> list[str]:
        """What has to be there before a job's study is packed as a crate."""
        return self._results(self.studies[wildcards.study]) + self.run_files(wildcards)

    def all_datasets(self, wildcards) -> list[str]:
        """The prepared data set of every selected study."""
        return [
            f"{RESULTS}/data/{dataset}/{name}"
            for dataset in self.datasets
            for name in ("images.npy", "labels.npy", "dataset.json")
        ]

    def analysis_command(self, wildcards) -> str:
        """The command that makes a table beyond the summary; ends where the study lacks axes."""
        self._check_analysis(wildcards.study, wildcards.analysis)
        return ANALYSES[wildcards.analysis].command

    def analysis_code(self, wildcards) -> str:
        """Fingerprint of that command."""
        return fingerprint.fingerprint(self.analysis_command(wildcards))

    def norm_timing_code(self, wildcards) -> str:
        """Fingerprint of what times norm layers; ends where the study has none."""
        self._check_analysis(wildcards.study, NORM_COST)
        return fingerprint.fingerprint("time_norms")

    def _check_analysis(self, name: str, analysis: str) -> None:
        """Refuse a table that somebody asks for and the study cannot have."""
        study = self.studies[name]
        specification = study.runs[0].specification
        with one_line():
            check_analyses([analysis], study.norms, study.axes, specification, f"study {name}")

    def deliverables(self, wildcards) -> list[str]:
        """All files of the selected studies, so that a file that was deleted is made again."""
        files = []
        for study in self.studies.values():
            folder = RESULTS / study.name
            files += [*self._results(study), f"{folder}/verdict.txt"]
            files += [f"{folder}/tensorboard"] * self.config.tensorboard
        return files + self.all_lists(wildcards)

    def all_lists(self, wildcards) -> list[str]:
        """What every target asks for beside its own files, of every selected study.

        Files whose names tell a study from what it was before, and runs that are lost or are to be
        tried again. Snakemake does not miss an input of a file that is there: a target without
        these believes an old study where Snakemake's records of it are lost.
        """
        files = retry_files(RESULTS, self.failures, self.runs)
        for name, lists in self._lists.items():
            norms = NORM_COST in self.studies[name].analyses
            asked = [kind for kind in lists if norms or kind != "time_norms"]
            files += [self.definition_file(name), *(self.list_file(kind, name) for kind in asked)]
            files += self._lost_files(self.studies[name])
        return files

    def _results(self, study: Study) -> list[str]:
        """The tables, figures and report of a study."""
        names = (*TABLES, *(f"{name}.csv" for name in study.analyses), "report.html")
        return [f"{RESULTS}/{study.name}/{name}" for name in names] + self.figure_files(study.name)

    def _lost_files(self, study: Study) -> list[str]:
        """Files of runs that are not there, unless collect_runs asks for the run anyhow.

        With thousands of runs, every file that a target lists costs Snakemake time; those that are
        there need not be made.
        """
        folder = RESULTS / study.name
        collected = all((folder / name).exists() for name in ("curves.csv", "runs.csv"))
        lost = []
        for run in study.runs:
            place = f"{folder}/runs/{run.name}"
            try:
                with os.scandir(place) as entries:
                    there = {entry.name for entry in entries}
            except OSError:  # not there
                if not collected:
                    continue
                there = set()
            lost += [f"{place}/{name}" for name in RUN_FILES if name not in there]
        return lost
