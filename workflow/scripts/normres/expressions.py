"""The language in which claims are tested: its statistics, functions, and the parts of a test.

    accuracy(resnet/batch, last) - accuracy(resnet/none, last) > 0
    accuracy(resnet/group, 30) in [low, high]
    accuracy(resnet/group, 30) = accuracy(resnet/batch, 30) within margin
    slope(accuracy(resnet/batch, 21..30)) > 0.02 and macs(convnet/none) / macs(vgg11/none) >= 1.5

Statistics take a configuration (model/norm[/axis=value ...]) and, where they are measured at each
epoch, one epoch or a range. docs/claims.md lists them. expression_parser.py reads a test,
claim_values.py computes what it names. Used while Snakemake reads the Snakefile, so nothing here
imports torch or pandas.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields

CONSTANT, NUMBER, SERIES = "a constant", "a number", "a series over epochs"


@dataclass(frozen=True)
class Statistic:
    """A named statistic: where it stands in the study's tables, in which unit, and its words."""

    table: str  # curves: one number per epoch and seed; timing: one per repeat; complexity: exact
    column: str
    words: str
    scale: float = 1.0
    unit: str = ""


STATISTICS = {
    "accuracy": Statistic("curves", "test_accuracy", "test accuracy", 100.0, "%"),
    "train_accuracy": Statistic(
        "curves", "train_eval_accuracy", "accuracy on training images", 100.0, "%"
    ),
    "train_loss": Statistic("curves", "train_loss", "training loss"),
    "train_eval_loss": Statistic(
        "curves", "train_eval_loss", "loss on training images in evaluation mode"
    ),
    "test_loss": Statistic("curves", "test_loss", "test loss"),
    "first_gradient": Statistic(
        "curves", "first_conv_grad_norm", "gradient norm of the first convolution"
    ),
    "last_gradient": Statistic(
        "curves", "last_conv_grad_norm", "gradient norm of the last convolution"
    ),
    "epoch_seconds": Statistic("timing", "epoch_seconds", "seconds per epoch", 1.0, "s"),
    "step_seconds": Statistic("timing", "step_seconds", "seconds per step", 1.0, "s"),
    "latency_1": Statistic("timing", "latency_1_seconds", "latency of one image", 1e3, "ms"),
    "latency_128": Statistic("timing", "latency_128_seconds", "latency of 128 images", 1e3, "ms"),
    "params": Statistic("complexity", "params", "parameters"),
    "macs": Statistic("complexity", "macs", "MACs"),
    "norm_ops": Statistic("complexity", "norm_ops", "norm operations"),
    "activations": Statistic("complexity", "activations", "activations"),
    "weight_bytes": Statistic("complexity", "weight_bytes", "weights", 1e-6, "MB"),
    "training_bytes": Statistic(
        "complexity", "peak_training_bytes", "peak memory of training", 1e-6, "MB"
    ),
    "bias_gradient": Statistic(
        "complexity", "bias_gradient", "relative gradient of the biases that a norm follows"
    ),
    "bias_effect": Statistic(
        "complexity", "bias_effect", "relative effect of these biases on the training output"
    ),
}

# Function -> what its arguments are, and the words that a {} of an argument's own words fits in.
FUNCTIONS = {
    "log": ((NUMBER,), "log of {}"),
    "log10": ((NUMBER,), "log10 of {}"),
    "mean": ((NUMBER,), "mean of {}"),
    "paired": ((NUMBER,), "{}, seed by seed"),
    "trend": ((NUMBER,), "slope of {} on {axis}"),
    "slope": ((SERIES,), "slope an epoch of {}"),
    "steps_sd": ((SERIES,), "sd of the epoch-to-epoch changes of {}"),
    "largest_rise": ((SERIES,), "largest relative rise an epoch of {}"),
    "steps_quantile": ((SERIES, CONSTANT), "{1} quantile of the relative changes an epoch of {0}"),
    "epochs_to_share": ((SERIES, CONSTANT), "epochs to {1} of the whole gain of {0}"),
    "epochs_to": ((SERIES, NUMBER), "epochs until {0} reaches {1}"),
    "last_crossing": ((SERIES, SERIES), "epoch at which {1} falls below {0} for good"),
}


@dataclass(frozen=True)
class Node:
    """A part of a test; `position` is that of its first character, for errors."""

    position: int

    def walk(self) -> Iterator["Node"]:
        """This node and all below it."""
        yield self
        for field in fields(self):
            value = getattr(self, field.name)
            for member in value if isinstance(value, tuple) else (value,):
                if isinstance(member, Node):
                    yield from member.walk()


@dataclass(frozen=True)
class Number(Node):
    """A number of the text, or the value of a margin, whose name it then has."""

    value: float
    name: str = ""


@dataclass(frozen=True)
class Epoch(Node):
    """An epoch: `base` is a number, "last" or "half" (of the study's epochs), less `minus`."""

    base: int | str
    minus: int = 0


@dataclass(frozen=True)
class Measured(Node):
    """A statistic of a configuration, over the epochs from `first` to `final` (or of none)."""

    statistic: str
    model: str
    norm: str
    axes: tuple[tuple[str, str], ...]
    first: Epoch | None = None
    final: Epoch | None = None


@dataclass(frozen=True)
class Call(Node):
    """A function of FUNCTIONS."""

    function: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True)
class Binary(Node):
    """left + right, and likewise for - * /."""

    operator: str
    left: Node
    right: Node


@dataclass(frozen=True)
class Compare(Node):
    """left < right, and likewise for <= > >=."""

    operator: str
    left: Node
    right: Node


@dataclass(frozen=True)
class Inside(Node):
    """low <= value <= high; both are constants."""

    value: Node
    low: Node
    high: Node


@dataclass(frozen=True)
class Equivalent(Node):
    """left and right differ by less than `margin`, which is a constant."""

    left: Node
    right: Node
    margin: Node


@dataclass(frozen=True)
class Every(Node):
    """All of the parts hold."""

    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Some(Node):
    """At least one of the parts holds."""

    parts: tuple[Node, ...]


Test = Compare | Inside | Equivalent | Every | Some


def measured(node: Node) -> list[Measured]:
    """The statistics that a test names, in order."""
    return [member for member in node.walk() if isinstance(member, Measured)]


def open_axis(node: Node) -> str:
    """The axis that a `trend` runs over."""
    return next(axis for part in measured(node) for axis, value in part.axes if value == "*")


def is_series(node: Node) -> bool:
    """Whether a node is a statistic over epochs that names none of them."""
    return (
        isinstance(node, Measured)
        and STATISTICS[node.statistic].table == "curves"
        and node.first is None
    )


def constant_value(node: Node) -> float:
    """The value of a node without statistics."""
    if isinstance(node, Number):
        return node.value
    left, right = constant_value(node.left), constant_value(node.right)
    match node.operator:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
    return left / right
