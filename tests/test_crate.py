"""A study as an RO-Crate: valid by the profile's own validator, and true."""

import hashlib
import json
import os
import subprocess
import zipfile
from pathlib import Path

import pytest
import rocrate

import export_crate
import plot_final_accuracy_by_axis
import plot_test_accuracy
import synthetic
from conftest import PROJECT
from normres.crate import MADE_BY, SHA256
from normres.errors import InputError
from normres.pipeline import TABLES
from report_pages import DATASET, change, draw

VALIDATORS = PROJECT / ".venv" / "validators" / "bin"
PYTHON = Path(os.environ.get("NORMRES_VALIDATORS", VALIDATORS)) / "python"
CONTEXT = Path(rocrate.__file__).parent / "data" / "ro-crate.jsonld"
STARTED, FINISHED = "2026-01-01T10:00:00+00:00", "2026-01-01T10:01:00+00:00"
FAILED = "resnet/none/batch_size=32/seed1"
BY_AXIS = "final_accuracy_by_batch_size"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A finished study with one failed run."""
    folder = tmp_path_factory.mktemp("results") / "batch-size"
    path = synthetic.write_study(folder, "batch-size", status={FAILED: "failed"})
    synthetic.aggregate(path)
    draw(folder, plot_test_accuracy, "test_accuracy")
    draw(folder, plot_final_accuracy_by_axis, BY_AXIS, "--axis", "batch_size")
    (folder / "figures" / "forgotten.png").write_bytes(b"of an older version")
    (folder / "report.html").write_text("<html></html>")
    (folder / "dataset.json").unlink()
    dataset = folder.parent / "data" / "digits" / "dataset.json"
    dataset.parent.mkdir(parents=True)
    dataset.write_text(json.dumps(DATASET))
    for record in folder.glob("runs/**/run.json"):
        (record.parent / "model.pt").write_bytes(b"weights")
        change(record, started=STARTED, finished=FINISHED)
    change(folder / "timing.json", started=STARTED, finished="2026-01-01T11:00:00+00:00")
    return path


def pack(study, out, *options):
    dataset = study.parents[1] / "data" / "digits" / "dataset.json"
    export_crate.main(
        ["--study", str(study), "--dataset", str(dataset), "--out", str(out), *options]
    )
    return out


@pytest.fixture(scope="module")
def crate(study, tmp_path_factory):
    return pack(study, tmp_path_factory.mktemp("crate") / "crate.zip")


@pytest.fixture(scope="module")
def entities(crate):
    with zipfile.ZipFile(crate) as archive:
        metadata = json.loads(archive.read("ro-crate-metadata.json"))
    assert metadata["@context"][1] == {"sha256": SHA256}
    return {entity["@id"]: entity for entity in metadata["@graph"]}


def validate(crate, severity="REQUIRED"):
    if not PYTHON.exists():
        pytest.skip(f"{PYTHON}: no validators; `make test` installs them")
    script = PROJECT / "tests" / "offline_validator.py"
    return subprocess.run(
        [PYTHON, script, crate, "provenance-run-crate", severity, CONTEXT],
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_profiles_validator_finds_nothing(crate):
    result = validate(crate)
    assert result.returncode == 0, result.stdout + result.stderr
    assert int(result.stdout.split()[-2]) > 50  # checks that it made


def test_the_profiles_validator_sees_a_missing_instrument(crate, tmp_path):
    broken = tmp_path / "broken.zip"
    with zipfile.ZipFile(crate) as source, zipfile.ZipFile(broken, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "ro-crate-metadata.json":
                metadata = json.loads(content)
                for entity in metadata["@graph"]:
                    if entity["@type"] == "ControlAction":
                        entity.pop("instrument")
                content = json.dumps(metadata).encode()
            target.writestr(name, content)
    result = validate(broken)
    assert result.returncode == 1
    assert "ControlAction must reference a HowToStep" in result.stdout


def test_every_file_is_there_with_its_checksum(crate, entities):
    with zipfile.ZipFile(crate) as archive:
        assert archive.testzip() is None
        names = set(archive.namelist()) - {"ro-crate-metadata.json", "ro-crate-preview.html"}
        for name in names:
            entity = entities[name.replace("=", "%3D")]
            assert entity["sha256"] == hashlib.sha256(archive.read(name)).hexdigest(), name
    for name in ("Snakefile", "workflow/scripts/train.py", "envs/requirements.txt", "LICENSE"):
        assert name in names
    results = {name for name in names if name.startswith("results/batch-size/")}
    assert "results/batch-size/figures/test_accuracy.svg" in results
    assert not [name for name in results if "forgotten" in name or "model.pt" in name]
    assert not [name for name in names if Path(name).name.startswith(".")]


def test_it_says_what_made_what_from_what_and_when(entities):
    root = entities["./"]
    assert root["mainEntity"] == {"@id": "Snakefile"}
    assert root["license"] == {"@id": "https://spdx.org/licenses/MIT"}
    run = entities["#run-resnet/none/batch_size=32/seed0"]
    assert run["instrument"] == {"@id": "workflow/scripts/train.py"}
    assert (run["startTime"], run["endTime"]) == (STARTED, FINISHED)
    data = entities[run["object"]["@id"]]
    assert data["identifier"] == DATASET["checksum"]
    made = {item["@id"].rsplit("/", 1)[-1] for item in run["result"]}
    assert made == {"run.json", "history.csv"}
    whole = entities["#run"]
    assert (whole["startTime"], whole["endTime"]) == (STARTED, "2026-01-01T11:00:00+00:00")
    assert "agent" not in whole
    figure = entities["#figure-test_accuracy"]
    assert figure["instrument"] == {"@id": "workflow/scripts/plot_test_accuracy.py"}
    assert {"@id": "results/batch-size/bands.csv"} in figure["object"]
    assert "startTime" not in figure
    by_axis = entities[f"#figure-{BY_AXIS}"]
    assert by_axis["instrument"] == {"@id": "workflow/scripts/plot_final_accuracy_by_axis.py"}
    assert {"@id": "results/batch-size/summary.csv"} in by_axis["object"]


def test_configuration_files_are_packed_where_a_call_finds_them(study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("study: batch-size\n")
    elsewhere = tmp_path.parent / f"{tmp_path.name}-lab.yaml"
    elsewhere.write_text("device: cpu\n")
    call = "snakemake --cores all --configfile mine.yaml"
    given = ["--configfiles", "mine.yaml", str(elsewhere), "--call", call]
    packed = pack(study, tmp_path / "crate.zip", *given)
    with zipfile.ZipFile(packed) as archive:
        assert archive.read("mine.yaml") == b"study: batch-size\n"
        placed = f"configfiles/2/{elsewhere.name}"
        assert archive.read(placed) == b"device: cpu\n"
        graph = json.loads(archive.read("ro-crate-metadata.json"))["@graph"]
    said = {entity["@id"]: entity for entity in graph}
    used = {item["@id"] for item in said["#run"]["object"]}
    assert {"config.yaml", "mine.yaml", placed} < used
    assert f"`{call} --config study=batch-size`" in said["./"]["description"]
    assert validate(packed).returncode == 0


def test_what_makes_each_table_is_known():
    known = {name for names in MADE_BY.values() for name in names}
    assert set(TABLES) <= known, "say in normres/crate.py which command makes it"


def test_failed_runs_and_what_is_left_out_are_said(entities):
    failed = [
        e for e in entities.values() if e.get("actionStatus", "").endswith("FailedActionStatus")
    ]
    assert failed and all(e["error"] == "the disk is full" for e in failed)
    assert f"{len(failed)} failed" in entities["./"]["description"]
    assert "weights" in entities["./"]["description"]


def test_weights_on_request_and_the_same_bytes_twice(study, crate, tmp_path):
    assert pack(study, tmp_path / "again.zip").read_bytes() == crate.read_bytes()
    full = pack(study, tmp_path / "full.zip", "--weights")
    with zipfile.ZipFile(full) as archive:
        assert sum(name.endswith("model.pt") for name in archive.namelist()) == 8


def test_what_the_study_no_longer_asks_for_is_not_packed(study, tmp_path):
    """Tables and figures of an analysis lie in the folder after it was dropped."""
    (study.parent / "gradients.csv").write_text("model\n")
    try:
        asked = ["--analyses", "batch_sizes", "--figures", "test_accuracy"]
        crates = [pack(study, tmp_path / "all.zip"), pack(study, tmp_path / "asked.zip", *asked)]
    finally:
        (study.parent / "gradients.csv").unlink()
    names = [zipfile.ZipFile(crate).namelist() for crate in crates]
    place = "results/batch-size"
    kept = [f"{place}/summary.csv", f"{place}/figures/test_accuracy.svg"]
    left = [f"{place}/gradients.csv", f"{place}/figures/{BY_AXIS}.svg"]
    assert set(kept + left) <= set(names[0])
    assert set(kept) <= set(names[1]) and not set(left) & set(names[1])


def test_a_study_without_runs_is_refused_in_one_line(tmp_path):
    folder = tmp_path / "single"
    path = synthetic.write_study(folder, "single", status={"resnet/none/seed0": "missing"})
    with pytest.raises(InputError, match="no run has left its run"):
        export_crate.main(
            [
                f"--study={path}",
                f"--dataset={folder / 'dataset.json'}",
                f"--out={tmp_path / 'x.zip'}",
            ]
        )
    assert not (tmp_path / "x.zip").exists()


def test_the_citation_file_is_valid():
    command = PYTHON.with_name("cffconvert")
    if not command.exists():
        pytest.skip(f"{command}: no validators; `make test` installs them")
    subprocess.run([command, "--validate", "-i", PROJECT / "CITATION.cff"], check=True)
