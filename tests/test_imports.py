"""What is imported: seconds that a person waits for, before a command has done anything."""

import subprocess
import sys

import pytest

from normres import fingerprint

COMMANDS = sorted(path.stem for path in fingerprint.SCRIPTS.glob("*.py"))
# They build networks; all others read tables, or look after files, or import torch when they train.
WITH_TORCH = {"time_norms", "count_complexity", "record_untimed"}


def imported(statement):
    """The top-level packages that a fresh Python has loaded after `statement`."""
    code = f"{statement}\nimport sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=fingerprint.SCRIPTS, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_only_commands_that_need_torch_import_it(command):
    assert ("torch" in imported(f"import {command}")) == (command in WITH_TORCH)


def test_the_snakefile_imports_neither_torch_nor_pandas_nor_numpy():
    rules = [fingerprint.SCRIPTS.parent / "rules" / name for name in ("start.smk", "common.smk")]
    read = [line for path in rules for line in path.read_text().splitlines()]
    lines = [line for line in read if line.startswith("from normres")]
    assert len(lines) > 3
    assert not imported("\n".join(lines)) & {"torch", "pandas", "numpy"}
