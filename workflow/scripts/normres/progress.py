"""What a person sees while Snakemake works: jobs done, runs in training, time left, what failed.

The display listens to Snakemake's log records and reads the small file that each run keeps up to
date while it trains. On a terminal it redraws; elsewhere it prints a line every half minute.
"""

import atexit
import json
import logging
import os
import re
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from snakemake.logging import logger
from snakemake.settings.enums import Quietness
from snakemake.settings.types import ExecMode
from snakemake_interface_logger_plugins.common import LogEvent

from normres import endings
from normres.config import unasked_studies
from normres.estimates import progress_file
from normres.failures import said_at_last
from normres.gpus import gpu_trouble, mps_is_running
from normres.pipeline import RESULTS, Pipeline
from normres.time_left import Key, State, TimeLeft
from normres.timed import TIMINGS
from normres.wording import duration

LINE_SECONDS = 30  # between two lines where there is no terminal
LOG_LINES = 6  # of a failed job's log that are shown
STOPPING = "Will exit after finishing currently running jobs"  # Snakemake's answer to SIGTERM
INTERRUPTED = "Terminating processes on user request"  # to Ctrl-C, which its jobs are sent, too
# What a log ends with where a signal ended a job that had nothing to save: a command's own words
# (errors.py, failures.py), or Python's before it could say them.
CUT_OFF = ("interrupted", "KeyboardInterrupt", "killed by SIGTERM")
STARTS_AGAIN = "the next call starts it again"
WAITING = "waiting: "  # what a command says while others have what it needs (leases.py)
LOG_END = 1000  # bytes, with a log's last line in them
RUNS_SHOWN = 12  # of those in training; a cluster may train hundreds

TIMING = TIMINGS[0]  # says how far it is, as runs do

SLURM_LOGS = "slurm_logs"  # folder of what the jobs' own Snakemake prints: nothing about the run
SLURM_STATUS = re.compile(r"SLURM status is: '(\w+)'")


def attach_display(workflow, pipeline: Pipeline) -> "Display":
    """Make the display listen to the Snakemake process that reads this Snakefile.

    A job on a cluster runs a Snakemake of its own, which stays silent.
    """
    display = Display(workflow, pipeline)
    if workflow.exec_mode == ExecMode.DEFAULT:
        for handler in logger.handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stderr:
                handler.addFilter(lambda record: not display.replaces(record))
        logger.addHandler(display)
        if unasked := unasked_studies(workflow.overwrite_configfiles, pipeline.studies):
            display.say_unasked(unasked)
    return display


