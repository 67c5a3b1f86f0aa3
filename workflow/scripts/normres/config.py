"""From config.yaml to checked studies, before anything starts.

Snakemake calls this while it reads the Snakefile, so nothing here imports torch or pandas or opens
a data set.
"""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from normres.errors import InputError
from normres.grid import Study, expand
from normres.options import LOADER, option_schemas, schema
from normres.validation import check, check_name, check_plain, coerce, config_schema


@dataclass(frozen=True)
class Config:
    """A checked configuration: the selected studies and the settings that change no number."""

    studies: list[Study]
    claims: list[dict[str, Any]]  # a user's, for every study; see claims.py
    data_root: str
    device: str
    save_every: float
    state_budget_gb: float
    runs_per_gpu: int
    timing_repeats: int
    tensorboard: bool


def read_config(raw: Mapping[str, Any]) -> Config:
    """Check and expand a configuration as Snakemake holds it (files and command line merged).

    Raises InputError, in one line, at the first thing that is wrong.
    """
    full = config_schema()
    check_plain(raw, "config")
    config = _coerce_config(raw, full)
    check(config, full, "config")
    settings = {
        key: config.get(key, option["default"])
        for key, option in full["properties"].items()
        if "default" in option
    }
    names = _select(config["study"], config["studies"])
    studies = [expand(name, config["studies"][name]) for name in names]
    return Config(studies=studies, claims=config.get("claims", []), **settings)


def check_file(path: str | Path) -> None:
    """Raise InputError where a configuration file is no YAML, with the line, or has a key twice.

    Snakemake's own message names neither file nor line, and it lets a key's last value win unsaid.
    A file that is not there is Snakemake's to miss; JSON that YAML cannot read, with tabs, passes.
    """
    if not Path(path).exists():
        return
    try:
        text = Path(path).read_text(encoding="utf-8")
        _check_keys(yaml.compose(text, LOADER), path, [])
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: no YAML: {error}") from None
    except yaml.YAMLError as error:
        if not _is_json(text):
            raise InputError(f"{path}: no YAML{_problem(error)}") from None


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _problem(error: yaml.YAMLError) -> str:
    """What stands in the way of reading a YAML file, and in which line."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return f": {' '.join(str(error).split())}"
    lines = [mark.line + 1 for mark in (error.problem_mark, error.context_mark) if mark]
    where = " in what begins in line ".join(map(str, dict.fromkeys(lines)))
    return f" at line {where}: {error.problem}"


def unasked_studies(paths: Iterable[str | Path], chosen: Iterable[str]) -> list[str]:
    """The studies that configuration files define, where none of them is among the `chosen`.

    `chosen` are single studies: a list of studies is asked for where all of its are. `paths` are
    files that Snakemake has read, and whose content was checked.
    """
    defined: dict[str, Any] = {}
    for path in paths:
        with suppress(yaml.YAMLError):  # JSON that YAML cannot read, with tabs
            read = yaml.load(Path(path).read_text(encoding="utf-8"), LOADER)
            defined |= (read or {}).get("studies") or {}
    asked = set(chosen)
    members = (set(value) if isinstance(value, list) else {name} for name, value in defined.items())
    return [] if any(each <= asked for each in members) else sorted(defined)


def _check_keys(node: yaml.Node | None, path: str | Path, above: list[str]) -> None:
    """`above` are the keys that lead to `node`."""
    if isinstance(node, yaml.SequenceNode):
        for i, entry in enumerate(node.value):
            _check_keys(entry, path, [*above, str(i)])
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        name = ".".join([*above, str(key.value)])
        if key.value in lines:
            first = lines[key.value]
            raise InputError(f"{path}: {name} stands in line {first} and again in line {line}")
        lines[key.value] = line
        _check_keys(value, path, [*above, str(key.value)])


def _coerce_config(raw: Mapping[str, Any], full: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the configuration in which text has become what the schema asks for."""
    config = _coerce_values(raw, full["properties"])
    asked = config.get("study")
    if isinstance(asked, int) and not isinstance(asked, bool):  # as YAML reads a name like 2024
        asked = str(asked)
    if isinstance(asked, str):
        config["study"] = asked.split(",")
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
    if isinstance(study.get("exclude"), list):
        study["exclude"] = [
            _coerce_values(rule, option_schemas()) if isinstance(rule, dict) else rule
            for rule in study["exclude"]
        ]
    if isinstance(study.get("comparisons"), list):
        study["comparisons"] = [_coerce_comparison(entry) for entry in study["comparisons"]]
    return study


def _coerce_comparison(entry: Any) -> Any:
    if not isinstance(entry, dict):
        return entry
    items = schema()["$defs"]["study"]["properties"]["comparisons"]["items"]
    return {
        key: _coerce_values(value, option_schemas())
        if key in ("of", "against") and isinstance(value, dict)
        else coerce(value, items["properties"].get(key, {}))
        for key, value in entry.items()
    }


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
