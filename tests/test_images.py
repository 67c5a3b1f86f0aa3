"""The prepared store: what is written is what is read, and every damage is named."""

import json
import os
import warnings

import numpy as np
import pytest

import normres.preparation as store
from normres.errors import InputError
from normres.images import open_images, split, stratified_subset
from normres.preparation import ImageSource, channel_statistics, checksum, write_images

CLASSES = ["ant", "bee", "cat"]
N_TRAIN, N_TEST = 30, 12


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (N_TRAIN + N_TEST, 5, 4, 3), dtype=np.uint8)


def source(pixels, blocks=None):
    return ImageSource(
        name="insects",
        source="made by a test",
        class_names=CLASSES,
        labels=np.arange(len(pixels)) % 3,
        n_train=N_TRAIN,
        shape=pixels.shape[1:],
        blocks=[pixels[:17], pixels[17:]] if blocks is None else blocks,
    )


@pytest.fixture
def folder(tmp_path, pixels):
    write_images(tmp_path / "insects", source(pixels))
    return tmp_path / "insects"


def test_written_images_are_read_back(folder, pixels):
    images = open_images(folder)
    np.testing.assert_array_equal(images.images, pixels)
    np.testing.assert_array_equal(images.labels, np.arange(42) % 3)
    assert images.images.dtype == np.uint8 and images.labels.dtype == np.int64
    assert (images.shape, images.n_train, images.n_test) == ((5, 4, 3), 30, 12)
    assert (images.name, images.class_names) == ("insects", CLASSES)
    assert sorted(path.name for path in folder.iterdir()) == [
        "dataset.json",
        "images.npy",
        "labels.npy",
    ]


def test_images_are_mapped_and_changes_stay_in_memory(folder):
    images = open_images(folder)
    assert isinstance(images.images, np.memmap)
    before = (folder / "images.npy").read_bytes()
    images.images[:] = 0
    images.images.flush()
    assert (folder / "images.npy").read_bytes() == before


def test_torch_takes_the_map_without_a_warning(folder):
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tensor = torch.from_numpy(open_images(folder).images)
    assert tensor.shape == (42, 5, 4, 3)


def test_statistics_are_those_of_the_training_images(folder, pixels):
    images = open_images(folder)
    scaled = pixels[:N_TRAIN] / 255
    np.testing.assert_allclose(images.channel_mean, scaled.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(images.channel_std, scaled.std(axis=(0, 1, 2)), rtol=1e-12)


def test_a_channel_that_is_constant_is_not_divided_by_nothing(pixels):
    mean, deviation = channel_statistics(np.stack([pixels[..., 0], pixels[..., 0] * 0 + 7], axis=3))
    assert mean[1] == pytest.approx(7 / 255) and deviation[1] == 1.0
    assert deviation[0] == channel_statistics(pixels)[1][0] < 1


def test_block_size_changes_neither_statistics_nor_checksum(pixels, monkeypatch):
    labels = np.arange(42) % 3
    whole = channel_statistics(pixels), checksum(pixels, labels, N_TRAIN, CLASSES)
    monkeypatch.setattr(store, "BLOCK_BYTES", 5 * pixels[0].nbytes)
    assert (channel_statistics(pixels), checksum(pixels, labels, N_TRAIN, CLASSES)) == whole


def test_checksum_sees_every_part(pixels):
    labels = np.arange(42) % 3
    changed_pixels, changed_labels = pixels.copy(), labels.copy()
    changed_pixels[-1, -1, -1, -1] ^= 1
    changed_labels[-1] ^= 1
    sums = {
        checksum(pixels, labels, 30, CLASSES),
        checksum(changed_pixels, labels, 30, CLASSES),
        checksum(pixels, changed_labels, 30, CLASSES),
        checksum(pixels, labels, 29, CLASSES),
        checksum(pixels, labels, 30, ["ant", "bee", "dog"]),
        checksum(pixels.reshape(42, 4, 5, 3), labels, 30, CLASSES),
    }
    assert len(sums) == 6


def test_a_source_that_breaks_off_leaves_the_old_store(folder, pixels):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def breaking():
        yield pixels[:10]
        raise InputError("photo.jpg: cut")

    with pytest.raises(InputError, match="cut"):
        write_images(folder, source(pixels, breaking()))
    with pytest.raises(ValueError, match="10 images for 42 labels"):
        write_images(folder, source(pixels, [pixels[:10]]))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_crash_between_the_moves_is_seen(folder, pixels, monkeypatch):
    replace = os.replace

    def crash(old, new):
        if new.name == "images.npy":
            raise OSError("power cut")
        replace(old, new)

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(OSError, match="power cut"):
        write_images(folder, source(255 - pixels))
    with pytest.raises(InputError, match=r"dataset\.json: no such file"):
        open_images(folder)


@pytest.mark.parametrize("name", ["images.npy", "labels.npy"])
@pytest.mark.parametrize("kept", [0, 5, 100, 200, -1])
def test_a_truncated_array_is_named(folder, name, kept):
    path = folder / name
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError) as caught:
        open_images(folder)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "dataset.json"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(InputError, match=f"{name}: no such file"):
        open_images(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n_train": 31}, r"images\.npy: .*dataset\.json says"),
        ({"shape": [4, 5, 3]}, r"images\.npy: .*dataset\.json says"),
        ({"class_names": ["ant", "bee"]}, r"labels\.npy: labels outside 0\.\.1"),
        ({"n_test": "many"}, r"dataset\.json: .*many"),
        ({"shape": 3}, r"dataset\.json: "),
    ],
)
def test_a_description_that_does_not_fit_is_refused(folder, change, words):
    path = folder / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=words):
        open_images(folder)


