"""How the tests call prepare_data.py, for success and for refusal."""

import numpy as np
import pytest
from PIL import Image

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


def write_image_folder(folder):
    """Two classes, 21 training and 10 test images: batches of 10 leave one training image."""
    random = np.random.default_rng(0)
    for part, counts in (("train", (10, 11)), ("test", (5, 5))):
        for name, count in zip(("cats", "dogs"), counts, strict=True):
            (folder / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = random.integers(0, 256, (32, 32, 3), np.uint8)
                Image.fromarray(pixels).save(folder / part / name / f"{i}.png")
