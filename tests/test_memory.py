"""How many runs a machine trains at a time is bounded by its memory, too."""

from types import SimpleNamespace

import psutil
import pytest

from normres import memory
from normres.memory import RUN_MB, V1, V2, free_mb, share_memory
from normres.progress import Display
from normres.time_left import TimeLeft
from pipelines import machine, pipeline, workflow

GRID_OF_ONE = {"batch_size": 128, "learning_rate": 1e-4}


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """A machine with 8 GB free; what is returned writes the files of one of its control groups."""

    def write(version, path, limit, used=0, spare=0):
        root = tmp_path / ("memory" if version is V1 else "")
        place = root / path
        place.mkdir(parents=True, exist_ok=True)
        (place / version[0]).write_text(f"{limit}\n")
        (place / version[1]).write_text(f"{used}\n")
        (place / "memory.stat").write_text(f"anon 5\n{version[2]} {spare}\n")

    own = tmp_path / "own"
    own.write_text("4:cpu,memory:/docker/job\n1:name=systemd:/else\n0::/system.slice/job\n")
    monkeypatch.setattr(memory, "OWN_GROUPS", own)
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=8_000_000_000))
    return write


GB = 10**9


@pytest.mark.parametrize(
    "found, expected",
    [
        ([], 8000),
        ([(V2, "system.slice/job", "max"), (V2, "system.slice", 3 * GB)], 3000),
        ([(V2, "system.slice/job", 4 * GB, 3 * GB, GB), (V2, "system.slice", 3 * GB)], 2000),
        ([(V2, "", 90 * GB)], 8000),
        ([(V2, "system.slice/job", 4 * GB, 5 * GB)], 1),
        ([(V2, "another", GB)], 8000),
        ([(V1, "docker/job", 5 * GB, 3 * GB)], 2000),
        ([(V1, "", 6 * GB, GB, 0)], 5000),  # as a container sees it: its own at the root
        ([(V1, "docker/job", 2**63 - 4096)], 8000),  # no limit
    ],
)
def test_free_memory_is_what_the_machine_and_all_control_groups_leave(groups, found, expected):
    for group in found:
        groups(*group)
    assert free_mb() == expected


def test_without_control_groups(groups, monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "OWN_GROUPS", tmp_path / "nothing")
    assert free_mb() == 8000


def test_the_memory_of_this_machine():
    assert 0 < free_mb() <= psutil.virtual_memory().total / 1e6


def test_a_limit_that_was_given_stays(monkeypatch):
    monkeypatch.setattr(memory, "free_mb", lambda: 5000)
    for given, expected in (({}, 5000), ({"mem_mb": 64_000}, 64_000), ({"mem_mb": 0}, 0)):
        found = machine(**given)
        share_memory(found)
        assert found.global_resources.get("mem_mb").value == expected


@pytest.mark.parametrize("gpus, kind", [(0, "cpu"), (2, "cuda")])
def test_what_a_run_counts_as(gpus, kind):
    made = pipeline(1)
    made.share_machine(machine(gpu=gpus))
    assert made.run_mb == RUN_MB[kind]


def test_a_cluster_counts_its_nodes_memory_itself():
    made, cluster = pipeline(1), machine(nodes=100)
    made.share_machine(cluster)
    assert cluster.global_resources.get("mem_mb").value is None


NONE_MORE = ", since memory is free for no more ("


@pytest.mark.parametrize(
    "options, runs, memory_mb, gpus, said",
    [
        ({}, 10, 100_000, 0, "on 8 cores ("),
        ({}, 10, 7000, 0, "on 8 cores, 3 runs at a time" + NONE_MORE),
        ({}, 10, 1500, 0, "on 8 cores, 1 run at a time" + NONE_MORE),
        ({}, 10, 0, 0, "on 8 cores ("),  # to Snakemake it is no limit
        ({}, 2, 7000, 0, "on 8 cores ("),
        ({"cpu_threads": 4}, 10, 5000, 0, "on 8 cores ("),
        ({"cpu_threads": 4}, 10, 3000, 0, "on 8 cores, 1 run at a time" + NONE_MORE),
        ({}, 10, 9000, 4, "with 2 runs at a time" + NONE_MORE),
        ({}, 10, 90_000, 4, "with 4 runs at a time ("),
    ],
)
def test_the_plan_says_where_memory_is_the_bound(options, runs, memory_mb, gpus, said):
    made = pipeline(runs, models=["convnet"], norms=["none"], **GRID_OF_ONE, **options)
    made.run_mb = RUN_MB["cuda" if gpus else "cpu"]
    display = Display(workflow(gpus=gpus, memory_mb=memory_mb), made)
    display.to_train = set(made.runs)
    display.estimate()
    assert said in display.describe_plan()


def test_time_left_goes_by_what_bounds_it():
    """Cores, or memory: twelve runs of one thread on eight cores, two or one at a time."""
    made = pipeline(12, models=["convnet"], norms=["none"], **GRID_OF_ONE)
    seconds = []
    for memory_mb in (100_000, 4000, 2000):
        places = workflow(memory_mb=memory_mb)
        seconds.append(TimeLeft(places, made, made.runs, [], RUN_MB["cpu"]).seconds(len(made.runs)))
    assert seconds[0] * 4 == pytest.approx(seconds[1]) and seconds[1] * 2 == seconds[2]
