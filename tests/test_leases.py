"""Leases of GPUs among many processes, on pretended devices: no slot twice, none lost by a kill."""

import os
import random
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from conftest import PROJECT
from normres import leases
from normres.leases import lease_folder, lease_gpu
from normres.pipeline import ALL_CORES
from pipelines import machine, pipeline

# Takes a slot, notes begin and end of holding it, and may wait to be killed in between.
# What it prints goes to the test; lines appended to the journal have one order for all processes.
HOLDER = """
import os, sys, time
from normres.leases import lease_gpu
journal = open(os.path.join(os.environ["TMPDIR"], "journal"), "a", buffering=1)
lease_gpu(int(sys.argv[1]), lambda: print("waits", flush=True), exclusive="WHOLE" in os.environ)
gpu = os.environ["CUDA_VISIBLE_DEVICES"]
journal.write(f"{os.getpid()} takes {gpu}\\n")
print(gpu, flush=True)
time.sleep(float(sys.argv[2]))
print("gives back", flush=True)
journal.write(f"{os.getpid()} gives {gpu}\\n")
"""

SHARER = """
from normres.leases import share_cpu
with share_cpu(print):
    print("has", flush=True)
    input()
"""


@pytest.fixture
def holder(tmp_path):
    """Start a process that holds a slot for some seconds."""

    def start(gpus, runs_per_gpu=1, seconds=600.0, output=subprocess.PIPE, **environment):
        environment = {"PYTHONPATH": str(PROJECT / "workflow" / "scripts"), **environment}
        environment |= {"TMPDIR": str(tmp_path), "PATH": os.environ["PATH"]}
        if gpus is not None:
            environment["CUDA_VISIBLE_DEVICES"] = gpus
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(runs_per_gpu), str(seconds)],
            stdout=output,
            text=True,
            env=environment,
        )
        started.append(process)
        return process

    started = []
    yield start
    for process in started:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def said(process):
    return process.stdout.readline().strip()


def until_not(process, text):
    """The first line that is not `text`."""
    while (line := said(process)) == text:
        pass
    return line


def test_every_slot_once_and_each_gpu_before_a_second_slot(holder):
    taken = [said(holder("0,1", runs_per_gpu=2)) for _ in range(4)]
    assert taken == ["0", "1", "0", "1"]
    fifth = holder("0,1", runs_per_gpu=2, seconds=0)
    assert said(fifth) == "waits"


def test_a_killed_holder_gives_its_slot_back(holder):
    first = holder("0,1")
    assert said(first) == "0"
    assert said(holder("0,1")) == "1"
    third = holder("0,1", seconds=0)
    assert said(third) == "waits"
    first.send_signal(signal.SIGKILL)
    assert until_not(third, "waits") == "0"
    assert said(third) == "gives back" and third.wait(10) == 0


