"""What norm layers cost: which shapes are measured, and what is counted."""

import pandas as pd
import pytest
import torch

import time_norms
from normres import leases
from normres.config import read_config
from normres.devices import choose_computation
from normres.distinct import list_timed
from normres.errors import InputError
from normres.models import norm_shapes
from normres.norm_timing import LAYOUTS, Case, CaseTimer, measure_cases
from normres.options import resolve
from normres.pipeline import canonical


def test_shapes_are_those_of_the_networks():
    def shapes(model, **options):
        return dict(norm_shapes(resolve(model, "batch", 0, 1, options), 3, 32))

    assert shapes("resnet") == {(32, 32): 6, (64, 16): 7, (128, 8): 7}
    assert shapes("plainnet", depth=2) == {(32, 32): 4, (64, 16): 4, (128, 8): 4}
    assert shapes("convnet") == {(32, 30): 1, (64, 14): 1, (128, 12): 1}
    assert shapes("vgg11") == {
        (64, 32): 1,
        (128, 16): 1,
        (256, 8): 2,
        (512, 4): 2,
        (512, 2): 2,
    }


def computation(precision="float32"):
    return choose_computation(resolve("resnet", "batch", 0, 1, {"precision": precision}), "cpu")


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("norm, options", [("batch", {"affine": True}), ("group", {"groups": 4})])
def test_kept_bytes_hold_the_input_and_the_statistics(norm, options, layout):
    """The input, 8 x 16 x 10 x 10 float32; a mean and deviation a channel, or image and group."""
    case = Case(norm, tuple(options.items()), 8, 16, 10, layout)
    timer = CaseTimer(case, computation(), torch.float32)
    assert timer.images.is_contiguous(memory_format=LAYOUTS[layout])
    statistics = 4 * 2 * (16 if norm == "batch" else 8 * 4)
    running = 4 * 2 * 16 if norm == "batch" else 0  # batch norm's backward holds these buffers too
    expected = 4 * 8 * 16 * 10 * 10 + statistics
    assert expected <= timer.kept_bytes() <= expected + running


def test_cases_take_turns_and_a_case_that_cannot_be_is_named():
    good = Case("batch", (), 4, 8, 4, "contiguous")
    bad = Case("instance", (), 4, 8, 1, "contiguous")
    said = []
    rows = measure_cases([good, bad], computation(), 3, said.append)
    assert said == [1 / 3, 2 / 3, 1.0]
    assert [row.get("repeat") for row in rows] == [None, 1, 2, 3]
    assert "spatial" in rows[0]["reason"] and rows[0]["norm"] == "instance"
    assert all(row["forward_seconds"] > 0 and row["training_seconds"] > 0 for row in rows[1:])


def test_layers_of_several_depths_are_all_counted():
    specifications = [resolve("resnet", "batch", 0, 1, {"depth": depth}) for depth in (5, 1)]
    timed = [{"model": "resnet", "norm": "batch", "specification": s} for s in specifications]
    _, layers = time_norms.list_cases(timed, 3, 32)
    (said,) = {words for case, words in layers.items() if (case.channels, case.side) == (32, 32)}
    assert said == "2 or 10 in resnet"


def test_norms_with_other_options_by_overrides_are_other_norms(tmp_path, digits_folder):
    """Of one name and shape, as group norms of 8 and 32 groups are."""
    entries = [
        {"model": model, "norm": "group", "axes": {}}
        | {"specification": resolve(model, "group", 0, 1, {"groups": groups, "batch_size": 2})}
        for model, groups in (("resnet", 8), ("plainnet", 32))
    ]
    cases, layers = time_norms.list_cases(entries, 3, 8)
    small = [case for case in cases if case.side == 8 and case.layout == "contiguous"]
    rows = measure_cases(small, computation(), 3)
    table = time_norms.cost_table(rows, {case: layers[case] for case in small}, {}, {})
    found = table[["groups", "n", "layers"]].sort_values("groups").values.tolist()
    assert found == [[8, 3, "6 in resnet"], [32, 3, "6 in plainnet"]]


@pytest.mark.parametrize(
    "study, words",
    [
        ({"norms": ["none"]}, "no norm whose cost could be measured"),
        (
            {"norms": ["batch"], "precision": ["float32", "bfloat16"]},
            "one precision; .* has bfloat",
        ),
        ({"norms": ["batch"], "cpu_threads": [1, 2]}, "one cpu_threads; the study has 1, 2"),
    ],
)
def test_what_has_no_one_cost_is_refused(tmp_path, digits_folder, study, words):
    study = {"dataset": "digits", "models": ["convnet"], "seeds": [0], "epochs": 1, **study}
    (made,) = read_config({"study": "s", "studies": {"s": study}}).studies
    (tmp_path / "timed.json").write_text(canonical(list_timed(made, 6)))
    arguments = ["--timed", str(tmp_path / "timed.json"), "--out", str(tmp_path / "cost.csv")]
    arguments += ["--dataset", str(digits_folder / "dataset.json"), "--device", "cpu"]
    with pytest.raises(InputError, match=words):
        time_norms.main(arguments)
    assert not (tmp_path / "cost.csv").exists()


