# Parameters, multiply-adds, activations and memory of each network of a study.


rule list_networks:
    output:
        "results/{study}/networks.json",
    log:
        "results/{study}/logs/list_networks.log",
    conda:
        "../../envs/pytorch.yaml"
    params:
        networks=pipeline.networks_parameter,
    message:
        "listing the networks of {wildcards.study}"
    shell:
        "printf '%s\\n' {params.networks:q} > {output:q} 2> {log:q}"


rule count_complexity:
    input:
        networks="results/{study}/networks.json",
        description=pipeline.dataset_file,
    output:
        summary="results/{study}/complexity.csv",
        layers="results/{study}/layers.csv",
    log:
        "results/{study}/logs/count_complexity.log",
    conda:
        "../../envs/pytorch.yaml"
    message:
        "counting parameters and multiply-adds of {wildcards.study}"
    shell:
        "python -m count_complexity --study {input.networks:q} --dataset {input.description:q} "
        "--out-summary {output.summary:q} --out-layers {output.layers:q} > {log:q} 2>&1"
