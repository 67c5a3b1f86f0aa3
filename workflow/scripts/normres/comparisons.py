"""The comparisons that a study declares: what is tested, written down before the results are seen.

An entry of `comparisons` in config.yaml names two sides, `of` and `against`, by model, norm, axes:

    {of: {norm: batch}, against: {norm: none}, metric: test_accuracy, paired: false}

A key that both sides leave out stands for one comparison for each value it has; so this compares
the two norms within each model. Used while Snakemake reads the Snakefile: no pandas here.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from normres.errors import InputError
from normres.files import read_json
from normres.validation import check_name, show, value_text

# The most that a study declares: with more, an adjustment for all of them leaves little to find.
MOST_DECLARED = 60

Configuration = Mapping[str, Any]  # model, norm, and the axes that apply


def declared(study: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The entries of a study of config.yaml that fits the schema, with their defaults."""
    defaults = {"metric": "test_accuracy", "paired": False}
    return [defaults | dict(entry) for entry in study.get("comparisons", [])]


def expand(
    entries: Sequence[Mapping[str, Any]],
    configurations: Sequence[Configuration],
    axes: Mapping[str, Sequence[Any]],
    where: str,
) -> list[dict[str, Any]]:
    """All comparisons of two configurations that the entries stand for, in order.

    Args:
        entries: as `declared` returns them.
        configurations: the study's, each once.
        axes: the study's axes with their values.
        where: the place of the entries, for messages.

    Returns:
        For each its two configurations `of` and `against`, `metric` and `paired`.

    Raises InputError, in one line, for an unknown key or value, sides that name different keys or
    are the same, an entry that fits nothing, one that is there twice, and too many.
    """
    found: list[dict[str, Any]] = []
    for i, entry in enumerate(entries):
        place = f"{where}.{i}"
        _check_sides(entry, configurations, axes, place)
        pairs = list(_pairs(entry["of"], entry["against"], configurations))
        if not pairs:
            raise InputError(f"{place}: fits no two configurations of the study")
        for of, against in pairs:
            comparison = {"of": of, "against": against}
            comparison |= {"metric": entry["metric"], "paired": entry["paired"]}
            for other in found:
                if other["metric"] == entry["metric"] and {_key(of), _key(against)} == {
                    _key(other["of"]), _key(other["against"])
                }:  # fmt: skip
                    raise InputError(f"{place}: compares two configurations that another one does")
            found.append(comparison)
            if len(found) > MOST_DECLARED:
                raise InputError(
                    f"{where}: more than {MOST_DECLARED} comparisons; declare the few that matter "
                    "(all others are shown, too, without a test)"
                )
    return found


def read_declared(path: str) -> dict[str, Any]:
    """Read a list of declared comparisons: the keys `comparisons` and `differences_of_interest`.

    Raises InputError where it is none.
    """
    listed = read_json(path)
    if not isinstance(listed, dict) or {"comparisons", "differences_of_interest"} - set(listed):
        raise InputError(f"{path}: not a list of declared comparisons")
    return listed


def configurations_of(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The configurations of a study.json's runs, each once, in order."""
    found = {}
    for run in runs:
        configuration = {"model": run["model"], "norm": run["norm"], **run["axes"]}
        found[_key(configuration)] = configuration
    return list(found.values())


def _check_sides(
    entry: Mapping[str, Any],
    configurations: Sequence[Configuration],
    axes: Mapping[str, Sequence[Any]],
    place: str,
) -> None:
    names = ["model", "norm", *axes]
    for side in ("of", "against"):
        for key, value in entry[side].items():
            check_name(key, names, f"{place}.{side}")
            allowed = axes.get(key) or list(dict.fromkeys(c[key] for c in configurations))
            if not any(_same(value, other) for other in allowed):
                raise InputError(
                    f"{place}.{side}.{key}: {show(value)} is not in the study; allowed: "
                    f"{', '.join(map(value_text, allowed))}"
                )
    of, against = entry["of"], entry["against"]
    if set(of) != set(against):
        alone = sorted(set(of) ^ set(against))[0]
        raise InputError(
            f"{place}: only one side names {alone}; name it on both sides, or leave it out on both "
            "for a comparison within each of its values"
        )
    if all(_same(of[key], against[key]) for key in of):
        raise InputError(f"{place}: both sides are the same")


def _pairs(
    of: Mapping[str, Any], against: Mapping[str, Any], configurations: Sequence[Configuration]
) -> Iterator[tuple[Configuration, Configuration]]:
    """Pairs of configurations that fit the two sides and agree in all else that both have."""
    others = [c for c in configurations if _fits(c, against)]
    for one in configurations:
        if _fits(one, of):
            for other in others:
                shared = (set(one) & set(other)) - set(of)
                if all(_same(one[key], other[key]) for key in shared):
                    yield one, other


def _fits(configuration: Configuration, side: Mapping[str, Any]) -> bool:
    return all(
        key in configuration and _same(configuration[key], value) for key, value in side.items()
    )


def _same(one: Any, other: Any) -> bool:
    """Whether two values are equal; true is not 1."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _key(configuration: Configuration) -> tuple[Any, ...]:
    return tuple((name, str(value)) for name, value in configuration.items())
