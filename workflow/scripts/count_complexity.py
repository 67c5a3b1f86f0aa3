"""Count what the networks of a study cost: parameters, MACs, norm operations, activations, memory.

    python workflow/scripts/count_complexity.py --study results/quickstart/study.json \\
        --dataset results/data/digits/dataset.json \\
        --out-summary results/quickstart/complexity.csv --out-layers results/quickstart/layers.csv
    python workflow/scripts/count_complexity.py --model resnet --norm batch --input 3x32x32 \\
        --classes 10

1 MAC = 1 multiply-add of a convolution or linear layer. The first form writes one row per network
to complexity.csv, and one row per layer to layers.csv; with --model it prints one network's layers.

Columns of complexity.csv: model, norm, the study's axes that change a network or its memory; input
(channels x height x width); params; macs, norm_ops (evaluation mode), norm_ops_training and
activations (elements), all for one image; weight_bytes (parameters and buffers); bias_gradient and
bias_effect (of biases that a norm follows, both relative; see normres/bias.py);
peak_training_bytes, at peak_training_batch images per step, found by peak_training_method;
unsupported ("operator calls share": operators in none of these counts, with their number of calls
and their share of all operations).
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from normres import catalog
from normres.bias import measure_bias_redundancy
from normres.command_line import make_parser
from normres.complexity import PEAK_TRAINING_METHOD, Complexity, count, peak_training_bytes
from normres.constraints import check_norm
from normres.errors import InputError, run_command
from normres.files import read_json
from normres.models import build_network
from normres.options import MEMORY_OPTIONS, resolve
from normres.tables import write_table

NUMBERS = ("params", "macs", "norm_ops", "norm_ops_training", "activations")

InputShape = tuple[int, int, int]


def count_study(
    study: Mapping[str, Any], input_shape: InputShape, classes: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Count each distinct network of the study once: complexity.csv and layers.csv as tables.

    Raises InputError where a network does not admit the images or its counts disagree.
    """
    network_axes = [
        axis for axis in study["axes"] if any(_takes(run, axis) for run in study["runs"])
    ]
    axes = [axis for axis in study["axes"] if axis in (*network_axes, *MEMORY_OPTIONS)]
    networks: dict[tuple, Complexity] = {}
    rows: dict[tuple, dict[str, Any]] = {}
    layers: list[dict[str, Any]] = []
    for run in study["runs"]:
        cells = {"model": run["model"], "norm": run["norm"], **run["axes"]}
        network_cells = {key: cells.get(key) for key in ("model", "norm", *network_axes)}
        row_cells = {key: cells.get(key) for key in ("model", "norm", *axes)}
        network, row = tuple(network_cells.values()), tuple(row_cells.values())
        specification = run["specification"]
        if network not in networks:
            networks[network] = count_network(specification, input_shape, classes)
            layers += [network_cells | asdict(layer) for layer in networks[network].layers]
        if row not in rows:
            rows[row] = row_cells | costs(specification, networks[network], input_shape, classes)
    return pd.DataFrame(rows.values(), dtype=object), pd.DataFrame(layers, dtype=object)


def _takes(run: Mapping[str, Any], option: str) -> bool:
    """Whether the network or the norm of a run has this option."""
    kinds = (("networks", run["model"]), ("norms", run["norm"]))
    return any(option in catalog.options(kind, name) for kind, name in kinds)


def count_network(
    specification: Mapping[str, Any], input_shape: InputShape, classes: int
) -> Complexity:
    """Count the network of a run's specification.

    Raises InputError, too, where it does not give a logit for each class: with fewer of them
    training stops at the first image of a class that has none, and more would pass unnoticed.
    """
    channels, _, side = input_shape
    network = build_network(specification, channels, side, classes)
    counted = count(network, input_shape)
    with torch.no_grad():
        logits = network(torch.zeros(2, *input_shape))
    shape = getattr(logits, "shape", None)  # several outputs, as a tuple, have none
    if shape != (2, classes):
        given = f"a {type(logits).__name__}" if shape is None else f"an output of shape {(*shape,)}"
        raise InputError(
            f"{specification['model']}: two images give {given}, not a logit for each of {classes} "
            f"classes, which is (2, {classes})"
        )
    return replace(counted, **asdict(measure_bias_redundancy(specification, input_shape, classes)))


