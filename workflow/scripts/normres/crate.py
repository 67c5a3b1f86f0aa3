"""A study as a Provenance Run Crate: its files, and what made them, with what and when.

Profile: https://w3id.org/ro/wfrun/provenance/0.5 (Leo et al. 2024, "Recording provenance of
workflow runs with RO-Crate", PLOS ONE 19(9), e0309210). What is recorded nowhere is not said: an
agent is never named, and only training and timing, which note them, have start and end times.
"""

import ast
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rocrate.model.contextentity import ContextEntity
from rocrate.model.entity import Entity
from rocrate.rocrate import ROCrate

from normres import gallery
from normres.analyses import ANALYSES
from normres.files import file_checksum, shown_path

PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/provenance/0.5": ("Provenance Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
BIOSCHEMAS = "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"
SHA256 = "https://w3id.org/ro/terms/workflow-run#sha256"  # not in the context of RO-Crate 1.1
COMPLETED, FAILED = (f"http://schema.org/{word}ActionStatus" for word in ("Completed", "Failed"))

# The project's own files: what a reader needs to run it again.
SOURCES = (
    *("Snakefile", "config.yaml", "Makefile", "README.md", "CITATION.cff", "LICENSE"),
    *("pyproject.toml", "workflow/**/*", "profiles/**/*", "envs/*"),
)
# Command -> the files directly in the study's folder that it makes, in the order of the pipeline.
MADE_BY = {
    "prepare_data": (),
    "resolve_study": ("study.json",),
    "train": (),
    "count_complexity": ("complexity.csv", "layers.csv"),
    "time_training": ("timing.csv", "timing.json"),
    "collect_runs": ("curves.csv", "runs.csv"),
    "summarize_runs": ("bands.csv", "summary.csv", "summary.md", "summary.tex"),
    "evaluate_predictions": ("classes.csv", "confusion.csv", "hardest_images.csv"),
    "compare_configurations": ("comparisons.csv", "comparisons.md"),
    "check_claims": ("claims.csv",),
    "time_norms": ("norm_cost.csv",),
    **{analysis.command: (f"{name}.csv",) for name, analysis in ANALYSES.items()},
    "render_report": ("report.html",),
}
ORDER = [*MADE_BY]
ORDER.insert(-1, "draw")  # stands for all commands that draw: the last before the report
MEDIA_TYPES = {
    ".csv": "text/csv",
    ".html": "text/html",
    ".json": "application/json",
    ".md": "text/markdown",
    ".npy": "application/octet-stream",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".pt": "application/octet-stream",
    ".py": "text/x-python",
    ".svg": "image/svg+xml",
    ".tex": "application/x-tex",
    ".txt": "text/plain",
    ".yaml": "application/yaml",
}


