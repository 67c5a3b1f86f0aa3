"""How the tests call prepare_data.py, for success and for refusal."""

import numpy as np
import pytest

import prepare_data
from normres.errors import InputError
from normres.images import open_images


def prepare(out, *arguments):
    prepare_data.main([*map(str, arguments), "--out", str(out)])
    return open_images(out)


def refusal(out, *arguments):
    """Return the one line with which the command refuses; nothing may be left in `out`."""
    with pytest.raises(InputError) as caught:
        prepare_data.main([*map(str, arguments), "--out", str(out)])
    assert not out.exists() or not any(out.iterdir())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def random_images(*shape):
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, dtype=np.uint8)
