"""The environment that jobs inherit from the call of Snakemake.

Settings that change no result reach jobs this way: as parameters, they would make Snakemake do
everything again.
"""

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from normres import fingerprint
from normres.config import Config
from normres.files import canonical, shown_path
from normres.wording import CALL


def prepare(config: Config, configfiles: Sequence[str | Path], given: Mapping[str, Any]) -> None:
    """Set the variables that all jobs read.

    They call `python -m command`: of the Python that runs Snakemake, also when its environment is
    not active, and from the scripts of this checkout: a file of that name in the working directory,
    say train.py, would come first without PYTHONSAFEPATH. The call as the report repeats it has the
    `configfiles`, and what of the studies was `given` on the command line.
    """
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    paths = [str(fingerprint.SCRIPTS), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, dict.fromkeys(paths)))
    os.environ["PYTHONSAFEPATH"] = "1"
    # Huge pages for large tensors, which glibc otherwise maps anew by small ones in every step:
    # VGG11 trained 1.3 times as fast, ResNet 1.15 times (n = 4 pairs side by side, batch 20,
    # bfloat16, one thread each of an AMD EPYC, glibc 2.36, torch 2.14.1).
    os.environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
    os.environ["NORMRES_DATA_ROOT"] = config.data_root
    os.environ["NORMRES_DEVICE"] = config.device
    os.environ["NORMRES_SAVE_EVERY"] = str(config.save_every)
    os.environ["NORMRES_STATE_BUDGET_GB"] = str(config.state_budget_gb)
    os.environ["NORMRES_RUNS_PER_GPU"] = str(config.runs_per_gpu)
    call = [*CALL.split(), *["--configfile"] * bool(configfiles)]
    call += map(shown_path, configfiles)
    changed = [f"{key}={canonical(given[key])}" for key in ("studies", "claims") if key in given]
    os.environ["NORMRES_CALL"] = shlex.join([*call, *["--config"] * bool(changed), *changed])


def note_attempts(workflow) -> None:
    """Tell jobs how often a run is tried; known when the jobs start, not before."""
    os.environ["NORMRES_ATTEMPTS"] = str(workflow.execution_settings.retries + 1)
