"""What tables and findings say of comparisons: signs, units, n, and no more than p shows."""

import math

import pandas as pd
import pytest

from normres.comparison_tables import (
    COLUMNS,
    MOST_SHOWN,
    compact_finding,
    declared_columns,
    description,
    descriptive_columns,
    few_for_welch,
    finding,
    markdown,
    markdown_table,
    notes,
    p_text,
    read_comparisons,
    report_section,
    spread_sentence,
)
from normres.errors import InputError
from normres.wording import MINUS

NAN = math.nan
NAMES = {"r/batch": "resnet, batch norm", "r/none": "resnet, no norm", "c/none": "convnet, no norm"}
# As in comparisons.csv: a test that shows a difference, one of pairs that does not, and none.
SHOWN = dict.fromkeys(COLUMNS, NAN) | {
    "kind": "declared", "of": "r/batch", "against": "r/none", "metric": "test_accuracy",
    "unit": "points", "paired": False, "n_of": 5, "n_against": 6, "lost_of": 1, "lost_against": 0,
    "difference": -1.5, "low": -2.0, "high": -1.0, "p": 0.0012, "p_holm": 0.0036,
    "permutation_p": 0.004, "permutation_p_holm": 0.012, "family": 3, "detectable": 0.9,
    "sd": 0.4, "sd_from": "3 configurations, pooled", "runs_for_0.5": 12, "runs_for_1": 1_234,
    "seeds_sd": 0.2, "images_sd": 0.3, "total_sd": 0.361, "note": "a first; a second",
}  # fmt: skip
PAIRS = SHOWN | {
    "against": "c/none", "metric": "test_loss", "unit": "nats", "paired": True, "n_of": 4,
    "n_against": 4, "lost_of": 0, "difference": 0.02, "low": -0.01, "high": 0.05, "p": 0.2,
    "p_holm": 0.4, "correlation": 0.5, "detectable": 0.012, "sd": 0.004, "total_sd": NAN,
    "sd_from": "the differences of pairs", "runs_for_0.5": NAN, "runs_for_1": NAN, "note": NAN,
}  # fmt: skip
NOTHING = dict.fromkeys(COLUMNS, NAN) | {
    "kind": "declared", "of": "r/none", "against": "c/none", "metric": "test_accuracy",
    "unit": "points", "paired": False, "n_of": 0, "n_against": 3, "lost_of": 3, "lost_against": 0,
    "family": 3, "note": "one side has no complete run", "sd_from": "3 configurations, pooled",
    "runs_for_0.5": NAN, "runs_for_1": 1,
}  # fmt: skip
RUNS = [("r", "batch"), ("r", "none"), ("c", "none")]
STUDY = {
    "title": 'A <b> "study"', "models": ["r", "c"], "norms": ["batch", "none"], "axes": {},
    "runs": [{"model": model, "norm": norm, "axes": {}} for model, norm in RUNS],
}  # fmt: skip


def plain(text):
    """With hyphens for minus signs."""
    return text.replace(MINUS, "-")


def said(row):
    return plain(finding(row, NAMES))


def in_short(row):
    return plain(compact_finding(row, NAMES))


def cells(columns):
    """A table's cells by its headers, each as its text and what stands under it."""
    return {
        f"{column.name}: {column.note}": [
            (plain(cell.text), plain(cell.under)) for cell in column.cells
        ]
        for column in columns
    }


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (NAN, "\N{EN DASH}"),
        (0.0, "< 0.0001"),
        (0.0000999, "< 0.0001"),
        (0.0001, "0.0001"),
        (0.0079365, "0.00794"),
        (0.0499, "0.0499"),
        (0.04996, "0.04996"),  # below 0.05, and so it reads
        (0.04999999, "0.04999999"),
        (0.05, "0.05"),
        (0.05004, "0.05"),
        (0.0501, "0.0501"),
        (0.09994, "0.0999"),
        (0.1, "0.10"),
        (0.996, "1.00"),
    ],
)
def test_a_p_value_reads_as_lying_on_the_side_of_5_percent_where_it_lies(p, text):
    assert p_text(p) == text


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.004, 1.2, "0.004 to 1.20"),
        (-0.004, 1.2, "-0.004 to 1.20"),
        (-1.2, -0.0004, "-1.20 to -0.0004"),
        (0.0, 1.2, "0.00 to 1.20"),
        (0.0051, 1234.5, "0.01 to 1,234.50"),
    ],
)
def test_an_interval_that_ends_beside_0_does_not_end_at_0(low, high, words):
    assert f"(95 % interval {words}, n" in said(SHOWN | {"low": low, "high": high})


def test_a_difference_that_is_not_0_is_not_said_to_be_0():
    row = SHOWN | {"difference": -0.002}
    assert "batch norm is 0.002 points below that" in said(row)
    assert ": -0.002 points [" in in_short(row)
    assert "0.0003 nats above" in said(PAIRS | {"difference": 0.0003})


