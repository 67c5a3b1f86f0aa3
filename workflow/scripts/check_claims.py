"""Check the claims of the exercise's write-up, and a user's own, against a study's tables.

    python workflow/scripts/check_claims.py --study results/S/study.json \\
        --dataset results/data/D/dataset.json --curves results/S/curves.csv \\
        --complexity results/S/complexity.csv --timing results/S/timing.csv \\
        --out results/S/claims.csv
    python workflow/scripts/check_claims.py --list

Writes claims.csv, one row per claim: id, section, statement; verdict (supported, refuted,
undecided, or not measured) and evidence; transfer_verdict, transfer_evidence and transfer_from,
where the study is not of the design that the claim asks for: the same test on other data or under
other options, which never counts; contradicts (ids); figure; run (the command that measures it);
test; note; own (a user's claim). The claims are those of workflow/claims.yaml unless --claims names
a list as the pipeline writes it. docs/claims.md says how they are tested. With --list it prints the
claims.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from normres.claim_designs import differences
from normres.claim_statistics import NONE_LOST, Tables, evaluate, lost_runs, select
from normres.claim_tests import (
    REFUTED,
    SUPPORTED,
    UNDECIDED,
    Part,
    holds_for_estimates,
    verdict,
    weigh,
)
from normres.claim_values import NotHereError, UnknownError
from normres.claim_words import evidence, value_words
from normres.claims import CLAIMS_FILE, Claim, check_listed, exercise_claims, read_claims
from normres.command_line import make_parser
from normres.errors import InputError, run_command
from normres.expressions import STATISTICS, Compare, Number
from normres.files import read_json
from normres.tables import configuration_columns, read_cells, read_study, read_table, write_table
from normres.wording import CALL, study_call

NOT_MEASURED = "not measured"
PLACE = ("device_name", "resolved_precision")  # times compare within these
Row = dict[str, Any]


def check(
    claims: Sequence[Claim], tables: Tables, dataset: Mapping[str, Any], call: str
) -> list[Row]:
    """The rows of claims.csv; `dataset` is dataset.json, `call` the one that makes studies."""
    against: dict[str, list[str]] = {claim.id: [] for claim in claims}
    for claim in claims:
        for other in claim.contradicts:
            against[claim.id].append(other)
            against[other].append(claim.id)
    return [
        {
            "id": claim.id,
            "section": claim.section,
            "statement": claim.statement,
            **judge(claim, tables, dataset, call),
            "contradicts": " ".join(dict.fromkeys(against[claim.id])),
            "figure": claim.figure,
            "test": claim.text,
            "note": claim.note,
            "own": claim.own,
        }
        for claim in claims
    ]


def judge(claim: Claim, tables: Tables, dataset: Mapping[str, Any], call: str = CALL) -> Row:
    """Verdict, evidence, transfer and what to run, for one claim."""
    study = tables.study["study"]
    where = claim.design.get("study", study)
    command = study_call(call, where)
    empty = {"transfer_verdict": "", "transfer_evidence": "", "transfer_from": "", "run": ""}
    try:
        other = differences(claim, tables, dataset)
        found, words = settle(claim, tables)
    except NotHereError as error:
        missing = str(error)
        return empty | {"verdict": NOT_MEASURED, "evidence": missing, "run": command}
    if not other:
        return empty | {"verdict": found, "evidence": words}
    return {
        "verdict": NOT_MEASURED,
        "evidence": f"here {'; '.join(other)}",
        "transfer_verdict": found,
        "transfer_evidence": words,
        "transfer_from": "; ".join(other),
        "run": command,
    }


def settle(claim: Claim, tables: Tables) -> tuple[str, str]:
    """Verdict and evidence on these tables, whatever the study's design; raises NotHereError.

    Several readings of a claim, and several devices or precisions for one about times, each have a
    verdict; where these differ the claim is undecided.
    """
    verdicts, told = [], []
    for place, there in places(claim, tables):
        for name, test in claim.readings.items():
            weighed = weigh(test, there)
            found = verdict(weighed)
            if claim.refuted_by and found != SUPPORTED:
                contrary = weigh(claim.refuted_by, there)
                found = REFUTED if contrary.supported() else UNDECIDED
            verdicts.append(found)
            words = evidence(weighed, there.study["epochs"])
            head = ", ".join(part for part in (place, name) if part)
            told.append(
                f"{head}: {found}: {words}" if name else f"{head}: {words}" if head else words
            )
    told += [f"{name}: {also_words(node, tables)}" for name, node in claim.also.items()]
    joined = verdicts[0] if len(set(verdicts)) == 1 else UNDECIDED
    if claim.flag and joined == SUPPORTED and holds_for_estimates(claim.flag[1], tables):
        told.append(f"note: {claim.flag[0]}")
    if {SUPPORTED, REFUTED} <= set(verdicts):
        told[0] = f"it depends on what is meant: {told[0]}"
    return joined, "; ".join(told)


def also_words(node: Any, tables: Tables) -> str:
    """A further quantity with its interval."""
    value, reason, lost = None, "", NONE_LOST
    try:
        lost = lost_runs(node, tables)
        value = evaluate(node, tables)
    except (UnknownError, NotHereError) as error:
        reason = str(error)
    shown = Compare(node.position, ">", node, Number(node.position, 0.0))
    return value_words(Part(shown, value, reason, 0.0, 0.0, bool, lost), 0.95)


def places(claim: Claim, tables: Tables) -> Iterator[tuple[str, Tables]]:
    """The tables, once for each device and precision that times were measured on.

    Claims without times have one, unnamed.
    """
    timed = [p for p in claim.measured() if STATISTICS[p.statistic].table == "timing"]
    found = tables.timing.dropna(subset=["repeat"]).groupby(list(PLACE), sort=False)
    groups = [
        (place, rows)
        for place, rows in found
        if any(len(select(rows, part, tables.study)) for part in timed)
    ]
    if not groups:
        yield "", tables
    for place, rows in groups:
        yield f"on {', '.join(map(str, place))}", replace(tables, timing=rows)


def read_tables(arguments: argparse.Namespace) -> Tables:
    """Read the study and its tables."""
    study = read_study(arguments.study)
    curves = read_table(arguments.curves, study)
    words = [*configuration_columns(study), "status"]
    return Tables(
        study,
        curves.astype(dict.fromkeys(words, "category")),  # told apart twice as fast
        read_cells(arguments.timing, study["axes"]),
        read_cells(arguments.complexity, study["axes"]),
    )


def summary(rows: Sequence[Row]) -> str:
    """How many claims have which verdict."""
    counts = pd.Series([row["verdict"] for row in rows]).value_counts()
    return ", ".join(f"{n} {name}" for name, n in counts.items())


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--list", action="store_true", help="print the claims and their tests")
    parser.add_argument("--study", type=Path, help="study.json")
    parser.add_argument("--dataset", type=Path, help="dataset.json of the prepared data set")
    parser.add_argument("--curves", type=Path, help="curves.csv of collect_runs")
    parser.add_argument("--complexity", type=Path, help="complexity.csv of count_complexity")
    parser.add_argument("--timing", type=Path, help="timing.csv of time_training")
    parser.add_argument("--claims", type=Path, help="claims as JSON, instead of claims.yaml")
    parser.add_argument(
        "--call",
        default=CALL,
        metavar="COMMAND",
        help=f"makes studies, but for their choice [{CALL}]",
    )
    parser.add_argument("--out", type=Path, help="claims.csv to write")
    arguments = parser.parse_args(argv)
    where = str(arguments.claims or CLAIMS_FILE.name)
    listed = read_json(arguments.claims) if arguments.claims else exercise_claims()
    claims = read_claims(check_listed(listed, where), where)
    if arguments.list:
        print("\n".join(f"{c.id} ({c.section}): {c.statement}\n    {c.text}" for c in claims))
        return
    given = (arguments.study, arguments.dataset, arguments.curves, arguments.complexity)
    if None in (*given, arguments.timing, arguments.out):
        parser.error("give --list, or --study, --dataset, --curves, --complexity, --timing, --out")
    dataset = read_json(arguments.dataset)
    if not isinstance(dataset, dict) or "n_train" not in dataset:
        raise InputError(f"{arguments.dataset}: not the description of a data set")
    rows = check(claims, read_tables(arguments), dataset, arguments.call)
    write_table(pd.DataFrame(rows), arguments.out)
    print(f"wrote {arguments.out}: of {len(rows)} claims {summary(rows)}")


if __name__ == "__main__":
    run_command(main)
