# Norms and Residuals: which convolutional network, with which normalisation, is better, by how much,
# at what cost, and how sure are we?
#
#   snakemake --cores all                                    the study that config.yaml names
#   snakemake --cores all --config study=exercise            another one
#   snakemake --cores all figures                            only the figures
#   snakemake --cores all results/quickstart/figures/test_accuracy.png
#   snakemake --cores 1 clean_store                          free what no result needs
#   snakemake --cores all data                               only the data sets (docs/cluster.md)
#   snakemake --cores all tensorboard                        curves as event files (docs/interchange.md)
#   snakemake --cores all crate                              all as an RO-Crate (docs/provenance.md)
#   snakemake --cores all --dry-run                          what would be done, and how long it takes
from snakemake.utils import min_version

min_version("9.27")


include: "workflow/rules/start.smk"


configfile: "config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/lists.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/complexity.smk"
include: "workflow/rules/timing.smk"
include: "workflow/rules/compare.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/export.smk"
include: "workflow/rules/housekeeping.smk"


# On a cluster only training and its timing are worth a place in the queue: the rest takes seconds, and
# the download of a data set needs a network, which compute nodes rarely have.
localrules:
    prepare_data,
    mark_definition,
    note_retry,
    write_list,
    resolve_study,
    count_complexity,
    collect_runs,
    summarize_runs,
    analyse,
    evaluate_predictions,
    check_claims,
    compare_configurations,
    plot_figure,
    render_report,
    export_crate,
    export_tensorboard,
    verdict,


rule all:
    """Tables, figures and report of the chosen studies; the default."""
    default_target: True
    input:
        pipeline.deliverables,
    localrule: True


rule figures:
    """Figures alone, with what they are drawn from."""
    input:
        pipeline.all_lists,
        pipeline.all_figures,
    localrule: True


rule report:
    """The report alone, with what it shows."""
    input:
        pipeline.all_lists,
        expand("results/{study}/report.html", study=pipeline.studies),
    localrule: True


rule data:
    """Data sets alone, downloaded and prepared (docs/cluster.md)."""
    input:
        pipeline.all_datasets,
    localrule: True


rule tensorboard:
    """Curves as event files of TensorBoard (docs/interchange.md)."""
    input:
        pipeline.all_lists,
        expand("results/{study}/tensorboard", study=pipeline.studies),
    localrule: True


rule crate:
    """Each study as an RO-Crate, with its provenance (docs/provenance.md)."""
    input:
        pipeline.all_lists,
        expand("results/{study}/crate.zip", study=pipeline.studies),
    localrule: True


onstart:
    gc.freeze()  # the graph stays until the end
    gc.enable()
    workplace.start(workflow)
    job_environment.note_attempts(workflow)
    display.start()


onsuccess:
    display.finish()


onerror:
    workplace.fail(pipeline.studies)
    display.fail(log)
