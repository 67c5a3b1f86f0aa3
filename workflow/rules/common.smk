# What all rules share. The functions live in workflow/scripts/normres/pipeline.py and progress.py.
import os
import sys

# Jobs call `python`: let it be the one that runs Snakemake, also when its environment is not active.
os.environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
sys.path.insert(0, os.path.join(workflow.basedir, "workflow", "scripts"))

from normres import fingerprint
from normres.pipeline import FIGURE_FORMATS, FIGURES, load_pipeline
from normres.progress import attach_display

SCRIPTS = os.path.join(workflow.basedir, "workflow", "scripts")
pipeline = load_pipeline(config)
DATA_ROOT = pipeline.config.data_root
DEVICE = pipeline.config.device
SAVE_EVERY = pipeline.config.save_every
STATE_BUDGET_GB = pipeline.config.state_budget_gb
display = attach_display(workflow, pipeline)


wildcard_constraints:
    study="|".join(pipeline.studies),
    dataset="|".join(pipeline.datasets),
    figure="|".join(FIGURES),
    run=".+/seed[0-9]+",
