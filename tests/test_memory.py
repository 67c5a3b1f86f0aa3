"""How many runs a machine trains at a time is bounded by its memory, too."""

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from snakemake.resources import Resources

from normres import memory
from normres.config import read_config
from normres.memory import RUN_MB, free_mb, own_cgroup, share_memory
from normres.pipeline import Pipeline
from normres.progress import Display
from pipelines import pipeline, workflow

CONFIG = {
    "study": "s",
    "studies": {
        "s": {"dataset": "digits", "models": ["convnet"], "norms": ["none"], "seeds": [0]}
        | {"epochs": 1}
    },
}


@pytest.fixture
def cgroups(tmp_path, monkeypatch):
    """A hierarchy of control groups in which this process has a place of its own."""
    own = tmp_path / "system.slice" / "job"
    own.mkdir(parents=True)
    monkeypatch.setattr(memory, "own_cgroup", lambda: own)
    monkeypatch.setattr(
        psutil, "virtual_memory", lambda: SimpleNamespace(available=8_000_000_000, total=0)
    )
    return tmp_path


@pytest.mark.parametrize(
    "limits, expected",
    [
        ({}, 8000),
        ({"system.slice/job": "max", "system.slice": "3000000000\n"}, 3000),
        ({"system.slice/job": "2500000000", "system.slice": "3000000000"}, 2500),
        ({".": "90000000000"}, 8000),
    ],
)
def test_free_memory_is_that_of_the_machine_or_of_a_control_group(cgroups, limits, expected):
    for place, limit in limits.items():
        (cgroups / place / "memory.max").write_text(limit)
    assert free_mb() == expected


def test_the_memory_of_this_machine():
    available = psutil.virtual_memory().available
    assert 0 < free_mb() <= 1.2 * available / 1e6
    assert own_cgroup().is_relative_to(memory.CGROUPS)


def test_without_control_groups(monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda path: (_ for _ in ()).throw(OSError))
    assert own_cgroup() == memory.CGROUPS


def machine(**limits):
    resources = Resources.from_mapping(limits)
    return SimpleNamespace(
        is_main_process=True,
        nodes=None,
        global_resources=resources,
        register_resource=resources.__setitem__,
    )


def test_a_limit_that_was_given_stays(monkeypatch):
    monkeypatch.setattr(memory, "free_mb", lambda: 5000)
    assert share_memory(machine()) == 5000
    assert share_memory(machine(mem_mb=64_000)) == 64_000


@pytest.mark.parametrize("gpus, kind", [(0, "cpu"), (2, "cuda")])
def test_what_jobs_ask_for(monkeypatch, gpus, kind):
    monkeypatch.setattr(memory, "free_mb", lambda: 5000)
    made = Pipeline(read_config(CONFIG))
    made.share_machine(machine(gpu=gpus))
    assert made.run_mb == RUN_MB[kind]
    assert made.memory(made.run_mb) == RUN_MB[kind]
    assert made.memory(16_000) == 5000  # else Snakemake would refuse the call


def test_a_cluster_counts_its_nodes_memory_itself():
    made, cluster = Pipeline(read_config(CONFIG)), machine()
    cluster.nodes = 100
    made.share_machine(cluster)
    assert cluster.global_resources.get("mem_mb").value is None
    assert made.memory(16_000) == 16_000


@pytest.mark.parametrize(
    "memory_mb, said",
    [(100_000, "on 8 cores ("), (7000, "on 3 cores of 8, since memory is free for no more runs (")],
)
def test_the_plan_says_where_memory_bounds_it(memory_mb, said):
    made = pipeline(1, models=["convnet"], norms=["none", "batch"])
    made.run_mb = RUN_MB["cpu"]
    display = Display(workflow(memory_mb=memory_mb), made)
    display.to_train = set(made.runs)
    display.estimate()
    assert said in display.describe_plan()
