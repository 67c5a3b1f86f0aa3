"""The abstract of a report: sentences from the tables, right for whatever the tables lack."""

import csv
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import synthetic
from normres.files import seal, write_text
from normres.report_abstract import costs, covered, rank_caveat, reported
from report_pages import change, render, words, write_inputs

PARTS = ("Question", "Design", "Results", "Comparisons", "Costs", "Limits")


def told(folder: Path) -> dict[str, str]:
    """The parts of the abstract of the report of a study in `folder`, by name."""
    page = render(folder)
    section = page[page.index('<h2 id="abstract"') :].partition("</section>")[0]
    text = words(f"<body>{section}").replace("\N{NO-BREAK SPACE}", " ")
    found = re.split(rf"({'|'.join(PARTS)})\. ", text)
    assert found[0].strip() == "Abstract"
    parts = dict(zip(found[1::2], map(str.strip, found[2::2]), strict=True))
    assert tuple(parts) == PARTS
    assert "nan" not in text.lower().split() and "None" not in text
    return parts


def rewrite(path: Path, **cells: str) -> None:
    """Change cells of all rows of a table."""
    rows = [row | cells for row in csv.DictReader(path.read_text().splitlines())]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    write_text(path, path.read_text())
    seal(path)  # else it would be refused as edited


def test_every_part_has_its_numbers_with_n_and_interval(tmp_path: Path) -> None:
    study = write_inputs(tmp_path, "quickstart", norms=["none", "batch"])
    change(study, title="Which <network>?")
    synthetic.compare(study, {"of": {"norm": "batch"}, "against": {"norm": "none"}})
    parts = told(tmp_path)
    assert parts["Question"] == "Which <network>?"
    assert parts["Design"] == (
        "3 networks (convnet, vgg11, resnet) with 2 norms (none, batch) were trained on 1,297 "
        "training images of synthetic digits (8x8) for 5 epochs, with 3 seeds per configuration, "
        "and tested on 500 images: 18 runs of 6 configurations. Of the runs, 1 diverged: in no "
        "mean."
    )
    assert re.search(
        r"has the highest mean test accuracy of 6 configurations: \d\d\.\d\d % \(95 % interval "
        r"\d\d\.\d\d to \d+\.\d\d %, n = 3\)\.",
        parts["Results"],
    )
    assert re.search(r"\. The lowest mean is that of .*: .* % \(.*, n = \d\)", parts["Results"])
    assert "Fewer than 3 runs: vgg11, no norm (n = 2)." in parts["Results"]
    assert parts["Comparisons"].count("The mean test accuracy of") == 3
    assert "after Holm's adjustment for 3" in parts["Comparisons"]
    assert re.search(
        r"Of 38 claims of the exercise's write-up: .* not measured", parts["Comparisons"]
    )
    assert "million parameters and 17.4 (convnet, no norm) to 172 (vgg11," in parts["Costs"]
    assert re.search(
        r"An epoch of training takes [\d.]+ s \[[\d.]+, [\d.]+\] \(convnet, .*\) to .*: medians of "
        r"10 repeats with 95 % intervals, on a processor\.",
        parts["Costs"],
    )
    assert "One data set." in parts["Limits"] and "picked after the fact" in parts["Limits"]
    assert "Intervals cover the seed" in parts["Limits"]


def test_configurations_that_share_their_mean_have_no_order(tmp_path: Path) -> None:
    write_inputs(tmp_path, "quickstart", models=["convnet", "vgg11"], norms=["none"])
    rewrite(tmp_path / "summary.csv", test_accuracy_mean="0.1")
    said = told(tmp_path)["Results"]
    assert "both configurations share the highest mean test accuracy, 10.00 %" in said
    assert "lowest mean" not in said


def test_intervals_cover_what_seeds_change() -> None:
    runs = [
        {"specification": {"seed": s, "initialization_seed": s, "order_seed": s}} for s in (0, 1)
    ]
    study = {"runs": runs}
    assert covered(study).startswith(
        "Intervals cover the seed (initial weights, order and dropout)"
    )
    runs[1]["specification"]["initialization_seed"] = 0
    same = {"runs": runs}
    assert covered(same).startswith("Intervals cover the seed (order and dropout), not")
    runs[1]["specification"]["order_seed"] = 0
    both = {"runs": runs}
    assert "share all that is random" in covered(both)