def test_the_table_of_a_study(tmp_path, digits_folder, monkeypatch):
    # The lease lasts as long as the process, and timings of other tests would wait for it.
    monkeypatch.setattr(leases, "lease_machine", lambda while_waiting: None)
    monkeypatch.setattr(leases, "lease_cpu", lambda while_waiting: None)
    study = {
        "dataset": "digits",
        "models": ["resnet", "plainnet"],
        "norms": ["none", "batch", "group"],
    }
    study |= {
        "depth": 1,
        "seeds": [0, 1],
        "epochs": 1,
        "batch_size": 4,
        "train_images": 100,
        "groups": [8, 16],
    }
    (made,) = read_config({"study": "s", "studies": {"s": study}}).studies
    (tmp_path / "timed.json").write_text(canonical(list_timed(made, 6)))
    out = tmp_path / "norm_cost.csv"
    time_norms.main(
        f"--timed {tmp_path / 'timed.json'} --dataset {digits_folder / 'dataset.json'} "
        f"--device cpu --repeats 6 --out {out}".split()
    )
    table = pd.read_csv(out)
    assert len(table) == 3 * 3 * 2  # batch and two group norms, three shapes, two layouts
    assert set(table["norm"]) == {"batch", "group"} and set(table["n"]) == {6}
    assert table[table["norm"] == "batch"]["groups"].isna().all()
    assert set(table["layers"]) == {"2 in plainnet, 2 in resnet", "2 in plainnet, 3 in resnet"}
    for name in ("forward_seconds", "training_seconds"):
        low, middle, high = (table[f"{name}_{part}"] for part in ("low", "median", "high"))
        assert ((low > 0) & (low <= middle) & (middle <= high)).all()


def test_what_cuda_says_is_a_reason_without_its_advice(monkeypatch):
    error = torch.AcceleratorError(
        "CUDA error: out of memory\n"
        "Search for `cudaErrorMemoryAllocation' in https://docs.nvidia.com for more.\n"
        "CUDA kernel errors might be asynchronously reported at some other API call."
    )

    def prepare(timer, pool):
        raise error

    monkeypatch.setattr(CaseTimer, "prepare", prepare)
    (row,) = measure_cases([Case("batch", (), 4, 8, 4, "contiguous")], computation(), 1)
    assert row["reason"] == "CUDA error: out of memory" and row["again"]


@pytest.mark.parametrize("lacking, code", [(("batch", "group"), 1), (("group",), 0)])
def test_memory_that_is_short_is_a_failure_and_no_result(
    tmp_path, digits_folder, monkeypatch, lacking, code
):
    """Another call may find more of it; instance norm of one pixel it never can compute."""
    monkeypatch.setattr(leases, "lease_machine", lambda while_waiting: None)
    monkeypatch.setattr(leases, "lease_cpu", lambda while_waiting: None)
    prepare = CaseTimer.prepare

    def preparing(timer, pool):
        if any(norm in type(timer.layer).__name__.lower() for norm in lacking):
            raise torch.OutOfMemoryError("no room")
        prepare(timer, pool)

    monkeypatch.setattr(CaseTimer, "prepare", preparing)
    study = {"dataset": "digits", "models": ["convnet"], "norms": ["batch", "group"], "seeds": [0]}
    study |= {"epochs": 1, "batch_size": 4, "train_images": 100}
    (made,) = read_config({"study": "s", "studies": {"s": study}}).studies
    (tmp_path / "timed.json").write_text(canonical(list_timed(made, 1)))
    out, failures = tmp_path / "norm_cost.csv", tmp_path / "failures.txt"
    arguments = f"--timed {tmp_path / 'timed.json'} --dataset {digits_folder / 'dataset.json'}"
    arguments += f" --device cpu --out {out} --failures {failures}"
    assert time_norms.main(arguments.split()) == code
    assert out.exists() == (code == 0) == failures.exists()
    if code == 0:
        assert failures.read_text().endswith(" no room\n")
        table = pd.read_csv(out)
        assert table.groupby("norm")["n"].max().to_dict() == {"batch": 1, "group": 0}
        assert set(table[table["n"] == 0]["reason"]) == {"no room"}
