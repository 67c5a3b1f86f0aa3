"""A study and its runs: the grid of models, norms, axes and seeds, expanded and checked."""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from normres import catalog, comparisons, fingerprint
from normres.analyses import check_analyses
from normres.constraints import check_last_batch, check_norm
from normres.dataset_facts import CLASSES, SHAPES, SIZES
from normres.errors import InputError
from normres.files import checksum, expand_home
from normres.options import (
    SEED_OPTIONS,
    applies,
    option_schemas,
    own_seeds,
    resolve,
)
from normres.validation import check_name, show, value_text

# Runs of a study: beyond, Snakemake needs minutes to find out what there is to do.
MOST_RUNS = 100_000

# What a run leaves behind.
HISTORY, RECORD, WEIGHTS, LOGITS = "history.csv", "run.json", "model.pt", "test_logits.npy"
RUN_FILES = (HISTORY, RECORD, WEIGHTS, LOGITS)

# Keys of a study that no run and no table of runs depends on: only comparisons.csv.
COMPARISON_KEYS = ("comparisons", "differences_of_interest")


@dataclass(frozen=True)
class Run:
    """One training: a configuration (model, norm, axes) with a seed."""

    model: str
    norm: str
    seed: int
    axes: Mapping[str, Any]
    specification: Mapping[str, Any]
    fingerprint: str

    @property
    def configuration(self) -> tuple[Any, ...]:
        """What runs have in common that differ in their seed alone."""
        return self.model, self.norm, *self.axes.items()

    @property
    def name(self) -> str:
        """The run's folder below runs/, e.g. resnet/batch/learning_rate=0.001/seed0."""
        axes = [f"{axis}={value_text(value)}" for axis, value in self.axes.items()]
        return "/".join([self.model, self.norm, *axes, f"seed{self.seed}"])


@dataclass(frozen=True)
class Study:
    """A study of config.yaml, checked and expanded."""

    name: str
    title: str
    dataset: Mapping[str, Any]  # id, name; folder, image_size where there is one
    models: list[str]
    norms: list[str]
    seeds: list[int]
    epochs: int
    options: Mapping[str, Any]  # a value, or a list for an axis
    axes: Mapping[str, list[Any]]
    definition: Mapping[str, Any]  # as in config.yaml, without what only repeats a default
    runs: list[Run]
    excluded: list[dict[str, Any]]
    reported: list[dict[str, Any]]
    analyses: list[str]
    claims: list[dict[str, Any]]  # a user's; no part of the definition (see claims.py)
    comparisons: Mapping[str, Any]  # declared, and differences_of_interest; see comparisons.py

    def describe(self) -> dict[str, Any]:
        """What study.json holds: the study with every run's specification and fingerprint."""
        return {
            "study": self.name,
            "title": self.title,
            "dataset": dict(self.dataset),
            "models": self.models,
            "norms": self.norms,
            "seeds": self.seeds,
            "epochs": self.epochs,
            "options": dict(self.options),
            "axes": dict(self.axes),
            "runs": [
                {
                    "run": run.name,
                    "model": run.model,
                    "norm": run.norm,
                    "seed": run.seed,
                    "axes": dict(run.axes),
                    "specification": dict(run.specification),
                    "fingerprint": run.fingerprint,
                }
                for run in self.runs
            ],
            "excluded": self.excluded,
            "reported": self.reported,
        }


def expand(name: str, study: Mapping[str, Any]) -> Study:
    """Expand a study of config.yaml that fits the schema.

    Raises InputError, in one line, for what the schema cannot say.
    """
    where = f"config.studies.{name}"
    schemas = option_schemas()
    _check_names(study, where)
    given = {key: _normal(study[key], schemas[key]) for key in schemas if key in study}
    axes = {key: value for key, value in given.items() if isinstance(value, list)}
    _check_size([study["models"], study["norms"], study["seeds"], *axes.values()], where)
    dataset = _dataset(study, where)
    rules = _exclusions(study)
    runs, excluded = [], []
    matched: set[tuple[int, str, Any]] = set()
    for model, norm, chosen, values in _configurations(study, given, axes):
        specification = resolve(model, norm, study["seeds"][0], study["epochs"], values)
        number = _exclusion(rules, specification)
        if number is not None:
            matched |= {
                (number, key, specification[key]) for key in rules[number] if key != "reason"
            }
            reason = rules[number]["reason"]
            excluded.append({"model": model, "norm": norm, **chosen, "reason": reason})
            continue
        _check_run(specification, dataset, where)
        _check_seeds(study, values, where)
        code = fingerprint.of_run(model, norm)
        runs += [
            Run(
                model,
                norm,
                seed,
                chosen,
                specification | {"seed": seed} | own_seeds(seed, values),
                code,
            )
            for seed in study["seeds"]
        ]
    _check_exclusions(rules, matched, where)
    if not runs:
        raise InputError(f"{where}: no run is left; `exclude` leaves out every configuration")
    _check_used(study, given, runs, where)
    check_analyses(study.get("analyses", []), study["norms"], axes, runs[0].specification, where)
    return Study(
        name=name,
        title=study.get("title", name),
        dataset=dataset,
        models=study["models"],
        norms=study["norms"],
        seeds=study["seeds"],
        epochs=study["epochs"],
        options={key: given.get(key, option["default"]) for key, option in schemas.items()},
        axes=axes,
        definition=_definition(name, study, given, dataset),
        runs=runs,
        excluded=excluded,
        reported=study.get("reported", []),
        analyses=study.get("analyses", []),
        claims=study.get("claims", []),
        comparisons=_comparisons(study, axes, runs, where),
    )


