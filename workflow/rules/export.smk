# A study in the forms that other tools read; only on request.


rule export_crate:
    input:
        pipeline.crate_files,
        study="results/{study}/study.json",
        description=pipeline.dataset_file,
    output:
        "results/{study}/crate.zip",
    log:
        "results/{study}/logs/export_crate.log",
    retries: 0  # what fails here fails again
    conda:
        "../../envs/pytorch.yaml"
    params:
        code=fingerprint.fingerprint("export_crate"),
    message:
        "packing {wildcards.study}"
    shell:
        "python -m export_crate --study {input.study:q} --dataset {input.description:q} "
        "--out {output:q} > {log:q} 2>&1"
