"""Reads the tests of claims. They are never evaluated as Python.

    any        := all ("or" all)*
    all        := part ("and" part)*
    part       := comparison | "(" any ")"
    comparison := sum ("<" | "<=" | ">" | ">=") sum | sum "in" "[" sum "," sum "]"
                | sum "=" sum "within" sum
    sum        := product (("+" | "-") product)*
    product    := factor (("*" | "/") factor)*
    factor     := "-" factor | "(" sum ")" | number | margin | statistic | function
    function   := name "(" sum ("," sum)* ")"
    statistic  := name "(" configuration ["," epoch [".." epoch]] ")"
    epoch      := number | ("last" | "half") ["-" number]

The parts are those of expressions.py; what does not fit is an error with its position. Nothing here
imports torch or pandas, since Snakemake reads tests while it reads the Snakefile.
"""

import difflib
import re
from collections.abc import Callable, Mapping

from normres.errors import InputError
from normres.expressions import (
    CONSTANT,
    FUNCTIONS,
    SERIES,
    STATISTICS,
    Binary,
    Call,
    Compare,
    Epoch,
    Equivalent,
    Every,
    Inside,
    Measured,
    Node,
    Number,
    Some,
    Test,
    constant_value,
    is_series,
    measured,
)

LONGEST, DEEPEST, MOST_DIGITS = 2000, 24, 15  # characters; levels; digits of a number