def test_accuracies_reported_elsewhere_lie_inside_or_outside(tmp_path: Path) -> None:
    write_inputs(tmp_path, "quickstart", models=["resnet"], norms=["none"])
    assert "reported elsewhere" not in told(tmp_path)["Results"]
    limits = {"test_accuracy_new_run_low": "0.74", "test_accuracy_new_run_high": "0.8"}
    summary = tmp_path / "summary.csv"
    rewrite(
        summary, reported_test_accuracy="0.7839", reported_test_accuracy_inside="True", **limits
    )
    assert told(tmp_path)["Results"].endswith(
        "Of 1 accuracy reported elsewhere, of a single run each, 1 lies where one more of these "
        "runs would with 95 %."
    )
    rewrite(summary, reported_test_accuracy="0.9", reported_test_accuracy_inside="False")
    assert told(tmp_path)["Results"].endswith(
        "0 lie where one more of these runs would with 95 %; outside: resnet, no norm (90.00 %, "
        "one more run: 74.00 to 80.00 %)."
    )
    unknown = dict.fromkeys([*limits, "reported_test_accuracy_inside"], "")
    rewrite(summary, **unknown)  # as of a single run of ours
    assert told(tmp_path)["Results"].endswith(
        "Of 1 accuracy reported elsewhere, of a single run each, 1 cannot be compared, as our runs "
        "give no interval."
    )


def test_all_that_is_reported_elsewhere_is_counted_also_what_cannot_be_compared() -> None:
    names = {"model": ["a", "b", "c"], "norm": "none", "reported_test_accuracy": [0.8, 0.7, 0.6]}
    ends = {f"test_accuracy_new_run_{end}": [0.5, 0.75, None] for end in ("low", "high")}
    summary = pd.DataFrame(names | ends)
    summary["reported_test_accuracy_inside"] = [True, False, None]
    assert reported(summary, {"axes": {}}).startswith(
        "Of 3 accuracies reported elsewhere, of a single run each, 1 lies where one more of these "
        "runs would with 95 % and 1 cannot be compared, as our runs give no interval; outside: b, "
    )


def test_intervals_of_times_are_claimed_where_there_are_some(tmp_path: Path) -> None:
    write_inputs(tmp_path, "quickstart", norms=["none"])
    none = {f"seconds_per_epoch_{end}": "" for end in ("low", "high")}
    rewrite(tmp_path / "summary.csv", timing_repeats="2", **none)
    assert re.search(r" to [\d.]+ s \(.*\): medians of 2 repeats, on", told(tmp_path)["Costs"])


def test_one_run_has_no_interval_and_is_no_comparison(tmp_path: Path) -> None:
    write_inputs(tmp_path, "single")
    parts = told(tmp_path)
    assert "1 network (resnet) with no norm was trained" in parts["Design"]
    assert "with 1 seed per configuration" in parts["Design"]
    assert "1 run of 1 configuration." in parts["Design"]
    assert "(no interval from a single run, n = 1)" in parts["Results"]
    assert "highest" not in parts["Results"] and "lowest" not in parts["Results"]
    assert parts["Comparisons"].startswith("No comparison was declared beforehand")
    assert "A single run says nothing about how much seeds differ" in parts["Limits"]
    assert "picked after the fact" not in parts["Limits"]
    assert " to " not in parts["Costs"]  # one configuration spans no range


def test_declared_comparisons_of_single_seeds_are_said_to_have_no_test(tmp_path: Path) -> None:
    study = write_inputs(tmp_path, "normalization", seeds=1, epochs=3)
    synthetic.compare(study, {"of": {"norm": "batch"}, "against": {"norm": "none"}})
    parts = told(tmp_path)
    assert "(n = 1 and 1); no interval:" in parts["Comparisons"]
    assert "Without an interval nothing is said about the order" in parts["Results"]


