"""Logits of complete runs, with the labels of the images they are of."""

import json

import numpy as np
import pytest

import synthetic
from normres.errors import InputError
from normres.images import open_images, split
from normres.predictions import read_predictions
from normres.tables import read_study


@pytest.fixture
def quickstart(tmp_path):
    path = synthetic.write_study(tmp_path, "quickstart")
    return read_study(path), tmp_path, open_images(synthetic.write_predictions(path))


def change_record(folder, run, **changes):
    path = folder / "runs" / run / "run.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | changes))


def test_complete_runs_are_read_with_labels_and_as_many_correct_as_they_counted(quickstart):
    study, folder, images = quickstart
    predictions = read_predictions(study, folder, images)
    assert len(predictions.runs) == 25  # of 27, one diverged and one failed
    assert not predictions.left_out
    assert next(iter(predictions.runs)) == study["runs"][0]["run"]
    for name, run in predictions.runs.items():
        record = json.loads((folder / "runs" / name / "run.json").read_text())
        assert run.correct.sum() == record["final"]["test_correct"]
        assert run.correct.dtype == bool and run.logits.shape == (10_000, 10)
    assert run.model == "resnet" and run.norm == "group" and run.seed == 1
    assert (run.labels == images.labels[run.images]).all()


def test_only_the_runs_asked_for_are_opened(quickstart):
    study, folder, images = quickstart
    (folder / "runs/resnet/batch/seed1/test_logits.npy").write_bytes(b"nothing")
    wanted = ["resnet/batch/seed0", "vgg11/none/seed1"]
    assert list(read_predictions(study, folder, images, wanted).runs) == wanted[:1]


def test_logits_of_later_weights_are_left_out_by_name(quickstart):
    study, folder, images = quickstart
    change_record(folder, "resnet/batch/seed0", weights_epoch=9)
    predictions = read_predictions(study, folder, images)
    assert predictions.left_out == {
        "resnet/batch/seed0": "its logits are those after epoch 9, not 5"
    }
    assert "resnet/batch/seed0" not in predictions.runs and len(predictions.runs) == 24


def test_a_cap_on_test_images_chooses_the_images_that_training_tested_on(quickstart):
    study, folder, images = quickstart
    positions = split(images, test_images=50).test
    run = study["runs"][0]
    run["specification"]["test_images"] = 50
    logits = np.zeros((50, 10), np.float16)
    logits[np.arange(50), images.labels[positions]] = 1
    np.save(folder / "runs" / run["run"] / "test_logits.npy", logits)
    change_record(folder, run["run"], final={"epoch": 5, "test_correct": 50})
    found = read_predictions(study, folder, images, [run["run"]]).runs[run["run"]]
    assert (found.images == positions).all() and found.correct.all()


def test_ties_after_rounding_are_allowed_and_other_contradictions_are_not(quickstart):
    study, folder, images = quickstart
    run = study["runs"][0]["run"]
    logits = np.full((10_000, 10), -1, np.float16)
    labels = images.labels[10:]
    logits[np.arange(10_000), labels] = 2
    logits[:100, :] = 2  # float32 may have told them apart, either way
    np.save(folder / "runs" / run / "test_logits.npy", logits)
    for counted in (9_900, 10_000):
        change_record(folder, run, final={"epoch": 5, "test_correct": counted})
        assert read_predictions(study, folder, images, [run]).runs
    change_record(folder, run, final={"epoch": 5, "test_correct": 9_899})
    with pytest.raises(InputError, match=r"9900 to 10000 images correct, but run.json says 9899"):
        read_predictions(study, folder, images, [run])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "no such file, but run.json says ok"),
        (lambda path: path.write_bytes(path.read_bytes()[:500]), "truncated"),
        (lambda path: np.save(path, np.zeros((9, 10), np.float16)), "expected float16"),
        (lambda path: np.save(path, np.zeros((10_000, 10))), "float64"),
    ],
)
def test_a_damaged_file_is_named(quickstart, damage, message):
    study, folder, images = quickstart
    run = study["runs"][0]["run"]
    damage(folder / "runs" / run / "test_logits.npy")
    with pytest.raises(InputError, match=rf"{run}/test_logits.npy: .*{message}"):
        read_predictions(study, folder, images)


def test_an_edited_file_is_named(quickstart):
    study, folder, images = quickstart
    run = study["runs"][0]["run"]
    change_record(folder, run, files={"test_logits.npy": "0" * 64})
    with pytest.raises(InputError, match="edited since the run wrote it"):
        read_predictions(study, folder, images)
