"""A synthetic study on disk, as the pipeline leaves it after training: for tests and for the eye.

The curves are made up (exponential rise with noise), the files have the real formats.
"""

import csv
import itertools
import json
import zlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import collect_runs
import compare_configurations
import summarize_runs
import time_training
from normres.comparisons import declared as declare
from normres.history import COLUMNS
from normres.preparation import ImageSource, write_images

PARAMETERS = {
    ("resnet", "none"): 1_081_482,
    ("resnet", "batch"): 1_084_554,
    ("vgg11", "none"): 28_144_010,
    ("vgg11", "batch"): 28_149_514,
    ("convnet", "none"): 2_453_962,
    ("convnet", "batch"): 2_454_410,
}
MACS = {"resnet": 162_366_720, "vgg11": 171_679_744, "convnet": 17_367_680}
SECONDS = {"resnet": 6.4, "vgg11": 4.1, "convnet": 1.6}  # training time per epoch
ACCURACY = {"resnet": 0.935, "vgg11": 0.905, "convnet": 0.87}
GAIN = {"none": 0.0, "batch": 0.018, "group": 0.014}
RISE = {"none": 2.2, "batch": 1.1, "group": 1.5}  # epochs to 63 % of the rise

TIMED_ON = {
    "device": "cpu",
    "device_name": "a processor",
    "precision": "float32",
    "memory_format": "channels_last",
    "compiled": False,
    "cpu_threads": 1,
    "cpu_count": 2,
    "torch": "2.14.1",
}
METERED, UNMETERED = "RAPL: 1 processor package", "not measured: no counter"
REPORTED = [
    {"model": "convnet", "norm": "none", "test_loss": 2.325, "test_correct": 6430},
    {"model": "vgg11", "norm": "none", "test_loss": 1.500, "test_correct": 7542},
    {"model": "resnet", "norm": "none", "test_loss": 1.346, "test_correct": 7839},
]
THREE = ["convnet", "vgg11", "resnet"]
STUDIES: dict[str, dict[str, Any]] = {
    "quickstart": {
        "models": THREE,
        "norms": ["none", "batch", "group"],
        "seeds": 3,
        "epochs": 5,
        "status": {"vgg11/none/seed1": "diverged", "resnet/group/seed2": "failed"},
    },
    "normalization": {
        "models": ["resnet"],
        "norms": ["none", "batch", "group"],
        "seeds": 5,
        "epochs": 30,
    },
    "architectures": {
        "models": ["resnet", "vgg11", "convnet"],
        "norms": ["none"],
        "seeds": 5,
        "epochs": 50,
        "lower": 0.14,
        "reported": [entry | {"test_images": 10_000} for entry in REPORTED],
    },
    "batch-size": {
        "models": ["resnet"],
        "norms": ["none", "group"],
        "axes": {"batch_size": [32, 128]},
        "seeds": 2,
        "epochs": 12,
    },
    "single": {"models": ["resnet"], "norms": ["none"], "seeds": 1, "epochs": 8},
}


def write_study(folder: Path, name: str, **changes: Any) -> Path:
    """Write study.json, costs, times and all runs of STUDIES[name] to `folder`.

    `changes` replace entries of the study. Status of a run: ok unless `status` names it; "missing"
    leaves no folder. `untimed` gives the reason where a "model/norm" has no times, `energy` is
    METERED or UNMETERED. Returns the path of study.json.
    """
    plan = (
        {"axes": {}, "status": {}, "untimed": {}, "energy": UNMETERED, "reported": [], "lower": 0.0}
        | STUDIES[name]
        | changes
    )
    seeds, axes = list(range(plan["seeds"])), plan["axes"]
    runs = []
    for model, norm in itertools.product(plan["models"], plan["norms"]):
        for values in itertools.product(*axes.values()):
            settings = dict(zip(axes, values, strict=True))
            folders = [f"{axis}={value}" for axis, value in settings.items()]
            runs += [
                {
                    "run": "/".join([model, norm, *folders, f"seed{seed}"]),
                    "model": model,
                    "norm": norm,
                    "seed": seed,
                    "axes": settings,
                    "specification": {"model": model, "norm": norm, "seed": seed}
                    | {"epochs": plan["epochs"], "optimizer": {"lr": 1e-4}, **settings},
                    "fingerprint": f"code-of-{model}-{norm}",
                }
                for seed in seeds
            ]
    study = {
        "study": name,
        "title": f"Synthetic study: {name}",
        "dataset": {"id": "synthetic", "name": "synthetic digits (8x8)"},
        **{key: plan[key] for key in ("models", "norms", "axes", "epochs", "reported")},
        "seeds": seeds,
        "options": {"learning_rate": 1e-4},
        "runs": runs,
        "excluded": [],
    }
    folder.mkdir(parents=True, exist_ok=True)
    for run in runs:
        status = plan["status"].get(run["run"], "ok")
        if status != "missing":
            write_run(folder / "runs" / run["run"], run, status, plan["lower"])
    write_complexity(folder / "complexity.csv", plan)
    write_timing(folder, plan)
    (folder / "dataset.json").write_text(json.dumps({"checksum": "sha256:0"}), encoding="utf-8")
    path = folder / "study.json"
    path.write_text(json.dumps(study, indent=2), encoding="utf-8")
    return path


