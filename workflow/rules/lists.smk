# What tells a study from what it was before, and lists about it for jobs that need no more of it. They
# take milliseconds and come before runs (priority 2): what a call trains has to be known to clean_store
# however early the call ends, and on few cores no timing waits behind runs for its list.


# The name of this file tells one definition of a study from another. So a study that was changed is
# noticed even where Snakemake's own records (.snakemake) are lost, and stale runs are not believed.
rule mark_definition:
    output:
        touch("results/{study}/.definition-{digest}"),
    log:
        "results/{study}/logs/mark_definition-{digest}.log",
    priority: 2
    conda:
        "../../envs/pytorch.yaml"
    message:
        "noting the definition of {wildcards.study}"
    shell:
        "rm -fv results/{wildcards.study}/.definition-* > {log:q}"


# The name of such a file tells one list from another in the same way. A claim, or a comparison, is no
# part of a study's definition: changing one trains nothing.
rule write_list:
    output:
        "results/{study}/.{kind}-{digest}.json",
    log:
        "results/{study}/logs/write_list-{kind}-{digest}.log",
    priority: 2
    conda:
        "../../envs/pytorch.yaml"
    params:
        text=pipeline.list_text,
    message:
        "listing {wildcards.kind} of {wildcards.study}"
    shell:
        "rm -fv results/{wildcards.study}/.{wildcards.kind}-* > {log:q}; "
        "printf '%s\\n' {params.text:q} > {output:q}"
