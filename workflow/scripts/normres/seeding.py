"""Random streams that depend on a seed and on what they are for, not on what was drawn before."""

import hashlib
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def derive(seed: int, *purpose: str | int) -> int:
    """A number of 63 bits for one purpose of the run with `seed`, e.g. derive(0, "order", 3).

    PyTorch's generator on the CPU keeps the low 32 of them (seeds 5 and 5 + 2**32 draw the same):
    two streams of a run are the same one with a chance of 1 in 4.3 billion.
    """
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator seeded by the low 32 bits of `derive`."""
    return torch.Generator().manual_seed(derive(seed, *purpose))


def seed_all(seed: int) -> None:
    """Seed every global generator: PyTorch's on all devices, NumPy's and Python's."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def random_states(device: torch.device) -> dict[str, Any]:
    """The states of all global generators, of plain types and tensors; see `seed_all`."""
    name, keys, *rest = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "device": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "numpy": (name, keys.tolist(), *rest),
        "python": random.getstate(),
    }


def restore_random_states(states: Mapping[str, Any], device: torch.device) -> None:
    """Set all global generators to `random_states`; that of a device where it has the same kind."""
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and states["device"] is not None:
        torch.cuda.set_rng_state(states["device"], device)
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, np.array(keys, np.uint32), *rest))
    random.setstate(states["python"])
