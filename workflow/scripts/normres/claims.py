"""Claims: those of the write-up (workflow/claims.yaml) and a user's own (config.yaml), checked.

Used while Snakemake reads the Snakefile, so that a wrong test is said before anything is trained;
nothing here imports torch or pandas.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from normres import catalog
from normres.errors import InputError
from normres.expression_parser import parse, parse_number
from normres.expressions import Epoch, Measured, Node, Test, measured
from normres.options import LOADER, option_schemas
from normres.validation import below, check, check_name, coerce, value_text

CLAIMS_FILE = Path(__file__).parents[2] / "claims.yaml"
SCHEMA_FILE = Path(__file__).parents[2] / "schemas" / "claims.schema.yaml"


@dataclass(frozen=True)
class Claim:
    """A claim with its tests read; `readings` has one entry, named "", where there is one test."""

    id: str
    section: str
    statement: str
    design: Mapping[str, Any]  # as in claims.yaml, under designs
    readings: Mapping[str, Test]
    refuted_by: Test | None
    also: Mapping[str, Node]
    flag: tuple[str, Test] | None
    figure: str
    contradicts: Sequence[str]
    note: str
    text: str  # of the test, for people
    own: bool  # a user's

    def measured(self) -> list[Measured]:
        """The statistics that decide about the claim."""
        tests = [*self.readings.values(), *([self.refuted_by] if self.refuted_by else [])]
        return [part for test in tests for part in measured(test)]


@cache
def _schema() -> dict[str, Any]:
    return yaml.load(SCHEMA_FILE.read_text(encoding="utf-8"), Loader=LOADER)


def exercise_claims() -> list[dict[str, Any]]:
    """The claims of workflow/claims.yaml as plain values, each with its design in full."""
    check(_file(), _schema(), CLAIMS_FILE.name)
    return _with_designs(_file()["claims"], CLAIMS_FILE.name, own=False)


@cache
def _file() -> dict[str, Any]:
    return yaml.load(CLAIMS_FILE.read_text(encoding="utf-8"), Loader=LOADER)


def user_claims(given: Any, where: str) -> list[dict[str, Any]]:
    """The claims under a key `claims` of config.yaml as plain values; raises InputError."""
    if isinstance(given, list):
        given = [_coerce(claim) for claim in given]
    check(given, {"type": "array", "items": _schema()["$defs"]["claim"], **_defs()}, where)
    claims = _with_designs(given, where, own=True)
    read_claims(claims, where)
    return claims


def _defs() -> dict[str, Any]:
    return {"$defs": _schema()["$defs"]}


def _coerce(claim: Any) -> Any:
    """A claim whose margins are numbers where YAML reads text: 1e-4."""
    if not isinstance(claim, dict) or not isinstance(claim.get("margins"), dict):
        return claim
    margins = {name: coerce(value, {"type": "number"}) for name, value in claim["margins"].items()}
    return {**claim, "margins": margins}


def _with_designs(
    claims: Iterable[Mapping[str, Any]], where: str, own: bool
) -> list[dict[str, Any]]:
    full = []
    for number, claim in enumerate(claims):
        design = claim.get("design", {})
        place = f"{where}.{number}.design"
        if isinstance(design, str):
            check_name(design, _file()["designs"], place)
            design = _file()["designs"][design]
        elif design:
            check(design, {**_schema()["$defs"]["design"], **_defs()}, place)
        for option in design.get("options", {}):
            check_name(option, option_schemas(), f"{place}.options")
        full.append({**claim, "design": design, "own": own})
    return full


def read_claims(claims: Sequence[Mapping[str, Any]], where: str) -> list[Claim]:
    """Read the tests of claims that fit the schema; raises InputError that names the claim."""
    return [_read_claim(claim, f"{where}: claim {claim['id']}") for claim in claims]


def study_claims(
    everywhere: Sequence[Mapping[str, Any]], study: Any, figures: Iterable[str]
) -> list[dict[str, Any]]:
    """All claims to check in a study: the write-up's, a user's for every study, and for this one.

    `everywhere` is the key `claims` of config.yaml, `study` a grid.Study. Raises InputError, in one
    line, for a claim that cannot be read or that asks for what there is not.
    """
    place = f"config.studies.{study.name}.claims"
    given = user_claims(everywhere, "config.claims")
    about_study = user_claims(study.claims, place)
    _check_against_study(read_claims(about_study, place), study, place)
    claims = [*exercise_claims(), *given, *about_study]
    _check_references(claims, "config")
    for claim in (*given, *about_study):
        if "figure" in claim:
            check_name(claim["figure"], figures, f"config: claim {claim['id']}: figure")
    return claims


def check_listed(listed: Any, where: str) -> list[dict[str, Any]]:
    """A list as `study_claims` returns it, read from a file; raises InputError."""
    own = {"own": {"type": "boolean"}, **_schema()["$defs"]["claim"]["properties"]}
    item = _schema()["$defs"]["claim"] | {"properties": own}
    item["required"] = [*item["required"], "design", "own"]
    check(listed, {"type": "array", "items": item, **_defs()}, where)
    _check_references(listed, where)
    return listed


def _check_references(claims: Sequence[Mapping[str, Any]], where: str) -> None:
    """Refuse two claims of one id, and references to claims that there are not."""
    ids = [claim["id"] for claim in claims]
    for claim in claims:
        here = f"{where}: claim {claim['id']}"
        if ids.count(claim["id"]) > 1:
            raise InputError(f"{here}: there are two claims of this id")
        for other in claim.get("contradicts", []):
            if other not in ids or other == claim["id"]:
                raise InputError(f"{here}: contradicts {other!r}, which is no other claim")


def _read_claim(claim: Mapping[str, Any], place: str) -> Claim:
    if ("test" in claim) == ("readings" in claim):
        raise InputError(f"{place}: give either `test` or `readings`")
    if "refuted_by" in claim and "readings" in claim:
        raise InputError(f"{place}: `refuted_by` goes with `test`, not with `readings`")
    texts = claim.get("readings") or {"": claim["test"]}
    margins = claim.get("margins", {})

    def read(text: str, key: str, parser=parse) -> Any:
        try:
            node = parser(text, margins)
            _check_configurations(node)
            return node
        except InputError as error:
            raise InputError(f"{place}: {key}: {error}") from None

    flag = claim.get("flag")
    spread = {name: " ".join(text.split()) for name, text in texts.items()}
    return Claim(
        id=claim["id"],
        section=claim.get("section", "own"),
        statement=claim["statement"],
        design=claim["design"],
        readings={
            name: read(text, below("readings", name) if name else "test")
            for name, text in texts.items()
        },
        refuted_by=read(claim["refuted_by"], "refuted_by") if "refuted_by" in claim else None,
        also={
            name: read(text, below("also", name), parse_number)
            for name, text in claim.get("also", {}).items()
        },
        flag=(flag["words"], read(flag["test"], "flag.test")) if flag else None,
        figure=claim.get("figure", ""),
        contradicts=tuple(claim.get("contradicts", ())),
        note=" ".join(claim.get("note", "").split()),
        text="; ".join(f"{name}: {text}" if name else text for name, text in spread.items()),
        own=claim["own"],
    )


def _check_configurations(test: Node) -> None:
    """Refuse networks, norms, options and values that there are not."""
    for part in measured(test):
        here = f"at character {part.position + 1}, {part.statistic}"
        check_name(part.model, catalog.names("networks"), here)
        check_name(part.norm, catalog.names("norms"), here)
        for axis, value in part.axes:
            check_name(axis, option_schemas(), f"{here}: axis")
            if value != "*":
                schema = option_schemas()[axis]
                check(coerce(value, schema), schema, f"{here}: {axis}")


def _check_against_study(claims: Sequence[Claim], study: Any, where: str) -> None:
    """Refuse claims of a study that name configurations or epochs that it does not have.

    `study` is a grid.Study. Claims for every study may ask for what some of them have not.
    """
    for claim in claims:
        for part in claim.measured():
            here = f"{where}: claim {claim.id}: at character {part.position + 1}, {part.statistic}"
            check_name(part.model, study.models, here)
            check_name(part.norm, study.norms, here)
            for axis, value in part.axes:
                _check_axis(axis, value, study, here)
            _check_unnamed(part, study, here)
            for epoch in (part.first, part.final):
                if epoch and not 0 <= resolve_epoch(epoch, study.epochs) <= study.epochs:
                    raise InputError(f"{here}: the study has epochs 0 to {study.epochs}")


def _check_axis(axis: str, value: str, study: Any, here: str) -> None:
    """Refuse a value of an option that no run of the study has."""
    values = study.axes.get(axis, [study.options[axis]])
    if value == "*":
        if axis not in study.axes:
            raise InputError(f"{here}: the study does not vary {axis}")
    elif coerce(value, option_schemas()[axis]) not in values:
        allowed = ", ".join(map(value_text, values))
        raise InputError(f"{here}: no {axis} of {value} in the study; it has {allowed}")


def _check_unnamed(part: Measured, study: Any, here: str) -> None:
    """Refuse an axis that is not named where no run has its default, for which it stands."""
    runs = [run for run in study.runs if (run.model, run.norm) == (part.model, part.norm)]
    for axis in study.axes:
        values = list(dict.fromkeys(run.axes[axis] for run in runs if axis in run.axes))
        default = option_schemas()[axis]["default"]
        if values and axis not in dict(part.axes) and default not in values:
            raise InputError(
                f"{here}: {axis} is not named, and no run of {part.model}/{part.norm} has its "
                f"default, {value_text(default)}; name one, such as /{axis}={value_text(values[0])}"
            )


def resolve_epoch(epoch: Epoch, last: int) -> int:
    """The number of an epoch in a study of `last` epochs."""
    bases = {"last": last, "half": (last + 1) // 2}
    return bases.get(epoch.base, epoch.base) - epoch.minus
