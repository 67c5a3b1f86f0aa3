"""Count what the networks of a study cost: parameters, MACs, norm operations, activations, memory.

    python workflow/scripts/count_complexity.py --study results/quickstart/study.json \\
        --dataset results/data/digits/dataset.json \\
        --out-summary results/quickstart/complexity.csv --out-layers results/quickstart/layers.csv
    python workflow/scripts/count_complexity.py --model resnet --norm batch --input 3x32x32 \\
        --classes 10

1 MAC = 1 multiply-add of a convolution or linear layer. The first form writes a row a network to
complexity.csv, and a row a layer to layers.csv; the second prints one network's layers.

Columns of complexity.csv: model, norm, the study's axes that change a network or its memory; input
(channels x height x width); params; macs, norm_ops (evaluation mode), norm_ops_training and
activations (elements), all for one image; weight_bytes (parameters and buffers);
peak_training_bytes, at peak_training_batch images a step, found by peak_training_method;
unsupported ("operator calls share": operators in none of these counts, with their number of calls
and their share of all operations).
"""

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from normres import catalog
from normres.complexity import PEAK_TRAINING_METHOD, Complexity, count, peak_training_bytes
from normres.errors import InputError, run_command
from normres.files import read_json
from normres.models import build_network
from normres.options import resolve
from normres.tables import read_study, write_table

# Options that change the memory of training, but not the network.
MEMORY_OPTIONS = ("batch_size", "optimizer", "momentum")

InputShape = tuple[int, int, int]


def count_study(
    study: Mapping[str, Any], input_shape: InputShape, classes: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Count each distinct network of the study once: complexity.csv and layers.csv as tables.

    Raises InputError where a network does not admit the images or its counts disagree.
    """
    network_axes = [axis for axis in study["axes"] if any(_takes(run, axis) for run in study["runs"])]
    axes = [axis for axis in study["axes"] if axis in (*network_axes, *MEMORY_OPTIONS)]
    networks: dict[tuple, Complexity] = {}
    rows: dict[tuple, dict[str, Any]] = {}
    layers: list[dict[str, Any]] = []
    for run in study["runs"]:
        cells = {"model": run["model"], "norm": run["norm"], **run["axes"]}
        network_cells = {key: cells.get(key) for key in ("model", "norm", *network_axes)}
        network, row = tuple(network_cells.values()), tuple(cells.get(axis) for axis in axes)
        if network not in networks:
            networks[network] = count_network(run["specification"], input_shape, classes)
            layers += [network_cells | asdict(layer) for layer in networks[network].layers]
        if (network, row) not in rows:
            rows[network, row] = (
                {key: cells.get(key) for key in ("model", "norm", *axes)}
                | costs(run["specification"], networks[network], input_shape, classes)
            )
    return pd.DataFrame(rows.values(), dtype=object), pd.DataFrame(layers, dtype=object)
