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
        analyses=pipeline.asked_analyses,
        figures=pipeline.figure_names,
        configfiles=workflow.overwrite_configfiles,
    message:
        "packing {wildcards.study}"
    shell:
        "python -m export_crate --study {input.study:q} --dataset {input.description:q} "
        "--analyses {params.analyses} --figures {params.figures} "
        '--configfiles {params.configfiles:q} --call "$NORMRES_CALL" '
        "--out {output:q} > {log:q} 2>&1"


rule export_tensorboard:
    input:
        study="results/{study}/study.json",
        curves="results/{study}/curves.csv",
    output:
        directory("results/{study}/tensorboard"),
    log:
        "results/{study}/logs/export_tensorboard.log",
    retries: 0
    conda:
        "../../envs/pytorch.yaml"
    params:
        code=fingerprint.fingerprint("export_tensorboard"),
    message:
        "writing event files of {wildcards.study}"
    shell:
        "python -m export_tensorboard --study {input.study:q} --curves {input.curves:q} "
        "--out {output:q} > {log:q} 2>&1"
