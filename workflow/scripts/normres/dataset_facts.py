"""Names, sizes and shapes of the built-in data sets.

Nothing is imported here, so that a configuration can be checked before any package is loaded.
`normres.datasets` reads the images themselves.
"""

# Images for training and for testing. Digits has no official split: ours is fixed (read_digits).
SIZES = {
    "digits": (1297, 500),
    "fashion_mnist": (60_000, 10_000),
    "cifar10": (50_000, 10_000),
    "cifar100": (50_000, 10_000),
    "svhn": (73_257, 26_032),
}

# Height, width and channels where no image size is asked for.
SHAPES = {
    "digits": (32, 32, 3),
    "fashion_mnist": (28, 28, 1),
    "cifar10": (32, 32, 3),
    "cifar100": (32, 32, 3),
    "svhn": (32, 32, 3),
}

CLASSES = {"digits": 10, "fashion_mnist": 10, "cifar10": 10, "cifar100": 100, "svhn": 10}