def test_many_processes_and_kills(holder, tmp_path):
    """24 processes for 3 GPUs of 2 slots, some killed while they hold one: at no time does a GPU
    have more holders than slots, and at the end every slot is free."""
    chance, journal, killed = random.Random(0), tmp_path / "journal", set()
    holders = {
        process.pid: process
        for process in (holder("a,b,c", 2, chance.uniform(0.1, 0.6)) for _ in range(24))
    }
    deadline = time.monotonic() + 120
    while any(process.poll() is None for process in holders.values()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
        holding = [pid for pid, gpus in replay(journal)[0].items() if gpus and pid not in killed]
        if holding and len(killed) < 8:
            pid = chance.choice(holding)
            with journal.open("a") as lines:  # counted as free from here on, a moment early
                lines.write(f"{pid} gives all\n")
            holders[pid].send_signal(signal.SIGKILL)
            killed.add(pid)
    codes = [process.returncode for process in holders.values()]
    assert set(codes) <= {0, -signal.SIGKILL} and codes.count(-signal.SIGKILL) >= 4, codes
    _, most = replay(journal)
    assert most == {"a": 2, "b": 2, "c": 2}
    assert sorted(said(holder("a,b,c", 2)) for _ in range(6)) == ["a", "a", "b", "b", "c", "c"]


def replay(journal):
    """Which process holds which GPU at the end of the journal, and the most holders of each GPU."""
    holding: dict[int, str] = {}
    most: dict[str, int] = {}
    for line in journal.read_text().splitlines() if journal.exists() else ():
        pid, verb, gpu = line.split()
        if verb == "takes":
            holding[int(pid)] = gpu
            most[gpu] = max(most.get(gpu, 0), list(holding.values()).count(gpu))
        else:
            holding.pop(int(pid), None)
    return holding, most


def test_a_whole_gpu_is_the_free_one(holder):
    assert said(holder("0,1", runs_per_gpu=2)) == "0"
    assert said(holder("0,1", runs_per_gpu=2, WHOLE="1")) == "1"
    assert said(holder("0,1", runs_per_gpu=2)) == "0"
    assert said(holder("0,1", runs_per_gpu=2, seconds=0)) == "waits"


def test_a_whole_gpu_waits_for_runs_that_were_started_with_more_slots(holder):
    runs = [holder("0", runs_per_gpu=2) for _ in range(2)]
    assert [said(run) for run in runs] == ["0", "0"]
    runs[0].kill()  # one of the two slots is free now; which one, they alone know
    # Either may be first; it must not hold the GPU for long.
    timings = [holder("0", slots, seconds=0, WHOLE="1") for slots in (1, 2)]
    assert [said(timing) for timing in timings] == ["waits", "waits"]
    runs[1].kill()
    assert {until_not(timing, "waits") for timing in timings} == {"0"}


def test_no_run_joins_on_a_gpu_that_is_taken_as_a_whole(holder):
    """Not even one of a call with more slots than the timing's has."""
    timing = holder("0", runs_per_gpu=1, WHOLE="1")
    assert said(timing) == "0"
    run = holder("0", runs_per_gpu=4)
    assert said(run) == "waits"
    timing.kill()
    assert until_not(run, "waits") == "0"


def test_a_whole_gpu_is_had_as_its_runs_end(holder):
    """Two want a whole GPU while runs hold slots of both: each keeps to one, and has it in time."""
    runs = []
    for gpu in ("0", "1", "0"):
        runs.append(holder("0,1", runs_per_gpu=2))
        assert said(runs[-1]) == gpu
    timing = holder("0,1", runs_per_gpu=2, WHOLE="1")  # takes the free slot of GPU 1
    assert said(timing) == "waits"
    other = holder("0,1", runs_per_gpu=2, WHOLE="1")
    assert said(other) == "waits"
    late = holder("0,1", runs_per_gpu=2)
    assert said(late) == "waits"
    late.kill()
    late.wait()
    runs[1].kill()
    assert until_not(timing, "waits") == "1"
    runs[0].kill()
    runs[2].kill()
    assert until_not(other, "waits") == "0"


def test_many_whole_gpus_and_slots_are_had_by_all(holder, tmp_path):
    """12 runs and 6 timings for 2 GPUs of 3 slots: all end, and a timing is alone on its GPU."""
    chance, journal = random.Random(1), tmp_path / "journal"
    holders = [
        holder("a,b", 3, chance.uniform(0.05, 0.3), **({"WHOLE": "1"} if i % 3 == 0 else {}))
        for i in range(18)
    ]
    whole = {process.pid for process in holders[::3]}
    assert [process.wait(120) for process in holders] == [0] * 18
    holding: dict[str, set[int]] = {"a": set(), "b": set()}
    for line in journal.read_text().splitlines():
        pid, verb, gpu = line.split()
        holding[gpu] = holding[gpu] | {int(pid)} if verb == "takes" else holding[gpu] - {int(pid)}
        assert not (holding[gpu] & whole) or len(holding[gpu]) == 1


@pytest.fixture
def alone_here(monkeypatch, tmp_path):
    """A machine on which nobody else has a lease."""
    monkeypatch.setattr(leases.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(leases, "held", [])


def end_leases():
    while leases.held:
        lease = leases.held.pop()
        lease.close() if hasattr(lease, "fileno") else lease.release()


def test_one_timing_at_a_time(alone_here):
    leases.lease_machine(pytest.fail)
    with pytest.raises(TimeoutError):
        leases.lease_machine(give_up)
    end_leases()
    leases.lease_machine(pytest.fail)
    end_leases()


def test_runs_share_a_cpu_and_a_timing_has_it_alone(alone_here):
    with leases.share_cpu(pytest.fail), leases.share_cpu(pytest.fail):
        with pytest.raises(TimeoutError):
            leases.lease_cpu(give_up)
        # It waits with its wish in hand, so that no more runs begin before it had its turn.
        with pytest.raises(TimeoutError), leases.share_cpu(give_up):
            pass
        end_leases()
        with leases.share_cpu(pytest.fail):
            pass
    leases.lease_cpu(pytest.fail)
    with pytest.raises(TimeoutError), leases.share_cpu(give_up):
        pass
    end_leases()
    with leases.share_cpu(pytest.fail):
        pass


def test_a_killed_run_gives_its_share_of_the_cpu_back(alone_here, tmp_path):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    environment["PYTHONPATH"] = str(PROJECT / "workflow" / "scripts")
    run = subprocess.Popen(
        [sys.executable, "-c", SHARER],
        env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert said(run) == "has"
    with pytest.raises(TimeoutError):
        leases.lease_cpu(give_up)
    end_leases()
    run.kill()
    run.communicate()
    leases.lease_cpu(pytest.fail)
    end_leases()


@pytest.mark.parametrize(
    "device, gpus, visible, taken",
    [
        ("cpu", 0, "0", "cpu"),
        ("auto", None, "", "cpu"),
        ("auto", 1, "0", "gpu"),
        ("cuda", 1, "0", "gpu"),
    ],
)
def test_what_a_timing_has_alone(alone_here, monkeypatch, device, gpus, visible, taken):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    leases.lease_for_timing(device, gpus, 1)
    names = {path.name for path in lease_folder().iterdir()}
    assert ("cpu" in names, "gpu-0-slot-0" in names) == (taken == "cpu", taken == "gpu")
    end_leases()


def test_visible_devices_are_honoured(holder):
    assert said(holder("3,5")) == "3"
    assert said(holder("3,5")) == "5"
    assert said(holder("GPU-1b2c,MIG-9/1/0")) == "GPU-1b2c"


def test_one_gpu_of_an_allocation_is_not_leased(holder, tmp_path):
    """Two jobs on one node both see their own GPU as device 0."""
    for job in ("7", "8"):
        assert said(holder("0", SLURM_JOB_ID=job)) == "0"
    assert not list(tmp_path.glob("normres-gpus*"))


def test_several_gpus_of_an_allocation_are_shared_out_within_it(holder):
    assert [said(holder("0,1", SLURM_JOB_ID="7")) for _ in range(2)] == ["0", "1"]
    assert said(holder("0,1", SLURM_JOB_ID="8")) == "0"


def test_without_a_gpu_nothing_happens(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    lease_gpu(1, pytest.fail)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "" and not leases.held


def test_waiting_may_be_given_up(monkeypatch, tmp_path):
    monkeypatch.setattr(leases.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(leases, "held", [])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4")
    lease_gpu(1, pytest.fail)
    assert lease_folder().stat().st_mode & 0o777 == 0o700
    with pytest.raises(TimeoutError):
        lease_gpu(1, give_up)
    leases.held[0].release()


def give_up():
    raise TimeoutError


@pytest.mark.parametrize(
    "limit, nodes, main, expected",
    [
        (None, None, True, 6),  # two GPUs are visible, three runs share one
        (1, None, True, 3),
        (0, None, True, 0),  # asked for the CPU
        (8, 100, True, 8),  # on a cluster a run has its GPU alone
        (1, None, False, 1),  # a job of a cluster, which has its GPU already
    ],
)
def test_the_limit_of_snakemake(monkeypatch, limit, nodes, main, expected):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    asked = machine(nodes, main, **({} if limit is None else {"gpu": limit}))
    made, alone = pipeline(1, {"runs_per_gpu": 3}), main and nodes is None
    made.share_machine(asked)
    limits = asked.global_resources
    assert limits.get("gpu").value == expected
    assert (limits.get("mem_mb").value is not None) == alone
    job = SimpleNamespace(study="many")  # a timing: a whole GPU and all cores, or a job's own
    assert made.timing_gpus(job) == (3 if alone else 1)
    assert made.timing_threads(job) == (ALL_CORES if alone else 1)
