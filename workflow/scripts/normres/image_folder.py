"""Reader: a folder of images, `train/<class>/**` and `test/<class>/**`."""

import os
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from normres.errors import InputError
from normres.preparation import ImageSource, images_per_block

# Files whose headers are read between two reports of progress.
HEADERS_PER_BATCH = 1000

# Pillow's modes of grey images; "I;16" is 16 bits a pixel, in several byte orders.
GREY_MODES = {"1", "L", "LA", "I;16", "I;16L", "I;16B", "I;16N"}
# 32 bits a pixel, or what Pillow makes so: nothing says which values are black and white.
UNSCALED_MODES = {"I", "F"}

# Wraps batches of images (len() is their number) to report on them: batches, total, what is done.
Progress = Callable[[Iterable[Sized], int, str], Iterable[Sized]]


def fit(image: Image.Image, size: int) -> Image.Image:
    """Resize the shorter side to `size` (bilinear, antialiased) and crop the centre square."""
    return ImageOps.fit(image, (size, size), method=Image.Resampling.BILINEAR)


def to_array(image: Image.Image) -> np.ndarray:
    """Return uint8 (H, W, C); a grey image gets a channel axis of one."""
    return np.asarray(image).reshape(image.height, image.width, -1)


def read_folder(
    folder: str | Path,
    name: str,
    image_size: int | None = None,
    progress: Progress = lambda batches, total, what: batches,
) -> ImageSource:
    """Read `train/<class>/**` and `test/<class>/**` under `folder`, classes in sorted order.

    Hidden files and those that torchvision does not take for images are passed over; links are
    followed, but not back to where they lie or to where another class's images are. Images stay
    grey (one channel) where all are grey, and become RGB otherwise. Without `image_size` all must
    have one size; with it, `fit` makes them square. Headers are read here, pixels when the blocks
    are; as in torchvision, EXIF orientation is not applied. Raises InputError that names the file
    or class.
    """
    folder = Path(folder)
    classes, train = _list_part(folder / "train")
    test_classes, test = _list_part(folder / "test")
    if classes != test_classes:
        odd = min(set(classes) ^ set(test_classes))
        where, lacks = ("train", "test") if odd in classes else ("test", "train")
        raise InputError(f"{folder}: class {odd!r} is in {where}/ but not in {lacks}/")
    if len(classes) < 2:
        raise InputError(f"{folder}: one class only, {classes[0]!r}; a network needs two or more")
    samples = train + test
    paths = [path for path, _ in samples]
    shape = _common_shape(paths, image_size, progress)
    return ImageSource(
        name=name,
        source=f"image folder {folder}",
        class_names=classes,
        labels=np.array([label for _, label in samples], dtype=np.int64),
        n_train=len(train),
        shape=shape,
        blocks=progress(_decoded_blocks(paths, shape, image_size), len(paths), "reading images"),
    )


def _list_part(part: Path) -> tuple[list[str], list[tuple[Path, int]]]:
    """Return the sorted class names of `train/` or `test/` and its (path, label) pairs."""
    if not part.is_dir():
        raise InputError(f"{part}: no such folder; an image folder holds train/ and test/")
    classes = sorted(e.name for e in part.iterdir() if e.is_dir() and not e.name.startswith("."))
    if not classes:
        raise InputError(f"{part}: no class folders in it; images lie in {part.name}/<class>/")
    for name in classes:  # it stands in tables, figures and the report
        if not name.isprintable():
            raise InputError(f"{part}: the name of class {name!r} cannot be printed; rename it")
    beside = [(name, str(part.parent / p / name)) for p in ("train", "test") for name in classes]
    owned = [(name, os.path.realpath(path)) for name, path in beside]
    samples = []
    for label, class_name in enumerate(classes):
        found = _image_files(part / class_name, [own for own in owned if own[0] != class_name])
        if not found:
            raise InputError(f"{part / class_name}: no image in it")
        samples += [(path, label) for path in found]
    return classes, samples


