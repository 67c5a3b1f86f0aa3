"""Training options: types and defaults (from the schema), and a run's resolved specification."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from normres import catalog
from normres.errors import InputError

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # five times as fast, where it was built
SCHEMA_FILE = Path(__file__).parents[2] / "schemas" / "config.schema.yaml"

# Options that change how much memory training takes, but not the network.
MEMORY_OPTIONS = ("batch_size", "optimizer", "momentum")

# Options that change neither what a training step computes nor how many there are in an epoch. All
# others are taken to change the time of training, also those that a new network or norm brings.
UNTIMED_OPTIONS = (
    "learning_rate",
    "learning_rate_scaling",
    "weight_decay",
    "beta1",
    "beta2",
    "epsilon",
    "initialization",
    "initialization_seed",
    "order_seed",
    "zero_init_residual",
    "test_images",
    "train_eval_images",
)

# Options that only one kind of optimiser reads.
OPTIMIZER_OPTIONS = {
    "learning_rate_scaling": {"adam", "adamw"},
    "beta1": {"adam", "adamw"},
    "beta2": {"adam", "adamw"},
    "epsilon": {"adam", "adamw"},
    "momentum": {"sgd"},
}

# Options whose value "seed" stands for the run's own seed.
SEED_OPTIONS = ("initialization_seed", "order_seed")


@cache
def schema() -> dict[str, Any]:
    """The JSON schema of config.yaml."""
    return yaml.load(SCHEMA_FILE.read_text(encoding="utf-8"), LOADER)


def option_schemas() -> dict[str, dict[str, Any]]:
    """The JSON schema of each training option, in the order in which axes are nested."""
    return schema()["$defs"]["options"]["properties"]


@cache
def _claimed(kind: str) -> frozenset[str]:
    """Options that some network (or norm) takes, so that they apply only to those."""
    return frozenset(
        option for name in catalog.names(kind) for option in catalog.options(kind, name)
    )


def applies(option: str, model: str, norm: str, optimizer: str) -> bool:
    """Whether `option` can change a run of `model` with `norm`, trained by `optimizer`."""
    if option in _claimed("networks"):
        return option in catalog.options("networks", model)
    if option in _claimed("norms"):
        return option in catalog.options("norms", norm)
    return optimizer in OPTIMIZER_OPTIONS.get(option, {optimizer})


def resolve(
    model: str, norm: str, seed: int, epochs: int, given: Mapping[str, Any]
) -> dict[str, Any]:
    """A run's specification: every option that applies to it, defaults filled in.

    Numbers are normalised to their declared type, so that 1 and 1.0 are the same learning rate;
    SEED_OPTIONS are numbers, so that the run's own seed and the same number are the same run.
    Raises InputError where the network or the norm takes an option that there is not.
    """
    schemas = option_schemas()
    _check_build("networks", model)
    _check_build("norms", norm)
    optimizer = given.get("optimizer", schemas["optimizer"]["default"])
    specification = {"model": model, "norm": norm, "seed": seed, "epochs": epochs}
    for option, option_schema in schemas.items():
        if applies(option, model, norm, optimizer):
            value = given.get(option, option_schema["default"])
            specification[option] = float(value) if option_schema["type"] == "number" else value
    return specification | own_seeds(seed, given)


def _check_build(kind: str, name: str) -> None:
    unknown = [option for option in catalog.options(kind, name) if option not in option_schemas()]
    if unknown:
        raise InputError(
            f"{catalog.PACKAGE / kind / name}.py: `build` takes {unknown[0]!r}, which is no option "
            f"of {SCHEMA_FILE.name}; add it there, or make it a constant"
        )


def own_seeds(seed: int, given: Mapping[str, Any]) -> dict[str, int]:
    """Those of SEED_OPTIONS that `given` does not set apart from the run's seed, with that seed."""
    return {option: seed for option in SEED_OPTIONS if given.get(option, "seed") == "seed"}


def has_default(specification: Mapping[str, Any], option: str) -> bool:
    """Whether a run has an option's default, or does not have the option."""
    default = option_schemas()[option]["default"]
    usual = specification["seed"] if option in SEED_OPTIONS else default
    return specification.get(option, usual) == usual
