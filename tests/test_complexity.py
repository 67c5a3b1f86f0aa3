"""The costs of networks: the exercise's numbers, agreement of the counters, memory, csv files."""

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, cross_entropy

import count_complexity
from normres import complexity
from normres.errors import InputError
from normres.models import build_network
from normres.options import resolve
from normres.training import build_optimizer

NORMS = ["none", "batch", "group", "layer", "instance"]
MODELS = ["resnet", "vgg11", "convnet"]

# The exercise's table (input 3x32x32, 10 classes).
MACS = {"resnet": 162_366_720, "vgg11": 171_679_744, "convnet": 17_367_680}
PARAMETERS = {
    "resnet": (1_081_482, 1_084_554),
    "vgg11": (28_144_010, 28_149_514),
    "convnet": (2_453_962, 2_454_410),
}
# Elements that the norm layers see in one image: channels x pixels of each.
NORM_ELEMENTS = {
    "resnet": 6 * 32 * 32**2 + 7 * 64 * 16**2 + 7 * 128 * 8**2,
    "vgg11": 64 * 32**2 + 128 * 16**2 + 2 * 256 * 8**2 + 2 * 512 * 4**2 + 2 * 512 * 2**2,
    "convnet": 32 * 30**2 + 64 * 14**2 + 128 * 12**2,
}


def specify(model="resnet", norm="none", **options) -> dict[str, Any]:
    return resolve(model, norm, seed=0, epochs=1, given=options)


def count(model="resnet", norm="none", input_shape=(3, 32, 32), classes=10, **options):
    return count_complexity.count_network(specify(model, norm, **options), input_shape, classes)


# Counts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("model", MODELS)
def test_counts_are_those_of_the_exercise(model, norm):
    counted = count(model, norm)
    elements = 0 if norm == "none" else NORM_ELEMENTS[model]
    assert counted.params == PARAMETERS[model][norm != "none"]
    assert counted.macs == MACS[model]
    assert counted.norm_ops == elements * (2 if norm == "batch" else 5)
    assert counted.norm_ops_training == elements * 5
    for what in ("params", "macs", "norm_ops", "norm_ops_training", "activations"):
        assert sum(getattr(layer, what) for layer in counted.layers) == getattr(counted, what)
    statistics = (counted.params - PARAMETERS[model][0]) if norm == "batch" else 0
    layers = sum(layer.type == "BatchNorm2d" for layer in counted.layers)
    assert counted.weight_bytes == 4 * (counted.params + statistics) + 8 * layers


def test_norms_without_scale_and_shift_need_an_operation_less():
    elements = NORM_ELEMENTS["convnet"]
    batch = count("convnet", "batch", affine=False)
    group = count("convnet", "group", affine=False)
    assert (batch.norm_ops, batch.norm_ops_training) == (elements, 4 * elements)
    assert (group.norm_ops, group.norm_ops_training) == (4 * elements, 4 * elements)


def test_ghost_batches_cost_the_operations_of_batch_norm():
    ghost = count("resnet", "batch", depth=1, statistics_images=2)
    plain = count("resnet", "batch", depth=1)
    for name in ("params", "macs", "norm_ops", "norm_ops_training", "activations"):
        assert getattr(ghost, name) == getattr(plain, name)


def resnet_macs(channels, side, classes, depth):
    macs, inplanes = channels * 32 * 9 * side**2, 32
    for stage, planes in enumerate((32, 64, 128)):
        if stage:
            side = (side + 1) // 2
            macs += inplanes * planes * side**2
        macs += (inplanes + (2 * depth - 1) * planes) * planes * 9 * side**2
        inplanes = planes
    return macs + 128 * classes


@pytest.mark.parametrize(
    ("channels", "side", "classes", "depth"), [(1, 28, 10, 3), (3, 33, 100, 1), (3, 64, 7, 5)]
)
def test_macs_of_resnet_for_other_shapes(channels, side, classes, depth):
    counted = count("resnet", "group", (channels, side, side), classes, depth=depth)
    assert counted.macs == resnet_macs(channels, side, classes, depth)


def test_the_plain_twin_lacks_the_shortcuts_macs():
    shortcuts = 32 * 64 * 16**2 + 64 * 128 * 8**2
    assert count("plainnet").macs == MACS["resnet"] - shortcuts


def test_activations_are_outputs_of_convolutions_and_linear_layers():
    assert count("convnet").activations == NORM_ELEMENTS["convnet"] + 128 + 10