class StudyCrate:
    """A crate that is filled: first `add_sources`, then `add_results`, then `describe_run`.

    `project` is the folder of the Snakefile, `licence` the URL of the licence of what is packed.
    """

    def __init__(self, project: Path, study: Mapping[str, Any], published: str, licence: str):
        self.project, self.study = project, study
        self.crate = ROCrate(gen_preview=True, version="1.1")
        self.crate.metadata.extra_terms["sha256"] = SHA256
        self.crate.name = f"{study['title']} (study {study['study']})"
        self.crate.datePublished = published
        self.crate.license = self._entity(licence, "CreativeWork", name=licence.rsplit("/", 1)[-1])
        self.crate.root_dataset["conformsTo"] = [
            self._entity(url, "CreativeWork", name=name, version=version)
            for url, (name, version) in PROFILES.items()
        ]
        self.crate.metadata["conformsTo"] = [
            {"@id": "https://w3id.org/ro/crate/1.1"},
            {"@id": "https://w3id.org/workflowhub/workflow-ro-crate/1.0"},
        ]
        self.actions: list[Entity] = []
        self.steps: dict[str, Entity] = {}

    def _entity(self, identifier: str, kind: str, /, **properties: Any) -> Entity:
        entity = ContextEntity(self.crate, identifier, {"@type": kind, **properties})
        return self.crate.add(entity)

    def _file(self, source: Path, place: str, **properties: Any) -> Entity:
        """Pack a file, with its size and checksum."""
        described = {
            "name": place,
            "contentSize": str(source.stat().st_size),
            "sha256": file_checksum(source),
            "encodingFormat": MEDIA_TYPES.get(source.suffix, "text/plain"),
        }
        return self.crate.add_file(source, place, properties={**described, **properties})

    def add_sources(self, snakemake: str, configfiles: Iterable[Path]) -> None:
        """Pack the workflow; `snakemake` is the version of the engine.

        `configfiles` were given beside the project's config.yaml. They lie in the crate where they
        lay in the working folder, or in configfiles/, numbered, where they lay elsewhere.
        """
        for path in sorted({path for glob in SOURCES for path in self.project.glob(glob)}):
            place = path.relative_to(self.project).as_posix()
            if path.is_file() and path.suffix != ".pyc" and place != "Snakefile":
                more: dict[str, Any] = {"about": {"@id": "./"}} if place == "README.md" else {}
                if path.suffix == ".py":
                    more["@type"] = ["File", "SoftwareSourceCode"]
                self._file(path, place, **more)
        self.workflow = self.crate.add_workflow(
            self.project / "Snakefile",
            "Snakefile",
            main=True,
            lang="snakemake",
            lang_version=snakemake,
            properties={
                "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"],
                "name": "Norms and Residuals",
                "sha256": file_checksum(self.project / "Snakefile"),
                "conformsTo": self._entity(
                    BIOSCHEMAS, "CreativeWork", name="ComputationalWorkflow", version="1.0-RELEASE"
                ),
            },
        )
        self.settings = [self.crate.dereference("config.yaml")]
        for number, path in enumerate(configfiles, start=1):
            place = Path(shown_path(path))
            if place.is_absolute() or ".." in place.parts:
                place = Path("configfiles", str(number), path.name)
            known = self.crate.dereference(place.as_posix())
            self.settings.append(known or self._file(path, place.as_posix()))
        self.engine = self._entity(
            f"#snakemake-{snakemake}",
            "SoftwareApplication",
            name="Snakemake",
            softwareVersion=snakemake,
            url="https://snakemake.github.io",
        )

    def add_data(self, description: Path, dataset: Mapping[str, Any]) -> None:
        """Pack the description of the prepared images, which are not packed themselves."""
        file = self._file(description, f"data/{description.parent.name}/{description.name}")
        self.data = self._entity(
            f"#data-{dataset['checksum'].removeprefix('sha256:')[:16]}",
            "Dataset",
            name=f"Images of {dataset['name']}, prepared",
            description=(
                f"{dataset['n_train']} training and {dataset['n_test']} test images; source: "
                f"{dataset['source']}. Not in this crate; prepare_data.py makes them."
            ),
            identifier=dataset["checksum"],
            subjectOf=file,
        )
        self._act("prepare_data", "dataset", "Preparation of the images", [], [file, self.data])

    def add_results(self, folder: Path, paths: Iterable[Path]) -> dict[str, Entity]:
        """Pack files of the study's folder; what made each of them is an action."""
        place = f"results/{self.study['study']}"
        packed = {}
        for path in paths:
            name = path.relative_to(folder).as_posix()
            packed[name] = self._file(path, f"{place}/{name}")
        for command, names in MADE_BY.items():
            made = [packed[name] for name in names if name in packed]
            if made and command != "time_training":
                self._act(command, command, command.replace("_", " "), [], made)
        drawn: dict[str, list[Entity]] = {}
        for name, entity in packed.items():
            if name.startswith("figures/"):
                drawn.setdefault(Path(name).stem, []).append(entity)
        for figure, files in drawn.items():
            entry = gallery.by_name(figure)
            tables = [f"{table}.csv" for table in (*gallery.EVERY_FIGURE_READS, *entry.tables)]
            read = [packed[table] for table in tables if table in packed]
            self._act(entry.command, f"figure-{figure}", f"drawing {figure}", read, files)
        self.packed = packed
        return packed

    def add_timing(self, details: Mapping[str, Any]) -> None:
        """Say when what was timed; `details` is timing.json."""
        made = [self.packed[name] for name in MADE_BY["time_training"] if name in self.packed]
        self._act("time_training", "timing", "timing of the networks", [self.data], made, details)

    def add_run(self, run: str, record: Mapping[str, Any], versions: Iterable[str]) -> None:
        """Say when and with what a run was trained; `record` is its run.json.

        `versions` are the keys of its environment that hold versions of software.
        """
        files = [e for name, e in self.packed.items() if name.startswith(f"runs/{run}/")]
        status, title = record["status"], f"training of {run}"
        action = self._act("train", f"run-{run}", title, [self.data], files, record, status)
        if record["status"] == "failed":
            action["error"] = str(record.get("reason"))
        environment = record.get("environment") or {}
        needed = [
            self._entity(
                f"#{name}-{environment[name]}",
                "SoftwareApplication",
                name=name,
                softwareVersion=str(environment[name]),
            )
            for name in versions
            if environment.get(name)
        ]
        tool = action["instrument"]
        known = {entity.id for entity in tool.get("softwareRequirements", [])}
        tool["softwareRequirements"] = [
            *tool.get("softwareRequirements", []), *(e for e in needed if e.id not in known)
        ]  # fmt: skip

    def describe_run(self, text: str) -> None:
        """Describe the whole run, once its parts are there; `text` is the crate's description."""
        self.crate.description = text
        times = [action[key] for action in self.actions for key in ("startTime", "endTime")
                 if key in action]  # fmt: skip
        whole = self.crate.add_action(
            self.workflow,
            identifier="#run",
            object=[self.packed["study.json"], *self.settings, self.data],
            result=[e for name, e in self.packed.items() if name != "study.json"],
            properties={"name": f"Run of study {self.study['study']}", "actionStatus": COMPLETED}
            | ({"startTime": min(times), "endTime": max(times)} if times else {}),
        )
        controls = [
            self._entity(
                f"#control-{action.id.lstrip('#')}",
                "ControlAction",
                name=f"step of {action['name']}",
                instrument=self.steps[action["instrument"].id],
                object=action,
            )
            for action in self.actions
        ]
        self._entity(
            "#orchestration",
            "OrganizeAction",
            name="Orchestration by Snakemake",
            instrument=self.engine,
            object=controls,
            result=whole,
        )
        ordered = sorted(self.steps.values(), key=lambda step: (int(step["position"]), step.id))
        self.workflow["step"] = ordered
        self.workflow["hasPart"] = [step["workExample"] for step in ordered]
        self.crate.root_dataset["mentions"] = [whole, *self.actions]

    def _act(
        self,
        command: str,
        name: str,
        title: str,
        used: list[Entity],
        made: list[Entity],
        record: Mapping[str, Any] | None = None,
        status: str = "ok",
    ) -> Entity:
        """An execution of a command; its times are those of `record`, where it has some."""
        tool = self._tool(command)
        times = {"startTime": "started", "endTime": "finished"}
        known = {key: record[noted] for key, noted in times.items() if (record or {}).get(noted)}
        action = self.crate.add_action(
            tool,
            identifier=f"#{name}",
            object=used[0] if len(used) == 1 else used,
            result=made[0] if len(made) == 1 else made,
            properties={
                "name": title,
                "actionStatus": FAILED if status == "failed" else COMPLETED,
                **known,
            },
        )
        self.actions.append(action)
        return action

    def _tool(self, command: str) -> Entity:
        """The command's file as a tool of the workflow, with the step that it is."""
        tool = self.crate.dereference(f"workflow/scripts/{command}.py")
        if tool.id not in self.steps:
            source = self.project / "workflow" / "scripts" / f"{command}.py"
            said = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or command
            tool["name"] = command
            tool["description"] = said.partition("\n")[0]
            self.steps[tool.id] = self._entity(
                f"#step-{command}",
                "HowToStep",
                name=command.replace("_", " "),
                position=str(ORDER.index(command if command in MADE_BY else "draw")),
                workExample=tool,
            )
        return tool