def _definition(
    name: str, study: Mapping[str, Any], given: Mapping[str, Any], dataset: Mapping[str, Any]
) -> dict[str, Any]:
    schemas = option_schemas()
    beside = {*schemas, "analyses", "claims", *COMPARISON_KEYS}
    # What is empty says no more than what is not there, nor does a title that is the name.
    kept = {k: v for k, v in study.items() if k not in beside and v not in ([], {})}
    if kept.get("title") == name:
        del kept["title"]
    if "image_size" not in dataset:
        kept.pop("image_size", None)
    return kept | {key: value for key, value in given.items() if value != schemas[key]["default"]}


def _configurations(
    study: Mapping[str, Any], given: Mapping[str, Any], axes: Mapping[str, list[Any]]
) -> Iterator[tuple[str, str, dict[str, Any], dict[str, Any]]]:
    """Each (model, norm, values of the axes that apply, option values), once, in order."""
    schemas = option_schemas()
    for model, norm in itertools.product(study["models"], study["norms"]):
        overrides = study.get("overrides", {}).get(model, {})
        seen: set[tuple[Any, ...]] = set()
        for combination in itertools.product(*axes.values()):
            values = {**given, **dict(zip(axes, combination, strict=True)), **overrides}
            optimizer = values.get("optimizer", schemas["optimizer"]["default"])
            chosen = {
                axis: values[axis]
                for axis in axes
                if axis not in overrides and applies(axis, model, norm, optimizer)
            }
            if tuple(chosen.values()) not in seen:
                seen.add(tuple(chosen.values()))
                yield model, norm, chosen, values


def _check_size(factors: list[list[Any]], where: str) -> None:
    n = math.prod(map(len, factors))
    if n > MOST_RUNS:
        raise InputError(f"{where}: a grid of {n} runs; the most is {MOST_RUNS}")


def _check_names(study: Mapping[str, Any], where: str) -> None:
    """Refuse names of models, norms and options that there are not, and reports of others."""
    for model in study["models"]:
        check_name(model, catalog.names("networks"), f"{where}.models")
        catalog.check_network(model)
    for norm in study["norms"]:
        check_name(norm, catalog.names("norms"), f"{where}.norms")
    for model in study.get("overrides", {}):
        check_name(model, study["models"], f"{where}.overrides")
    keys = ["reason", "model", "norm", *option_schemas()]
    for i, rule in enumerate(study.get("exclude", [])):
        for key in rule:
            check_name(key, keys, f"{where}.exclude.{i}")
    reported = study.get("reported", [])
    for i, entry in enumerate(reported):
        place = f"{where}.reported.{i}"
        check_name(entry["model"], study["models"], f"{place}.model")
        check_name(entry["norm"], study["norms"], f"{place}.norm")
        if entry["test_correct"] > entry["test_images"]:
            raise InputError(f"{place}: test_correct is more than test_images")
        if any((e["model"], e["norm"]) == (entry["model"], entry["norm"]) for e in reported[:i]):
            raise InputError(f"{place}: {entry['model']} with norm {entry['norm']} is there twice")


def _check_run(specification: Mapping[str, Any], dataset: Mapping[str, Any], where: str) -> None:
    """What the schema cannot say about one run, as far as it is known without the data."""
    try:
        check_norm(specification)
        embedded = "folder" not in dataset
        side = dataset.get("image_size") or (SHAPES[dataset["name"]][0] if embedded else None)
        if side:
            _check_side(specification["model"], side)
        if embedded:
            _check_sizes(specification, dataset["name"])
    except InputError as error:
        raise InputError(f"{where}.{error}") from None


def _check_seeds(study: Mapping[str, Any], values: Mapping[str, Any], where: str) -> None:
    """Refuse several seeds where none of them would change anything: they are no repeats."""
    if len(study["seeds"]) > 1 and not own_seeds(study["seeds"][0], values):
        raise InputError(
            f"{where}.seeds: {' and '.join(SEED_OPTIONS)} fix all that is random, so all seeds "
            "would give the same run; take one seed"
        )


def _check_side(model: str, side: int) -> None:
    smallest = catalog.constant("networks", model, "MIN_SIDE")
    if side < smallest:
        raise InputError(
            f"image_size: {model} needs images of {smallest} x {smallest} pixels or more, "
            f"not {side} x {side}"
        )


