"""Evaluate what complete runs predict: accuracy by class, confusions, images most often wrong.

    python workflow/scripts/evaluate_predictions.py --study results/quickstart/study.json \\
        --runs results/quickstart/runs.csv --dataset results/data/digits/dataset.json \\
        --out results/quickstart

Reads the test_logits.npy of the runs beside study.json, and the labels beside dataset.json. Writes
classes.csv (one row per configuration and class: accuracy on the test images of the class, mean
over seeds with its interval), confusion.csv (one row per configuration, label and predicted class:
the share of the label's images) and hardest_images.csv (the images that most runs of all
configurations have wrong: exact counts). Shares are fractions. Complete runs that went on to more
epochs than the study asks for have no logits of its last epoch: they are left out and counted in
classes.csv.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import softmax

from normres.command_line import make_parser
from normres.errors import run_command
from normres.images import Images, open_images
from normres.inference import FRACTION
from normres.predictions import HARDEST, RunPredictions, read_predictions
from normres.statistics import mean_estimates
from normres.tables import (
    configuration_columns,
    configurations,
    read_study,
    read_table,
    write_table,
)

AT_ONCE = 200  # runs whose files are open: each is mapped, and a process may open about 1,000
ESTIMATES = ("mean", "sd", "low", "high")
SHARES = ("label", "predicted", "images", "n", *ESTIMATES, "configuration", "left_out")


class Confusions:
    """How many images of each label each run predicts as each class, by configuration."""

    def __init__(self, class_names: list[str]):
        self.class_names = class_names
        self.counts: dict[str, list[np.ndarray]] = defaultdict(list)

    def add(self, name: str, run: RunPredictions) -> None:
        classes = len(self.class_names)
        pairs = np.bincount(run.labels * classes + run.predicted, minlength=classes**2)
        self.counts[name].append(pairs.reshape(classes, classes))

    def shares(self, name: str) -> pd.DataFrame:
        """One row per label and predicted class, in order of classes: n runs, images, estimates."""
        classes = range(len(self.class_names))
        index = pd.MultiIndex.from_product([classes, classes], names=["label", "predicted"])
        if name not in self.counts:
            cells = index.to_frame(index=False)
            return cells.assign(n=0, images=np.nan, **dict.fromkeys(ESTIMATES, np.nan))
        counts = np.array(self.counts[name])  # (runs, labels, predicted)
        images = counts.sum(axis=2, keepdims=True)
        shares = pd.DataFrame((counts / images).reshape(len(counts), -1), columns=index)
        rows = shares.melt(value_name="share")
        table = mean_estimates(rows, ["label", "predicted"], "share", bounds=FRACTION)
        table["images"] = np.repeat(images[0, :, 0], len(classes))
        return table.reset_index()


class Difficulty:
    """How many runs predict each class for each image of the prepared data set."""

    def __init__(self, images: Images):
        self.votes = np.zeros((len(images.labels), len(images.class_names)), np.int64)
        self.at_label = np.zeros(len(images.labels))  # sum of the probabilities of the label
        self.labels = images.labels

    def add(self, run: RunPredictions) -> None:
        self.votes[run.images, run.predicted] += 1
        probabilities = softmax(run.logits.astype(np.float64), axis=1)
        self.at_label[run.images] += probabilities[np.arange(len(run.labels)), run.labels]

    def hardest(self, class_names: list[str]) -> pd.DataFrame:
        """The images with the largest share of wrong runs; ties: the least probable label first."""
        runs = self.votes.sum(axis=1)
        seen = np.flatnonzero(runs)
        right = self.votes[seen, self.labels[seen]]
        wrong = self.votes[seen].copy()
        wrong[np.arange(len(seen)), self.labels[seen]] = -1  # so that it is not the most frequent
        table = pd.DataFrame(
            {
                "image": seen,
                "label": [class_names[label] for label in self.labels[seen]],
                "n": runs[seen],
                "wrong": runs[seen] - right,
                "predicted": [class_names[label] for label in wrong.argmax(axis=1)],
                "predicted_by": wrong.max(axis=1),
                "label_probability": self.at_label[seen] / runs[seen],
            }
        )
        table["share_wrong"] = table["wrong"] / table["n"]
        order = table.assign(probable=table["label_probability"].round(9))
        order = order.sort_values(["share_wrong", "probable"], ascending=[False, True])
        hardest = table.loc[order.index[:HARDEST]]
        return hardest[hardest["wrong"] > 0]


def predictions(
    study: Mapping[str, Any], folder: Path, images: Images, left_out: dict[str, str]
) -> Iterator[RunPredictions]:
    """The complete runs of a study in its order, a few files open at a time.

    Adds to `left_out` the runs without logits of the last epoch, with the reason.
    """
    names = [run["run"] for run in study["runs"]]
    for start in range(0, len(names), AT_ONCE):
        only = set(names[start : start + AT_ONCE])
        found = read_predictions(study, folder, images, only)
        left_out |= found.left_out
        yield from found.runs.values()


def evaluate(
    study: Mapping[str, Any], names: Mapping[str, str], folder: Path, images: Images
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The tables of classes, confusions and hardest images; `names`: configuration of each run."""
    confusions, difficulty = Confusions(images.class_names), Difficulty(images)
    left_out: dict[str, str] = {}
    for run in predictions(study, folder, images, left_out):
        confusions.add(names[run.run], run)
        difficulty.add(run)
    for run, reason in left_out.items():
        print(f"{run} is left out: {reason}")
    lost = Counter(names[run] for run in left_out)
    known = configurations(study)
    parts = [
        confusions.shares(name).assign(configuration=name, left_out=lost[name])
        for name in known.index
        if name in confusions.counts or lost[name]
    ]
    shares = pd.concat(parts) if parts else pd.DataFrame(columns=SHARES)
    shares = shares.merge(known, left_on="configuration", right_index=True)
    for column in ("label", "predicted"):
        shares[column] = shares[column].map(dict(enumerate(images.class_names)))
    columns = configuration_columns(study)
    classes = shares[shares["label"] == shares["predicted"]]
    classes = classes[[*columns, "label", "images", "n", *ESTIMATES, "left_out"]]
    confusion = shares[[*columns, "label", "predicted", "images", "n", *ESTIMATES]]
    return classes, confusion, difficulty.hardest(images.class_names)


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--study", type=Path, required=True, help="study.json, beside runs/")
    parser.add_argument("--runs", type=Path, required=True, help="runs.csv of collect_runs")
    parser.add_argument(
        "--dataset", type=Path, required=True, help="dataset.json, beside images.npy and labels.npy"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    arguments = parser.parse_args(argv)
    study = read_study(arguments.study)
    runs = read_table(arguments.runs, study)
    names = dict(zip(runs["run"], runs["configuration"], strict=True))
    images = open_images(arguments.dataset.parent)
    found = evaluate(study, names, arguments.study.parent, images)
    for name, table in zip(("classes", "confusion", "hardest_images"), found, strict=True):
        write_table(table, arguments.out / f"{name}.csv")
    print(f"{arguments.out}: classes.csv, confusion.csv, hardest_images.csv")


if __name__ == "__main__":
    run_command(main)
