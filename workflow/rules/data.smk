# Each data set is prepared once, for all studies: decoded, checked, in one memory-mappable file.


rule prepare_data:
    output:
        images="results/data/{dataset}/images.npy",
        labels="results/data/{dataset}/labels.npy",
        description="results/data/{dataset}/dataset.json",
    log:
        "results/data/{dataset}/prepare_data.log",
    conda:
        "../../envs/pytorch.yaml"
    params:
        arguments=pipeline.dataset_arguments,
        code=fingerprint.of_command("prepare_data.py"),
    message:
        "preparing the data set {wildcards.dataset}"
    shell:
        "python {SCRIPTS:q}/prepare_data.py {params.arguments} --data-root {DATA_ROOT:q} "
        "--out $(dirname {output.images:q}) > {log:q} 2>&1"