SPACE = re.compile(r"\s*")
NUMERAL = re.compile(r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
CONFIGURATION = re.compile(r"[A-Za-z0-9_]+/[A-Za-z0-9_]+(?:/[A-Za-z0-9_]+=[A-Za-z0-9_.+*-]+)*")
EPOCH = re.compile(r"([0-9]{1,6}|last|half)(?:\s*-\s*([0-9]{1,6}))?")
WORDS = ("and", "or", "in", "within", "last", "half")


def parse(text: str, margins: Mapping[str, float]) -> Test:
    """Read a test; raises InputError that says where it goes wrong and what is allowed there."""
    if len(text) > LONGEST:
        raise InputError(f"a test of {len(text)} characters; the most is {LONGEST}")
    return _Parser(text, margins).test()


def parse_number(text: str, margins: Mapping[str, float]) -> Node:
    """Read a quantity, without a comparison; raises InputError like `parse`."""
    if len(text) > LONGEST:
        raise InputError(f"{len(text)} characters; the most is {LONGEST}")
    return _Parser(text, margins).quantity()


class _Parser:
    """A recursive descent over the text; what fails raises InputError with its position."""

    def __init__(self, text: str, margins: Mapping[str, float]):
        self.text = text
        self.margins = margins
        self.position = 0
        self.depth = 0

    def test(self) -> Test:
        result = self.any()
        if self.peek():
            self.fail("expected `and`, `or` or the end")
        return self.closed(result)

    def quantity(self) -> Node:
        result = self.number()
        if self.peek():
            self.fail("expected the end")
        if not _measures(result):
            self.fail("only constants; name a statistic", 0)
        return self.closed(result)

    def closed(self, result: Node) -> Node:
        """The result, if axes are open, and means taken, only where that has a meaning.

        The mean of runs as a fixed number has no interval: a verdict on it would look exact.
        """
        calls = [node for node in result.walk() if isinstance(node, Call)]
        ranged = [call for call in calls if call.function == "trend"]
        targets = [call.arguments[1] for call in calls if call.function == "epochs_to"]
        inside, reached = (
            {id(node) for part in parts for node in part.walk()} for parts in (ranged, targets)
        )
        for node in measured(result):
            if id(node) not in inside and any(value == "*" for _, value in node.axes):
                self.fail("an open axis (*) only stands inside trend(...)", node.position)
        for call in calls:
            if call.function == "mean" and id(call) not in reached:
                self.fail(
                    "mean(...) has no interval, so it is only what epochs_to(..., mean(...)) is to "
                    "reach; without it a statistic is compared by its mean over seeds",
                    call.position,
                )
        return result

    # ---- The text ----

    def fail(self, what: str, position: int | None = None) -> None:
        place = self.position if position is None else position
        near = self.text[place : place + 20].strip()
        found = f"at character {place + 1}, {near!r}" if near else "at the end"
        raise InputError(f"{found}: {what}")

    def peek(self) -> str:
        self.position = SPACE.match(self.text, self.position).end()
        return self.text[self.position : self.position + 1]

    def match(self, pattern: re.Pattern) -> re.Match | None:
        self.peek()
        found = pattern.match(self.text, self.position)
        if found:
            self.position = found.end()
        return found

    def accept(self, *tokens: str) -> str:
        """The first of `tokens` that stands here, taken; empty where none does."""
        self.peek()
        for token in tokens:
            end = self.position + len(token)
            word = token.isalpha() and (self.text[end : end + 1].isalnum())
            if self.text.startswith(token, self.position) and not word:
                self.position = end
                return token
        return ""

    def expect(self, token: str) -> None:
        if not self.accept(token):
            self.fail(f"expected {token!r}")

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > DEEPEST:
            self.fail(f"nested too deeply; the most is {DEEPEST} levels")

    # ---- Tests ----

    def any(self) -> Test:
        return self.joined("or", self.all, Some)

    def all(self) -> Test:
        return self.joined("and", self.part, Every)

    def joined(self, word: str, member: Callable[[], Test], kind: type) -> Test:
        self.deeper()
        self.peek()
        start, parts = self.position, [member()]
        while self.accept(word):
            parts.append(member())
        self.depth -= 1
        return parts[0] if len(parts) == 1 else kind(start, tuple(parts))

    def part(self) -> Test:
        """A comparison, or tests in parentheses; either may start with one."""
        in_parentheses = self.peek() == "("
        start, depth = self.position, self.depth
        try:
            return self.comparison()
        except InputError as error:
            reached = self.position
            if not in_parentheses:
                raise
            self.position, self.depth = start, depth
            first = error
        try:
            self.expect("(")
            result = self.any()
            self.expect(")")
            return result
        except InputError:
            if self.position > reached:
                raise
            raise first from None

    def comparison(self) -> Test:
        self.peek()
        start, left = self.position, self.number()
        if operator := self.accept("<=", ">=", "<", ">"):
            right = self.number()
            return self.measuring(Compare(start, operator, left, right))
        if self.accept("in"):
            self.expect("[")
            low = self.constant()
            self.expect(",")
            high = self.constant()
            self.expect("]")
            if constant_value(low) > constant_value(high):
                self.fail("the interval ends before it starts", low.position)
            return self.measuring(Inside(start, left, low, high))
        if self.accept("="):
            right = self.number()
            self.expect("within")
            margin = self.constant()
            if constant_value(margin) <= 0:
                self.fail("the margin of an equivalence is above 0", margin.position)
            return self.measuring(Equivalent(start, left, right, margin))
        return self.fail("expected <, <=, >, >=, `in [low, high]` or `= ... within margin`")

    def measuring(self, comparison: Test) -> Test:
        """The comparison, which must name a statistic."""
        if not _measures(comparison):
            self.fail("compares constants only; name a statistic", comparison.position)
        return comparison

    # ---- Numbers ----

    def number(self) -> Node:
        """A sum that is a number, not a series."""
        node = self.sum()
        if is_series(node):
            name = node.statistic
            self.fail(f"{name} needs an epoch here, such as `last` or 26..30", node.position)
        return node

    def constant(self) -> Node:
        self.peek()
        start, node = self.position, self.sum()
        if _measures(node):
            self.fail("expected a number or a margin, not a statistic", start)
        return node

    def sum(self) -> Node:
        return self.chain(("+", "-"), self.product)

    def product(self) -> Node:
        return self.chain(("*", "/"), self.factor)

    def chain(self, operators: tuple[str, ...], member: Callable[[], Node]) -> Node:
        depth = self.depth
        self.deeper()
        node = member()
        while operator := self.accept(*operators):
            right = member()
            for side in (node, right):
                if is_series(side):
                    self.fail(f"{side.statistic} needs an epoch here", side.position)
            if operator == "/" and not _measures(right) and constant_value(right) == 0:
                self.fail("division by 0", right.position)
            node = Binary(node.position, operator, node, right)
            if not _measures(node):
                node = Number(node.position, constant_value(node))
            self.deeper()  # a chain is as deep as it is long
        self.depth = depth
        return node

    def factor(self) -> Node:
        character, start = self.peek(), self.position
        if self.accept("-"):
            self.deeper()
            node = self.factor()
            self.depth -= 1
            if isinstance(node, Number):
                return Number(start, -node.value)
            return Binary(start, "*", Number(start, -1.0), node)
        if self.accept("("):
            node = self.sum()
            self.expect(")")
            return node
        if found := self.match(NUMERAL):
            if sum(c.isdigit() for c in found.group()) > MOST_DIGITS:
                self.fail(f"a number of more than {MOST_DIGITS} digits", start)
            value = float(found.group())
            if not abs(value) < 1e30:
                self.fail("too large a number", start)
            return Number(start, value)
        if (found := self.match(NAME)) and found.group() not in WORDS:
            return self.named(found.group(), start)
        self.position = start
        return self.fail(
            "expected a number, a margin, a statistic or a function"
            if character
            else "expected more"
        )

    def named(self, name: str, start: int) -> Node:
        called = self.peek() == "("
        if name in STATISTICS and called:
            return self.statistic(name, start)
        if name in FUNCTIONS and called:
            return self.call(name, start)
        if name in self.margins and not called:
            return Number(start, float(self.margins[name]), name)
        if called:
            return self.fail(_unknown(name, [*STATISTICS, *FUNCTIONS], "statistic"), start)
        if name in STATISTICS or name in FUNCTIONS:
            self.position = start + len(name)
            return self.fail(f"expected '(' after {name}")
        return self.fail(_unknown(name, list(self.margins), "margin"), start)

    def statistic(self, name: str, start: int) -> Measured:
        self.expect("(")
        self.peek()
        place, found = self.position, self.match(CONFIGURATION)
        if not found:
            self.fail("expected a configuration, such as resnet/batch or resnet/none/depth=9")
        model, norm, *rest = found.group().split("/")
        axes = tuple(tuple(part.split("=", 1)) for part in rest)
        if len({axis for axis, _ in axes}) < len(axes):
            self.fail("an axis is named twice", place)
        first = final = None
        if self.accept(","):
            if STATISTICS[name].table != "curves":
                self.fail(f"{name} has no epochs")
            first = final = self.epoch()
            if self.accept(".."):
                final = self.epoch()
                if (
                    isinstance(first.base, int)
                    and isinstance(final.base, int)
                    and final.base - final.minus <= first.base - first.minus
                ):
                    self.fail("a range of epochs ends after it starts", first.position)
        self.expect(")")
        return Measured(start, name, model, norm, axes, first, final)

    def epoch(self) -> Epoch:
        self.peek()
        start, found = self.position, self.match(EPOCH)
        if not found:
            self.fail("expected an epoch: a number, `last` or `half`")
        base, minus = found.groups()
        base = int(base) if base.isdecimal() else base
        if isinstance(base, int) and int(minus or 0) > base:
            self.fail("an epoch before 0", start)
        return Epoch(start, base, int(minus or 0))

    def call(self, name: str, start: int) -> Call:
        self.deeper()
        wanted = FUNCTIONS[name][0]
        self.expect("(")
        arguments: list[Node] = []
        for kind in wanted:
            if arguments:
                self.expect(",")
            self.peek()
            place, node = self.position, self.sum()
            ranged = isinstance(node, Measured) and STATISTICS[node.statistic].table == "curves"
            if kind == SERIES:
                if not ranged:
                    self.fail(f"{name} takes a statistic over epochs here", place)
                if node.first is not None and node.first is node.final:
                    self.fail(f"{name} needs a range of epochs, such as 11..30", place)
            elif is_series(node):
                self.fail(f"{node.statistic} needs an epoch here", place)
            elif kind == CONSTANT and _measures(node):
                self.fail(f"{name} takes a number or a margin here", place)
            arguments.append(node)
        self.expect(")")
        self.depth -= 1
        call = Call(start, name, tuple(arguments))
        if not _measures(call):
            self.fail(f"{name} of constants only; name a statistic", start)
        stars = {axis for node in measured(call) for axis, value in node.axes if value == "*"}
        if name == "trend" and len(stars) != 1:
            self.fail("trend needs configurations with one axis open, such as depth=*", start)
        return call


def _measures(node: Node) -> bool:
    return bool(measured(node))


def _unknown(name: str, allowed: list[str], kind: str) -> str:
    close = difflib.get_close_matches(name, allowed, n=1, cutoff=0.6)
    guess = f"did you mean {close[0]!r}? " if close else ""
    listed = f"allowed: {', '.join(allowed)}" if allowed else "the claim has no margins"
    return f"unknown {kind} {name!r}; {guess}{listed}"
