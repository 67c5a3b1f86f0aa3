"""Every built-in data set in its true file format, whole, damaged, missing and read-only.

Tiny files cannot have the published checksums, so the tests put theirs in torchvision's tables, and
the address of a server on this machine, or of none, in place of the published one.
"""

import ast
import gzip
import hashlib
import pickle
import struct
import subprocess
import sys
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from torchvision.datasets import CIFAR10, CIFAR100, SVHN, FashionMNIST

import normres.dataset_facts
import prepare_data
from normres import datasets
from normres.dataset_facts import CLASSES, SHAPES, SIZES
from preparing import prepare, random_images, refusal

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
UNREACHABLE = "http://127.0.0.1:9/"  # the discard port: refused at once


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(datasets, "BACKOFF_SECONDS", 0)


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def snapshot(folder):
    return {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}


# ---- Facts and the command ----


def test_facts_import_nothing():
    tree = ast.parse(Path(normres.dataset_facts.__file__).read_text())
    assert not any(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.walk(tree))
    assert SIZES.keys() == SHAPES.keys() == CLASSES.keys()


def test_command_line_prepares_digits_without_torch(out):
    script = Path(prepare_data.__file__)
    code = (
        f"import sys; sys.path.insert(0, {str(script.parent)!r}); import prepare_data; "
        f"prepare_data.main(['--dataset', 'digits', '--out', {str(out)!r}]); "
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{out}: 1,297 training and 500 test images, 32x32x3, 10 classes\n"


@pytest.mark.parametrize("arguments", [[], ["--dataset", "mnist"], ["--dataset", "svhn", "-x"]])
def test_wrong_command_lines_exit_with_2(out, arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        prepare_data.main([*arguments, "--out", str(out)])
    assert "usage:" in capsys.readouterr().err


def test_image_size_must_be_positive(out):
    assert "--image-size: 0" in refusal(out, "--dataset", "digits", "--image-size", 0)


# ---- Digits ----


def test_digits_are_split_alike_and_scaled(out):
    images = prepare(out, "--dataset", "digits")
    assert (images.n_train, images.n_test) == SIZES["digits"]
    assert images.shape == SHAPES["digits"]
    assert images.class_names == list("0123456789")
    assert (images.images[..., :1] == images.images).all()  # one grey value in three channels
    assert (images.images.min(), images.images.max()) == (0, 255)
    shares = [np.bincount(labels) / len(labels) for labels in np.split(images.labels, [1297])]
    assert abs(shares[0] - shares[1]).max() < 1 / 500


def test_digits_at_their_scanned_size_are_scikit_learns(out):
    from sklearn.datasets import load_digits

    images = prepare(out, "--dataset", "digits", "--image-size", 8)
    digits = load_digits()
    pixels = images.images[..., 0].reshape(-1, 64)
    ours = sorted(zip(pixels.tolist(), images.labels.tolist(), strict=True))
    scans = np.rint(digits.images * 255 / 16).astype(int).reshape(-1, 64)
    assert ours == sorted(zip(scans.tolist(), digits.target.tolist(), strict=True))


# ---- CIFAR ----


@pytest.fixture
def cifar10(root, monkeypatch):
    """Write five training batches and one for testing, four images each, and the label names."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    data = random_images(24, 3, 32, 32)
    labels = [i % 10 for i in range(24)]
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    for i, name in enumerate(names):
        part = slice(4 * i, 4 * i + 4)
        batch = {"batch_label": name, "labels": labels[part], "data": data[part].reshape(4, 3072)}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    meta = {"label_names": [f"class {i}" for i in range(10)], "num_vis": 3072}
    (folder / "batches.meta").write_bytes(pickle.dumps(meta, protocol=2))
    sums = [[name, md5(folder / name)] for name in names]
    monkeypatch.setattr(CIFAR10, "train_list", sums[:5])
    monkeypatch.setattr(CIFAR10, "test_list", sums[5:])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": md5(folder / "batches.meta")})
    monkeypatch.setattr(CIFAR10, "url", UNREACHABLE + CIFAR10.filename)
    return data, labels


def pack(root, monkeypatch):
    archive = root / CIFAR10.filename
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(root / CIFAR10.base_folder, CIFAR10.base_folder)
    for path in (root / CIFAR10.base_folder).iterdir():
        path.unlink()
    (root / CIFAR10.base_folder).rmdir()
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5(archive))
    return archive


def test_cifar10_is_read_from_a_read_only_root(root, out, cifar10):
    data, labels = cifar10
    before = snapshot(root)
    root.chmod(0o555)
    images = prepare(out, "--dataset", "cifar10", "--data-root", root)
    root.chmod(0o755)
    assert snapshot(root) == before  # chmod does not bind a test that runs as root
    np.testing.assert_array_equal(images.images, data.transpose(0, 2, 3, 1))
    assert images.labels.tolist() == labels
    assert (images.n_train, images.n_test) == (20, 4)
    assert images.class_names[3] == "class 3"


def test_cifar10_is_read_from_its_archive(root, out, cifar10, monkeypatch):
    archive = pack(root, monkeypatch)
    images = prepare(out, "--dataset", "cifar10", "--data-root", root)
    np.testing.assert_array_equal(images.images, cifar10[0].transpose(0, 2, 3, 1))
    assert list(root.iterdir()) == [archive]


def test_cifar10_resized(root, out, cifar10):
    images = prepare(out, "--dataset", "cifar10", "--data-root", root, "--image-size", 16)
    halves = cifar10[0].transpose(0, 2, 3, 1).reshape(24, 16, 2, 16, 2, 3).mean(axis=(2, 4))
    assert images.shape == (16, 16, 3)
    # The antialiasing triangle reaches beyond the two pixels of the mean, but stays near it.
    assert np.corrcoef(images.images.ravel(), halves.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
def test_a_cut_pickle_is_named(root, out, cifar10, name):
    path = root / "cifar-10-batches-py" / name
    path.write_bytes(path.read_bytes()[:-20])
    text = refusal(out, "--dataset", "cifar10", "--data-root", root)
    assert str(path) in text and "truncated or altered" in text


def test_a_missing_batch_is_named(root, out, cifar10):
    (root / "cifar-10-batches-py" / "data_batch_2").unlink()
    assert "data_batch_2: no such file" in refusal(out, "--dataset", "cifar10", "--data-root", root)


def test_a_cut_archive_is_named(root, out, cifar10, monkeypatch):
    archive = pack(root, monkeypatch)
    archive.write_bytes(archive.read_bytes()[:-100])
    text = refusal(out, "--dataset", "cifar10", "--data-root", root)
    assert str(archive) in text and "truncated or altered" in text


def test_cifar100_uses_the_fine_labels(root, out, monkeypatch):
    folder = root / "cifar-100-python"
    folder.mkdir()
    names = [f"fine {i}" for i in range(100)]
    for name, n in (("train", 200), ("test", 100)):
        batch = {
            "data": random_images(n, 3072),
            "fine_labels": [i % 100 for i in range(n)],
            "coarse_labels": [0] * n,
        }
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    meta = {"fine_label_names": names, "coarse_label_names": ["all"]}
    (folder / "meta").write_bytes(pickle.dumps(meta, protocol=2))
    monkeypatch.setattr(CIFAR100, "train_list", [["train", md5(folder / "train")]])
    monkeypatch.setattr(CIFAR100, "test_list", [["test", md5(folder / "test")]])
    monkeypatch.setattr(CIFAR100, "meta", CIFAR100.meta | {"md5": md5(folder / "meta")})
    images = prepare(out, "--dataset", "cifar100", "--data-root", root)
    assert images.class_names == names
    assert images.labels.tolist() == [i % 100 for i in range(200)] + list(range(100))


# ---- SVHN ----


@pytest.fixture
def svhn(root, monkeypatch):
    """Write MATLAB files as published: pixels (32, 32, 3, n), labels 1 to 10, where 10 is 0."""
    files, parts = {}, {}
    for part, n in (("train", 20), ("test", 10)):
        path = root / f"{part}_32x32.mat"
        pixels = random_images(32, 32, 3, n)
        labels = np.arange(n, dtype=np.uint8).reshape(n, 1) % 10 + 1
        scipy.io.savemat(path, {"X": pixels, "y": labels})
        files[part] = [UNREACHABLE + path.name, path.name, md5(path)]
        parts[part] = pixels
    monkeypatch.setattr(SVHN, "split_list", files)
    return parts


def test_svhn_pixels_are_upright_and_ten_is_zero(root, out, svhn):
    images = prepare(out, "--dataset", "svhn", "--data-root", root)
    expected = np.concatenate([np.moveaxis(svhn[part], 3, 0) for part in ("train", "test")])
    np.testing.assert_array_equal(images.images, expected)
    assert images.labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0] * 3
    assert (images.n_train, images.n_test, images.shape) == (20, 10, (32, 32, 3))


def test_a_cut_mat_file_is_named(root, out, svhn):
    path = root / "test_32x32.mat"
    path.write_bytes(path.read_bytes()[:-1])
    assert str(path) in refusal(out, "--dataset", "svhn", "--data-root", root)


def test_only_what_is_missing_is_asked_for(root, out, svhn):
    (root / "test_32x32.mat").unlink()
    text = refusal(out, "--dataset", "svhn", "--data-root", root)
    assert f"put test_32x32.mat into {root}, from {UNREACHABLE}test_32x32.mat" in text
    assert "train_32x32.mat" not in text
    assert [path.name for path in root.iterdir()] == ["train_32x32.mat"]


# ---- Fashion-MNIST ----


def idx(array):
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


FASHION_MNIST = {
    "train-images-idx3-ubyte": random_images(20, 28, 28),
    "train-labels-idx1-ubyte": np.arange(20, dtype=np.uint8) % 10,
    "t10k-images-idx3-ubyte": random_images(10, 28, 28),
    "t10k-labels-idx1-ubyte": np.arange(10, dtype=np.uint8),
}


@pytest.mark.parametrize("place", [".", "FashionMNIST/raw"])
@pytest.mark.parametrize("compressed", [True, False])
def test_fashion_mnist_is_found_in_each_layout(root, out, place, compressed):
    (root / place).mkdir(parents=True, exist_ok=True)
    for name, array in FASHION_MNIST.items():
        path = root / place / (f"{name}.gz" if compressed else name)
        path.write_bytes(gzip.compress(idx(array)) if compressed else idx(array))
    before = snapshot(root)
    images = prepare(out, "--dataset", "fashion_mnist", "--data-root", root)
    assert snapshot(root) == before
    pixels = [FASHION_MNIST[f"{part}-images-idx3-ubyte"] for part in ("train", "t10k")]
    np.testing.assert_array_equal(images.images[..., 0], np.concatenate(pixels))
    assert images.labels.tolist() == [*range(10)] * 3
    assert (images.n_train, images.n_test, images.shape) == (20, 10, (28, 28, 1))
    assert images.class_names[9] == "Ankle boot"


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("kept", [0, 3, 6, 14, -1])
def test_a_cut_idx_file_is_named(root, out, compressed, kept):
    for name, array in FASHION_MNIST.items():
        path = root / (f"{name}.gz" if compressed else name)
        path.write_bytes(gzip.compress(idx(array)) if compressed else idx(array))
    path = next(root.glob("t10k-images*"))
    path.write_bytes(path.read_bytes()[:kept])
    text = refusal(out, "--dataset", "fashion_mnist", "--data-root", root)
    assert text.startswith(f"{path}: truncated or not an IDX file")


def test_labels_of_another_length_are_named(root, out):
    for name, array in FASHION_MNIST.items():
        (root / name).write_bytes(idx(array[:9] if name.startswith("t10k-labels") else array))
    text = refusal(out, "--dataset", "fashion_mnist", "--data-root", root)
    assert "t10k-labels-idx1-ubyte: labels (9,)" in text


@pytest.mark.skipif(
    not DEBIAN_FASHION_MNIST.is_dir(), reason="Debian's dataset-fashion-mnist is not installed"
)
def test_the_true_fashion_mnist(out):
    images = prepare(out, "--dataset", "fashion_mnist", "--data-root", DEBIAN_FASHION_MNIST)
    assert (images.n_train, images.n_test) == SIZES["fashion_mnist"]
    assert images.shape == SHAPES["fashion_mnist"]
    assert len(images.class_names) == CLASSES["fashion_mnist"]
    assert np.bincount(images.labels[:60_000]).tolist() == [6000] * 10
    # The mean and standard deviation in common use for this data set.
    assert images.channel_mean == pytest.approx([0.2860], abs=5e-5)
    assert images.channel_std == pytest.approx([0.3530], abs=5e-5)


# ---- Downloads ----


@pytest.fixture
def server():
    """Serve `files` (path -> bytes) on this machine; the first `failures` requests get a 503."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            http.requests.append(self.path)
            body = http.files.get(self.path)
            if len(http.requests) <= http.failures or body is None:
                self.send_error(503)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.files, http.requests, http.failures = {}, [], 0
    http.url = f"http://127.0.0.1:{http.server_port}/"
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    yield http
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.fixture
def published_fashion_mnist(server, monkeypatch):
    server.files = {f"/{name}.gz": gzip.compress(idx(a)) for name, a in FASHION_MNIST.items()}
    sums = [(path[1:], hashlib.md5(body).hexdigest()) for path, body in server.files.items()]
    monkeypatch.setattr(FashionMNIST, "mirrors", [server.url])
    monkeypatch.setattr(FashionMNIST, "resources", sums)
    return server


def test_a_download_survives_failures_and_is_kept(root, out, published_fashion_mnist):
    published_fashion_mnist.failures = 2
    images = prepare(out, "--dataset", "fashion_mnist", "--data-root", root)
    assert images.n_train == 20
    assert sorted(path.name for path in root.iterdir()) == sorted(
        f"{name}.gz" for name in FASHION_MNIST
    )
    requests = len(published_fashion_mnist.requests)
    prepare(out, "--dataset", "fashion_mnist", "--data-root", root)
    assert len(published_fashion_mnist.requests) == requests


def test_a_cut_download_is_refused_and_the_next_attempt_works(root, out, published_fashion_mnist):
    whole = published_fashion_mnist.files.copy()
    name = "t10k-images-idx3-ubyte.gz"
    published_fashion_mnist.files[f"/{name}"] = whole[f"/{name}"][:-100]
    text = refusal(out, "--dataset", "fashion_mnist", "--data-root", root)
    assert f"put {name}, t10k-labels-idx1-ubyte.gz into {root}" in text
    assert sorted(path.name for path in root.iterdir()) == [
        "train-images-idx3-ubyte.gz",
        "train-labels-idx1-ubyte.gz",
    ]
    published_fashion_mnist.files = whole
    assert prepare(out, "--dataset", "fashion_mnist", "--data-root", root).n_test == 10


@pytest.mark.parametrize(
    ("name", "dataset", "table", "files"),
    [
        ("cifar10", CIFAR10, "url", [CIFAR10.filename]),
        ("cifar100", CIFAR100, "url", [CIFAR100.filename]),
        ("fashion_mnist", FashionMNIST, "mirrors", [name for name, _ in FashionMNIST.resources]),
        ("svhn", SVHN, "split_list", ["train_32x32.mat", "test_32x32.mat"]),
    ],
)
def test_without_network_and_files_it_says_what_to_put_where(
    root, out, name, dataset, table, files, monkeypatch
):
    unreachable = {
        "url": UNREACHABLE + files[0],
        "mirrors": [UNREACHABLE],
        "split_list": {
            part: [f"{UNREACHABLE}{part}_32x32.mat", f"{part}_32x32.mat", "0" * 32]
            for part in ("train", "test")
        },
    }
    monkeypatch.setattr(dataset, table, unreachable[table])
    text = refusal(out, "--dataset", name, "--data-root", root)
    assert f"put {', '.join(files)} into {root}, from {UNREACHABLE}{files[0]}" in text
    assert "refused" in text
    assert not any(root.iterdir())
