"""Whether a study has the design that a claim asks for, and in what it differs where it has not."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from normres import catalog
from normres.claim_statistics import Tables, runs_of, select, stars
from normres.claims import Claim
from normres.dataset_facts import CLASSES, SHAPES, SIZES
from normres.expressions import Measured
from normres.options import SEED_OPTIONS, option_schemas
from normres.protocol import BEYOND_EXERCISE
from normres.tables import axis_text

# Mean and standard deviation of each channel of the published training images, scaled to [0, 1].
CHANNELS = {
    "cifar10": ((0.491400, 0.482158, 0.446531), (0.247032, 0.243485, 0.261588)),
    "svhn": ((0.437682, 0.443770, 0.472804), (0.198030, 0.201016, 0.197036)),
}
SAME_CHANNELS = 5e-5  # a copy as JPEG of quality 75 is 2e-3 off


def differences(claim: Claim, tables: Tables, dataset: Mapping[str, Any]) -> list[str]:
    """In what a study differs from a claim's design, a few words each; empty where it counts.

    Only the runs and networks that the test names are looked at. `dataset` is dataset.json.
    """
    design, study = claim.design, tables.study
    if set(design) == {"study"} and design["study"] != study["study"]:
        return [f"study {study['study']} instead of {design['study']}"]
    found = []
    if "dataset" in design:
        found.append(data_difference(design["dataset"], study, dataset))
    if design.get("epochs", study["epochs"]) != study["epochs"]:
        found.append(f"{study['epochs']} epochs instead of {design['epochs']}")
    for part in claim.measured():
        found += _network_differences(part, design, tables)
        found += _option_differences(part, design, study)
    return [words for words in dict.fromkeys(found) if words]


def data_difference(wanted: str, study: Mapping[str, Any], dataset: Mapping[str, Any]) -> str:
    """In what the study's data set is not `wanted`, as published; empty where it is.

    A data set that the pipeline reads by its name is what it says: every file's published checksum
    was compared. An image folder is what its images are, whatever its name: it counts where there
    are as many of them, of the same shape and classes, and the mean and standard deviation of each
    channel, over all training images, are those of the published images. A copy that was compressed
    anew has others, and is another data set.
    """
    ours = study["dataset"]
    if "folder" not in ours:
        if ours["name"] != wanted:
            return f"{ours['name']} instead of {wanted}"
        return f"images of {ours['image_size']} pixels" if "image_size" in ours else ""
    words = f"the image folder {ours['name']} instead of {wanted}"
    if wanted not in CHANNELS:
        return words
    facts = ((dataset["n_train"], dataset["n_test"]), tuple(dataset["shape"]))
    classes = len(dataset["class_names"])
    if (*facts, classes) != (SIZES[wanted], SHAPES[wanted], CLASSES[wanted]):
        return words
    channels = np.array([dataset["channel_mean"], dataset["channel_std"]])
    gap = float(np.abs(channels - np.array(CHANNELS[wanted])).max())
    if gap <= SAME_CHANNELS:
        return ""
    return f"{words} (as many images, but other pixels: channel statistics differ by {gap:.1g})"


def _network_differences(
    part: Measured, design: Mapping[str, Any], tables: Tables
) -> Iterable[str]:
    """Differences in what the networks take in and tell apart, where the design names that."""
    if not {"input", "classes"} & set(design):
        return
    for star in stars(part, tables.study):
        rows = select(tables.complexity, part, tables.study, star)
        for key in {"input", "classes"} & set(design) & set(rows.columns):
            for value in rows[key].unique():
                if axis_text(value) != axis_text(design[key]):
                    yield f"{key} {axis_text(value)} instead of {design[key]}"


def _option_differences(
    part: Measured, design: Mapping[str, Any], study: Mapping[str, Any]
) -> Iterable[str]:
    """Differences in the options of the runs that a configuration stands for.

    Where the design names a data set, every option counts but those of which the exercise says
    nothing; where it does not, only those that change the network, and those that it names.
    """
    if not {"dataset", "input", "classes", "options"} & set(design):
        return
    defaults = {name: schema["default"] for name, schema in option_schemas().items()}
    of_network = catalog.options("networks", part.model) + catalog.options("norms", part.norm)
    asked = {**defaults, **design.get("options", {}), **dict(part.axes)}
    for star in stars(part, study):
        run = runs_of(part, study, star)[0]["specification"]
        for option, value in run.items():
            named = option in of_network or option in design.get("options", {})
            everything = "dataset" in design and option not in BEYOND_EXERCISE
            if option not in asked or asked[option] == "*" or not (named or everything):
                continue
            own_seed = option in SEED_OPTIONS and asked[option] == "seed"
            wanted = run["seed"] if own_seed else asked[option]
            ours, theirs = axis_text(value), axis_text(wanted)
            if ours != theirs:
                yield f"{option.replace('_', ' ')} {ours} instead of {theirs}"
