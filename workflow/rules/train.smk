# Every model x norm x seed is a job of its own. Its state and its outputs are kept in results/store,
# which Snakemake does not own: see workflow/scripts/normres/store.py. A run that ends without a result
# is tried again and goes on from its state; after the last attempt its failure is recorded, so that
# figures of the others still come: see workflow/scripts/record_failure.py.


# By the name of this file, a run that has failed once more is tried again by the next call.
rule note_retry:
    output:
        touch("results/{study}/failures/{run}.again-{failures}"),
    log:
        "results/{study}/logs/note_retry/{run}-{failures}.log",
    wildcard_constraints:
        failures="[0-9]+",
    conda:
        "../../envs/pytorch.yaml"
    message:
        "trying {wildcards.run} of {wildcards.study} again"
    shell:
        "rm -fv results/{wildcards.study}/failures/{wildcards.run:q}.again-* > {log:q}"


rule train:
    input:
        again=pipeline.retry_input,
        arrays=ancient(pipeline.constant(pipeline.array_files)),
        description=pipeline.constant(pipeline.dataset_file),
    output:
        history="results/{study}/runs/{run}/history.csv",
        record="results/{study}/runs/{run}/run.json",
        weights="results/{study}/runs/{run}/model.pt",
        logits="results/{study}/runs/{run}/test_logits.npy",
    log:
        "results/{study}/logs/{run}.log",
    conda:
        "../../envs/pytorch.yaml"
    threads: pipeline.constant(pipeline.run_threads)
    resources:
        mem_mb=pipeline.run_mb,
        gpu=pipeline.run_gpus,
        attempt=lambda wildcards, attempt: attempt,
    params:
        run=pipeline.run_parameter,
    message:
        "training {wildcards.run} of {wildcards.study}"
    # On a signal to all processes of a job, the shell must not end before the training has saved.
    shell:
        "exec > {log:q} 2>&1; trap : TERM USR1 HUP; python -m train --run {params.run:q} --device $NORMRES_DEVICE "
        "--gpus {resources.gpu} --runs-per-gpu $NORMRES_RUNS_PER_GPU "
        "--data $(dirname {input.description:q}) --out $(dirname {output.record:q}) "
        "--store results/store --save-every $NORMRES_SAVE_EVERY --state-budget-gb $NORMRES_STATE_BUDGET_GB "
        "--progress results/{wildcards.study}/logs/{wildcards.run:q}.progress.json "
        "--begun results/{wildcards.study}/logs/{wildcards.run:q}.begun "
        "--attempt {resources.attempt} --attempts ${{NORMRES_ATTEMPTS:-1}} "
        "|| python -m record_failure --code $? --begun results/{wildcards.study}/logs/{wildcards.run:q}.begun "
        "--run {params.run:q} --log {log:q} "
        "--attempt {resources.attempt} --attempts ${{NORMRES_ATTEMPTS:-1}} "
        "--data $(dirname {input.description:q}) --store results/store "
        "--out $(dirname {output.record:q}) "
        "--failures results/{wildcards.study}/failures/{wildcards.run:q}.txt"
