# Times that are compared: every configuration of a study, measured with the machine to itself, so
# that training may share it. On this machine the job takes all cores, and all slots of a GPU.


rule time_training:
    input:
        arrays=ancient(pipeline.array_files),
        timed=pipeline.file_of("time_training"),
        description=pipeline.dataset_file,
    output:
        table="results/{study}/timing.csv",
        details="results/{study}/timing.json",
    log:
        "results/{study}/logs/time_training.log",
    priority: 1  # before the runs of a new study have taken the cores
    conda:
        "../../envs/pytorch.yaml"
    threads: pipeline.timing_threads
    resources:
        mem_mb=16000,
        gpu=pipeline.timing_gpus,
        attempt=lambda wildcards, attempt: attempt,
    message:
        "timing {wildcards.study}"
    # On a signal to all processes of a job, as before its time is over, the shell records that.
    shell:
        "exec > {log:q} 2>&1; trap : TERM USR1 HUP; python -m time_training --timed {input.timed:q} --data $(dirname {input.description:q}) "
        "--device $NORMRES_DEVICE --gpus {resources.gpu} --runs-per-gpu $NORMRES_RUNS_PER_GPU "
        "--cores {threads} --out {output.table:q} --details {output.details:q} "
        "--progress results/{wildcards.study}/logs/time_training.progress.json "
        "--failures results/{wildcards.study}/failures/time_training.txt "
        "--begun results/{wildcards.study}/logs/time_training.begun "
        "--attempt {resources.attempt} --attempts ${{NORMRES_ATTEMPTS:-1}} "
        "|| python -m record_untimed --code $? --begun results/{wildcards.study}/logs/time_training.begun "
        "--timed {input.timed:q} --log {log:q} "
        "--attempt {resources.attempt} --attempts ${{NORMRES_ATTEMPTS:-1}} "
        "--data $(dirname {input.description:q}) --out {output.table:q} "
        "--details {output.details:q} "
        "--failures results/{wildcards.study}/failures/time_training.txt"


# Of any study, and of those that ask for it by `analyses: [norm_cost]` without being asked.
rule time_norms:
    input:
        timed=pipeline.file_of("time_norms"),
        description=pipeline.dataset_file,
    output:
        "results/{study}/norm_cost.csv",
    log:
        "results/{study}/logs/time_norms.log",
    priority: 1
    conda:
        "../../envs/pytorch.yaml"
    threads: pipeline.timing_threads
    resources:
        mem_mb=8000,
        gpu=pipeline.timing_gpus,
        attempt=lambda wildcards, attempt: attempt,
    params:
        code=pipeline.norm_timing_code,
    message:
        "timing the norm layers of {wildcards.study}"
    shell:
        "exec > {log:q} 2>&1; trap : TERM USR1 HUP; python -m time_norms --timed {input.timed:q} --dataset {input.description:q} "
        "--device $NORMRES_DEVICE --gpus {resources.gpu} --runs-per-gpu $NORMRES_RUNS_PER_GPU "
        "--failures results/{wildcards.study}/failures/time_norms.txt "
        "--out {output:q} --begun results/{wildcards.study}/logs/time_norms.begun "
        "--attempt {resources.attempt} --attempts ${{NORMRES_ATTEMPTS:-1}} "
        "|| python -m record_untimed --code $? --begun results/{wildcards.study}/logs/time_norms.begun "
        "--timed {input.timed:q} --log {log:q} "
        "--attempt {resources.attempt} --attempts ${{NORMRES_ATTEMPTS:-1}} "
        "--data $(dirname {input.description:q}) --out {output:q} "
        "--failures results/{wildcards.study}/failures/time_norms.txt"
