"""What a job on a cluster does beside its work."""

import signal

from snakemake.settings.types import ExecMode


def outlive_warnings(workflow) -> None:
    """Let Snakemake inside a job survive SIGUSR1, with which SLURM warns all processes of the job.

    By default it would end, and SLURM would then kill the training while it saves its state. A
    handler, unlike ignoring the signal, is not inherited: the training has its own.
    """
    if workflow.exec_mode != ExecMode.DEFAULT:
        signal.signal(signal.SIGUSR1, lambda number, frame: None)
