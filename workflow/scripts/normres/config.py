"""From config.yaml to the runs of a study: read, checked and expanded before anything starts.

Snakemake calls this while it reads the Snakefile, so nothing here imports torch or pandas or opens
a data set.
"""

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from normres import catalog, fingerprint
from normres.dataset_facts import CLASSES, SHAPES, SIZES
from normres.errors import InputError
from normres.options import applies, check_last_batch, option_schemas, resolve, schema
from normres.validation import check, check_name, coerce, config_schema


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
    def name(self) -> str:
        """The run's folder below runs/, e.g. resnet/batch/learning_rate=0.001/seed0."""
        axes = [f"{axis}={_text(value)}" for axis, value in self.axes.items()]
        return "/".join([self.model, self.norm, *axes, f"seed{self.seed}"])


@dataclass(frozen=True)
class Study:
    """A study of config.yaml, checked and expanded."""

    name: str
    title: str
    dataset: Mapping[str, Any]  # id, name, and folder, image_size where there is one
    models: list[str]
    norms: list[str]
    seeds: list[int]
    epochs: int
    options: Mapping[str, Any]  # a value, or a list for an axis
    axes: Mapping[str, list[Any]]
    definition: Mapping[str, Any]  # as in config.yaml, without what only repeats a default
    runs: list[Run]
    excluded: list[dict[str, Any]] = field(default_factory=list)
    reported: list[dict[str, Any]] = field(default_factory=list)

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


@dataclass(frozen=True)
class Config:
    """A checked configuration: the selected studies and the settings that change no number."""

    studies: list[Study]
    data_root: str
    device: str
    save_every: float
    state_budget_gb: float


def read_config(raw: Mapping[str, Any]) -> Config:
    """Check and expand a configuration as Snakemake holds it (files and command line merged).

    Raises InputError, in one line, at the first thing that is wrong.
    """
    full = config_schema()
    config = _coerce_config(raw, full)
    check(config, full, "config")
    settings = {
        key: config.get(key, full["properties"][key]["default"])
        for key in ("data_root", "device", "save_every", "state_budget_gb")
    }
    names = _select(config["study"], config["studies"])
    studies = [_expand(name, config["studies"][name]) for name in names]
    return Config(studies=studies, **settings)


