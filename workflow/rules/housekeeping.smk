# What is done only when it is asked for by name. To reset runs: workflow/scripts/reset_runs.py.


rule clean_store:
    """Free the disk space of states of finished runs, and of leftovers."""
    log:
        "results/store/clean_store.log",
    localrule: True
    conda:
        "../../envs/pytorch.yaml"
    message:
        "removing states of finished runs and leftovers"
    shell:
        "python -m clean_store 2>&1 | tee {log:q}"
