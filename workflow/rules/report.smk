# The report, and the verdict that makes the whole command fail where a run has failed.


rule render_report:
    input:
        study="results/{study}/study.json",
        runs="results/{study}/runs.csv",
        summary="results/{study}/summary.csv",
        comparisons="results/{study}/comparisons.csv",
        complexity="results/{study}/complexity.csv",
        layers="results/{study}/layers.csv",
        timing="results/{study}/timing.json",
        claims="results/{study}/claims.csv",
        dataset=pipeline.dataset_file,
        figures=pipeline.drawings,
    output:
        report("results/{study}/report.html", caption="../report/report.rst", category="{study}"),
    log:
        "results/{study}/logs/render_report.log",
    retries: 0
    conda:
        "../../envs/pytorch.yaml"
    params:
        code=pipeline.report_code,
    message:
        "writing the report of {wildcards.study}"
    shell:
        "python -m render_report --study {input.study:q} --runs {input.runs:q} "
        "--summary {input.summary:q} --complexity {input.complexity:q} --layers {input.layers:q} "
        "--timing {input.timing:q} --claims {input.claims:q} "
        "--comparisons {input.comparisons:q} "
        "--dataset {input.dataset:q} --figures {input.figures:q} "
        '--call "$NORMRES_CALL" '
        "--out {output:q} > {log:q} 2>&1"


rule verdict:
    input:
        runs="results/{study}/runs.csv",
        timing="results/{study}/timing.csv",
        norm_cost=pipeline.norm_cost_file,
        report="results/{study}/report.html",
    output:
        "results/{study}/verdict.txt",
    log:
        "results/{study}/logs/verdict.log",
    retries: 0  # what fails here fails again
    conda:
        "../../envs/pytorch.yaml"
    params:
        code=fingerprint.fingerprint("check_runs"),
    message:
        "checking how the runs of {wildcards.study} ended"
    shell:
        "python -m check_runs --runs {input.runs:q} --timing {input.timing:q} "
        "--norm-cost {input.norm_cost:q} --report {input.report:q} --out {output:q} > {log:q} 2>&1"
