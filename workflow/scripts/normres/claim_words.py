"""The evidence for a verdict in words: what was measured, with n and interval, what was claimed."""

import math
from collections.abc import Sequence

from normres.claim_tests import (
    ALPHA,
    REFUTED,
    SUPPORTED,
    UNDECIDED,
    Group,
    Part,
    holm_refuted,
)
from normres.claims import resolve_epoch
from normres.expressions import (
    FUNCTIONS,
    STATISTICS,
    Binary,
    Call,
    Compare,
    Equivalent,
    Inside,
    Measured,
    Node,
    Number,
    measured,
    open_axis,
)
from normres.wording import lost_runs

MOST_PARTS = 4
JOINED = {"+": "plus", "-": "minus", "*": "times", "/": "over"}
COMPARED = {"<": "below", "<=": "at most", ">": "above", ">=": "at least"}
MARKS = {SUPPORTED: "holds", REFUTED: "does not hold", UNDECIDED: "open"}
SURVIVORS = "open, since runs diverged"


def number_words(number: float) -> str:
    """A number to four digits: 92.31, 0.08719, 28,144,010."""
    if number == int(number) and abs(number) < 1e12:
        return f"{int(number):,}"
    return f"{number:.4g}"


def quantity_words(node: Node, last: int) -> str:
    """A quantity in words; `last` is the study's last epoch."""
    if isinstance(node, Number):
        return number_words(node.value)
    if isinstance(node, Measured):
        return f"{_statistic_words(node, last)} of {_configuration_words(node)}"
    if isinstance(node, Call):
        words = [quantity_words(argument, last) for argument in node.arguments]
        axis = open_axis(node) if node.function == "trend" else ""
        return FUNCTIONS[node.function][1].format(*words, axis=axis)
    left, right = node.left, node.right
    alike = isinstance(left, Measured) and isinstance(right, Measured)
    if alike and _statistic_words(left, last) == _statistic_words(right, last):
        second = _configuration_words(right)
        return f"{quantity_words(left, last)} {JOINED[node.operator]} {second}"
    sides = [
        f"({words})" if isinstance(side, Binary) and node.operator in "*/" else words
        for side in (left, right)
        for words in [quantity_words(side, last)]
    ]
    if isinstance(right, Binary) and node.operator == "-":
        sides[1] = f"({sides[1]})"
    return f"{sides[0]} {JOINED[node.operator]} {sides[1]}"


def _statistic_words(part: Measured, last: int) -> str:
    words = STATISTICS[part.statistic].words
    if part.first is None:
        return words
    first, final = (resolve_epoch(epoch, last) for epoch in (part.first, part.final))
    if first == final:
        return f"{words} at epoch {first}" if first else f"{words} before training"
    return f"{words} over epochs {first} to {final}"


def _configuration_words(part: Measured) -> str:
    axes = [f"{axis}={value}" for axis, value in part.axes if value != "*"]
    return "/".join([part.model, part.norm, *axes])


def value_words(part: Part, confidence: float) -> str:
    """A part's value with unit, interval, n and what was lost of it; or why there is none."""
    lost = f"; {lost_runs(part.lost)}" if any(part.lost.values()) else ""
    if part.value is None:
        return f"not known ({part.reason}{lost})"
    unit = _unit(part)
    if part.exact:
        return f"{_beside_border(part.estimate(), part)}{unit} (exact{lost})"
    estimate = number_words(part.estimate())
    found = part.interval(confidence)
    counts = count_words(part.value.runs, "n = {}", part.value.timings)
    if found.reason:
        return f"{estimate}{unit} ({counts}, no interval: {found.reason}{lost})"
    low, high = (_beside_border(end, part) for end in (found.low, found.high))
    interval = f"[{low}, {high}]"
    rests_on = f", {found.rests_on}" if found.rests_on else ""
    return f"{estimate}{unit} {interval} ({counts}{rests_on}{lost})"


def _beside_border(number: float, part: Part) -> str:
    """A number in words, which rounding does not put on the border of what is claimed."""
    borders = [border for border in (part.low, part.high) if math.isfinite(border)]
    if number not in borders and number_words(number) in map(number_words, borders):
        return next(
            text
            for text in (f"{number:.{digits}g}" for digits in range(5, 18))
            if float(text) not in borders
        )
    return number_words(number)