class Display(logging.Handler):
    """Jobs and runs of one call of Snakemake."""

    def __init__(self, workflow, pipeline: Pipeline):
        super().__init__()
        self.workflow = workflow
        self.pipeline = pipeline
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self.planned: dict[str, int] = {}  # rule -> jobs
        self.jobs: dict[int, Any] = {}  # id -> what Snakemake said of a job that has started
        self.done = self.total = 0
        self.to_train: set[Key] = set()
        self.to_time: set[Key] = set()  # rule and study of timings
        self.run_mb = pipeline.run_mb  # unless `--set-resources` says otherwise
        self.job_started: dict[int, float] = {}
        self.started = time.monotonic()
        self.time_left: TimeLeft | None = None
        self.stopping = False  # Snakemake starts no more jobs
        self.stop = threading.Event()
        self.thread: threading.Thread | None = None

    # What Snakemake says ------------------------------------------------------------------------

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._follow(record)
        except Exception:  # to Snakemake it would be an error of the job that the record is about
            self.handleError(record)

    def _follow(self, record: logging.LogRecord) -> None:
        event = getattr(record, "event", None)
        if event == LogEvent.RUN_INFO:
            self._plan(record.stats)
        elif event == LogEvent.JOB_INFO:
            self.jobs[record.jobid] = record
            self.job_started[record.jobid] = time.monotonic()
            # Forget how far an earlier attempt was; a dry run says JOB_INFO, too.
            if not self.workflow.dryrun:
                self._forget_progress(record)
        elif event == LogEvent.JOB_FINISHED:
            self._finish(record.job_id)
        elif event == LogEvent.JOB_ERROR:
            self._explain_failure(record)
        elif event == LogEvent.PROGRESS:
            self.done = record.done  # of all jobs: its total has those that `--until` leaves out
        elif record.getMessage().startswith(INTERRUPTED):
            self.stopping = True
        elif self.replaces(record) and (
            record.levelno >= logging.WARNING or record.getMessage().startswith(STOPPING)
        ):
            self._repeat(record)

    def _repeat(self, record: logging.LogRecord) -> None:
        """Say what Snakemake would have said, but for what JOB_ERROR has told already."""
        message = record.getMessage()
        if message.startswith(STOPPING):
            if self.stopping:
                return
            self.stopping = True
        if getattr(record, "exception", None) != "RuleException":
            self.say(message)

    def say(self, message: str, style: str = "") -> None:
        """Print a message. Where nobody reads any more, as after `| head`, the work goes on."""
        try:
            self.console.print(Text(message, style=style))
        except (OSError, SystemExit):  # rich ends the process where a pipe is closed
            self.console.quiet = True

    def active(self) -> bool:
        """Whether jobs are run and nobody asked for Snakemake's own messages."""
        output = self.workflow.output_settings
        asked_for_more = self.workflow.dryrun or output.verbose or output.printshellcmds
        return not asked_for_more

    def told(self) -> bool:
        """Whether progress is to be shown; under `--quiet` not even the end of a job is told."""
        quiet = set(self.workflow.output_settings.quiet or ())
        return not quiet & {Quietness.PROGRESS, Quietness.ALL}

    def replaces(self, record: logging.LogRecord) -> bool:
        """Whether the display says what this message of Snakemake's would say."""
        overview = getattr(record, "event", None) in (LogEvent.RUN_INFO, LogEvent.RESOURCES_INFO)
        return self.active() and (overview or bool(self.planned))

    def _plan(self, stats: dict[str, int]) -> None:
        if self.planned or self.time_left:  # a dry run says it twice
            return
        for job in self.workflow.dag.needrun_jobs():
            if job.rule.name == "train":
                if not self.to_train:
                    self.run_mb = job.resources.get("mem_mb", self.run_mb)
                self.to_train.add((job.wildcards.study, job.wildcards.run))
            elif job.rule.name in TIMINGS:
                self.to_time.add((job.rule.name, job.wildcards.study))
        self.planned = {rule: count for rule, count in stats.items() if rule != "total"}
        self.total = sum(self.planned.values())
        if self.workflow.dryrun:
            self.estimate()  # here: at the end Snakemake has left the folder of --directory
            atexit.register(self.say, f"Dry run: {self.describe_plan()}.", "bold")

    def _finish(self, job_id: int) -> None:
        job, started = self.jobs.pop(job_id, None), self.job_started.pop(job_id, None)
        if job is None:
            return
        self._forget_progress(job)
        if self.time_left is None:  # nobody asked for the display
            return
        if job.rule_name == "train":
            self.time_left.end_run((job.wildcards["study"], job.wildcards["run"]))
        elif job.rule_name in TIMINGS:
            self.time_left.end_timing(job.rule_name, job.wildcards["study"])
        elif started is not None:
            self.time_left.end_job(time.monotonic() - started)

    def _forget_progress(self, job: logging.LogRecord) -> None:
        if job.rule_name == "train":
            progress_file(job.wildcards["study"], job.wildcards["run"]).unlink(missing_ok=True)
        elif job.rule_name == TIMING:
            progress_file(job.wildcards["study"], TIMING).unlink(missing_ok=True)

    def _explain_failure(self, record: logging.LogRecord) -> None:
        job = self.jobs.pop(record.jobid, None)
        what = job.rule_msg if job is not None and job.rule_msg else record.rule_name
        logs = [Path(path) for path in record.log or []]
        own = [path for path in logs if SLURM_LOGS not in path.parts and path.exists()]
        texts = [path.read_text(encoding="utf-8", errors="replace") for path in own]
        lines = [line for text in texts for line in text.splitlines()]
        reason = said_at_last(lines) or "no log"
        status = SLURM_STATUS.search(record.rule_msg or "")
        if status:  # FAILED says no more than the log; NODE_FAIL, TIMEOUT or CANCELLED do
            reason = reason if status[1] == "FAILED" else f"SLURM says {status[1]}"
            lines.append(f"SLURM says {status[1]}")
        if reason == "stopped by SIGINT" or (self.stopping and reason.startswith("stopped by")):
            saved = any(line.startswith("saved ") for line in lines)
            then = "its state is saved, the next call goes on"
            self.say(f"Stopped: {what}; {then if saved else STARTS_AGAIN}")
            return
        if record.rule_name == "train" and reason.startswith("wrote "):  # ended while stopped
            self.say(f"Stopped: {what}; its result is kept, the next call takes it")
            return
        if self.stopping and reason in CUT_OFF:
            self.say(f"Stopped: {what}; {STARTS_AGAIN}")
            return
        if not self.stopping and self._is_tried_again(record.jobid):
            self.say(f"Ended without a result, is tried again: {what}: {reason}")
            return
        self.say(f"Failed: {what}", style="bold")
        for line in lines[-LOG_LINES:]:
            self.say(f"  {line}")
        for path in logs:
            self.say(f"  log: {path}")

    def _is_tried_again(self, job_id: int) -> bool:
        dag = self.workflow.dag
        failed = (job for job in dag.needrun_jobs() if dag.jobid(job) == job_id)
        return any(job.restart_times >= job.attempt for job in failed)

    # What a person sees -------------------------------------------------------------------------

    def start(self) -> None:
        """Called when the jobs start."""
        if not (self.active() and self.told()):
            return
        self.started = time.monotonic()
        self.estimate()
        self.say(self.describe_plan())
        self.thread = threading.Thread(target=self._show, daemon=True)
        self.thread.start()

    def finish(self) -> None:
        """Called when all jobs have succeeded: the last line says where the results are.

        What was recorded as failed is named, and the call exits with 1, whatever it asked for.
        """
        self._end()
        for job in self.jobs.values():  # whose end was not told
            self._forget_progress(job)
        dag, studies = self.workflow.dag, self.pipeline.studies
        asked = endings.outputs(dag)
        for line in endings.verdicts(asked, studies):
            self.say(line)
        failed = endings.new_failures(self.pipeline)
        for line in [*endings.places(asked, dag, studies), *failed]:
            self.say(line, style="bold")
        if failed:
            sys.exit(1)

    def fail(self, log: list[str] | str) -> None:
        """Called when a job has failed; each failed job was named when it failed."""
        self._end()
        reports = [RESULTS / study / "report.html" for study in self.pipeline.studies]
        if there := [str(path) for path in reports if path.exists()]:
            self.say(f"Report of what is there: {', '.join(there)}")
        logs = log if isinstance(log, str) else ", ".join(log)
        self.say(f"Not complete; Snakemake's log: {logs}", style="bold")

    def _end(self) -> None:
        self.stop.set()
        if self.thread is not None:
            self.thread.join()

    def say_unasked(self, studies: list[str]) -> None:
        """Say that a file given by --configfile defines studies, and others are made."""
        made = ", ".join(self.pipeline.studies)
        defined, ask = ", ".join(studies), f"--config study={studies[0]}"
        self.say(f"Made is {made}, not {defined} of --configfile: that takes {ask}")

    def estimate(self) -> None:
        """Estimate what is planned."""
        self.time_left = TimeLeft(
            self.workflow, self.pipeline, self.to_train, self.to_time, self.run_mb
        )

    def describe_plan(self) -> str:
        """In words, what Snakemake is about to do and about how long it takes."""
        other = _count(sum(self.planned.values()) - len(self.to_train), "other job")
        left = duration(self.time_left.seconds(self.total - self.done))
        linked = self.time_left.linked
        trained = len(self.to_train) - linked
        if linked:
            other = f"{linked} to take from the store, {other}"
        if not trained:
            return f"no run to train, {other}: about {left}"
        places = self.time_left.places
        if places.on_cluster:
            where = f"with {_count(places.together, 'run')} at a time, without waiting in the queue"
        elif places.device == "cuda":
            where = f"with {_count(places.together, 'run')} at a time"
            if places.sharing > 1 and not mps_is_running():
                where += " that take turns on a GPU, since NVIDIA's MPS does not run"
        else:
            where = f"on {_count(places.runs, 'core')}"
            if self.time_left.memory_binds:
                where += f", {_count(places.fitting, 'run')} at a time"
            if self.pipeline.gpus_looked_for and (trouble := gpu_trouble()):
                where += f", since {trouble}"
        if self.time_left.memory_binds:
            where += ", since memory is free for no more"
        return (
            f"{_count(trained, 'run')} to train, {other}: "
            f"about {left} {where} ({self.time_left.estimates.source})"
        )

    def _show(self) -> None:
        if self.console.is_terminal:
            with (
                suppress(OSError),  # the terminal is gone
                Live(console=self.console, refresh_per_second=4, transient=True) as live,
            ):
                while not self.stop.wait(0.5):
                    live.update(self._picture())
        else:
            while not self.stop.wait(LINE_SECONDS):
                self.say(self._line())

    def _picture(self) -> Group:
        states = self._training()
        head = Table.grid(padding=(0, 2))
        head.add_row(
            f"{self.done} of {self.total} jobs",
            ProgressBar(total=max(self.total, 1), completed=self.done, width=40),
            f"{duration(time.monotonic() - self.started)}, about {self._left(states)} left",
        )
        runs = Table.grid(padding=(0, 2))
        for study, run, state in states[:RUNS_SHOWN]:
            runs.add_row(
                Text(f"  {study}/{run}"),
                f"epoch {state['epoch']}/{state['epochs']}",
                f"loss {_number(state['train_loss'], '.3f')}",
                f"accuracy {_number(state['test_accuracy'], '.1%')}",
                _left_of_run(state["seconds_left"]),
            )
        if more := _more(states):
            runs.add_row(f"  {more}")
        if waiting := self._waiting(states):
            runs.add_row(Text(f"  {_count(waiting, 'run')} in the queue (squeue --me)"))
        for job in list(self.jobs.values()):
            waits = waited_for(job)
            if job.rule_name != "train" or waits:
                left = _left_of_run(timing_left(job))
                runs.add_row(Text(f"  {job.rule_msg or job.rule_name}"), waits or left)
        return Group(head, runs)

    def _line(self) -> str:
        states = self._training()
        shown = [
            f"{run} epoch {state['epoch']}/{state['epochs']}, "
            f"loss {_number(state['train_loss'], '.3f')}, "
            f"accuracy {_number(state['test_accuracy'], '.1%')}"
            for _, run, state in states[:RUNS_SHOWN]
        ]
        shown += [
            f"{job.rule_msg}, {_left_of_run(left)}"
            for job in list(self.jobs.values())
            if (left := timing_left(job)) is not None
        ]
        shown += [
            f"{job.rule_msg} is {waits}"
            for job in list(self.jobs.values())
            if (waits := waited_for(job))
        ]
        head = f"{self.done} of {self.total} jobs, about {self._left(states)} left"
        if waiting := self._waiting(states):
            head += f"; {_count(waiting, 'run')} in the queue"
        return "; ".join([head, *shown, *filter(None, [_more(states)])])

    def _waiting(self, states: list[State]) -> int:
        """Runs that were submitted to a cluster and have not begun to train."""
        submitted = sum(job.rule_name == "train" for job in list(self.jobs.values()))
        return submitted - len(states) if self.time_left.places.on_cluster else 0

    def _left(self, states: list[State]) -> str:
        """Time until all is done."""
        said = {
            (TIMING, job.wildcards["study"]): left
            for job in list(self.jobs.values())
            if (left := timing_left(job)) is not None
        }
        return duration(self.time_left.seconds(self.total - self.done, states, said))

    def _training(self) -> list[State]:
        states = []
        for job in list(self.jobs.values()):
            if job.rule_name == "train":
                study, run = job.wildcards["study"], job.wildcards["run"]
                try:
                    state = json.loads(progress_file(study, run).read_text(encoding="utf-8"))
                except (OSError, ValueError):  # it has not begun to train, or the file was edited
                    continue
                states.append((study, run, state))
        return states


def timing_left(job: logging.LogRecord) -> float | None:
    """Seconds until a timing ends; None for other jobs, and before it can be told."""
    if job.rule_name != TIMING:
        return None
    try:
        path = progress_file(job.wildcards["study"], TIMING)
        return json.loads(path.read_text(encoding="utf-8"))["seconds_left"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def waited_for(job: logging.LogRecord) -> str:
    """What a job waits for, in its own words, where its log ends with them: "waiting: ..."."""
    if job.rule_name not in ("train", *TIMINGS):
        return ""
    try:
        with open(job.log[0], "rb") as log:  # its end alone: this is looked at twice a second
            log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_END))
            text = log.read().decode("utf-8", errors="replace")
    except (OSError, IndexError, TypeError, AttributeError):  # none yet
        return ""
    last = text.rstrip().rpartition("\n")[2]
    return last if last.startswith(WAITING) else ""


def _more(states: list[Any]) -> str:
    more = len(states) - RUNS_SHOWN
    return f"and {more} more in training" if more > 0 else ""


def _left_of_run(seconds: float | None) -> str:
    return "" if seconds is None else f"{duration(seconds)} left"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
