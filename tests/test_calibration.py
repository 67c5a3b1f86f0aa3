"""Calibration and reliability: on logits with known answers, and of a made-up study."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.special import log_softmax, softmax

import measure_calibration
import measure_reliability
from normres.calibration import (
    calibrate,
    expected_calibration_error,
    fit_temperature,
    halves,
    reliability,
)
from normres.images import open_images
from normres.predictions import read_predictions
from normres.tables import read_study
from synthetic import aggregate, write_predictions, write_study


def confident(n, temperature, seed=0):
    """Logits whose probabilities are right once they are divided by `temperature`."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, 5))
    labels = np.array([rng.choice(5, p=softmax(row)) for row in logits])
    return logits * temperature, labels


def test_calibration_error_is_that_of_a_plain_loop():
    logits, labels = confident(500, 2.0)
    probabilities = softmax(logits, axis=1)
    expected = 0.0
    for lower in range(15):
        of_bin = [
            (p.max(), p.argmax() == label)
            for p, label in zip(probabilities, labels, strict=True)
            if lower / 15 < p.max() <= (lower + 1) / 15
        ]
        if of_bin:
            confidence, correct = np.mean(of_bin, axis=0)
            expected += len(of_bin) / len(labels) * abs(confidence - correct)
    assert expected_calibration_error(log_softmax(logits, 1), labels) == pytest.approx(expected)
    assert expected > 0.05


def test_the_bins_of_reliability_sum_up_to_the_calibration_error():
    logits, labels = confident(500, 2.0)
    bins = reliability(logits, labels)
    assert bins["share"].sum() == pytest.approx(1) and len(bins["share"]) == 15
    gaps = bins["share"] * np.abs(bins["accuracy"] - bins["confidence"])
    ece = expected_calibration_error(log_softmax(logits, 1), labels)
    assert np.nansum(gaps) == pytest.approx(ece)
    assert np.isnan(bins["accuracy"][0]) and bins["share"][0] == 0  # below 1 / 5 there is nothing
    sizes = np.arange(1, 16) / 15
    some = bins["share"] > 0
    assert (bins["confidence"][some] <= sizes[some] + 1e-12).all()
    assert (bins["confidence"][some] > sizes[some] - 1 / 15).all()


def test_the_temperature_that_is_in_the_logits_is_found():
    logits, labels = confident(8000, 3.0)
    assert fit_temperature(logits, labels) == pytest.approx(3.0, rel=0.06)
    found = calibrate(logits, labels)
    assert found["temperature"] == pytest.approx(3.0, rel=0.06)
    assert found["ece"] > 0.1 and found["ece_scaled"] < 0.02
    assert found["nll_scaled"] < found["nll"]


def test_a_half_is_judged_with_the_temperature_of_the_other():
    """One half overconfident, one not: each is scaled by what the other one needs."""
    labels = np.arange(400) // 2 % 5
    first = halves(labels)
    assert [first[labels == label].sum() for label in range(5)] == [40] * 5
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 1, (400, 5))
    logits[np.arange(400), labels] += 1.0
    logits[first] *= 6.0
    found = calibrate(logits, labels)
    own = [fit_temperature(logits[half], labels[half]) for half in (first, ~first)]
    assert own[0] > 3 * own[1]
    assert found["temperature"] == pytest.approx(np.sqrt(own[0] * own[1]))
    swapped = np.where(first[:, None], logits / own[1], logits / own[0])
    nll = -log_softmax(swapped, 1)[np.arange(400), labels].mean()
    assert found["nll_scaled"] == pytest.approx(nll)


def test_calibration_of_a_study(tmp_path):
    """Of the runs whose logits are the last epoch's, those of diverged runs aside."""
    status = {"resnet/none/seed1": "diverged"}
    study = write_study(tmp_path / "s", "normalization", seeds=3, status=status)
    data, files = write_predictions(study), aggregate(study)
    record = study.parent / "runs/resnet/batch/seed0/run.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "weights_epoch": 40}))
    measure_calibration.main(
        f"--study {study} --runs {files['runs']} --curves {files['curves']} --data {data} "
        f"--out {tmp_path / 'calibration.csv'}".split()
    )
    table = pd.read_csv(tmp_path / "calibration.csv", keep_default_na=False).set_index("norm")
    assert table["n"].to_dict() == {"none": 2, "batch": 2, "group": 3}
    assert table["left_out"].to_dict() == {"none": 0, "batch": 1, "group": 0}
    runs = read_predictions(read_study(study), study.parent, open_images(data)).runs
    ece = [
        calibrate(runs[f"resnet/none/seed{i}"].logits, runs[f"resnet/none/seed{i}"].labels)["ece"]
        for i in (0, 2)
    ]
    assert float(table.loc["none", "ece_mean"]) == pytest.approx(np.mean(ece))
    measure_reliability.main(
        f"--study {study} --runs {files['runs']} --curves {files['curves']} --data {data} "
        f"--out {tmp_path / 'reliability.csv'}".split()
    )
    binned = pd.read_csv(tmp_path / "reliability.csv", keep_default_na=False, na_values=[""])
    assert len(binned) == 3 * 15
    assert binned.groupby("norm")["share_mean"].sum().to_list() == pytest.approx([1, 1, 1])
    assert binned.groupby("norm")["n"].max().to_dict() == {"none": 2, "batch": 2, "group": 3}
    last = binned[(binned["norm"] == "none") & (binned["bin"] == 15)].iloc[0]
    accuracy = [
        reliability(runs[f"resnet/none/seed{i}"].logits, runs[f"resnet/none/seed{i}"].labels)
        for i in (0, 2)
    ]
    assert last["accuracy_mean"] == pytest.approx(
        np.mean([run["accuracy"][14] for run in accuracy])
    )
