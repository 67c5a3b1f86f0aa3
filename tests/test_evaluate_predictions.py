"""The tables of predictions, on logits made by hand."""

import json

import numpy as np
import pytest
from scipy import stats

import evaluate_predictions
import synthetic
from normres.preparation import ImageSource, write_images
from normres.tables import read_cells, read_study, read_table

LABELS = np.array([0, 1, 0, 0, 1, 1])  # the first two for training
ANSWERS = {
    "resnet/none/seed0": [0, 1, 0, 0],
    "resnet/none/seed1": [0, 1, 1, 0],
    "resnet/batch/seed0": [0, 1, 1, 0],
    "resnet/batch/seed1": [0, 1, 1, 0],
}


@pytest.fixture
def study(tmp_path):
    path = synthetic.write_study(tmp_path, "normalization", norms=["none", "batch"], seeds=2)
    synthetic.aggregate(path)
    pixels = np.zeros((6, 2, 2, 3), np.uint8)
    write_images(
        tmp_path / "data", ImageSource("x", "", ["cat", "dog"], LABELS, 2, (2, 2, 3), [pixels])
    )
    for run, answers in ANSWERS.items():
        sure = [2, 2, 1, 4]  # the last image is wrong with more certainty than the third
        logits = np.zeros((4, 2), np.float16)
        logits[range(4), answers] = sure
        np.save(tmp_path / "runs" / run / "test_logits.npy", logits)
        correct = int((np.array(answers) == LABELS[2:]).sum())
        change(tmp_path, run, final={"test_correct": correct}, weights_epoch=30)
    return path


def change(folder, run, **values):
    path = folder / "runs" / run / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def evaluate(study):
    folder = study.parent
    evaluate_predictions.main(
        f"--study {study} --runs {folder / 'runs.csv'} --dataset {folder / 'data/dataset.json'} "
        f"--out {folder}".split()
    )
    classes, confusion = (
        read_table(folder / f"{name}.csv", read_study(study)) for name in ("classes", "confusion")
    )
    return classes, confusion, read_cells(folder / "hardest_images.csv", {})


def test_accuracy_a_class_is_a_mean_over_seeds_with_its_interval(study):
    classes, _, _ = evaluate(study)
    classes = classes.set_index(["configuration", "label"])
    dog = classes.loc[("resnet/none", "dog")]
    assert (dog["n"], dog["images"], dog["left_out"]) == (2, 2, 0)
    assert dog["mean"] == 0.25 and dog["sd"] == pytest.approx(np.std([0, 0.5], ddof=1))
    assert (dog["low"], dog["high"]) == (0, 1)  # cut where a share ends
    half = stats.t.ppf(0.975, 1) * dog["sd"] / np.sqrt(2)
    assert half > 0.75
    assert classes.loc[("resnet/batch", "cat"), "mean"] == 0.5
    assert np.isnan(classes.loc[("resnet/batch", "cat"), "low"]) or (
        classes.loc[("resnet/batch", "cat"), "sd"] == 0
    )


def test_confusions_are_shares_of_a_labels_images(study):
    _, confusion, _ = evaluate(study)
    shares = confusion.set_index(["configuration", "label", "predicted"])["mean"]
    assert len(shares) == 2 * 4
    assert shares.loc["resnet/none", "cat", "dog"] == 0.5
    assert shares.loc["resnet/none", "dog", "cat"] == 0.75
    sums = confusion.groupby(["configuration", "label"], observed=True)["mean"].sum()
    np.testing.assert_allclose(sums, 1)


def test_the_hardest_images_are_counted_over_all_runs_and_the_surest_mistake_is_first(study):
    _, _, hardest = evaluate(study)
    assert hardest["image"].tolist() == [5, 3, 4]
    assert hardest["wrong"].tolist() == [4, 4, 1] and (hardest["n"] == 4).all()
    assert hardest["label"].tolist() == ["dog", "cat", "dog"]
    assert hardest["predicted"].tolist() == ["cat", "dog", "cat"]
    assert hardest["predicted_by"].tolist() == [4, 4, 1]
    probability = 1 / (1 + np.exp(4))
    assert hardest["label_probability"][0] == pytest.approx(probability)


def test_runs_that_went_on_are_left_out_and_counted(study, capsys):
    change(study.parent, "resnet/none/seed0", weights_epoch=40)
    classes, _, hardest = evaluate(study)
    none = classes[classes["norm"] == "none"]
    assert (none["n"] == 1).all() and (none["left_out"] == 1).all() and none["low"].isna().all()
    assert hardest["n"].eq(3).all()
    change(study.parent, "resnet/none/seed1", weights_epoch=40)
    classes, confusion, _ = evaluate(study)
    none = classes[classes["norm"] == "none"]
    assert (none["n"] == 0).all() and (none["left_out"] == 2).all() and none["mean"].isna().all()
    assert len(confusion) == 2 * 4
    assert "resnet/none/seed0 is left out: its logits are those after epoch 40" in (
        capsys.readouterr().out
    )


def test_more_runs_than_are_opened_at_once(study, monkeypatch):
    whole = evaluate(study)
    monkeypatch.setattr(evaluate_predictions, "AT_ONCE", 1)
    for one, other in zip(whole, evaluate(study), strict=True):
        assert one.equals(other)


def test_without_any_prediction_the_tables_are_empty(study):
    for run in ANSWERS:
        change(study.parent, run, status="failed")
    assert all(table.empty for table in evaluate(study))