def costs(
    specification: Mapping[str, Any], counted: Complexity, input_shape: InputShape, classes: int
) -> dict[str, Any]:
    """The cells of complexity.csv that follow those of the configuration."""
    counts = asdict(counted)
    del counts["layers"]
    unsupported = counts.pop("unsupported")
    return {
        "input": "x".join(map(str, input_shape)),
        "classes": classes,
        **counts,
        "peak_training_bytes": peak_training_bytes(specification, input_shape, classes),
        "peak_training_batch": specification["batch_size"],
        "peak_training_method": PEAK_TRAINING_METHOD,
        "unsupported": unsupported,
    }


def read_networks(path: str | Path) -> dict[str, Any]:
    """The `axes` and `runs` of a study.json, or of a list of networks.

    Such a list has a run for each network, with axes, and `options` that are not at their
    defaults, in the place of a whole specification.
    """
    study = read_json(path)
    if not isinstance(study, dict) or not {"axes", "runs"} <= set(study):
        raise InputError(f"{path}: needs `axes` and `runs`, as study.json has")
    for run in study["runs"]:
        if "specification" not in run:
            given = {**run["options"], **run["axes"]}
            run["specification"] = resolve(run["model"], run["norm"], 0, 1, given)
    return study


def read_dataset(path: str | Path) -> tuple[InputShape, int]:
    """The input shape (channels, height, width) and number of classes in a dataset.json."""
    dataset = read_json(path)
    try:
        height, width, channels = dataset["shape"]
        classes = len(dataset["class_names"])
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f"{path}: needs `shape` [height, width, channels] and `class_names`"
        ) from None
    return _square((channels, height, width), str(path)), classes


def parse_input(text: str) -> InputShape:
    """An input shape from text such as "3x32x32"."""
    parts = text.split("x")
    if len(parts) != 3 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f"--input {text}: give channels x height x width, such as 3x32x32")
    return _square(tuple(map(int, parts)), f"--input {text}")


def _square(input_shape: InputShape, source: str) -> InputShape:
    if input_shape[1] != input_shape[2]:
        raise InputError(f"{source}: networks take square images, not {input_shape[1:]}")
    return input_shape


def describe(model: str, norm: str, input_shape: InputShape, classes: int, batch_size: int) -> str:
    """A network's layers and costs as text, with default options."""
    specification = resolve(model, norm, seed=0, epochs=1, given={"batch_size": batch_size})
    check_norm(specification)
    counted = count_network(specification, input_shape, classes)
    cells = costs(specification, counted, input_shape, classes)
    layers = pd.DataFrame([asdict(layer) for layer in counted.layers])
    title = f"{model} with norm {norm}, input {cells['input']}, {classes} classes, per image"
    table = layers.to_string(index=False, formatters=dict.fromkeys(NUMBERS, "{:,}".format))
    totals = [
        f"{key:21} {value:,}" if isinstance(value, int) else f"{key:21} {value}"
        for key, value in cells.items()
    ]
    return "\n".join([f"{title} (1 MAC = 1 multiply-add)", table, "", *totals])


def main(argv: list[str] | None = None) -> None:
    """Write the two tables of a study, or print one network's."""
    parser = make_parser(__doc__)
    of_study = parser.add_argument_group("the networks of a study")
    of_study.add_argument("--study", type=Path, help="study.json, or a list of its networks")
    of_study.add_argument("--dataset", type=Path, help="dataset.json of its data set")
    of_study.add_argument("--out-summary", type=Path, help="csv to write: one row per network")
    of_study.add_argument("--out-layers", type=Path, help="csv to write: one row per layer")
    single = parser.add_argument_group("one network, printed")
    single.add_argument("--model", choices=catalog.names("networks"))
    single.add_argument("--norm", choices=catalog.names("norms"), default="none")
    single.add_argument("--input", default="3x32x32", help="channels x height x width")
    single.add_argument("--classes", type=int, default=10)
    single.add_argument("--batch-size", type=int, default=128, help="for the memory of training")
    arguments = parser.parse_args(argv)
    if min(arguments.classes, arguments.batch_size) < 1:
        parser.error("--classes and --batch-size are at least 1")
    if arguments.model:
        print(
            describe(
                arguments.model,
                arguments.norm,
                parse_input(arguments.input),
                arguments.classes,
                arguments.batch_size,
            )
        )
        return
    files = (arguments.study, arguments.dataset, arguments.out_summary, arguments.out_layers)
    if None in files:
        parser.error("give --model, or --study, --dataset, --out-summary and --out-layers")
    summary, layers = count_study(read_networks(arguments.study), *read_dataset(arguments.dataset))
    write_table(summary, arguments.out_summary)
    write_table(layers, arguments.out_layers)
    print(f"wrote {arguments.out_summary} ({len(summary)} networks) and {arguments.out_layers}")


if __name__ == "__main__":
    run_command(main)
