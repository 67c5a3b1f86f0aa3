# What all rules share. The functions live in workflow/scripts/normres/pipeline.py, job_environment.py, progress.py.
from normres import fingerprint, job_environment
from normres.analyses import ANALYSES
from normres.cluster import outlive_warnings
from normres.pipeline import LISTS, RESULTS, load_pipeline
from normres.progress import attach_display
from normres.workplace import Workplace

pipeline = load_pipeline(config, workflow.overwrite_configfiles)
job_environment.prepare(
    pipeline.config, workflow.overwrite_configfiles, workflow.config_settings.config
)
pipeline.share_machine(workflow)
outlive_warnings(workflow)
display = attach_display(workflow, pipeline)
workplace = Workplace(RESULTS)


wildcard_constraints:
    study="|".join(pipeline.studies),
    dataset="|".join(pipeline.datasets),
    figure="[a-z0-9_]+",
    run=pipeline.run_pattern,
    analysis="|".join(ANALYSES),
    kind="|".join(LISTS),
