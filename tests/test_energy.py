"""Energy: the hardware's counters, here made up, and what a reader is told where there are none."""

import itertools
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import synthetic
from conftest import small_run
from normres import energy, measurement
from normres.energy import CpuMeter, GpuMeter, NotMeasured, find_meter
from normres.measurement import Measurement
from normres.tables import read_study, read_table
from report_pages import render, words, write_inputs


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)


def write_zone(folder, zone, name, microjoules, most=999_999):
    place = folder / zone
    place.mkdir(parents=True)
    (place / "name").write_text(f"{name}\n")
    (place / "max_energy_range_uj").write_text(f"{most}\n")
    (place / "energy_uj").write_text(f"{microjoules}\n")
    return place / "energy_uj"


@pytest.fixture
def powercap(tmp_path):
    """Two packages, with the zones that must not be counted beside them."""
    for zone, name in [
        ("intel-rapl:0:0", "core"),
        ("intel-rapl:0:1", "dram"),
        ("intel-rapl:2", "psys"),
        ("intel-rapl-mmio:0", "package-0"),
    ]:
        write_zone(tmp_path, zone, name, 5)
    write_zone(tmp_path, "intel-rapl:0", "package-0", 100)
    write_zone(tmp_path, "intel-rapl:1", "package-1", 999_000)
    return tmp_path


def test_packages_are_summed_and_a_counter_may_start_again(powercap):
    meter = CpuMeter(powercap)
    assert meter.source == "RAPL: 2 processor packages without DRAM, idle power included"
    before = meter.joules()
    for zone in powercap.iterdir():
        (zone / "energy_uj").write_text("500100")  # package-1 went over 1,000,000
    assert meter.joules() - before == pytest.approx(0.5 + 0.5011)
    assert meter.joules() - before == pytest.approx(0.5 + 0.5011)  # nothing is counted twice


def test_without_counters_the_reason_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(energy.CpuMeter.__init__, "__defaults__", (tmp_path / "absent",))
    meter, source = find_meter(None)
    assert meter is None
    assert source == "not measured: this machine has no energy counter of its processor (RAPL)"


def test_counters_that_may_not_be_read(powercap, monkeypatch):
    read = Path.read_text

    def refuse(path, *arguments, **options):
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return read(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(NotMeasured, match="only root may read"):
        CpuMeter(powercap)


def test_a_node_of_a_cluster_may_be_shared(powercap, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with pytest.raises(NotMeasured, match="other jobs may share"):
        CpuMeter(powercap)


class NvmlError(Exception):
    pass


def fake_nvml(millijoules, known="GPU-1"):
    counter = iter(millijoules)

    def handle(uuid):
        if uuid != known:
            raise NvmlError("Not Found")
        return "device"

    return SimpleNamespace(
        NVMLError=NvmlError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=handle,
        nvmlDeviceGetTotalEnergyConsumption=lambda device: next(counter),
    )


def test_the_counter_of_a_gpu(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml([0, 1000, 4500]))
    meter = GpuMeter("GPU-1")
    assert [meter.joules(), meter.joules()] == [1.0, 4.5]
    assert find_meter("MIG-2") == (
        None,
        "not measured: NVML does not tell this GPU's energy (Not Found)",
    )


def test_the_real_library_has_what_is_called():
    import pynvml

    for name in ("nvmlInit", "nvmlDeviceGetHandleByUUID", "nvmlDeviceGetTotalEnergyConsumption"):
        assert callable(getattr(pynvml, name))
    assert issubclass(pynvml.NVMLError, Exception)


def test_without_the_library_the_reason_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert find_meter("GPU-1")[1] == "not measured: the package nvidia-ml-py is not installed"


class Meter:
    """Counts two joules per step and many for all before the first, told after every third step."""

    source, least_seconds = "made up", 1e-9

    def __init__(self, steps):
        self.steps = steps

    def joules(self):
        told = len(self.steps) // 3 * 3
        return 2.0 * told + 100.0 * (told > 0)


def test_a_measurement_gives_joules_a_step(digits_folder, monkeypatch):
    steps = []
    monkeypatch.setattr(measurement, "find_meter", lambda uuid: (Meter(steps), "made up"))
    monkeypatch.setattr(measurement, "LEAST_SECONDS", {})
    monkeypatch.setattr(measurement, "LEAST_LATENCY_SECONDS", 1e-9)
    monkeypatch.setattr(measurement, "LOOK_SECONDS", 1e-9)
    monkeypatch.setattr(measurement, "STILL_SECONDS", 60)
    made = Measurement(small_run(), str(digits_folder), "cpu", None)
    step = made.run.step
    made.run.step = lambda batch: (steps.append(1), step(batch))
    made.calls = {"step": 1}
    assert made.repeat()["step_joules"] == 2.0  # what was before the first update does not count
    draw, counting = made._draw, made.meter.joules
    events = []
    made._draw = lambda name, calls: (events.append("draw"), draw(name, calls))[1]
    made.meter.joules = lambda: (events.append("read"), counting())[1]
    assert made.repeat()["step_joules"] == 2.0
    assert "draw" not in events[events.index("read") :]  # nothing but steps is counted
    monkeypatch.setattr(measurement, "STILL_SECONDS", 0.02)
    made.meter.joules = itertools.count().__next__
    made.run.step = lambda batch: time.sleep(0.03)  # a counter cannot move while nobody looks
    assert made.repeat()["step_joules"] == 1.0
    monkeypatch.setattr(measurement, "STILL_SECONDS", 0.1)
    made.meter.joules = lambda: 7.0  # a counter that stands still
    stood = made.repeat()
    assert stood["step_joules"] is None
    assert stood["energy_source"] == "not measured: the counter of energy stands still"
    made.meter.joules = itertools.count().__next__
    again = made.repeat()  # that it stood still once says nothing about the next time
    assert again["step_joules"] == 1.0 and again["energy_source"] == made.meter.source
    made.meter.joules = lambda: 7.0
    made.first_seconds = dict.fromkeys(made.sizes, 1e-9)
    assert made.prepare()["energy_source"] == stood["energy_source"]
    assert made.meter is None and made.repeat()["energy_source"] == stood["energy_source"]


@pytest.mark.parametrize("source", [synthetic.METERED, synthetic.UNMETERED])
def test_summary_and_report_say_it(tmp_path, source):
    path = write_inputs(tmp_path, "single", energy=source)
    summary = read_table(tmp_path / "summary.csv", read_study(path)).iloc[0]
    text = words(render(tmp_path))
    assert summary["energy_source"] == source and f"Energy: {source}." in text
    if source == synthetic.METERED:
        assert summary["joules_per_epoch_median"] == pytest.approx(40 * 6.4, rel=0.05)
        assert summary["joules_per_epoch_low"] < summary["joules_per_epoch_high"]
        assert "energy of an epoch" in text
    else:
        assert summary[["joules_per_step_median", "joules_per_epoch_median"]].isna().all()
        assert "energy of an epoch" not in text
