"""Whether training by this project's fast step ends where the plain loop ends.

    python benchmarks/equivalence.py --models convnet --seeds 0 1 2 3 4 5

For each network, norm and precision, every seed is trained twice from the same initial weights: by
this project, and by the loop of plain_loop.py in float32. Two one-sided t tests (TOST, paired over
seeds) then ask whether the mean difference in final test accuracy lies within --margin points.
Prints one line per configuration and writes equivalence.csv to --out, anew after each. On a GPU
both compute in float32 without TF32, with deterministic kernels.
"""

import argparse
import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
import torch

# First, since it puts the project's package on the path.
from speed_tables import above_zero, at_least, command_line, prepared  # isort: skip
from normres.devices import choose_computation, choose_device
from normres.environment import describe
from normres.errors import run_command
from normres.files import write_text
from normres.images import Images, open_images
from normres.inference import equivalence
from normres.options import resolve
from normres.training import TrainingRun
from plain_loop import PlainLoop


def main(argv: list[str] | None = None) -> int:
    arguments = parse(argv)
    device = choose_device(arguments.device, None)
    rows, path = [], arguments.out / "equivalence.csv"
    with prepared(arguments.data) as data:
        images = open_images(data)
        for model, norm in itertools.product(arguments.models, arguments.norms):
            rows += compare(model, norm, images, device, arguments)
            write_text(path, pd.DataFrame(rows).to_csv(index=False, float_format="%.6g"))
    print(f"wrote {path}")
    return 0


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = command_line(__doc__)
    parser.add_argument("--seeds", nargs="+", type=at_least(0), default=list(range(6)))
    parser.add_argument("--epochs", type=at_least(1), default=5)
    parser.add_argument("--batch-size", type=at_least(1), default=20)
    parser.add_argument("--learning-rate", type=above_zero, default=3e-4)
    parser.add_argument("--margin", type=above_zero, default=1.0, help="points of accuracy")
    parser.add_argument("--threads", type=at_least(1), default=1)
    arguments = parser.parse_args(argv)
    if len(set(arguments.seeds)) < max(2, len(arguments.seeds)):
        parser.error("--seeds: two or more, each once, since the test is one over seeds")
    return arguments


def compare(
    model: str, norm: str, images: Images, device: str, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """One row per precision: the accuracies in percent, and the test of their difference."""
    given = {"batch_size": options.batch_size, "learning_rate": options.learning_rate}
    given |= {"normalize": "half", "cpu_threads": options.threads}
    plain, ours, facts = [], {precision: [] for precision in options.precisions}, {}
    for seed in options.seeds:
        for precision, accuracies in ours.items():
            given["precision"] = precision
            specification = resolve(model, norm, seed, options.epochs, given)
            computation = choose_computation(specification, device)
            facts[precision] = describe(computation)
            torch.compiler.reset()  # earlier runs count against how much is compiled at all
            run = TrainingRun(specification, images, computation)
            *_, last = run.train()
            accuracies.append(100 * last["test_accuracy"])
        torch.manual_seed(seed)
        loop = PlainLoop(specification, images, device)
        loop.train(options.epochs * math.ceil(images.n_train / options.batch_size))
        plain.append(100 * loop.accuracy())
    rows = []
    for precision, accuracies in ours.items():
        row = {"model": model, "norm": norm, "precision": precision, "epochs": options.epochs}
        row |= {"ours_mean": np.mean(accuracies), "plain_mean": np.mean(plain)}
        row |= test(np.array(accuracies), np.array(plain), options.margin)
        shown = ("device_name", "cpu_threads", "torch", "compiled")
        row |= {key: facts[precision][key] for key in shown}
        rows.append(row)
        print(
            f"{model} {norm} {precision}: ours {row['ours_mean']:.2f} %, "
            f"plain {row['plain_mean']:.2f} %, difference {row['difference']:+.2f} points "
            f"[{row['low']:+.2f}, {row['high']:+.2f}] (90 %), n = {row['n']}, "
            f"TOST within {options.margin:g}: p = {row['p']:.2g}",
            flush=True,
        )
    return rows


def test(ours: np.ndarray, plain: np.ndarray, margin: float) -> dict[str, float]:
    """Paired difference with its 90 % interval, which lies within the margin where p < 0.05.

    Equal differences have neither: their spread is not known.
    """
    found = equivalence(ours, plain, margin, paired=True)
    values = {"difference": found.estimate, "low": found.low, "high": found.high}
    return values | {"n": found.n_a, "margin": margin, "p": found.p}


if __name__ == "__main__":
    run_command(main)
