# Each data set is prepared once, for all studies: decoded, checked, in one memory-mappable file.


rule prepare_data:
    output:
        images="results/data/{dataset}/images.npy",
        labels="results/data/{dataset}/labels.npy",
        description="results/data/{dataset}/dataset.json",
    log:
        "results/data/{dataset}/prepare_data.log",
    retries: 0  # what fails here fails again
    conda:
        "../../envs/pytorch.yaml"
    params:
        arguments=pipeline.dataset_arguments,
        state=pipeline.folder_state,
        code=fingerprint.fingerprint("prepare_data"),
    message:
        "preparing the data set {wildcards.dataset}"
    shell:
        'python -m prepare_data {params.arguments} --data-root "$NORMRES_DATA_ROOT" '
        "--out $(dirname {output.images:q}) > {log:q} 2>&1"