def write_run(folder: Path, run: dict[str, Any], status: str, lower: float = 0.0) -> None:
    """Write the history.csv and run.json of one run."""
    rng = np.random.default_rng(zlib.crc32(run["run"].encode()))
    model, norm = run["model"], run["norm"]
    end = ACCURACY[model] + GAIN[norm] - lower + rng.normal(0, 0.004)
    small_batch = run["axes"].get("batch_size", 128) < 128
    rise = RISE[norm] * (0.6 if small_batch else 1.0)
    pace, epochs = SECONDS[model] * rng.uniform(0.97, 1.05), run["specification"]["epochs"]
    epochs = {"ok": epochs, "diverged": epochs // 2, "failed": 1}[status]
    rows = []
    for epoch in range(epochs + 1):
        part = 1 - np.exp(-epoch / rise)
        test = 0.1 + (end - 0.1) * part + rng.normal(0, 0.006) * (epoch > 0)
        train = 0.1 + (0.999 - 0.1) * (1 - np.exp(-epoch / rise / 1.1))
        loss = 2.3 * np.exp(-epoch / (2.5 + 4 * (model == "convnet"))) + 0.004
        last = status == "diverged" and epoch == epochs
        rows.append(
            {
                "epoch": epoch,
                "train_loss": "" if not epoch else "nan" if last else loss * rng.lognormal(0, 0.08),
                "test_loss": "nan" if last else 2.3 * (1 - part) + 0.25 + rng.normal(0, 0.01),
                "test_correct": round(10_000 * test),
                "test_accuracy": 0.1 if last else round(10_000 * test) / 10_000,
                "train_eval_loss": "nan" if last else loss,
                "train_eval_accuracy": 0.1 if last else min(train, 1.0),
                "validation_loss": "",
                "validation_accuracy": "",
                "first_conv_grad_norm": 0.1,
                "last_conv_grad_norm": 0.2,
                "train_seconds": epoch * pace,
                "eval_seconds": epoch * 0.3,
                "images_per_second": 50_000 / pace if epoch else "",
            }
        )
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "history.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    best = max(rows, key=lambda row: row["test_accuracy"])
    reasons = {"ok": None, "diverged": "the loss is not finite", "failed": "the disk is full"}
    record = {
        "status": status,
        "reason": reasons[status],
        "specification": run["specification"],
        "fingerprint": run["fingerprint"],
        "data": {"name": "synthetic", "checksum": "sha256:0"},
        "final": {"epoch": epochs, "test_correct": rows[-1]["test_correct"]},
        "weights_epoch": epochs,
        "best": {
            "epoch": best["epoch"],
            "test_accuracy": best["test_accuracy"],
            "chosen_on": "test",
        },
        "environment": {
            "device_name": "a processor",
            "precision": "float32",
            "cpu_threads": 1,
            "git_commit": "0123abc",
        },
        "train_seconds": epochs * pace,
    }
    (folder / "run.json").write_text(json.dumps(record, indent=2), encoding="utf-8")


def write_predictions(study: Path) -> Path:
    """Write the prepared data of a study.json and the logits of its complete runs.

    The 10,000 test images are a pixel each. Some are hard for every run: correct are those whose
    difficulty, part of it the run's own, is least, as many as history.csv says. Returns the folder
    of the data.
    """
    rng = np.random.default_rng(0)
    labels, hard = rng.integers(0, 10, 10_000), rng.normal(size=10_000)
    images = np.zeros((10_010, 1, 1, 1), np.uint8)
    write_images(
        study.parent / "data",
        ImageSource(
            name="synthetic digits",
            source="made up",
            class_names=[f"digit {i}" for i in range(10)],
            labels=np.concatenate([np.arange(10), labels]),
            n_train=10,
            shape=(1, 1, 1),
            blocks=[images],
        ),
    )
    for path in sorted((study.parent / "runs").rglob("run.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["status"] != "ok":
            continue
        own = np.random.default_rng(zlib.crc32(str(path.relative_to(study.parent)).encode()))
        order = np.argsort(hard + own.normal(0, 0.7, 10_000))
        predicted = (labels + 1 + own.integers(0, 9, 10_000)) % 10
        easy = order[: record["final"]["test_correct"]]
        predicted[easy] = labels[easy]
        logits = own.normal(size=(10_000, 10))
        logits[np.arange(10_000), predicted] = logits.max(axis=1) + 0.5 + own.exponential(2, 10_000)
        np.save(path.parent / "test_logits.npy", logits.astype(np.float16))
    return study.parent / "data"


def write_complexity(path: Path, plan: dict[str, Any]) -> None:
    """Write complexity.csv: one row per model and norm."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["model", "norm", "input", "params", "macs", "norm_ops", "activations"])
        for model, norm in itertools.product(plan["models"], plan["norms"]):
            params = PARAMETERS[model, "none" if norm == "none" else "batch"]
            norm_ops = 0 if norm == "none" else 5 * 400_000
            writer.writerow([model, norm, "3x32x32", params, MACS[model], norm_ops, 600_000])


def write_timing(folder: Path, plan: dict[str, Any]) -> None:
    """Write timing.csv and timing.json: ten repeats a configuration, or why there are none."""
    timed, results = [], []
    for model, norm in itertools.product(plan["models"], plan["norms"]):
        for values in itertools.product(*plan["axes"].values()):
            axes = dict(zip(plan["axes"], values, strict=True))
            rng = np.random.default_rng(zlib.crc32(f"{model}/{norm}/{axes}".encode()))
            specification = {"batch_size": 128, "cpu_threads": 1, **axes}
            timed.append({"model": model, "norm": norm, "axes": axes})
            timed[-1]["specification"] = specification
            step = SECONDS[model] / (50_000 / specification["batch_size"])
            reason = plan["untimed"].get(f"{model}/{norm}")
            facts = {
                "environment": TIMED_ON,
                "train_images": 50_000,
                "peak_memory_bytes": 300_000_000,
                "energy_source": plan["energy"],
                "batch_sizes": {"step": specification["batch_size"], "last_step": 80},
                "calls_a_repeat": {"step": 3, "last_step": 4, "latency_1": 20, "latency_128": 2},
            }
            repeats = [
                {"step": step * noise, "last_step": step / 2 * noise}
                | {"latency_1": 0.002 * noise, "latency_128": 0.1 * noise}
                | ({"step_joules": 40 * step * noise} if plan["energy"] == METERED else {})
                | {"energy_source": plan["energy"]}
                for noise in rng.lognormal(0, 0.02, 10)
            ]
            if reason:
                results.append({"reason": reason, "facts": None, "repeats": []})
            else:
                results.append({"reason": None, "facts": facts, "repeats": repeats})
    time_training.write_results(
        folder / "timing.csv",
        folder / "timing.json",
        {"axes": plan["axes"], "timed": timed},
        results,
        started=datetime(2026, 1, 1, tzinfo=UTC),
        checksum="sha256:0",
    )


def aggregate(study: Path) -> dict[str, Path]:
    """Run all that makes tables from runs on a study.json; return the files by option name."""
    files = {name: study.parent / f"{name}.csv" for name in ("bands", "curves", "summary", "runs")}
    collect_runs.main(
        f"--study {study} --dataset {study.parent / 'dataset.json'} "
        f"--out-curves {files['curves']} --out-runs {files['runs']}".split()
    )
    summarize_runs.main(
        f"--study {study} --curves {files['curves']} --runs {files['runs']} "
        f"--complexity {study.parent / 'complexity.csv'} "
        f"--timing {study.parent / 'timing.csv'} --out {study.parent}".split()
    )
    compare(study)
    return {"study": study, **files}


def compare(
    study: Path, *comparisons: dict[str, Any], interest: tuple[float, ...] = (0.5, 1)
) -> Path:
    """Run compare_configurations with declared comparisons; return comparisons.csv."""
    declared = study.parent / "declared.json"
    entries = declare({"comparisons": comparisons})
    listed = {"comparisons": entries, "differences_of_interest": list(interest)}
    declared.write_text(json.dumps(listed), encoding="utf-8")
    table = study.parent / "comparisons.csv"
    compare_configurations.main(
        f"--study {study} --declared {declared} --runs {study.parent / 'runs.csv'} "
        f"--dataset {study.parent / 'data' / 'dataset.json'} --out {table} "
        f"--markdown {table.with_suffix('.md')}".split()
    )
    return table
