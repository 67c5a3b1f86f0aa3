"""Synthetic tables on which a claim is to have a given verdict: in memory, of the real form."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from normres.claim_statistics import Tables
from normres.claims import Claim, exercise_claims, read_claims
from normres.expressions import measured
from normres.options import option_schemas, resolve
from normres.tables import axis_text

CLAIMS = {claim.id: claim for claim in read_claims(exercise_claims(), "claims.yaml")}
DEPTHS = (3, 5, 9, 18)
PARAMS = {"resnet": 1_081_482, "vgg11": 28_144_010, "convnet": 2_453_962, "plainnet": 1_080_000}
MACS = {"resnet": 162_366_720, "vgg11": 171_679_744, "convnet": 17_367_680, "plainnet": 1e8}
DATASET = {
    "n_train": 50_000,
    "n_test": 10_000,
    "shape": [32, 32, 3],
    "class_names": list("abcdefghij"),
    "channel_mean": [0.4914, 0.48216, 0.44653],
    "channel_std": [0.24703, 0.24349, 0.26159],
    "checksum": "sha256:0",
}


def own(test: str, **more: Any) -> Claim:
    """A claim of a user, whatever the study's design; `more` are further keys of it."""
    claim = {"id": "mine", "statement": "Mine.", "test": test, "design": {}, "own": True, **more}
    return read_claims([claim], "test")[0]


def rise(end: float, tau: float = 2.0) -> Callable[[float], float]:
    """Accuracy in % that rises from 10 to `end`, by 63 % within `tau` epochs."""
    return lambda epoch: 10 + (end - 10) * (1 - np.exp(-epoch / tau))


def fall(pace: float, start: float = 2.3, end: float = 0.0) -> Callable[[float], float]:
    """A loss that falls from `start` to `end`, by 63 % within `pace` epochs."""
    return lambda epoch: end + (start - end) * np.exp(-epoch / pace)


def settings(model: str) -> dict[str, Any]:
    """What a configuration is like unless a scenario says otherwise."""
    return {
        "accuracy": rise(90),
        "loss": fall(10.0),
        "initial_loss": 2.3,
        "gradient": 1.0,
        "wiggle": 0.05,  # sd of the accuracy from epoch to epoch, points
        "seconds": 5.0,
        "latency": 0.01,
        "params": PARAMS[model],
        "macs": MACS[model],
        "bytes": 1e6 * PARAMS[model] ** 0.5,
        "bias": 1e-17,
    }


def make_tables(
    claim: Claim,
    scenario: Mapping[str, Any],
    seeds: int = 5,
    repeats: int = 10,
    spread: float = 1.0,
    **changes: Any,
) -> Tables:
    """Tables of a study of the claim's design.

    `scenario` says by "model/norm" in what a configuration differs from `settings`: values, or a
    function of its axes. `spread` scales how runs differ. `changes` replace keys of study.json.
    """
    axes = _axes(claim)
    study = {
        "study": "made-up",
        "dataset": {"id": claim.design.get("dataset"), "name": claim.design.get("dataset", "x")},
        "epochs": claim.design.get("epochs", 50),
        "axes": axes,
        "options": {},
        "seeds": list(range(seeds)),
        "title": "Synthetic",
        "models": [],
        "norms": [],
        **changes,
    }
    runs, curves, timing, complexity = [], [], [], []
    rng = np.random.default_rng(0)
    parts = claim.measured() + [part for node in claim.also.values() for part in measured(node)]
    for model, norm in sorted({(part.model, part.norm) for part in parts}):
        for values in itertools.product(*axes.values()):
            chosen = dict(zip(axes, values, strict=True))
            own = scenario.get(f"{model}/{norm}", {})
            how = settings(model) | (own(chosen) if callable(own) else own)
            cells = {"model": model, "norm": norm}
            cells |= {axis: axis_text(value) for axis, value in chosen.items()}
            options = {**claim.design.get("options", {}), **chosen, **changes.get("options", {})}
            for seed in range(seeds):
                specification = resolve(model, norm, seed, study["epochs"], options)
                runs.append({"model": model, "norm": norm, "seed": seed, "axes": chosen})
                runs[-1] |= {"run": f"{model}/{norm}/{seed}", "specification": specification}
                curves += _curve({**cells, "seed": seed}, how, study["epochs"], rng, spread)
            timing += _timing(cells, how, repeats, rng, spread)
            complexity.append(_costs(cells, how))
    study["runs"] = runs
    return Tables(study, pd.DataFrame(curves), pd.DataFrame(timing), pd.DataFrame(complexity))


def _axes(claim: Claim) -> dict[str, list[Any]]:
    """The axes that the claim's configurations name, with the default among the values."""
    axes: dict[str, list[Any]] = {}
    for part in claim.measured():
        for axis, text in part.axes:
            schema = option_schemas()[axis]
            values = axes.setdefault(axis, [] if axis == "batch_size" else [schema["default"]])
            value = {"true": True}.get(text, int(text) if text.isdecimal() else text)
            found = DEPTHS if text == "*" else [value]
            values += [each for each in found if each not in values]
    return axes


def _curve(cells, how, epochs, rng, spread) -> list[dict[str, Any]]:
    level, factor = rng.normal(0, 0.1) * spread, np.exp(rng.normal(0, 0.01) * spread)
    rows = []
    for epoch in range(epochs + 1):
        accuracy = how["accuracy"](epoch) + level * (epoch > 0) + rng.normal(0, 1) * how["wiggle"]
        loss = how["loss"](epoch) * factor * np.exp(rng.normal(0, 0.002) * spread)
        rows.append(
            {
                **cells,
                "status": "ok",
                "epoch": epoch,
                "train_loss": loss if epoch else np.nan,
                "train_eval_loss": loss if epoch else how["initial_loss"] * factor,
                "test_accuracy": accuracy / 100,
                "first_conv_grad_norm": how["gradient"] * factor,
            }
        )
    return rows


def _timing(cells, how, repeats, rng, spread) -> list[dict[str, Any]]:
    place = {"device_name": "a processor", "resolved_precision": "float32"}
    return [
        {
            **cells,
            **place,
            "repeat": repeat,
            "epoch_seconds": how["seconds"] * noise,
            "latency_1_seconds": how["latency"] * noise,
            "latency_128_seconds": how["latency"] * 100 * noise,
        }
        for repeat, noise in enumerate(np.exp(rng.normal(0, 0.005, repeats) * spread), start=1)
    ]


def _costs(cells, how) -> dict[str, Any]:
    return {
        **cells,
        "input": "3x32x32",
        "classes": 10,
        "params": how["params"],
        "macs": how["macs"],
        "weight_bytes": 4 * how["params"],
        "peak_training_bytes": how["bytes"],
        "bias_gradient": how["bias"],
        "bias_effect": how["bias"],
    }
