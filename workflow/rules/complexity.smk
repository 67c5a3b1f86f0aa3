# Parameters, multiply-adds, activations and memory of each network of a study.


rule count_complexity:
    input:
        study=ancient("results/{study}/study.json"),
        description=pipeline.dataset_file,
    output:
        summary="results/{study}/complexity.csv",
        layers="results/{study}/layers.csv",
    log:
        "results/{study}/logs/count_complexity.log",
    conda:
        "../../envs/pytorch.yaml"
    params:
        networks=pipeline.networks_parameter,
    message:
        "counting parameters and multiply-adds of {wildcards.study}"
    shell:
        "python -m count_complexity --study {input.study:q} "
        "--dataset {input.description:q} --out-summary {output.summary:q} "
        "--out-layers {output.layers:q} > {log:q} 2>&1"
