"""How a network is computed: a table in the code and declared options decide, nothing else."""

import os
from types import SimpleNamespace

import pytest
import torch

from conftest import small_run
from normres.devices import (
    can_compile,
    choose_computation,
    choose_device,
    memory_format,
    say_uncompiled,
    share_compiled_code,
    short_of_memory,
    wants_compilation,
)
from normres.environment import EXACT, describe
from normres.errors import DeviceError
from normres.options import option_schemas


@pytest.mark.parametrize("norm", ["none", "batch", "group", "layer", "instance"])
def test_the_layout_follows_the_norm_and_the_device(norm):
    grouped = norm in ("group", "layer", "instance")
    expected = torch.contiguous_format if grouped else torch.channels_last
    assert memory_format(norm, "cpu", compiled=False) == expected
    assert memory_format(norm, "cpu", compiled=True) == torch.channels_last
    assert memory_format(norm, "cuda", compiled=False) == torch.channels_last
    assert choose_computation(small_run("convnet", norm), "cpu").memory_format == expected


def test_a_gpu_that_is_older_than_all_kernels_is_refused_in_a_line(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "GTX 1080")
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_100", "sm_75", "compute_120"])
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (6, 1))
    with pytest.raises(DeviceError, match=r"GTX 1080 has compute capability 6\.1, .* at 7\.5;"):
        choose_device("auto", 1)
    for capability, kernels in (((7, 5), ["sm_75", "sm_90"]), ((9, 0), []), ((9, 0), ["gfx90a"])):
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda kernels=kernels: kernels)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda c=capability: c)
        assert choose_device("auto", 1) == "cuda"


def test_a_gpu_that_does_not_start_is_a_line(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    def busy():
        raise torch.AcceleratorError(
            "CUDA error: CUDA-capable device(s) is/are busy or unavailable\n"
            "Search for `cudaErrorDevicesUnavailable' in https://docs.nvidia.com for more.\n"
            "CUDA kernel errors might be asynchronously reported at some other API call."
        )

    monkeypatch.setattr(torch.cuda, "get_device_capability", busy)
    with pytest.raises(
        DeviceError, match=r"torch cannot use the GPU on .*\): CUDA error: .* or unavailable$"
    ):
        choose_device("auto", 1)


def test_memory_that_runs_out_within_a_capture_is_no_other_error():
    def capture():
        try:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")

    with pytest.raises(MemoryError, match=r"^CUDA out of memory; buy"), short_of_memory("buy more"):
        capture()
    with pytest.raises(RuntimeError, match="something else"), short_of_memory("buy more"):
        raise RuntimeError("something else")


@pytest.mark.parametrize(
    "error, line",
    [
        (
            RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be"),
            "CUDA error: out of memory; buy",
        ),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when"), None),
        (torch.OutOfMemoryError(), "; buy"),
        (RuntimeError("CUDA driver error: out of memory"), None),  # compiled kernels are loaded
        (RuntimeError("Triton Error [CUDA]: out of memory"), None),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"), None),
        (
            RuntimeError(
                "backend='inductor' raised:\nRuntimeError: CUDA driver error: out of memory"
            ),
            "RuntimeError: CUDA driver error: out of memory; buy",
        ),
    ],
)
def test_memory_that_runs_out_in_other_forms(error, line):
    with pytest.raises(MemoryError) as caught, short_of_memory("buy"):
        raise error
    assert str(caught.value) == (line or f"{error}; buy")


def test_a_cpu_without_enough_memory_says_so_in_a_line():
    """Asks for 4 exabytes: no machine lets a process reserve that."""
    with pytest.raises(MemoryError) as caught, short_of_memory("buy more"):
        torch.empty(2**62, dtype=torch.uint8)
    said = str(caught.value)
    assert said.startswith("can't allocate memory: you tried to allocate") and "\n" not in said
    assert said.endswith("; buy more")


def test_what_should_be_compiled_and_is_not_is_said(monkeypatch, capsys):
    monkeypatch.setattr("normres.devices.can_compile", lambda device: False)
    for wanted in (True, False):
        specification = small_run(compile=wanted)
        say_uncompiled(specification, choose_computation(specification, "cpu"))
        said = capsys.readouterr().out
        assert said.startswith("not compiled: torch.compile needs") == wanted


def test_where_code_cannot_be_loaded_nothing_is_compiled(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "not" / "there"))
    able = can_compile("cpu")
    where = []
    flag = SimpleNamespace(f_flag=os.ST_NOEXEC)
    monkeypatch.setattr(os, "statvfs", lambda folder: (where.append(folder), flag)[1])
    assert not can_compile("cpu")
    assert where == [tmp_path] * able