def _check_sizes(specification: Mapping[str, Any], name: str) -> None:
    """Check the numbers of images that a run asks of a data set whose sizes are known."""
    n_train, n_test = SIZES[name]
    held_out = specification["validation_images"]
    most = {
        "validation_images": n_train - CLASSES[name],
        "train_images": n_train - held_out,
        "test_images": n_test,
    }
    for key, limit in most.items():
        wanted = specification[key]
        if wanted > limit:
            raise InputError(f"{key}: {wanted} is too large; the most is {limit}")
        if 0 < wanted < CLASSES[name]:
            raise InputError(f"{key}: {wanted} images of {CLASSES[name]} classes; take one of each")
    check_last_batch(specification["train_images"] or n_train - held_out, specification)


def _check_used(
    study: Mapping[str, Any], given: Mapping[str, Any], runs: list[Run], where: str
) -> None:
    """Refuse options that no run reads: they would say what was not done."""
    for option in given:
        if all(option not in run.specification for run in runs):
            raise InputError(
                f"{where}.{option}: applies to none of the study's models, norms and optimisers"
            )
    for model, overrides in study.get("overrides", {}).items():
        for option in overrides:
            if all(option not in run.specification for run in runs if run.model == model):
                raise InputError(f"{where}.overrides.{model}.{option}: applies to none of its runs")


def _comparisons(
    study: Mapping[str, Any], axes: Mapping[str, list[Any]], runs: list[Run], where: str
) -> dict[str, Any]:
    """What the study declares to compare, its values as in a specification."""
    text = {"type": "string"}
    entries = comparisons.declared(study)
    for entry in entries:
        for side in ("of", "against"):
            entry[side] = {
                key: _normal(value, option_schemas().get(key, text))
                for key, value in entry[side].items()
            }
    found = {run.configuration: run for run in runs}.values()
    configurations = [{"model": r.model, "norm": r.norm, **r.axes} for r in found]
    comparisons.expand(entries, configurations, axes, f"{where}.comparisons")
    interest = study.get("differences_of_interest", [0.5, 1.0])
    return {"comparisons": entries, "differences_of_interest": sorted(map(float, interest))}


def _exclusions(study: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The study's rules for exclusion: for each key the list of values it is left out with."""
    text = {"type": "string"}
    rules = []
    for rule in study.get("exclude", []):
        values = {key: _normal(rule[key], option_schemas().get(key, text)) for key in rule}
        rules.append(
            {
                key: value if key == "reason" or isinstance(value, list) else [value]
                for key, value in values.items()
            }
        )
    return rules


def _check_exclusions(
    rules: list[dict[str, Any]], matched: set[tuple[int, str, Any]], where: str
) -> None:
    """Refuse rules, and values of their lists, that have left out nothing."""
    for number, rule in enumerate(rules):
        if all(number != used for used, *_ in matched):
            raise InputError(f"{where}.exclude.{number}: fits no configuration of the study")
        for key in rule.keys() - {"reason"}:
            for value in rule[key]:
                if (number, key, value) not in matched:
                    raise InputError(
                        f"{where}.exclude.{number}.{key}: {show(value)} fits no configuration of "
                        "the study"
                    )


def _exclusion(rules: list[dict[str, Any]], specification: Mapping[str, Any]) -> int | None:
    """The number of the first rule that fits the specification, or None."""
    for number, rule in enumerate(rules):
        wanted = {key: values for key, values in rule.items() if key != "reason"}
        if all(specification.get(key) in values for key, values in wanted.items()):
            return number
    return None


def _dataset(study: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Identify the study's data set; its id names the folder below results/data."""
    given, size = study["dataset"], study.get("image_size")
    if isinstance(given, str):
        check_name(given, SIZES, f"{where}.dataset")
        dataset: dict[str, Any] = {"id": given, "name": given}
        if size == SHAPES[given][0]:
            size = None
    else:
        folder = _existing_folder(given["folder"])
        if folder is None:
            shown = show(given["folder"], most=300)
            raise InputError(f"{where}.dataset.folder: there is no folder {shown}")
        place = checksum(str(folder.resolve()).encode())[:8]
        name = folder.resolve().name[:60]
        name = "".join(c if c.isalnum() and c.isascii() else "-" for c in name)
        dataset = {"id": f"{name or 'folder'}-{place}", "name": name, "folder": str(folder)}
    if size:
        dataset |= {"id": f"{dataset['id']}-{size}px", "image_size": size}
    return dataset


def _existing_folder(path: str) -> Path | None:
    """The folder, or None where there is none; one whose name would break lines is none."""
    try:
        folder = expand_home(path)
        return folder if path.isprintable() and folder.is_dir() else None
    except (InputError, OSError):  # no such user; no permission, or a name of 100,000 letters
        return None


def _normal(value: Any, option_schema: Mapping[str, Any]) -> Any:
    """The value with whole numbers made floats where the option is a float: 1 and 1.0 are one."""
    if isinstance(value, list):
        return [_normal(item, option_schema) for item in value]
    return float(value) if option_schema["type"] == "number" else value
