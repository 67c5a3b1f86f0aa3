"""A copy of the project with a tiny study, in which a test may edit files and call Snakemake."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import yaml

from conftest import PROJECT

TINY = {
    "dataset": "digits",
    "models": ["convnet", "resnet"],
    "norms": ["none", "batch"],
    "seeds": [0, 1],
    "epochs": 1,
    "train_images": 20,
    "test_images": 20,
    "train_eval_images": 20,
    "batch_size": 10,
}
# Rows of the table of jobs that stand for no work.
NO_JOBS = ("total", "all", "figures", "report", "crate", "tensorboard")
PARTS = ("Snakefile", "config.yaml", "workflow", "profiles", "envs")


class Project:
    """A project folder whose config.yaml holds the studies that a test gives it."""

    def __init__(self, folder: Path):
        self.folder = folder

    @classmethod
    def create(cls, folder: Path, **studies) -> "Project":
        folder.mkdir(parents=True)
        ignore = shutil.ignore_patterns("__pycache__")
        for part in PARTS:
            source = PROJECT / part
            if source.is_dir():
                shutil.copytree(source, folder / part, ignore=ignore)
            else:
                shutil.copy2(source, folder / part)
        project = cls(folder)
        project.configure(**studies)
        return project

    def copy(self, folder: Path) -> "Project":
        """The same project elsewhere, with the same time stamps."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Project(folder)

    def configure(self, study=None, settings=None, **studies) -> None:
        """Write config.yaml; `study` is the first one where it is not named.

        Configurations are timed once, since tests read no times.
        """
        config = {"study": study or next(iter(studies)), "studies": studies, "timing_repeats": 1}
        config |= settings or {}
        (self.folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace `old`, which must be there, in a file of the project."""
        file = self.folder / path
        text = file.read_text()
        assert old in text, f"{path} has no {old!r}"
        file.write_text(text.replace(old, new))

    def start(self, *arguments: str) -> subprocess.Popen:
        """Start Snakemake on two cores, with a process group of its own; see `snakemake`."""
        return subprocess.Popen(
            [sys.executable, "-m", "snakemake", "--cores", "2", *arguments],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PATH": "/usr/bin:/bin", "COLUMNS": "200"},
            start_new_session=True,
        )

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess:
        """Call Snakemake on two cores; output and errors come as one text in `stdout`."""
        process = self.start(*arguments)
        try:
            said, _ = process.communicate(timeout=600)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        return subprocess.CompletedProcess(process.args, process.returncode, said)

    def run(self, *arguments: str) -> str:
        """Call Snakemake, which must succeed; return what it printed."""
        result = self.snakemake(*arguments)
        assert result.returncode == 0, result.stdout
        return result.stdout

    def planned(self, *arguments: str) -> dict[str, int]:
        """The jobs that Snakemake would run, by rule."""
        text = self.run("--dry-run", *arguments)
        _, found, table = text.partition("Job stats:")
        if not found:
            assert "Nothing to be done" in text, text
            return {}
        rows = re.findall(r"^(\w+) +(\d+)$", table.split("\n\n")[0], re.MULTILINE)
        return {rule: int(count) for rule, count in rows if rule not in NO_JOBS}

    def results(self, study: str = "tiny") -> Path:
        return self.folder / "results" / study