def count_words(runs: Sequence[int], form: str, timings: Sequence[int] = ()) -> str:
    """Numbers of runs and of repeats: "n = 5", "n = 4 to 5", "10 repeats"."""
    words = []
    for numbers, text in ((runs, form), (timings, "{} repeats")):
        if numbers:
            least, most = min(numbers), max(numbers)
            words.append(text.format(least if least == most else f"{least} to {most}"))
    return ", ".join(words)


def _unit(part: Part) -> str:
    """The unit of a value: that of its statistics, or points for differences of percentages."""
    nodes = [n for n in part.node.walk() if isinstance(n, Binary | Call)]
    units = {STATISTICS[m.statistic].unit for m in measured(part.node)}
    if len(units) != 1 or any(isinstance(n, Call) and n.function != "paired" for n in nodes):
        return ""
    if any(isinstance(n, Binary) and n.operator in "*/" for n in nodes):
        return ""
    (unit,) = units
    different = len(measured(part.node)) > 1
    return {"": "", "%": " points" if different else " %"}.get(unit, f" {unit}")


def claimed_words(part: Part) -> str:
    """What a part claims of its value: "above 0", "91.5 to 93.5", "between -1 and 1"."""
    node = part.node
    if isinstance(node, Inside):
        return f"{_border_words(part.low)} to {_border_words(part.high)}"
    if isinstance(node, Equivalent):
        return f"between -{_border_words(part.high)} and {_border_words(part.high)}"
    bound = part.low if math.isfinite(part.low) else part.high
    return f"{COMPARED[node.operator]} {_border_words(bound)}"


def _border_words(border: float) -> str:
    """A border as the claim has it: rounded, as values are, it could pass the value beside it."""
    return f"{border:.12g}" if border != int(border) else number_words(border)


def part_words(part: Part, last: int, refuted: bool, alpha: float = ALPHA) -> str:
    """A part in words: quantity, value, claim, and whether it holds at level `alpha`."""
    node = part.node
    if isinstance(node, Compare | Equivalent):
        alone = isinstance(node.right, Number) and (
            isinstance(node, Compare) or node.right.value == 0
        )
        quantity = node.left if alone else Binary(node.position, "-", node.left, node.right)
    else:
        quantity = node.value
    equivalence = isinstance(node, Equivalent) and not refuted
    confidence = 1 - 2 * alpha if equivalence else 1 - alpha
    unusual = confidence != 1 - ALPHA and part.value and not part.exact
    level = f", {100 * confidence:.4g} % interval" if unusual else ""
    mark = MARKS[SUPPORTED if part.supported(alpha) else REFUTED if refuted else UNDECIDED]
    mark = SURVIVORS if part.lost["diverged"] else mark
    value = value_words(part, confidence)
    words = quantity_words(quantity, last)
    return f"{words}: {value}{level}, claimed {claimed_words(part)}: {mark}"


def evidence(weighed: Part | Group, last: int) -> str:
    """The parts of a test in words, those that decide first, set off by semicolons."""
    joint = isinstance(weighed, Group) and weighed.every
    members = weighed.parts if joint else (weighed,)
    refuted = holm_refuted(members)
    order = sorted(range(len(members)), key=lambda i: (i not in refuted, members[i].supported()))
    told = [_member_words(members[i], last, i in refuted) for i in order[:MOST_PARTS]]
    told = list(dict.fromkeys(told))
    rest = order[MOST_PARTS:]
    if rest:
        held = sum(members[i].supported() for i in rest)
        told.append(f"and {len(rest)} more, of which {held} {'holds' if held == 1 else 'hold'}")
    return "; ".join(told)


def _member_words(member: Part | Group, last: int, refuted: bool, alpha: float = ALPHA) -> str:
    """A part in words; of several joined by "or" the one that holds, or else all."""
    if isinstance(member, Part):
        return part_words(member, last, refuted, ALPHA if refuted else alpha)
    levels = [alpha if member.every else member.share(part, alpha) for part in member.parts]
    parts = list(zip(member.parts, levels, strict=True))
    if not member.every:
        held = [(part, level) for part, level in parts if part.supported(level)]
        if held:
            part, level = min(held, key=lambda one: not one[0].exact)
            return _member_words(part, last, False, level)
    joined = " and " if member.every else " or "
    return joined.join(_member_words(part, last, part.refuted(), level) for part, level in parts)
