"""What becomes of a run that ended without a result: another attempt, or a recorded failure."""

import json
import signal

import numpy as np
import pytest

import record_failure
from conftest import read_record, small_run
from normres.errors import BAD_INPUT, INTERRUPTED, NO_DEVICE, STOPPED, KilledError
from normres.failures import noted_attempt, said_at_last
from normres.grid import RUN_FILES
from normres.store import StoredRun, run_key

PLAN = {"specification": small_run(), "fingerprint": "0" * 16}


@pytest.fixture
def record(tmp_path, digits_folder):
    """Call the command; returns its exit code."""

    def call(code, attempt, attempts=3, log="Traceback\nRuntimeError: cuDNN error\n\n"):
        if log is not None:
            (tmp_path / "log").write_text(log)
        return record_failure.main(
            [
                *["--code", str(code), "--attempt", str(attempt), "--attempts", str(attempts)],
                *["--run", json.dumps(PLAN), "--log", str(tmp_path / "log")],
                *["--out", str(tmp_path / "run"), "--failures", str(tmp_path / "x" / "failures")],
                *["--data", str(digits_folder), "--store", str(tmp_path / "store")],
                *["--begun", str(tmp_path / "begun")],
            ]
        )

    return call


def test_the_last_attempt_is_not_made_where_the_one_before_was_killed(tmp_path):
    begun = tmp_path / "logs" / "run.begun"

    def make(number, kill=False):
        """Whether the attempt was made."""
        with noted_attempt(begun, number, 3):
            assert begun.read_text() == str(number)
            left = begun.read_text()
        if kill:
            begun.write_text(left)

    make(1)
    assert not begun.exists()
    make(2, kill=True)
    with pytest.raises(KilledError, match=r"killed in attempt 2; was there enough memory\?"):
        make(3)
    make(3)  # of the next call, after two that ended by themselves
    make(3, kill=True)
    make(3)  # begun again by the scheduler
    make(1, kill=True)
    make(2)
    with pytest.raises(ZeroDivisionError), noted_attempt(begun, 3, 3):
        raise ZeroDivisionError
    assert not begun.exists()


@pytest.mark.parametrize("code", [1, NO_DEVICE, STOPPED, 128 + signal.SIGKILL])
def test_before_the_last_attempt_the_code_is_passed_on(record, tmp_path, capsys, code):
    (tmp_path / "begun").touch()
    assert record(code, attempt=1) == code
    said = "killed by SIGKILL; was there enough memory?\n" if code > 128 else ""
    assert capsys.readouterr().out == said  # else the log has said it
    assert (tmp_path / "begun").exists() == (code > 128)
    assert record(code, attempt=2) == code
    assert not (tmp_path / "run").exists() and not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "code, reason",
    [
        (1, "RuntimeError: cuDNN error"),
        (NO_DEVICE, "RuntimeError: cuDNN error"),
        (128 + signal.SIGKILL, "killed by SIGKILL; was there enough memory?"),
        (128 + signal.SIGSEGV, "killed by SIGSEGV"),
    ],
)
def test_after_the_last_attempt_the_failure_is_recorded(record, tmp_path, capsys, code, reason):
    for count in (1, 2):
        assert record(code, attempt=3) == 0
        assert (tmp_path / "x" / "failures").read_text().count("\n") == count
    run = read_record(tmp_path / "run")
    assert run["status"] == "failed" and run["reason"] == reason
    assert run["specification"] == PLAN["specification"]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == sorted(RUN_FILES)
    assert np.load(tmp_path / "run" / "test_logits.npy").size == 0
    assert "attempt 3 of 3" in capsys.readouterr().out


TRACEBACK = """epoch 1
Traceback (most recent call last):
  File "attempt.py", line 3, in f
    raise ValueError
ValueError: first
During handling of the above exception, another exception occurred:
Traceback (most recent call last):
  File "attempt.py", line 4, in f
torch.AcceleratorError: CUDA error: an illegal memory access was encountered
CUDA kernel errors might be asynchronously reported at some other API call.
For debugging consider passing CUDA_LAUNCH_BLOCKING=1

"""


def test_of_a_traceback_the_exception_is_the_reason(record, tmp_path):
    """What torch adds to it is the same for all of its errors."""
    assert record(1, attempt=3, log=TRACEBACK) == 0
    reason = "torch.AcceleratorError: CUDA error: an illegal memory access was encountered"
    assert read_record(tmp_path / "run")["reason"] == reason
    assert said_at_last([*TRACEBACK.splitlines(), "error: plain"]) == "error: plain"
    stopped = [*TRACEBACK.splitlines(), "saved epoch 3", "stopped by SIGTERM"]  # it was caught
    assert said_at_last(stopped) == "stopped by SIGTERM"
    other = TRACEBACK.replace("torch.AcceleratorError", "torch._dynamo.exc.Unsupported")
    assert said_at_last(other.splitlines()).startswith("torch._dynamo.exc.Unsupported: CUDA")
    assert said_at_last(["Traceback (most recent call last):", "  cut"]) == "  cut"
    assert said_at_last(["  ", ""]) == ""
    killed = ["Traceback (most recent call last):", "  at", "Warning: x", "killed by SIGKILL"]
    assert said_at_last(killed) == "killed by SIGKILL"


def test_bad_input_is_recorded_at_once(record, tmp_path):
    assert record(BAD_INPUT, attempt=1, log="error: --depth: too deep\n") == 0
    assert read_record(tmp_path / "run")["reason"] == "--depth: too deep"


def test_an_interruption_by_a_person_is_never_recorded(record, tmp_path, capsys):
    assert record(INTERRUPTED, attempt=3) == INTERRUPTED
    assert capsys.readouterr().out == ""  # the display looks for what train.py has said
    assert not (tmp_path / "run").exists()


def test_a_run_that_another_process_trains_by_now_has_not_failed(record, tmp_path, digits, capsys):
    key = run_key(PLAN["specification"], PLAN["fingerprint"], digits.checksum)
    with StoredRun(tmp_path / "store", key).locked(pytest.fail):
        assert record(1, attempt=3) == 1
    assert not (tmp_path / "run").exists() and not (tmp_path / "x").exists()
    assert "another process trains this run" in capsys.readouterr().out
    assert record(1, attempt=3) == 0


def test_without_a_log_the_code_is_said(record, tmp_path):
    assert record(200, attempt=3, log=None) == 0
    assert read_record(tmp_path / "run")["reason"] == "exit code 200"


def test_a_job_that_slurm_ends_has_not_failed(record, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert record(STOPPED, attempt=3, log="saved epoch 2\nstopped by SIGTERM\n") == STOPPED
    assert not (tmp_path / "x").exists()
    assert record(STOPPED, attempt=3, log="saved epoch 2\nstopped by SIGUSR1\n") == 0  # too long
    assert (tmp_path / "x" / "failures").read_text().count("\n") == 1