def _image_files(folder: Path, others: list[tuple[str, str]]) -> list[Path]:
    """The images in a class's folder and below it, sorted; `others`: as _check_link has them.

    Raises InputError that names a folder that cannot be read, or a link that must not be followed.
    """
    from torchvision.datasets.folder import is_image_file

    def refuse(error: OSError) -> None:  # os.walk alone would pass over the folder
        raise InputError(f"{error.filename}: this folder cannot be read ({error.strerror})")

    _check_link(folder, folder, others)
    found = []
    for directory, subfolders, filenames in os.walk(folder, onerror=refuse, followlinks=True):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in subfolders:
            _check_link(Path(directory, name), folder, others)
        visible = (name for name in filenames if not name.startswith("."))
        found += [Path(directory, name) for name in visible if is_image_file(name)]
    return sorted(found)


def _check_link(path: Path, folder: Path, others: list[tuple[str, str]]) -> None:
    """Raise InputError where `path` is a link below which images would be met again or mislabelled.

    It lies in `folder`, that of a class, or is it. `others`: the names of the other classes and
    their folders, without links in their paths.
    """
    if not path.is_symlink():
        return
    target = os.path.realpath(path)
    walked = [above for above in path.parents if above.is_relative_to(folder)]
    if any(_holds(target, os.path.realpath(above)) for above in walked):
        why = "in which the link itself lies"
    elif owners := [
        name for name, other in others if _holds(target, other) or _holds(other, target)
    ]:
        why = f"where images of class {owners[0]!r} are"
    else:
        return
    raise InputError(f"{path}: a link to {target}, {why}; a link may lead to other folders only")


def _holds(folder: str, other: str) -> bool:
    """Whether a folder is `other` or above it, by their paths, which have no links in them."""
    return f"{other}/".startswith(f"{folder.rstrip('/')}/")


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except InputError:
        raise
    except Exception as error:  # Pillow's decoders raise many types on damaged files
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not a readable image ({reason})") from None


def _size_and_mode(path: Path) -> tuple[tuple[int, int], str]:
    with _opened(path) as image:
        if image.mode in UNSCALED_MODES:
            raise InputError(
                f"{path}: Pillow reads this file as 32 bits a pixel, whatever it has (a PGM of 16 "
                "bits, too); save it as PNG with 8 or 16"
            )
        return image.size, image.mode


def _common_shape(
    paths: list[Path], image_size: int | None, progress: Progress
) -> tuple[int, int, int]:
    """Read all headers; return the shape (H, W, C) that the images will have."""
    batches = [paths[i : i + HEADERS_PER_BATCH] for i in range(0, len(paths), HEADERS_PER_BATCH)]
    first_size, all_grey = None, True
    for batch in progress(batches, len(paths), "reading headers"):
        for path in batch:
            size, mode = _size_and_mode(path)
            first_size = first_size or size
            all_grey = all_grey and mode in GREY_MODES
            if image_size is None and size != first_size:
                raise InputError(
                    f"{path}: {size[0]}x{size[1]} pixels, but {paths[0]} has "
                    f"{first_size[0]}x{first_size[1]}; set image_size to resize them all"
                )
    width, height = (image_size, image_size) if image_size else first_size
    return height, width, 1 if all_grey else 3


def _decoded_blocks(
    paths: list[Path], shape: tuple[int, int, int], image_size: int | None
) -> Iterator[np.ndarray]:
    # One thread: small images cost mostly Python's own work, which a pool of threads cannot share.
    step = images_per_block(shape)
    for start in range(0, len(paths), step):
        block = paths[start : start + step]
        yield np.stack([_decode(path, shape[2], image_size) for path in block])


def _decode(path: Path, channels: int, image_size: int | None) -> np.ndarray:
    with _opened(path) as image:
        if image.mode.startswith("I;16"):
            # Pillow would clip 16 bits to 8; keep the upper half instead.
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        image = image.convert("L" if channels == 1 else "RGB")
        return to_array(fit(image, image_size) if image_size else image)