def test_a_missing_key_is_named(folder):
    path = folder / "dataset.json"
    facts = json.loads(path.read_text())
    del facts["checksum"]
    path.write_text(json.dumps(facts))
    with pytest.raises(InputError, match="no key 'checksum'"):
        open_images(folder)


@pytest.mark.parametrize("size", [0, 1, 7, 50, 333, 999, 1000])
def test_subset_keeps_the_proportions_of_classes(size):
    labels = np.random.default_rng(1).choice(5, p=[0.5, 0.3, 0.15, 0.04, 0.01], size=1000)
    chosen = stratified_subset(labels, size, "any")
    assert len(np.unique(chosen)) == size and (np.diff(chosen) > 0).all()
    exact = np.bincount(labels, minlength=5) * size / 1000
    assert (abs(np.bincount(labels[chosen], minlength=5) - exact) < 1).all()


def test_subset_depends_on_its_seed_alone():
    labels = np.arange(60) % 4
    # Written down once: the same choice is due with every version of NumPy.
    written_down = [1, 13, 14, 20, 22, 23, 48, 49, 56, 59]
    assert stratified_subset(labels, 10, "a fixed seed").tolist() == written_down
    assert stratified_subset(labels, 10, "another").tolist() != written_down


def test_a_smaller_subset_of_equal_classes_lies_in_a_larger_one():
    labels = np.arange(100) % 10
    small, large = (stratified_subset(labels, size, 0) for size in (20, 60))
    assert np.isin(small, large).all()


@pytest.mark.parametrize("size", [-1, 11])
def test_subset_refuses_an_impossible_size(size):
    with pytest.raises(ValueError, match=r"not in 0\.\.10"):
        stratified_subset(np.zeros(10, dtype=np.int64), size, 0)


def test_split_without_options_is_everything(folder):
    train, validation, test = split(open_images(folder))
    assert train.tolist() == list(range(30)) and test.tolist() == list(range(30, 42))
    assert len(validation) == 0 and validation.dtype == train.dtype == np.int64


def test_split_is_disjoint_stratified_and_fixed(folder):
    images = open_images(folder)
    parts = split(images, train_images=15, test_images=6, validation_images=9)
    assert [len(part) for part in parts] == [15, 9, 6]
    assert len(np.unique(np.concatenate(parts))) == 30
    assert max(parts.train.max(), parts.validation.max()) < 30 <= parts.test.min()
    for part, each in zip(parts, (5, 3, 2), strict=True):
        assert np.bincount(images.labels[part]).tolist() == [each] * 3
    again = split(images, train_images=15, test_images=6, validation_images=9)
    assert all(np.array_equal(one, two) for one, two in zip(parts, again, strict=True))


def test_validation_images_do_not_depend_on_the_cap(folder):
    images = open_images(folder)
    few, many = (split(images, train_images=n, validation_images=9) for n in (3, 21))
    assert few.validation.tolist() == many.validation.tolist()
    assert np.isin(few.train, many.train).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"train_images": 31}, "train_images: 31, but insects has 1 to 30"),
        ({"train_images": 22, "validation_images": 9}, "train_images: 22, .* 1 to 21"),
        ({"test_images": 13}, "test_images: 13, .* 1 to 12"),
        ({"test_images": 0}, "test_images: 0"),
        ({"validation_images": -1}, "validation_images: -1"),
        (
            {"validation_images": 30},
            "validation_images: leaves to train on no image of class 'ant'",
        ),
        ({"train_images": 2}, "train_images: selects no image of class 'cat'"),
    ],
)
def test_split_names_the_option_that_cannot_be_met(folder, options, words):
    with pytest.raises(InputError, match=words):
        split(open_images(folder), **options)
