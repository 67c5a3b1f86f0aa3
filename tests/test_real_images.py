"""Training on all of CIFAR-10, where a folder of its images is at hand."""

import shutil
from pathlib import Path

import pytest

import prepare_data
import train
from conftest import PROJECT, read_record

ARCHIVE = PROJECT.parent / "shared" / "data" / "cifar10-jpeg.tar.xz"


@pytest.fixture(scope="module")
def cifar10(tmp_path_factory) -> Path:
    """CIFAR-10, prepared from 60,000 JPEG files."""
    if not ARCHIVE.exists():
        pytest.skip("CIFAR-10 as JPEG files (cifar10-jpeg.tar.xz) is not on this machine")
    folder = tmp_path_factory.mktemp("cifar10")
    shutil.unpack_archive(ARCHIVE, folder / "images")  # tarfile's filter came with Python 3.11.4
    arguments = ["--folder", str(folder / "images"), "--name", "cifar10"]
    prepare_data.main([*arguments, "--out", str(folder / "prepared")])
    return folder / "prepared"


@pytest.mark.slow
def test_convnet_learns_photographs(cifar10, tmp_path):
    """A plain loop reaches 0.49 after 2 epochs."""
    arguments = ["--model", "convnet", "--norm", "none", "--epochs", "2", "--normalize", "half"]
    train.main(["--data", str(cifar10), "--out", str(tmp_path / "run"), *arguments])
    record = read_record(tmp_path / "run")
    assert record["final"]["test_accuracy"] > 0.45
    assert record["final"]["test_accuracy"] == record["final"]["test_correct"] / 10_000