def test_many_comparisons_are_counted_and_told_in_short(tmp_path: Path) -> None:
    study = write_inputs(tmp_path, "quickstart", seeds=3)
    declared = [
        {"of": {"norm": of}, "against": {"norm": against}}
        for of, against in (("batch", "none"), ("group", "none"), ("group", "batch"))
    ]
    synthetic.compare(study, *declared)
    text = told(tmp_path)["Comparisons"]
    counts = re.match(
        r"Of 9 declared comparisons, (\d) shows? a difference at 5 % after Holm's adjustment,? and "
        r"(\d) do not: ",
        text,
    )
    assert counts and int(counts[1]) + int(counts[2]) == 9
    lost = r"(?: \(\d and \d diverged or failed\))?"
    assert len(re.findall(rf"points \[.*?\], n = \d and \d{lost}, p [=<] ", text)) == 6
    assert "n = 3 and 2 (0 and 1 diverged or failed)" in text
    assert ". In 4 of them, with so few runs, p is too small where spreads differ." in text
    assert "; and 3 more." in text
    assert ("could not have shown a difference with so few." in text) == (counts[1] != "0")


@pytest.mark.parametrize("p, smallest, said", [(0.01, 0.3, 1), (0.2, 0.3, 0), (0.01, 0.03, 0)])
def test_a_difference_says_where_it_rests_on_normality(
    p: float, smallest: float, said: int
) -> None:
    assert len(rank_caveat([{"p_holm": p, "smallest_p_holm": smallest}])) == said


def test_without_times_it_says_so(tmp_path: Path) -> None:
    untimed = {f"resnet/{norm}": "no memory" for norm in ("none", "batch", "group")}
    write_inputs(tmp_path, "normalization", seeds=2, epochs=3, untimed=untimed)
    assert told(tmp_path)["Costs"].endswith("Times were not measured.")


def test_configurations_without_times_are_counted(tmp_path: Path) -> None:
    untimed = {"resnet/group": "no memory"}
    write_inputs(tmp_path, "normalization", seeds=2, epochs=3, untimed=untimed)
    assert told(tmp_path)["Costs"].endswith("; 1 configuration not timed.")


def test_a_time_that_all_share_is_said_once() -> None:
    row = {"model": "resnet", "norm": "batch", "params": None, "macs": None, "timing_repeats": 10}
    row |= {f"seconds_per_epoch_{part}": s for part, s in (("median", 2), ("low", 1), ("high", 3))}
    summary = pd.DataFrame([row | {"seed": 0}, row | {"seed": 1}]).assign(timing_device="a CPU")
    said = costs(summary, {"axes": ["seed"], "norms": ["batch"], "models": ["resnet"]})
    assert said.startswith("An epoch of training takes 2 s [1, 3] in all configurations: medians")
    other = summary.assign(seconds_per_epoch_median=[2, 2.5])
    said = costs(other, {"axes": ["seed"], "norms": ["batch"], "models": ["resnet"]})
    assert " (resnet, batch norm, seed 0) to 2.5 s [1, 3] (resnet, batch norm, seed 1): " in said


def test_without_a_complete_run_there_is_no_number(tmp_path: Path) -> None:
    write_inputs(tmp_path, "single", status={"resnet/none/seed0": "diverged"})
    parts = told(tmp_path)
    assert parts["Results"] == "No run is complete, so there is no number to show."
    assert "Of the runs, 1 diverged: in no mean." in parts["Design"]


def test_equal_runs_and_uncounted_costs(tmp_path: Path) -> None:
    write_inputs(tmp_path, "normalization", norms=["none", "batch"], seeds=2, epochs=3)
    equal = {"test_accuracy_low": "", "test_accuracy_high": "", "test_accuracy_sd": "0"}
    rewrite(tmp_path / "summary.csv", params="", macs="", **equal)
    parts = told(tmp_path)
    assert "(no interval, as all runs are equal, n = 2)" in parts["Results"]
    assert parts["Costs"].startswith("An epoch of training takes")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "2 values of batch size (32, 128)"),
        ({"excluded": [{"model": "resnet", "norm": "layer", "reason": "x"}]}, "1 combination left"),
    ],
)
def test_axes_and_what_is_left_out_are_in_the_design(
    tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    change(write_inputs(tmp_path, "batch-size", epochs=3), **options)
    assert said in told(tmp_path)["Design"]
