# From runs to curves, statistics, tables and figures.


rule resolve_study:
    input:
        pipeline.definition_of,
    output:
        "results/{study}/study.json",
    log:
        "results/{study}/logs/resolve_study.log",
    priority: 2
    retries: 0
    conda:
        "../../envs/pytorch.yaml"
    params:
        definition=pipeline.study_parameter,
        code=fingerprint.fingerprint("resolve_study"),
    message:
        "listing the runs of {wildcards.study}"
    shell:
        "python -m resolve_study --definition {params.definition:q} "
        "--out {output:q} > {log:q} 2>&1"


rule collect_runs:
    input:
        pipeline.run_files,
        study="results/{study}/study.json",
        description=pipeline.dataset_file,
    output:
        curves="results/{study}/curves.csv",
        runs="results/{study}/runs.csv",
    log:
        "results/{study}/logs/collect_runs.log",
    retries: 0  # what fails here fails again
    conda:
        "../../envs/pytorch.yaml"
    params:
        code=fingerprint.fingerprint("collect_runs"),
    message:
        "collecting the runs of {wildcards.study}"
    shell:
        "python -m collect_runs --study {input.study:q} --dataset {input.description:q} "
        "--out-curves {output.curves:q} "
        "--out-runs {output.runs:q} > {log:q} 2>&1"


rule summarize_runs:
    input:
        study="results/{study}/study.json",
        curves="results/{study}/curves.csv",
        runs="results/{study}/runs.csv",
        complexity="results/{study}/complexity.csv",
        timing="results/{study}/timing.csv",
    output:
        bands="results/{study}/bands.csv",
        summary=report(
            "results/{study}/summary.csv",
            caption="../report/summary.rst",
            category="{study}",
            labels={"table": "summary"},
        ),
        markdown="results/{study}/summary.md",
        latex="results/{study}/summary.tex",
    log:
        "results/{study}/logs/summarize_runs.log",
    retries: 0
    conda:
        "../../envs/pytorch.yaml"
    params:
        code=fingerprint.fingerprint("summarize_runs"),
    message:
        "computing the statistics of {wildcards.study}"
    shell:
        "python -m summarize_runs --study {input.study:q} --curves {input.curves:q} "
        "--runs {input.runs:q} --complexity {input.complexity:q} "
        "--timing {input.timing:q} --out $(dirname {output.summary:q}) > {log:q} 2>&1"


# The logits come from the same jobs as run.json, so they are not listed: thousands of inputs cost time.
rule evaluate_predictions:
    input:
        arrays=ancient(pipeline.array_files),
        study="results/{study}/study.json",
        runs="results/{study}/runs.csv",
        description=pipeline.dataset_file,
    output:
        classes="results/{study}/classes.csv",
        confusion="results/{study}/confusion.csv",
        hardest="results/{study}/hardest_images.csv",
    log:
        "results/{study}/logs/evaluate_predictions.log",
    retries: 0
    conda:
        "../../envs/pytorch.yaml"
    params:
        code=fingerprint.fingerprint("evaluate_predictions"),
    message:
        "evaluating the predictions of {wildcards.study}"
    shell:
        "python -m evaluate_predictions --study {input.study:q} --runs {input.runs:q} "
        "--dataset {input.description:q} --out $(dirname {output.classes:q}) > {log:q} 2>&1"


rule check_claims:
    input:
        claims=pipeline.file_of("claims"),
        study="results/{study}/study.json",
        dataset=pipeline.dataset_file,
        curves="results/{study}/curves.csv",
        complexity="results/{study}/complexity.csv",
        timing="results/{study}/timing.csv",
    output:
        report(
            "results/{study}/claims.csv",
            caption="../report/claims.rst",
            category="{study}",
            labels={"table": "claims"},
        ),
    log:
        "results/{study}/logs/check_claims.log",
    retries: 0
    conda:
        "../../envs/pytorch.yaml"
    params:
        code=fingerprint.fingerprint("check_claims"),
    message:
        "checking the claims about {wildcards.study}"
    shell:
        "python -m check_claims --claims {input.claims:q} --study {input.study:q} "
        "--dataset {input.dataset:q} --curves {input.curves:q} --complexity {input.complexity:q} "
        '--timing {input.timing:q} --call "$NORMRES_CALL" --out {output:q} > {log:q} 2>&1'


# Reads the runs' logits as evaluate_predictions does.
rule compare_configurations:
    input:
        arrays=ancient(pipeline.array_files),
        study="results/{study}/study.json",
        declared=pipeline.file_of("comparisons"),
        runs="results/{study}/runs.csv",
        description=pipeline.dataset_file,
    output:
        table=report(
            "results/{study}/comparisons.csv",
            caption="../report/comparisons.rst",
            category="{study}",
            labels={"table": "comparisons"},
        ),
        markdown="results/{study}/comparisons.md",
    log:
        "results/{study}/logs/compare_configurations.log",
    retries: 0
    conda:
        "../../envs/pytorch.yaml"
    params:
        code=fingerprint.fingerprint("compare_configurations"),
    message:
        "comparing the configurations of {wildcards.study}"
    shell:
        "python -m compare_configurations --study {input.study:q} --declared {input.declared:q} "
        "--runs {input.runs:q} --dataset {input.description:q} --out {output.table:q} "
        "--markdown {output.markdown:q} > {log:q} 2>&1"


rule plot_figure:
    input:
        unpack(pipeline.figure_tables),
        study="results/{study}/study.json",
        bands="results/{study}/bands.csv",
        curves="results/{study}/curves.csv",
        summary="results/{study}/summary.csv",
        runs="results/{study}/runs.csv",
    output:
        multiext("results/{study}/figures/{figure}", ".png", ".pdf", ".csv", ".txt"),
        svg=report(
            "results/{study}/figures/{figure}.svg",
            caption="../report/figure.rst",
            category="{study}",
            labels={"figure": "{figure}"},
        ),
    log:
        "results/{study}/logs/figures/{figure}.log",
    retries: 0
    conda:
        "../../envs/pytorch.yaml"
    params:
        command=pipeline.figure_command,
        tables=pipeline.figure_options,
        code=pipeline.figure_code,
    message:
        "drawing {wildcards.figure} of {wildcards.study}"
    shell:
        "python -m {params.command} --study {input.study:q} --bands {input.bands:q} "
        "--curves {input.curves:q} --summary {input.summary:q} --runs {input.runs:q} "
        "{params.tables} --out results/{wildcards.study}/figures/{wildcards.figure} > {log:q} 2>&1"


# A table that answers a study's own question, where it asks for it (normres/analyses.py).
rule analyse:
    input:
        ancient(pipeline.array_files),
        study="results/{study}/study.json",
        curves="results/{study}/curves.csv",
        runs="results/{study}/runs.csv",
        description=pipeline.dataset_file,
    output:
        report(
            "results/{study}/{analysis}.csv",
            category="{study}",
            labels={"table": "{analysis}"},
        ),
    log:
        "results/{study}/logs/{analysis}.log",
    retries: 0
    conda:
        "../../envs/pytorch.yaml"
    params:
        command=pipeline.analysis_command,
        code=pipeline.analysis_code,
    message:
        "making {wildcards.analysis}.csv of {wildcards.study}"
    shell:
        "python -m {params.command} --study {input.study:q} --runs {input.runs:q} "
        "--curves {input.curves:q} --data $(dirname {input.description:q}) "
        "--out {output:q} > {log:q} 2>&1"
