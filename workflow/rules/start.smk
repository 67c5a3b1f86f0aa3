# What comes before config.yaml is read.
import gc
import os
import sys

from snakemake.exceptions import WorkflowError

# Snakemake calls no hooks of a module: there would be no lock, and a failure would be recorded after
# the first attempt.
if not workflow.modifier.is_main_snakefile():
    raise WorkflowError(
        "this workflow cannot be a module of another one; include its Snakefile instead"
    )

# The graph of jobs holds no garbage: while Snakemake builds it, looking for some takes a seventh of
# the time of a dry run with 5,000 runs (docs/performance.md). Snakefile turns it on again when the
# jobs start.
gc.disable()

sys.path.insert(0, os.path.join(os.path.dirname(workflow.current_basedir), "scripts"))

from normres.config import check_file
from normres.errors import one_line

with one_line():
    check_file("config.yaml")