def test_layers_say_where_the_costs_are():
    layers = {layer.layer: layer for layer in count("resnet", "batch").layers}
    assert layers["stem"].macs == 3 * 32 * 9 * 32**2
    shortcut = layers["stages.1.0.shortcut.0"]
    assert (shortcut.type, shortcut.output_shape) == ("Conv2d", "64x16x16")
    assert (shortcut.params, shortcut.macs) == (32 * 64, 32 * 64 * 16**2)
    assert layers["classifier"].params == 1290
    assert layers["stages.2.2.norm2"].norm_ops == 2 * 128 * 8**2


def test_operators_in_no_count_are_listed_with_their_share():
    adds, total = 3 * (32 * 32**2 + 64 * 16**2 + 128 * 8**2), 128 * 8**2
    operations = MACS["resnet"] + adds + total
    assert count("resnet").unsupported == (
        f"aten::add 9 {100 * adds / operations:.2g} %; aten::sum 1 {100 * total / operations:.2g} %"
    )
    assert count("vgg11").unsupported.startswith("aten::max_pool2d 5 ")
    assert count("convnet").unsupported == ""


def test_counting_prints_nothing(capfd, caplog, recwarn):
    count("resnet", "batch")
    complexity.peak_training_bytes(specify(), (3, 32, 32), 10)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records and not recwarn.list


# Disagreement ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("handles", "operator", "layer", "what"),
    [
        ("MAC_HANDLES", "aten::linear", "classifier", "macs"),
        ("MAC_HANDLES", "aten::_convolution", "stem", "macs"),
        ("NORM_HANDLES", "aten::batch_norm", "stages.0.0.norm1", "norm_ops"),
    ],
)
def test_a_wrong_counter_of_fvcore_is_an_error_that_names_the_layer(
    monkeypatch, handles, operator, layer, what
):
    monkeypatch.setitem(getattr(complexity, handles), operator, lambda inputs, outputs: 17)
    with pytest.raises(InputError, match=rf"ResNet: counts of {what} disagree in layer {layer}:"):
        count("resnet", "batch")


def test_a_wrong_counter_of_torch_is_an_error_that_names_the_layer(monkeypatch):
    correct = complexity._flop_counter_macs

    def wrong(network, image):
        return correct(network, image) | {"hidden": 17}

    monkeypatch.setattr(complexity, "_flop_counter_macs", wrong)
    with pytest.raises(InputError, match=r"hidden: .* 17 by torch\.utils\.flop_counter"):
        count("convnet")