def _coerce_config(raw: Mapping[str, Any], full: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the configuration in which text has become what the schema asks for."""
    config = _coerce_values(raw, full["properties"])
    if isinstance(config.get("study"), str):
        config["study"] = config["study"].split(",")
    if isinstance(config.get("studies"), dict):
        config["studies"] = {name: _coerce_study(s) for name, s in config["studies"].items()}
    return config


def _coerce_study(study: Any) -> Any:
    if not isinstance(study, dict):
        return study
    properties = {**schema()["$defs"]["study"]["properties"], **option_schemas()}
    study = _coerce_values(study, properties)
    if isinstance(study.get("overrides"), dict):
        study["overrides"] = {
            model: _coerce_values(given, option_schemas()) if isinstance(given, dict) else given
            for model, given in study["overrides"].items()
        }
    return study


def _coerce_values(values: Mapping[str, Any], schemas: Mapping[str, Any]) -> dict[str, Any]:
    return {key: coerce(value, schemas.get(key, {})) for key, value in values.items()}


def _select(chosen: list[str], studies: Mapping[str, Any]) -> list[str]:
    """The names of single studies that `chosen` stands for, each once, in order."""
    names: list[str] = []
    for name in chosen:
        check_name(name, studies, "config.study")
        members = studies[name] if isinstance(studies[name], list) else [name]
        for member in members:
            check_name(member, studies, f"config.studies.{name}")
            if isinstance(studies[member], list):
                raise InputError(f"config.studies.{name}: {member!r} is itself a list of studies")
            if member not in names:
                names.append(member)
    return names


def _expand(name: str, study: Mapping[str, Any]) -> Study:
    where = f"config.studies.{name}"
    schemas = option_schemas()
    _check_names(study, where)
    given = {key: _normal(study[key], schemas[key]) for key in schemas if key in study}
    axes = {key: value for key, value in given.items() if isinstance(value, list)}
    dataset = _dataset(study, where)
    runs, excluded = [], []
    for configuration, seed in itertools.product(
        _configurations(study, given, axes), study["seeds"]
    ):
        model, norm, chosen, values = configuration
        reason = _exclusion(study.get("exclude", []), {"model": model, "norm": norm, **chosen})
        if reason:
            entry = {"model": model, "norm": norm, **chosen, "reason": reason}
            if entry not in excluded:
                excluded.append(entry)
            continue
        specification = resolve(model, norm, seed, study["epochs"], values)
        _check_run(specification, dataset, where)
        code = fingerprint.of_run(model, norm)
        runs.append(Run(model, norm, seed, chosen, specification, code))
    if not runs:
        raise InputError(f"{where}: no run is left; `exclude` leaves out every configuration")
    _check_used(given, runs, where)
    return Study(
        name=name,
        title=study.get("title", name),
        dataset=dataset,
        models=study["models"],
        norms=study["norms"],
        seeds=study["seeds"],
        epochs=study["epochs"],
        options={key: given.get(key, s["default"]) for key, s in schemas.items()},
        axes=axes,
        definition=_definition(study, given),
        runs=runs,
        excluded=excluded,
        reported=study.get("reported", []),
    )


def _definition(study: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    schemas = option_schemas()
    kept = {key: value for key, value in study.items() if key not in schemas}
    return kept | {key: value for key, value in given.items() if value != schemas[key]["default"]}


def _configurations(
    study: Mapping[str, Any], given: Mapping[str, Any], axes: Mapping[str, list[Any]]
) -> Iterator[tuple[str, str, dict[str, Any], dict[str, Any]]]:
    """Each (model, norm, values of the axes that apply, option values), once, in order."""
    schemas = option_schemas()
    for model, norm in itertools.product(study["models"], study["norms"]):
        overrides = study.get("overrides", {}).get(model, {})
        seen: list[dict[str, Any]] = []
        for combination in itertools.product(*axes.values()):
            values = {**given, **dict(zip(axes, combination, strict=True)), **overrides}
            optimizer = values.get("optimizer", schemas["optimizer"]["default"])
            chosen = {
                axis: values[axis]
                for axis in axes
                if axis not in overrides and applies(axis, model, norm, optimizer)
            }
            if chosen not in seen:
                seen.append(chosen)
                yield model, norm, chosen, values


def _check_names(study: Mapping[str, Any], where: str) -> None:
    for model in study["models"]:
        check_name(model, catalog.names("networks"), f"{where}.models")
    for norm in study["norms"]:
        check_name(norm, catalog.names("norms"), f"{where}.norms")
    for model in study.get("overrides", {}):
        check_name(model, study["models"], f"{where}.overrides")
    keys = ["reason", "model", "norm", *option_schemas()]
    for i, rule in enumerate(study.get("exclude", [])):
        for key in rule:
            check_name(key, keys, f"{where}.exclude.{i}")


def _check_run(specification: Mapping[str, Any], dataset: Mapping[str, Any], where: str) -> None:
    """What the schema cannot say about one run, as far as it is known without the data."""
    model = specification["model"]
    groups = specification.get("groups")
    for channels in catalog.constant("networks", model, "CHANNELS") if groups else ():
        if channels % groups:
            raise InputError(
                f"{where}.groups: {groups} groups do not divide the {channels} channels of {model}"
            )
    side = dataset.get("image_size") or SHAPES.get(dataset["name"], (None,))[0]
    smallest = catalog.constant("networks", model, "MIN_SIDE")
    if side and side < smallest:
        raise InputError(
            f"{where}.image_size: {model} needs images of at least {smallest} x {smallest} pixels, "
            f"not {side} x {side}"
        )
    if dataset["name"] in SIZES:
        n_train, n_test = SIZES[dataset["name"]]
        held_out = specification["validation_images"]
        caps = {
            "validation_images": n_train - 1,
            "train_images": n_train - held_out,
            "test_images": n_test,
        }
        for key, most in caps.items():
            if specification[key] > most:
                raise InputError(
                    f"{where}.{key}: {specification[key]} is too large; the most is {most}"
                )
        n_train = specification["train_images"] or n_train - held_out
        check_last_batch(n_train, specification)


def _check_used(given: Mapping[str, Any], runs: list[Run], where: str) -> None:
    """Refuse an option that none of the study's runs reads: it would say what was not done."""
    for option in given:
        if all(option not in run.specification for run in runs):
            raise InputError(
                f"{where}.{option}: applies to none of the study's models, norms and optimisers"
            )


def _exclusion(rules: list[dict[str, Any]], configuration: Mapping[str, Any]) -> str | None:
    """The reason of the first rule that fits the configuration, or None."""
    for rule in rules:
        wanted = {key: value for key, value in rule.items() if key != "reason"}
        if all(configuration.get(key) == value for key, value in wanted.items()):
            return rule["reason"]
    return None


def _dataset(study: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Identify the study's data set; its id names the folder below results/data."""
    given, size = study["dataset"], study.get("image_size")
    if isinstance(given, str):
        check_name(given, SIZES, f"{where}.dataset")
        dataset: dict[str, Any] = {"id": given, "name": given, "classes": CLASSES[given]}
    else:
        folder = Path(given["folder"]).expanduser()
        if not folder.is_dir():
            raise InputError(f"{where}.dataset.folder: there is no folder {given['folder']}")
        place = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]
        name = "".join(c if c.isalnum() and c.isascii() else "-" for c in folder.resolve().name)
        dataset = {"id": f"{name or 'folder'}-{place}", "name": name, "folder": str(folder)}
    if size:
        dataset |= {"id": f"{dataset['id']}-{size}px", "image_size": size}
    return dataset


def _normal(value: Any, option_schema: Mapping[str, Any]) -> Any:
    """The value with whole numbers made floats where the option is a float: 1 and 1.0 are one."""
    if isinstance(value, list):
        return [_normal(item, option_schema) for item in value]
    return float(value) if option_schema["type"] == "number" else value


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
