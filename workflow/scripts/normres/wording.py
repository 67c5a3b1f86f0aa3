"""Words for quantities that several commands tell a person."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

EQUAL = "all equal"  # stands where an interval over seeds would
MINUS = "\N{MINUS SIGN}"
LOST = ("diverged", "failed")  # how runs end that are in no mean
CALL = "snakemake --cores all"  # of a study, without its choice and that of configuration files


def duration(seconds: float) -> str:
    """Words for a time: "42 s", "3 min 20 s", "2 h 5 min"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def listed(parts: Sequence[str]) -> str:
    """Words in a row: "a, b and c"."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)


def study_call(call: str, study: str) -> str:
    """The call of Snakemake that makes one study; `call` is without the choice of a study."""
    return f"{call}{'' if ' --config ' in call else ' --config'} study={study}"


def interval_words(low: float, high: float, n: int, digits: int) -> str:
    """The interval of a mean of n runs, after the mean: " [91.20, 92.40]".

    Empty for n < 2. Equal runs have none, as their spread is not known: " [all equal]".
    """
    return _interval(low, high, n, f"{{:.{digits}f}}")


def estimate_text(mean: float, low: float, high: float, n: int, form: str = "{:.1f}") -> str:
    """A mean of n runs with its interval (see `interval_words`): "91.8 [91.2, 92.4]"."""
    return number_words(mean, form) + _interval(low, high, n, form)


def _interval(low: float, high: float, n: int, form: str) -> str:
    if n < 2:
        return ""
    if math.isnan(low):
        return f" [{EQUAL}]"
    return f" [{number_words(low, form)}, {number_words(high, form)}]"


def number_words(number: float, form: str) -> str:
    """A number as text, with a true minus sign, and with none where it rounds to 0."""
    text = form.format(number)
    if not text.strip("-0."):
        return text.lstrip("-")
    return MINUS + text[1:] if text.startswith("-") else text


def lost_runs(row: Mapping[str, Any]) -> str:
    """How many runs of a configuration, a row of summary.csv, are in no mean, and why."""
    counts = [f"{row[status]} {status}" for status in LOST if row[status]]
    return ", ".join(counts)
