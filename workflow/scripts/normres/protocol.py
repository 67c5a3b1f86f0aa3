"""A study's settings beside the exercise's protocol: every resolved option, and what differs."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from normres.options import SEED_OPTIONS, option_schemas
from normres.tables import axis_text, norm_title

# Where the exercise's two parts differ from each other; its other options are the defaults.
EXERCISE = {
    "svhn": {"dataset": "svhn", "epochs": 30, "normalize": "none"},
    "cifar10": {"dataset": "cifar10", "epochs": 50, "normalize": "half"},
}
# Options of which the exercise says nothing, since they are no part of its training.
BEYOND_EXERCISE = ("train_eval_images", "compile", "cpu_threads")


def settings(study: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every resolved option of the runs: its values, where it applies, and the exercise's value."""
    schemas = option_schemas()
    name = study["dataset"]["name"]
    parts = [EXERCISE[name]] if name in EXERCISE else list(EXERCISE.values())
    specifications = [_own_seeds(run["specification"]) for run in study["runs"]]
    used = {key for specification in specifications for key in specification}
    options = [key for key in schemas if key in used]
    options += sorted(used - set(schemas) - {"model", "norm", "seed", "epochs"})
    rows = [
        setting_row("dataset", [name], [part["dataset"] for part in parts], "Data set."),
        setting_row(
            "epochs", [study["epochs"]], [part["epochs"] for part in parts],
            "Passes over the training images.",
        ),
    ]  # fmt: skip
    for option in options:
        schema = schemas.get(option, {})
        known = option in schemas and option not in BEYOND_EXERCISE
        theirs = [part.get(option, schema["default"]) for part in parts] if known else []
        readers = [s for s in specifications if option in s]
        ours = list(dict.fromkeys(setting_text(s[option]) for s in readers))
        row = setting_row(option, ours, theirs, schema.get("description", ""))
        if len(ours) > 1 and option not in study["axes"]:
            row["values"] = [f"{v} ({names_with(option, v, readers)})" for v in ours]
        rows.append(row | {"only": applies_to(readers, study), "axis": option in study["axes"]})
    return rows


def _own_seeds(specification: Mapping[str, Any]) -> dict[str, Any]:
    """A specification in which a seed that is the run's own is called that, as by default."""
    own = {o: "seed" for o in SEED_OPTIONS if specification.get(o) == specification["seed"]}
    return {**specification, **own}


def setting_row(
    option: str, ours: Iterable[Any], theirs: Iterable[Any], description: str
) -> dict[str, Any]:
    """A row of the settings; it differs where one of our values is none of the exercise's."""
    ours, theirs = (list(dict.fromkeys(map(setting_text, values))) for values in (ours, theirs))
    return {
        "option": option,
        "values": ours,
        "exercise": theirs,
        "differs": bool(theirs) and not set(ours) <= set(theirs),
        "description": description,
        "only": "",
        "axis": False,
    }


def setting_text(value: Any) -> str:
    """An option's value as text, the same for 1 and 1.0."""
    return json.dumps(value) if isinstance(value, dict | list) else axis_text(value)


def names_with(option: str, value: str, specifications: Iterable[Mapping[str, Any]]) -> str:
    """The models whose runs have this value of an option (only models have values of their own)."""
    models = [s["model"] for s in specifications if setting_text(s[option]) == value]
    return ", ".join(dict.fromkeys(models))


def applies_to(readers: Sequence[Mapping[str, Any]], study: Mapping[str, Any]) -> str:
    """The models and norms whose runs read an option; empty where all runs do."""
    if len(readers) == len(study["runs"]):
        return ""
    models, norms = ({s[key] for s in readers} for key in ("model", "norm"))
    parts = [name for name in study["models"] if name in models and models < set(study["models"])]
    parts += [
        norm_title(name) for name in study["norms"] if name in norms and norms < set(study["norms"])
    ]
    return ", ".join(parts) or "some runs"