def test_a_finding_has_direction_unit_n_and_what_the_test_shows():
    assert said(SHOWN) == (
        "The mean test accuracy of resnet, batch norm is 1.50 points below that of resnet, no norm "
        "(95 % interval -2.00 to -1.00, n = 5 and 6, p = 0.0036 after Holm's adjustment for 3). "
        "Runs that diverged or failed: 1 of resnet, batch norm."
    )
    assert said(PAIRS) == (
        "The mean test loss of resnet, batch norm is 0.020 nats above that of convnet, no norm "
        "(95 % interval -0.010 to 0.050, n = 4 pairs, p = 0.40 after Holm's adjustment for 3), "
        "which does not show a difference."
    )
    assert said(SHOWN | {"p_holm": 0.05}).count("does not show a difference") == 1


def test_in_short_a_comparison_has_the_same_numbers():
    assert in_short(SHOWN) == (
        "resnet, batch norm - resnet, no norm: -1.50 points [-2.00, -1.00], n = 5 and 6 (1 and 0 "
        "diverged or failed), p = 0.0036"
    )
    assert in_short(PAIRS) == (
        "resnet, batch norm - convnet, no norm (test loss): 0.020 nats [-0.010, 0.050], n = 4 "
        "pairs, p = 0.40"
    )
    single = SHOWN | {"low": NAN, "high": NAN, "p_holm": NAN, "n_of": 1, "lost_of": 0}
    assert in_short(single).endswith(": -1.50 points no interval, n = 1 and 6")
    assert in_short(NOTHING).endswith("no norm: one side has no complete run")


def test_the_table_of_tests_has_a_cell_for_all_that_is_known():
    table = pd.DataFrame([SHOWN, PAIRS, NOTHING])
    none = ("\N{EN DASH}", "")
    assert cells(declared_columns(table, NAMES)) == {
        "comparison: first minus second": [
            ("resnet, batch norm - resnet, no norm", ""),
            ("resnet, batch norm - convnet, no norm", "test loss; in pairs, correlation 0.50"),
            ("resnet, no norm - convnet, no norm", ""),
        ],
        "n: runs": [
            ("5 and 6", "1 and 0 diverged or failed"),
            ("4 pairs", ""),
            ("0 and 3", "3 and 0 diverged or failed"),
        ],
        "difference: [95 % interval]": [
            ("-1.50 points", "[-2.00, -1.00]"),
            ("0.020 nats", "[-0.010, 0.050]"),
            none,
        ],
        "p: t test, Holm's; alone": [("0.0036", "0.0012"), ("0.40", "0.20"), none],
        "p: permutations, Holm's; alone": [("0.012", "0.004"), ("0.012", "0.004"), none],
        "detectable: with 80 % power, one test": [
            ("0.90 points", "sd 0.40"),
            ("0.012 nats", "sd 0.004"),
            none,
        ],
        "runs per side: for 0.5 points": [("12", ""), none, none],
        "runs per side: for 1 point": [("1,234", ""), none, ("1", "")],
        "spread: sd over seeds; over test images": [("0.20; 0.30", "both 0.36"), none, none],
    }


def test_what_no_comparison_has_is_no_column():
    headers = cells(declared_columns(pd.DataFrame([PAIRS, PAIRS]), NAMES))
    assert not any(header.startswith(("runs per side", "spread")) for header in headers)


def test_columns_are_sorted_by_the_numbers_that_they_show():
    by_name = {
        f"{column.name}: {column.note}": [cell.value for cell in column.cells]
        for column in declared_columns(pd.DataFrame([SHOWN, NOTHING]), NAMES)
    }
    assert by_name["difference: [95 % interval]"] == [-1.5, None]
    assert by_name["p: t test, Holm's; alone"] == [0.0036, None]
    assert by_name["detectable: with 80 % power, one test"] == [0.9, None]
    assert by_name["runs per side: for 1 point"] == [1234.0, 1.0]
    assert by_name["spread: sd over seeds; over test images"] == [0.361, None]


def test_pairs_without_a_correlation_say_so_and_a_difference_without_interval_too():
    row = PAIRS | {"correlation": NAN, "low": NAN, "high": NAN}
    columns = cells(descriptive_columns(pd.DataFrame([row]), NAMES))
    (comparison,) = columns["comparison: first minus second"]
    assert comparison[1] == "test loss; in pairs, no correlation can be had"
    assert columns["difference: [95 % interval]"] == [("0.020 nats", "no interval")]


def test_the_text_table_has_what_is_under_a_cell_beside_it():
    names = NAMES | {"r/none": "a|b"}
    text = plain(markdown_table(declared_columns(pd.DataFrame([SHOWN, PAIRS]), names)))
    first = text.splitlines()[2]
    assert [part.strip() for part in first.strip("|").split(" | ")][:5] == [
        r"resnet, batch norm - a\|b",
        "5 and 6 (1 and 0 diverged or failed)",
        "-1.50 points [-2.00, -1.00]",
        "0.0036 (0.0012)",
        "0.012 (0.004)",
    ]


