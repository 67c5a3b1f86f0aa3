"""Words for quantities that several commands tell a person."""

from collections.abc import Mapping
from typing import Any


def duration(seconds: float) -> str:
    """Words for a time: "42 s", "3 min 20 s", "2 h 5 min"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def lost_runs(row: Mapping[str, Any]) -> str:
    """How many runs of a configuration, a row of summary.csv, are in no mean, and why."""
    counts = [f"{row[status]} {status}" for status in ("diverged", "failed") if row[status]]
    return ", ".join(counts)
