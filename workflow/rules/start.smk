# What comes before config.yaml is read.
import gc
import os
import sys

# The graph of jobs holds no garbage: while Snakemake builds it, looking for some takes a seventh of
# the time of a dry run with 5,000 runs (docs/performance.md). Snakefile turns it on again when the
# jobs start.
gc.disable()

sys.path.insert(0, os.path.join(workflow.basedir, "workflow", "scripts"))

from normres.config import check_file
from normres.errors import one_line

with one_line():
    check_file("config.yaml")