def test_equal_notes_are_one_and_the_spread_says_where_it_is_from():
    table = pd.DataFrame([SHOWN, PAIRS, NOTHING | {"note": SHOWN["note"]}])
    assert notes(table, NAMES) == [
        "resnet, batch norm against resnet, no norm; resnet, no norm against convnet, no norm: "
        "a first; a second."
    ]
    assert notes(table.assign(note=""), NAMES) == notes(table.assign(note=NAN), NAMES) == []
    assert spread_sentence(table) == (
        "The sd is that of 3 configurations, pooled or of the differences of pairs."
    )
    assert spread_sentence(table.head(0)) == spread_sentence(table.assign(sd_from=NAN)) == ""


def test_a_note_of_many_comparisons_counts_them():
    noted, other = [SHOWN] * 7, [NOTHING | {"note": "another"}]
    assert notes(pd.DataFrame(noted), NAMES) == ["All 7 declared comparisons: a first; a second."]
    assert notes(pd.DataFrame(noted + other), NAMES) == [
        "7 of 8 declared comparisons (named in comparisons.csv): a first; a second.",
        "resnet, no norm against convnet, no norm: another.",
    ]
    assert notes(pd.DataFrame(noted[:6]), NAMES)[0].count("against") == 6


def test_a_report_shows_all_tests_and_so_many_of_the_other_pairs_as_can_be_read():
    other = SHOWN | {"kind": "descriptive", "against": "c/none"}
    table = pd.DataFrame([SHOWN, *[other] * (MOST_SHOWN + 3)])
    names = {f"{model}/{norm}" for model, norm in RUNS}
    table = table.assign(against=[*["r/none"], *["c/none"] * (MOST_SHOWN + 3)])
    assert {*table["of"], *table["against"]} == names
    section = report_section(table, STUDY)
    assert section["others"] == MOST_SHOWN + 3 and section["shown"] == MOST_SHOWN == 200
    assert len(section["descriptive_rows"]) == len(section["descriptive"][0].cells) == MOST_SHOWN
    assert len(section["declared_rows"]) == len(section["findings"]) == 1
    assert section["parts"] and section["explanation"].endswith("3 configurations, pooled.")
    empty = report_section(table.head(0), STUDY)
    assert empty["declared"] == empty["descriptive"] == empty["findings"] == []
    assert not empty["parts"] and "declares no comparison" in empty["none_declared"]


def test_the_text_of_comparisons_has_findings_tables_and_notes():
    other = SHOWN | {"kind": "descriptive", "against": "c/none"}
    text = plain(markdown(pd.DataFrame([SHOWN, other]), STUDY))
    title, finding_line, *_ = text.split("\n\n")
    assert title == '# A &lt;b&gt; "study": comparisons'
    assert finding_line.startswith("- The mean test accuracy of r, batch norm is 1.50 points below")
    assert "- r, batch norm against r, no norm: a first; a second." in text
    tests, others = text.split("## Other pairs, without a test")
    assert "| r, batch norm - c, no norm" in others and "0.0036" in tests
    assert "Of 3 pairs, 2 are compared" in others and "0.0036" not in others
    assert "## Other" not in markdown(pd.DataFrame([SHOWN]), STUDY)
    untested = markdown(pd.DataFrame([other]), STUDY).split("\n\n")
    assert untested[1].startswith("This study declares no comparison")
    assert untested[2] == "## Other pairs, without a test"


def test_comparisons_of_an_older_version_are_to_be_made_again(tmp_path):
    path = tmp_path / "comparisons.csv"
    pd.DataFrame([SHOWN]).drop(columns=["lost_of", "sd"]).to_csv(path, index=False)
    with pytest.raises(InputError, match=r"comparisons\.csv: no column lost_of, sd; remake it"):
        read_comparisons(path)


@pytest.mark.parametrize(
    ("n", "more", "few"),
    [
        ((2, 2), {}, True),
        ((3, 3), {}, False),
        ((3, 5), {}, True),
        ((15, 4), {}, True),
        ((5, 15), {}, False),
        ((2, 2), {"paired": True}, False),
        ((1, 5), {"low": math.nan}, False),
    ],
)
def test_few_runs_are_few_for_welchs_test(n, more, few):
    row = {"n_of": n[0], "n_against": n[1], "low": 0.1, "paired": False}
    assert few_for_welch(row | more) == few


def test_equal_means_are_equal_and_pairs_that_are_not_compared_are_said():
    names = {"a": "A", "b": "B", "c": "C"}
    row = {"of": "a", "against": "b", "metric": "test_accuracy", "unit": "points", "low": math.nan}
    row |= {"difference": 0.0, "n_of": 3, "n_against": 3, "note": "all runs are equal"}
    row |= {"paired": False, "lost_of": 0, "lost_against": 0}
    assert finding(row, names).startswith("The mean test accuracy of A is equal to that of B (n = ")
    infinite = row | {"difference": math.nan, "note": "a number is not finite; and more"}
    assert finding(infinite, names) == "A against B: a number is not finite, so nothing is said."
    pairs = [row, row | {"against": "c"}, row | {"metric": "test_loss", "of": "b", "against": "c"}]
    assert "Of 3 pairs, 2 are compared: " in description(pd.DataFrame(pairs), names)
    pairs.append(row | {"of": "b", "against": "c"})
    assert "pairs" not in description(pd.DataFrame(pairs), names)