def test_neither_epochs_nor_seed_change_how_a_network_is_computed():
    short, long = small_run(epochs=1), small_run(epochs=500, seed=7)
    assert choose_computation(short, "cpu") == choose_computation(long, "cpu")


def test_what_is_compiled(monkeypatch):
    """auto is the table's choice; on a CPU, in float32, nothing is compiled (see devices.py)."""
    auto, yes, no = (small_run(compile=value) for value in ("auto", True, False))
    assert option_schemas()["compile"]["default"] == "auto"
    for precision in ("float32", "bfloat16"):
        wanted = [wants_compilation(s, "cpu", precision) for s in (auto, yes, no)]
        assert wanted == [False, True, False]  # ConvNet without norm
        wanted = [wants_compilation(s, "cuda", precision) for s in (auto, yes, no)]
        assert wanted == [True, True, False]
    assert not choose_computation(auto, "cpu").compiled
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "kept")
    assert choose_computation(yes, "cpu").compiled == can_compile("cpu")


@pytest.mark.parametrize("amx", [True, False])
def test_what_a_processor_with_amx_compiles(monkeypatch, amx):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": amx, "avx512_bf16": 1})
    compiled = {
        (model, norm)
        for model in ("convnet", "vgg11", "resnet")
        for norm in ("none", "batch", "group", "layer")
        if wants_compilation(small_run(model, norm, compile="auto"), "cpu", "bfloat16")
    }
    with_norm = {(model, norm) for model in ("convnet", "resnet") for norm in ("batch", "group")}
    assert compiled == (with_norm | {("resnet", "none")} if amx else set())
    assert not wants_compilation(small_run("resnet", compile="auto"), "cpu", "float32")


def test_units_for_bfloat16_count_where_onednn_uses_them(monkeypatch):
    """As on a Mac: its processor has them, PyTorch's build has no oneDNN."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"neon": True, "bf16": True})
    for there in (True, False):
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda there=there: there)
        auto = small_run("convnet", precision="auto")
        expected = "bfloat16" if there else "float32"
        assert choose_computation(auto, "cpu").precision == expected


def test_compiled_code_is_shared_by_runs_alike(monkeypatch, tmp_path):
    """Apart by threads and instruction set, which stand in the code; where a person says, there."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folders = []
    for threads in (1, 1, 2):
        monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
        share_compiled_code(threads)
        folders.append(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    assert folders[0] == folders[1] != folders[2]
    assert folders[0].startswith(str(tmp_path))
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "OTHER")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    share_compiled_code(1)
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] not in folders
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "kept")
    share_compiled_code(1)
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "kept"


def test_how_it_was_computed_is_recorded():
    facts = describe(choose_computation(small_run(precision="bfloat16"), "cpu"))
    assert facts["precision"] == "bfloat16" and facts["memory_format"] == "channels_last"
    assert facts["compiled"] is False and facts["cuda_graphs"] is False
    assert {"precision", "memory_format", "compiled", "cuda_graphs"} <= set(EXACT) <= set(facts)


def test_only_the_gpu_has_graphs_and_only_the_cpu_dense_products():
    computation = choose_computation(small_run(), "cpu")
    assert computation.dense_products and not computation.graphed
