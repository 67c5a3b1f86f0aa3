"""Options that do not fit together: with each other, with a network, with the number of images.

Apart from options.py, since what trains and times imports it: other edits there change no number.
"""

from collections.abc import Mapping
from typing import Any

from normres import catalog
from normres.errors import InputError


def check_norm(specification: Mapping[str, Any]) -> None:
    """Raise InputError where an option of the norm does not fit the network or the batch size."""
    groups, model = specification.get("groups"), specification["model"]
    for channels in catalog.constant("networks", model, "CHANNELS") if groups else ():
        if channels % groups:
            raise InputError(
                f"groups: {groups} groups do not divide the {channels} channels of {model}"
            )
    seen, batch_size = specification.get("statistics_images", 0), specification["batch_size"]
    if batch_size == 1 and _uses_batch(specification):
        raise InputError(
            f"batch_size: batches of one image, which the norm {specification['norm']!r} cannot "
            "use; take 2 or more"
        )
    if seen == 1 or seen > batch_size:
        raise InputError(
            f"statistics_images: {seen} of {batch_size} images a batch; take 2 to {batch_size}, or "
            "0 for the whole batch"
        )


def check_last_batch(n_train: int, specification: Mapping[str, Any]) -> None:
    """Refuse a last batch of a single image where a norm computes statistics over a batch.

    Raises InputError. One image has no variance over images, and a running variance fed with it
    spoils the evaluation of the whole network.
    """
    batch_size = specification["batch_size"]
    alone = batch_size == 1 or n_train % batch_size == 1
    if alone and _uses_batch(specification):
        raise InputError(
            f"batch_size: {n_train} training images in batches of {batch_size} leave a batch of "
            f"one image, which the norm {specification['norm']!r} cannot use; change batch_size or "
            "train_images"
        )


def _uses_batch(specification: Mapping[str, Any]) -> bool:
    return catalog.constant("norms", specification["norm"], "USES_BATCH_STATISTICS", False)
