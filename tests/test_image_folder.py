"""Image folders: every format and colour mode, and each mistake named in one line."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image
from torchvision import transforms

import prepare_data
from preparing import prepare, random_images, refusal


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def photos(tmp_path):
    """Write two classes of 6 training and 3 test images, 10x8 pixels, half of them nested."""
    folder = tmp_path / "photos"
    for part, n in (("train", 6), ("test", 3)):
        for label, name in enumerate(("cat", "dog")):
            for i in range(n):
                path = folder / part / name / ("nested" if i % 2 else ".") / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.full((8, 10, 3), (i, label, n), np.uint8)).save(path)
    return folder


def test_one_class_is_refused(photos, out):
    for part in ("train", "test"):
        shutil.rmtree(photos / part / "dog")
    assert "one class only, 'cat'" in refusal(out, "--folder", photos)


def test_folder_keeps_order_classes_and_pixels(photos, out):
    (photos / "train/cat/.hidden.png").write_bytes(b"no image")
    (photos / "train/.ipynb_checkpoints").mkdir()
    (photos / "train/dog/.cache").mkdir()
    (photos / "train/dog/.cache/thumb.png").write_bytes(b"no image")
    (photos / "train/notes.txt").write_text("not a class")
    (photos / "train/cat/notes.txt").write_text("not an image")
    images = prepare(out, "--folder", photos, "--name", "pets")
    assert (images.name, images.class_names) == ("pets", ["cat", "dog"])
    assert (images.n_train, images.n_test, images.shape) == (12, 6, (8, 10, 3))
    assert images.labels.tolist() == [0] * 6 + [1] * 6 + [0] * 3 + [1] * 3
    # Files first by their own name, then those in nested/: 0 2 4 and 1 3 5.
    assert images.images[:6, 0, 0, 0].tolist() == [0, 2, 4, 1, 3, 5]
    assert (images.images[..., 1] == images.labels[:, None, None]).all()
    assert (images.images[:12, ..., 2] == 6).all() and (images.images[12:, ..., 2] == 3).all()


def test_folder_is_called_as_its_folder_by_default(photos, out):
    assert prepare(out, "--folder", photos).name == "photos"


@pytest.mark.parametrize("suffix", [".jpg", ".bmp", ".ppm", ".tif", ".webp", ".PNG"])
def test_folder_reads_each_format(photos, out, suffix):
    for path in list(photos.rglob("*.png")):
        Image.open(path).save(path.with_suffix(suffix))
        path.unlink()
    images = prepare(out, "--folder", photos)
    assert images.images[0].mean(axis=(0, 1)) == pytest.approx([0, 0, 6], abs=3)


def regrey(photos, mode="L"):
    for path in photos.rglob("*.png"):
        Image.open(path).convert(mode).save(path)


def test_grey_images_keep_one_channel_only_where_all_are_grey(photos, out):
    regrey(photos)
    Image.new("1", (10, 8), 1).save(photos / "train/cat/0.png")
    Image.new("LA", (10, 8), (7, 0)).save(photos / "train/cat/2.png")
    images = prepare(out, "--folder", photos)
    assert images.shape == (8, 10, 1)
    assert images.images[:2, 0, 0, 0].tolist() == [255, 7]
    Image.new("RGB", (10, 8), (1, 2, 3)).save(photos / "test/dog/0.png")
    images = prepare(out, "--folder", photos)
    assert images.shape == (8, 10, 3)
    assert images.images[1, 0, 0].tolist() == [7, 7, 7]


def test_palette_and_transparency_become_rgb(photos, out):
    Image.new("RGB", (10, 8), (200, 30, 0)).convert("P").save(photos / "train/cat/0.png")
    Image.new("RGBA", (10, 8), (9, 8, 7, 0)).save(photos / "train/cat/2.png")
    images = prepare(out, "--folder", photos)
    assert images.images[0, 0, 0].tolist() == pytest.approx([200, 30, 0], abs=30)
    assert images.images[1, 0, 0].tolist() == [9, 8, 7]


def test_sixteen_bits_keep_their_upper_half(photos, out):
    regrey(photos)
    Image.fromarray(np.full((8, 10), 0x8040, np.uint16)).save(photos / "train/cat/0.png")
    assert (prepare(out, "--folder", photos).images[0] == 0x80).all()


def test_image_size_is_torchvisions_resize_and_centre_crop(photos, out):
    picture = Image.fromarray(random_images(20, 40, 3))
    picture.save(photos / "train/cat/0.png")
    images = prepare(out, "--folder", photos, "--image-size", 4)
    assert images.shape == (4, 4, 3)
    expected = transforms.Compose([transforms.Resize(4), transforms.CenterCrop(4)])(picture)
    np.testing.assert_array_equal(images.images[0], np.asarray(expected))


def test_images_of_two_sizes_are_refused(photos, out):
    odd = photos / "test/cat/nested/1.png"
    Image.new("RGB", (11, 8)).save(odd)
    text = refusal(out, "--folder", photos)
    assert text.startswith(f"{odd}: 11x8 pixels") and "10x8" in text and "image_size" in text


def test_a_cut_jpeg_is_named(photos, out):
    path = photos / "train/dog/photo.jpg"
    Image.fromarray(random_images(8, 10, 3)).save(path)
    path.write_bytes(path.read_bytes()[:-40])  # the header is whole: found when pixels are read
    text = refusal(out, "--folder", photos)
    assert text.startswith(f"{path}: not a readable image")


def test_something_else_called_png_is_named(photos, out):
    path = photos / "test/dog/page.png"
    path.write_text("<html>not found</html>")
    assert refusal(out, "--folder", photos).startswith(f"{path}: not a readable image")


def test_values_of_32_bits_are_refused(photos, out):
    path = photos / "train/cat/float.tif"
    Image.new("F", (10, 8)).save(path)
    assert refusal(out, "--folder", photos).startswith(f"{path}: Pillow reads this file as 32 bits")


def test_a_pgm_of_16_bits_is_not_called_one_of_32(photos, out):
    path = photos / "train/cat/grey.pgm"
    path.write_bytes(b"P5 10 8 65535\n" + bytes(160))
    text = refusal(out, "--folder", photos)
    assert text.startswith(f"{path}: Pillow reads this file as 32 bits")
    assert "(a PGM of 16 bits, too); save it as PNG" in text


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_missing_part_is_named(photos, out, part):
    (photos / part).rename(photos / "other")
    assert refusal(out, "--folder", photos).startswith(f"{photos / part}: no such folder")


def test_classes_must_be_the_same(photos, out):
    (photos / "test/dog").rename(photos / "test/dogs")
    text = refusal(out, "--folder", photos)
    assert "class 'dog' is in train/ but not in test/" in text


def test_a_folder_without_classes_is_named(photos, out):
    for name in ("cat", "dog"):
        (photos / "train" / name).rename(photos / name)
    assert f"{photos / 'train'}: no class folders" in refusal(out, "--folder", photos)


def test_a_subfolder_that_cannot_be_read_is_named(photos, out, monkeypatch):
    shut, scandir = str(photos / "train/dog/nested"), os.scandir

    def refusing(path):  # not by the folder's mode, which the superuser is not bound by
        if os.fspath(path) == shut:
            raise PermissionError(13, "Permission denied", shut)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    text = refusal(out, "--folder", photos)
    assert text == f"{shut}: this folder cannot be read (Permission denied)"


@pytest.mark.parametrize(
    ("link", "target", "why"),
    [
        ("train/cat/nested/loop", ".", "in which the link itself lies"),
        ("train/cat/loop", "..", "in which the link itself lies"),
        ("train/cat/loop", "../..", "in which the link itself lies"),
        ("train/cat/more", "../dog", "where images of class 'dog' are"),
        ("train/cat/more", "../../test/dog/nested", "where images of class 'dog' are"),
        ("test/cat/more", "../../train", "where images of class 'dog' are"),
        ("train/emu", "dog", "where images of class 'dog' are"),
        ("train/emu", "../..", "where images of class 'cat' are"),
    ],
)
def test_a_link_to_what_is_read_already_is_refused(photos, out, link, target, why):
    """Else each image would be there once more for each round, under the class of the link."""
    path = photos / link
    path.symlink_to(target)
    text = refusal(out, "--folder", photos)
    assert text.startswith(f"{path}: a link to {path.resolve()}, {why}; ")


def test_a_loop_outside_the_folder_is_refused(photos, out, tmp_path):
    (tmp_path / "more/deep").mkdir(parents=True)
    (tmp_path / "more/deep/back").symlink_to(tmp_path / "more")
    (photos / "train/cat/more").symlink_to(tmp_path / "more")
    text = refusal(out, "--folder", photos)
    assert text.startswith(
        f"{photos}/train/cat/more/deep/back: a link to {tmp_path}/more, in which"
    )


def test_links_to_other_folders_are_followed(photos, out, tmp_path):
    (photos / "train/cat/nested").rename(tmp_path / "nested cats")
    (photos / "train/cat/nested").symlink_to(tmp_path / "nested cats")
    (photos / "train/dog").rename(tmp_path / "dog")
    (photos / "train/dog").symlink_to("../../dog")
    images = prepare(out, "--folder", photos)
    assert images.n_train == 12
    assert (images.images[..., 1] == images.labels[:, None, None]).all()


@pytest.mark.parametrize("content", [None, "notes.txt"])
def test_a_class_without_images_is_named(photos, out, content):
    empty = photos / "train/emu"
    empty.mkdir()
    if content:
        (empty / content).write_text("no image")
    assert refusal(out, "--folder", photos) == f"{empty}: no image in it"


def test_progress_in_a_log_is_a_line_now_and_then(photos, out, monkeypatch, capsys):
    prepare(out, "--folder", photos)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(prepare_data, "SECONDS_BETWEEN_LINES", 0)
    prepare(out, "--folder", photos)
    assert capsys.readouterr().err.splitlines() == [
        "reading headers: 18 of 18, 0 s left",
        "reading images: 18 of 18, 0 s left",
    ]
