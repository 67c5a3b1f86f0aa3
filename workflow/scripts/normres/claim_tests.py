"""Verdicts: whether data support a test, refute it, or leave it undecided.

A comparison is supported where the 95 % interval of its value lies inside what it claims, refuted
where it lies outside, undecided where it straddles; an equivalence is supported by two one-sided
tests (TOST), so where the 90 % interval lies inside the margins. What is exact needs no interval.

Where runs diverged, those that are left are no fair sample of all: they decide nothing. A run that
failed, as for want of memory, is taken to be missing at random, and is only counted.

"and": supported where every part is, each at 95 %: all of their null hypotheses have to be
rejected, so no adjustment is due (intersection-union test, Berger 1982, Technometrics 24). Refuted
where any part is, by Holm (1979): of k parts, the first has to be refuted at a confidence of
1 - 0.05 / k, the next at 1 - 0.05 / (k - 1), and so on. What exact numbers decide is not counted
among the k. "or" is the mirror of that.
"""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from normres.claim_statistics import NONE_LOST, Tables, evaluate, lost_runs
from normres.claim_values import Interval, UnknownError, Value, add
from normres.expressions import Compare, Equivalent, Every, Inside, Node, Number, Test

ALPHA = 0.05
SUPPORTED, REFUTED, UNDECIDED = "supported", "refuted", "undecided"
COMPARE = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


@dataclass(frozen=True)
class Part:
    """One comparison of a test with its value, or why there is none.

    `low` and `high` bound the claimed region, as the value is given (logs undone); `holds` says
    whether a number lies in it. `lost`: how many of its runs diverged, and failed.
    """

    node: Compare | Inside | Equivalent
    value: Value | None
    reason: str
    low: float
    high: float
    holds: Callable[[float], bool]
    lost: Mapping[str, int] = field(default_factory=lambda: NONE_LOST)

    @property
    def exact(self) -> bool:
        return self.value is not None and self.value.exact

    def interval(self, confidence: float) -> Interval:
        """The value's interval, logs undone."""
        if self.value is None:
            return Interval(math.nan, math.nan, self.reason)
        found = self.value.interval(confidence)
        undo = math.exp if self.value.log else float
        return replace(found, low=undo(found.low), high=undo(found.high))

    def estimate(self) -> float:
        """The value, logs undone; there has to be one."""
        number = self.value.estimate()
        return math.exp(number) if self.value.log else number

    def supported(self, alpha: float = ALPHA) -> bool:
        """Whether the interval lies inside the claimed region; not where runs diverged."""
        two_sided = 2 * alpha if isinstance(self.node, Equivalent) else alpha
        found = self.interval(1 - two_sided)
        inside = self.holds(found.low) and self.holds(found.high)  # no NaN, of none known, holds
        return inside and not self.lost["diverged"]

    def refuted(self, alpha: float = ALPHA) -> bool:
        """Whether the interval lies outside the claimed region; not where runs diverged."""
        found = self.interval(1 - alpha)
        outside = found.high < self.low or found.low > self.high
        at_edge = found.low == found.high and not self.holds(found.low)
        return (outside or at_edge) and not self.lost["diverged"]


@dataclass(frozen=True)
class Group:
    """Parts joined by "and" (`every`) or "or"."""

    every: bool
    parts: tuple["Part | Group", ...]

    @property
    def exact(self) -> bool:
        """Whether exact numbers alone decide it: one part of an "or" may, or one of an "and"."""
        settled = [part for part in self.parts if part.exact]
        if self.every:
            decided = any(part.refuted() for part in settled)
        else:
            decided = any(part.supported() for part in settled)
        return decided or len(settled) == len(self.parts)

    def supported(self, alpha: float = ALPHA) -> bool:
        if self.every:
            return all(part.supported(alpha) for part in self.parts)
        return any(part.supported(self.share(part, alpha)) for part in self.parts)

    def refuted(self, alpha: float = ALPHA) -> bool:
        if not self.every:
            return all(part.refuted(alpha) for part in self.parts)
        return any(part.refuted(self.share(part, alpha)) for part in self.parts)

    def share(self, part: "Part | Group", alpha: float) -> float:
        """Holm's first step: alpha over the number of parts that may err."""
        return alpha if part.exact else alpha / sum(not each.exact for each in self.parts)


def weigh(test: Test, tables: Tables) -> Part | Group:
    """A test with its values; raises NotHereError where the study cannot answer it."""
    if isinstance(test, Compare | Inside | Equivalent):
        return _part(test, tables)
    return Group(isinstance(test, Every), tuple(weigh(part, tables) for part in test.parts))


def _part(node: Compare | Inside | Equivalent, tables: Tables) -> Part:
    try:
        value, reason = _value(node, tables), ""
    except UnknownError as error:
        value, reason = None, str(error)
    lost = lost_runs(node, tables)
    if isinstance(node, Inside):
        low, high = (evaluate(end, tables).constant for end in (node.low, node.high))
    elif isinstance(node, Equivalent):
        high = evaluate(node.margin, tables).constant
        low = -high
    else:
        bound = _bound(node)
        low, high = (bound, math.inf) if node.operator in (">", ">=") else (-math.inf, bound)
        compare = COMPARE[node.operator]
        return Part(node, value, reason, low, high, lambda number: compare(number, bound), lost)
    return Part(node, value, reason, low, high, lambda number: low <= number <= high, lost)


def _value(node: Compare | Inside | Equivalent, tables: Tables) -> Value:
    """What is compared: the left side where the other is a number, else left minus right."""
    if isinstance(node, Inside):
        return evaluate(node.value, tables)
    left, right = evaluate(node.left, tables), evaluate(node.right, tables)
    if isinstance(node, Compare) and isinstance(node.right, Number):
        return left
    if left.log or right.log:
        raise UnknownError(
            "a product or ratio stands on the left of <, <=, > or >=, with a number on the right, "
            "or of `in [low, high]`"
        )
    return add(left, right, -1.0)


def _bound(node: Compare) -> float:
    return node.right.value if isinstance(node.right, Number) else 0.0


def verdict(weighed: Part | Group) -> str:
    """Supported, refuted or undecided."""
    if weighed.supported():
        return SUPPORTED
    return REFUTED if weighed.refuted() else UNDECIDED


def holm_refuted(parts: Sequence[Part | Group]) -> set[int]:
    """The numbers of those of the parts of an "and" that are refuted, by all steps of Holm."""
    found: set[int] = {i for i, part in enumerate(parts) if part.exact and part.refuted()}
    open_parts = [i for i, part in enumerate(parts) if not part.exact]
    while open_parts:
        now = [i for i in open_parts if parts[i].refuted(ALPHA / len(open_parts))]
        if not now:
            break
        found.update(now)
        open_parts = [i for i in open_parts if i not in now]
    return found


def holds_for_estimates(test: Node, tables: Tables) -> bool:
    """Whether a test holds for the estimates, whatever their intervals; not for unknown ones."""

    def holds(weighed: Part | Group) -> bool:
        if isinstance(weighed, Part):
            return weighed.value is not None and weighed.holds(weighed.estimate())
        return (all if weighed.every else any)(holds(part) for part in weighed.parts)

    return holds(weigh(test, tables))