class Tied(nn.Module):
    """A block that uses its layer's weight a second time, outside the layer."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, images):
        return conv2d(self.conv(images), self.conv.weight)


@pytest.mark.parametrize(
    ("network", "layer"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(4, 2, 3)), "1"),
        (nn.Sequential(nn.ReLU(), Tied()), "1"),
        (Tied(), r"\(root\)"),
    ],
)
def test_a_weight_without_a_closed_form_is_an_error_that_names_its_place(network, layer):
    with pytest.raises(InputError, match=f"counts of macs disagree in layer {layer}:"):
        complexity.count(network, (3, 8, 8))


@pytest.mark.parametrize("outputs", [9, 11])
def test_a_network_of_another_number_of_classes_is_refused(monkeypatch, outputs):
    """More outputs than classes trained without a word, and counted parameters that none needs."""
    build = count_complexity.build_network
    monkeypatch.setattr(
        count_complexity, "build_network", lambda *given: build(*given[:-1], outputs)
    )
    with pytest.raises(InputError, match=rf"convnet: .* \(2, {outputs}\), not .* 10 classes"):
        count_complexity.count_network(specify("convnet"), (3, 32, 32), 10)


def test_a_network_of_several_outputs_is_refused(monkeypatch):
    class Auxiliary(nn.Sequential):
        def forward(self, images):
            logits = super().forward(images)
            return logits, logits

    build = count_complexity.build_network
    monkeypatch.setattr(count_complexity, "build_network", lambda *given: Auxiliary(build(*given)))
    with pytest.raises(InputError, match="convnet: two images give a tuple, not a logit for each"):
        count_complexity.count_network(specify("convnet"), (3, 32, 32), 10)


def test_instance_norm_of_a_single_pixel_is_refused():
    with pytest.raises(InputError, match="instance needs maps of 2 pixels"):
        count("resnet", "instance", (3, 4, 4))


# Memory ----------------------------------------------------------------------------------------


def peak(model="resnet", norm="none", **options) -> int:
    return complexity.peak_training_bytes(specify(model, norm, **options), (3, 32, 32), 10)


def saved_bytes(specification: Mapping[str, Any]) -> int:
    """Bytes that the backward pass of a real forward pass keeps, parameters left out."""
    network = build_network(specification, 3, 32, 10)
    parameters = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    storages: dict[int, int] = {}
    kept = []  # so that no address is used twice

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            storages[storage.data_ptr()] = storage.nbytes()
            kept.append(tensor.detach())
        return tensor

    images = torch.rand(specification["batch_size"], 3, 32, 32)
    labels = torch.zeros(specification["batch_size"], dtype=torch.int64)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        cross_entropy(network(images), labels)
    return sum(storages.values())


@pytest.mark.parametrize("norm", ["none", "batch", "group"])
@pytest.mark.parametrize("model", MODELS)
def test_peak_memory_lies_between_what_a_real_step_keeps_and_twice_that(model, norm):
    specification = specify(model, norm, batch_size=16)
    weights = 4 * PARAMETERS[model][norm != "none"]
    saved = saved_bytes(specification)
    measured = peak(model, norm, batch_size=16)
    # Weights and Adam's two moments last; the backward pass frees what it has used as it makes
    # gradients, and needs some for the gradients of activations.
    assert measured >= 3 * weights + saved
    assert measured >= 4 * weights
    assert measured <= 4 * weights + 2 * saved


def test_peak_memory_grows_by_the_same_bytes_for_each_image():
    peaks = [peak("convnet", "batch", batch_size=size) for size in (64, 128, 256)]
    assert peaks[0] < peaks[1] < peaks[2]
    assert peaks[2] - peaks[1] == pytest.approx(2 * (peaks[1] - peaks[0]), rel=0.01)


def test_peak_memory_counts_the_state_of_the_optimizer():
    weights = 4 * PARAMETERS["convnet"][0]
    adam, momentum, plain = (
        peak("convnet", batch_size=2, optimizer="adam"),
        peak("convnet", batch_size=2, optimizer="sgd", momentum=0.9),
        peak("convnet", batch_size=2, optimizer="sgd", momentum=0.0),
    )
    assert adam - momentum == pytest.approx(weights, rel=0.01)
    assert momentum - plain == pytest.approx(weights, rel=0.01)


def test_peak_memory_is_that_of_real_tensors():
    """The same two steps on real tensors, every storage followed by the same tracker."""
    specification = specify("convnet", "group", batch_size=4)
    network = build_network(specification, 3, 32, 10)
    optimizer = build_optimizer(network, specification)
    images, labels = torch.rand(4, 3, 32, 32), torch.zeros(4, dtype=torch.int64)
    tracker = complexity.MemTracker()
    tracker.track_external(network, optimizer, images, labels)
    with tracker:
        for _ in range(2):
            cross_entropy(network(images), labels).backward()
            optimizer.step()
            optimizer.zero_grad()
            tracker.reset_mod_stats()
    (real,) = tracker.get_tracker_snapshot("peak").values()
    assert peak("convnet", "group", batch_size=4) == pytest.approx(real["Total"], rel=0.01)


# Command ---------------------------------------------------------------------------------------


def run_of(model, norm, seed, axes, **options):
    name = "/".join([model, norm, *(f"{key}={value}" for key, value in axes.items())])
    specification = resolve(model, norm, seed, 1, {**options, **axes})
    run = {"run": f"{name}/seed{seed}", "model": model, "norm": norm, "seed": seed, "axes": axes}
    return run | {"specification": specification, "fingerprint": "0"}


def write_study(folder, axes, runs, shape=(32, 32, 3)):
    study = {
        "study": "small",
        "title": "A small study",
        "dataset": {"id": "small", "name": "small"},
        "models": list(dict.fromkeys(run["model"] for run in runs)),
        "norms": list(dict.fromkeys(run["norm"] for run in runs)),
        "seeds": [0, 1],
        "axes": axes,
        "epochs": 1,
        "runs": runs,
    }
    dataset = {"name": "small", "shape": list(shape), "class_names": list("abcde")}
    for name, content in (("study", study), ("dataset", dataset)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    return [
        *("--study", str(folder / "study.json"), "--dataset", str(folder / "dataset.json")),
        *("--out-summary", str(folder / "complexity.csv")),
        *("--out-layers", str(folder / "layers.csv")),
    ]


def read(path):
    return pd.read_csv(path, keep_default_na=False, na_values=[""])


COSTS = [
    *("input", "classes", "params", "macs", "norm_ops", "norm_ops_training", "activations"),
    *("weight_bytes", "bias_gradient", "bias_effect"),
    *("peak_training_bytes", "peak_training_batch", "peak_training_method", "unsupported"),
]


def test_command_writes_a_row_a_network(tmp_path, capsys):
    runs = [run_of("convnet", norm, seed, {}) for norm in ("none", "batch") for seed in (0, 1)]
    assert not count_complexity.main(write_study(tmp_path, {}, runs))
    assert "2 networks" in capsys.readouterr().out
    table, layers = read(tmp_path / "complexity.csv"), read(tmp_path / "layers.csv")
    assert list(table) == ["model", "norm", *COSTS]
    assert list(table["norm"]) == ["none", "batch"]
    assert set(table["input"]) == {"3x32x32"} and set(table["classes"]) == {5}
    assert set(table["peak_training_batch"]) == {128}
    assert list(table["macs"]) == [MACS["convnet"] - 5 * 128] * 2
    assert list(layers)[:4] == ["model", "norm", "layer", "type"]
    counts = ["params", "macs", "norm_ops", "norm_ops_training", "activations"]
    sums = layers.groupby("norm", sort=False)[counts].sum()
    pd.testing.assert_frame_equal(sums, table.set_index("norm")[counts])


def test_axes_that_change_a_network_or_its_memory_are_columns(tmp_path):
    axes = {"batch_size": [2, 8], "learning_rate": [0.1, 0.01], "groups": [8, 32]}
    runs = []
    for batch_size in axes["batch_size"]:
        for rate in axes["learning_rate"]:
            shared = {"batch_size": batch_size, "learning_rate": rate}
            runs.append(run_of("convnet", "none", 0, shared))
            runs += [
                run_of("convnet", "group", 0, {**shared, "groups": groups})
                for groups in axes["groups"]
            ]
    count_complexity.main(write_study(tmp_path, axes, runs))
    table, layers = read(tmp_path / "complexity.csv"), read(tmp_path / "layers.csv")
    assert list(table) == ["model", "norm", "batch_size", "groups", *COSTS]
    assert len(table) == 6 and not table.duplicated(["norm", "batch_size", "groups"]).any()
    assert table["groups"].isna().equals(table["norm"] == "none")
    assert list(table["peak_training_batch"]) == list(table["batch_size"])
    by_batch = table.groupby("batch_size")["peak_training_bytes"].min()
    assert by_batch[2] < by_batch[8]
    assert list(layers)[:4] == ["model", "norm", "groups", "layer"]
    assert not layers.duplicated(["norm", "groups", "layer"]).any()


def test_depth_is_joined_to_its_configuration(tmp_path):
    runs = [run_of("resnet", "none", 0, {"depth": depth}) for depth in (1, 2)]
    count_complexity.main(write_study(tmp_path, {"depth": [1, 2]}, runs, shape=(8, 8, 1)))
    table = read(tmp_path / "complexity.csv")
    assert list(table["depth"]) == [1, 2]
    assert list(table["macs"]) == [resnet_macs(1, 8, 5, depth) for depth in (1, 2)]


def test_command_prints_one_network(capsys):
    assert not count_complexity.main(["--model", "resnet", "--norm", "batch", "--batch-size", "8"])
    text = capsys.readouterr().out
    assert "1 MAC = 1 multiply-add" in text
    assert "stages.1.0.shortcut.0" in text and "162,366,720" in text and "aten::add 9" in text


@pytest.mark.parametrize("text", ["32x32", "3x32xa", "3x0x0", "3x32x64"])
def test_command_refuses_other_inputs(text):
    with pytest.raises(InputError, match=f"--input {text}"):
        count_complexity.main(["--model", "resnet", "--input", text])


def test_command_refuses_batches_of_one_image_where_training_does(capsys):
    """On maps of one pixel batch norm would raise an error of its own, elsewhere nothing would."""
    of_one = ["--model", "resnet", "--batch-size", "1", "--input", "3x4x4", "--norm"]
    with pytest.raises(InputError, match="batches of one image, which the norm 'batch' cannot use"):
        count_complexity.main([*of_one, "batch"])
    count_complexity.main([*of_one, "group"])
    assert "peak_training_batch   1\n" in capsys.readouterr().out


def test_command_names_what_the_dataset_lacks(tmp_path):
    arguments = write_study(tmp_path, {}, [run_of("convnet", "none", 0, {})])
    (tmp_path / "dataset.json").write_text('{"shape": [32, 32, 3]}')
    with pytest.raises(InputError, match=r"dataset\.json: needs `shape`.*`class_names`"):
        count_complexity.main(arguments)
    assert not (tmp_path / "complexity.csv").exists()


def test_command_refuses_images_too_small_for_a_network(tmp_path):
    arguments = write_study(tmp_path, {}, [run_of("vgg11", "none", 0, {})], shape=(28, 28, 1))
    with pytest.raises(InputError, match="vgg11 needs images of 32 x"):
        count_complexity.main(arguments)
