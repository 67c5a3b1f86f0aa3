# Parameters, multiply-adds, activations and memory of each network of a study.


# As for definitions (compare.smk), the file's name tells one list from another.
rule list_networks:
    output:
        "results/{study}/.networks-{digest}.json",
    log:
        "results/{study}/logs/list_networks-{digest}.log",
    priority: 2
    conda:
        "../../envs/pytorch.yaml"
    params:
        networks=pipeline.text_of("networks"),
    message:
        "listing the networks of {wildcards.study}"
    shell:
        "rm -fv results/{wildcards.study}/.networks-* > {log:q}; "
        "printf '%s\\n' {params.networks:q} > {output:q}"


rule count_complexity:
    input:
        networks=pipeline.file_of("networks"),
        description=pipeline.dataset_file,
    output:
        summary="results/{study}/complexity.csv",
        layers="results/{study}/layers.csv",
    log:
        "results/{study}/logs/count_complexity.log",
    retries: 0
    conda:
        "../../envs/pytorch.yaml"
    message:
        "counting parameters and multiply-adds of {wildcards.study}"
    shell:
        "python -m count_complexity --study {input.networks:q} --dataset {input.description:q} "
        "--out-summary {output.summary:q} --out-layers {output.layers:q} > {log:q} 2>&1"
