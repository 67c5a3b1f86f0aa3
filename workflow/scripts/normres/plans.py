"""A run's plan: its resolved specification and the fingerprint of its code."""

import argparse
import json
from collections.abc import Mapping
from typing import Any

from normres import catalog, fingerprint
from normres.constraints import check_norm
from normres.errors import InputError
from normres.options import OPTIMIZER_OPTIONS, option_schemas, resolve, schema
from normres.validation import check, check_name, coerce


def parse_plan(text: str) -> dict[str, Any]:
    """The plan that Snakemake passes as JSON; raises InputError where it is not one."""
    try:
        plan = json.loads(text)
        plan["specification"]["model"], plan["specification"]["norm"], plan["fingerprint"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(f"--run: not a run as JSON ({type(error).__name__}: {error})") from None
    return plan


def check_code(plan: Mapping[str, Any]) -> None:
    """Raise InputError where the code is not what it was when the plan was made."""
    specification = plan["specification"]
    if fingerprint.of_run(specification["model"], specification["norm"]) != plan["fingerprint"]:
        raise InputError(
            "the code of this run has changed since the study was started; start it again"
        )


def add_options(parser: argparse.ArgumentParser, title: str) -> None:
    """Give a command line the training options, whose texts `make_plan` reads, as a group."""
    group = parser.add_argument_group(title)
    for name, option in option_schemas().items():
        choices = f" ({', '.join(map(str, option['enum']))})" if "enum" in option else ""
        text = f"{option['description']}{choices} [{option['default']}]".replace("%", "%%")
        group.add_argument(f"--{name}", metavar="VALUE", help=text)


def make_plan(given: Mapping[str, Any]) -> dict[str, Any]:
    """A plan from single values, texts as a command line has them; None stands for not given.

    Raises InputError, naming the option with its dashes.
    """
    given = {name: value for name, value in given.items() if value is not None}
    for name in ("model", "norm", "epochs"):
        if name not in given:
            raise InputError(f"--{name} is missing (see --help)")
    model, norm, seed, epochs = (given.pop(name) for name in ("model", "norm", "seed", "epochs"))
    check_name(model, catalog.names("networks"), "--model")
    catalog.check_network(model)
    check_name(norm, catalog.names("norms"), "--norm")
    schemas = option_schemas()
    options = {name: coerce(value, schemas[name]) for name, value in given.items()}
    for name, value in options.items():
        check(value, schemas[name], f"--{name}")
    study = schema()["$defs"]["study"]["properties"]
    check(epochs, study["epochs"], "--epochs")
    check(seed, study["seeds"]["items"], "--seed")
    specification = resolve(model, norm, seed, epochs, options)
    try:
        check_norm(specification)
    except InputError as error:  # begins with the option's name
        raise InputError(f"--{error}") from None
    if unread := sorted(set(options) - set(specification)):
        of_optimizer = unread[0] in OPTIMIZER_OPTIONS
        reader = specification["optimizer"] if of_optimizer else f"{model} with {norm}"
        raise InputError(f"--{unread[0]}: does not apply to {reader}")
    return {"specification": specification, "fingerprint": fingerprint.of_run(model, norm)}
