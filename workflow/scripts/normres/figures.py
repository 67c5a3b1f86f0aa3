"""The style of all figures: page, colours, labels, the files a figure consists of.

A figure's command is a `draw(tables)` that returns the figure, the table of what it drew and its
finding in words; `render` does the rest. No figure computes a statistic: the tables have them.
"""

import argparse
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from normres.command_line import make_parser
from normres.figure_metadata import describe_origin, file_metadata
from normres.files import replacing, write_text
from normres.parts import mark, number_parts
from normres.tables import (
    absent_runs,
    configuration_columns,
    configurations,
    norm_title,
    read_cells,
    read_study,
    read_table,
    write_table,
)
from normres.wording import estimate_text, listed

INK, FAINT, GRID = "#222222", "#606060", "#E4E4E4"
TITLE, TEXT, SMALL = 10.0, 7.5, 6.8  # font sizes in points
STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same figure on every machine
    "font.size": TEXT,
    "text.color": INK,
    "text.parse_math": False,
    "axes.labelsize": TEXT,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#888888",
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.color": "#888888",
    "ytick.color": "#888888",
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.solid_capstyle": "round",
    "svg.fonttype": "path",  # looks the same where the font is not installed
    "svg.hashsalt": "normres",  # the same data give the same bytes
    "pdf.fonttype": 42,  # text stays text
    "savefig.dpi": 200,
}
# Okabe & Ito (2008), "Color Universal Design": told apart under all common colour blindness.
MODEL_COLOURS = {
    "convnet": "#E69F00",
    "vgg11": "#009E73",
    "resnet": "#0072B2",
    "plainnet": "#CC79A7",
}
NORM_COLOURS = {
    "none": "#5A5A5A",
    "batch": "#D55E00",
    "group": "#3A9BDC",
    "layer": "#A05195",
    "instance": "#7A6A00",
}
SPARE_COLOURS = ["#332288", "#882255", "#44AA99", "#000000", "#999933", "#56B4E9"]
DASHES = ["solid", (0, (5, 1.6)), (0, (1.2, 1.4)), (0, (6, 1.4, 1.2, 1.4)), (0, (9, 2))]
MARKERS = ["o", "s", "^", "D", "v", "P", "<", ">", "d"]  # 5 are those of known norms

MARGIN = 0.12  # inches around the page
LEAST_WIDTH = 4.4  # inches, of a page: panels grow to fill it
NARROW = 1.6  # inches: width of a panel where three or more stand side by side
WIDEST = 9.5  # inches: what is wider becomes too small to read in the report
LINE = 1.35  # line height over font size
NAME, BOTH = 1.2, (TEXT + SMALL) * 1.3  # of names beside a panel; points, with a number below


@dataclass(frozen=True)
class Tables:
    """What a figure may draw: the study and its tables, rows marked with their configuration."""

    study: Mapping[str, Any]
    configurations: pd.DataFrame
    bands: pd.DataFrame
    curves: pd.DataFrame
    summary: pd.DataFrame
    runs: pd.DataFrame
    others: Mapping[str, pd.DataFrame] = field(default_factory=dict)  # those of `parser`, by name


@dataclass(frozen=True)
class Look:
    """How one line or dot looks: told apart by colour, and in grey by dash and marker."""

    colour: str
    dash: Any
    marker: str

    @property
    def text_colour(self) -> str:
        """The colour, darkened to a contrast of at least 4.5 on white (WCAG 2.1, 1.4.3)."""
        shades = (mix(self.colour, "#000000", share) for share in np.arange(0.1, 1.05, 0.05))
        return next(shade for shade in shades if luminance(shade) <= 1.05 / 4.5 - 0.05)


def parser(doc: str, *tables: str) -> argparse.ArgumentParser:
    """The options that all plot commands share, and one for each further table of a figure."""
    result = make_parser(doc)
    result.add_argument("--study", type=Path, required=True, help="study.json")
    result.add_argument("--bands", type=Path, required=True, help="bands.csv of summarize_runs")
    result.add_argument("--curves", type=Path, required=True, help="curves.csv of collect_runs")
    result.add_argument("--summary", type=Path, required=True, help="summary.csv")
    result.add_argument("--runs", type=Path, required=True, help="runs.csv of collect_runs")
    for name in tables:
        result.add_argument(f"--{name}", type=Path, required=True, help=f"{name}.csv")
    result.set_defaults(tables=tables)
    result.add_argument(
        "--out", type=Path, required=True, help="files to write, without .png, .svg, .pdf, .csv"
    )
    return result


def render(
    draw: Callable[[Tables], tuple[Figure, pd.DataFrame, str]], arguments: argparse.Namespace
) -> None:
    """Draw a figure from the tables named in `arguments` and write its files (see `save`).

    `draw` returns the figure, the rows it shows and its finding: a sentence with n and intervals,
    empty where there is nothing to say.
    """
    study = read_study(arguments.study)
    names = ("bands", "curves", "summary", "runs")
    read = {name: read_table(getattr(arguments, name), study) for name in names}
    others = {name: read_other(getattr(arguments, name), study) for name in arguments.tables}
    with matplotlib.style.context(["default", STYLE]):
        figure, drawn, finding = draw(Tables(study, configurations(study), **read, others=others))
        command = Path(inspect.getfile(getattr(draw, "func", draw))).stem
        origin = describe_origin(study, read["runs"], arguments.out.name, command)
        save(figure, drawn, finding, arguments.out, origin)
    print(f"{arguments.out}: .png .svg .pdf .csv .txt")


def read_other(path: Path, study: Mapping[str, Any]) -> pd.DataFrame:
    """Read a further table; `configuration` is there where its rows are of configurations."""
    table = read_cells(path, study["axes"])
    return read_table(path, study) if {*configuration_columns(study)} <= {*table} else table


def save(
    figure: Figure, drawn: pd.DataFrame, finding: str, prefix: Path, origin: Mapping[str, str]
) -> None:
    """Write the figure as .png, .svg and .pdf, each with its origin; .csv: the rows it shows.

    The finding goes into .txt, for the report's caption.
    """
    number_parts(figure)
    for kind in ("png", "svg", "pdf"):
        with replacing(prefix.with_name(f"{prefix.name}.{kind}")) as path:
            figure.savefig(path, format=kind, metadata=file_metadata(origin, kind))
    write_table(drawn, prefix.with_name(f"{prefix.name}.csv"))
    write_text(prefix.with_name(f"{prefix.name}.txt"), f"{finding}\n" if finding else "")


def mix(colour: str, other: str, share: float) -> str:
    """Mix two colours; `share` of the second, in 0..1."""
    return to_hex((1 - share) * np.array(to_rgb(colour)) + share * np.array(to_rgb(other)))


def luminance(colour: str) -> float:
    """Relative luminance of an sRGB colour, in 0..1 (WCAG 2.1)."""
    channels = np.array(to_rgb(colour))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def colours(names: Iterable[str], known: Mapping[str, str]) -> dict[str, str]:
    """A colour for each name: its own, or a spare one in order of appearance."""
    names = list(names)
    spare = iter(SPARE_COLOURS * len(names))
    return {name: known[name] if name in known else next(spare) for name in names}


def marks(names: Iterable[str], known: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    """The dash and marker of each name, by its place in `known`: alike in all studies."""
    every = [*known, *(name for name in names if name not in known)]
    return {n: (DASHES[i % len(DASHES)], MARKERS[i % len(MARKERS)]) for i, n in enumerate(every)}


def subject(study: Mapping[str, Any]) -> str:
    """What the study compares, for a title: "network and norm"; empty for one configuration."""
    parts = ["network"] * (len(study["models"]) > 1) + ["norm"] * (len(study["norms"]) > 1)
    parts += [axis.replace("_", " ") for axis in study["axes"] if len(study["axes"][axis]) > 1]
    return listed(parts)


def ask(study: Mapping[str, Any], comparing: str, single: str) -> str:
    """The title's question: `comparing` with its {subject}, or `single` for one configuration.

    {s} stands for the ending of a verb: "s" where the subject is one thing.
    """
    which = subject(study)
    return comparing.format(subject=which, s="" if " and " in which else "s") if which else single


def subtitle(study: Mapping[str, Any], seeds: bool) -> str:
    """What was measured on: data set, the model or norm all share, and the number of `seeds`."""
    parts = [study["dataset"]["name"]]
    if len(study["models"]) == 1:
        parts.append(study["models"][0])
    if len(study["norms"]) == 1:
        parts.append(norm_title(study["norms"][0]))
    count = len(study["seeds"])
    parts += [f"{count} seed{'s' if count > 1 else ''}"] * seeds
    return " · ".join(parts)


def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Width of one line of text in inches."""
    font = FontProperties(family=STYLE["font.family"], size=size, weight=weight)
    return text_to_path.get_text_width_height_descent(text, font, ismath=False)[0] / 72


def wrap(text: str, size: float, width: float, weight: str = "normal") -> list[str]:
    """Break text at spaces into lines of at most `width` inches."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size, weight) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def page(
    grid: tuple[int, int],
    panel: tuple[float, float],
    *,
    question: str,
    study: Mapping[str, Any],
    notes: Sequence[str],
    left: float,
    right: float,
    above: float = 0.25,
    below: float = 0.42,
    margin: float = 0.0,
    seeds: bool = True,
) -> tuple[Figure, np.ndarray]:
    """Lay out a page to the inch: question, subtitle, a grid of panels, notes.

    Args:
        grid: rows and columns of panels.
        panel: width and height of a panel's axes in inches.
        question: the title.
        notes: footnotes, a paragraph each; empty ones are left out.
        left: room for the first column's axis labels; right: room for labels beside each panel.
        above: room above each row for its titles; below: room under the last for the x axis.
        margin: room for labels right of the last panel, beside `right`.
        seeds: whether what is drawn rests on the study's runs.

    Returns:
        The figure and its axes, shape `grid`.
    """
    rows, columns = grid
    spare = max(0.0, LEAST_WIDTH - 2 * MARGIN - left - margin - columns * (panel[0] + right))
    wide, high = panel[0] + spare / columns, panel[1]
    width = 2 * MARGIN + left + columns * (wide + right) + margin
    inner = width - 2 * MARGIN
    head = [(line, TITLE, INK, "bold") for line in wrap(question, TITLE, inner, "bold")]
    head += [(line, TEXT, FAINT, "normal") for line in wrap(subtitle(study, seeds), TEXT, inner)]
    foot = [(line, SMALL, FAINT, "normal") for note in notes for line in wrap(note, SMALL, inner)]
    head_height, foot_height = (
        sum(size * LINE / 72 for _, size, _, _ in lines) for lines in (head, foot)
    )
    height = 2 * MARGIN + head_height + rows * (above + high) + below + foot_height + 0.08
    figure = Figure(figsize=(width, height))
    write_lines(figure, head, height - MARGIN)
    write_lines(figure, foot, MARGIN + foot_height)
    axes = np.empty(grid, dtype=object)
    for row, column in np.ndindex(grid):
        x = MARGIN + left + column * (wide + right)
        y = height - MARGIN - head_height - (row + 1) * (above + high)
        axes[row, column] = figure.add_axes((x / width, y / height, wide / width, high / height))
    return figure, axes


def fitting_columns(columns: int, right: float) -> int:
    """How many columns of panels stand side by side: `columns`, or 2 if the page were too wide.

    right: room for labels beside each panel, in inches.
    """
    return columns if columns * (NARROW + right) <= WIDEST else min(columns, 2)


def write_lines(figure: Figure, lines: list[tuple[str, float, str, str]], top: float) -> None:
    """Write lines of (text, size, colour, weight) at the page's left edge, from `top` inches."""
    width, height = figure.get_size_inches()
    for text, size, colour, weight in lines:
        figure.text(
            MARGIN / width, top / height, text, size=size, color=colour, weight=weight, va="top"
        )
        top -= size * LINE / 72


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> np.ndarray:
    """Move positions apart to at least `gap`, as little as possible, within `low` and `high`.

    Least squares under y[i + 1] >= y[i] + gap: isotonic regression by pooling adjacent violators.
    """
    order = np.argsort(wanted, kind="stable")
    steps = gap * np.arange(len(order))
    blocks: list[list[float]] = []  # [mean, size] of neighbours that move together
    for value in np.asarray(wanted, dtype=float)[order] - steps:
        blocks.append([value, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            mean, size = blocks.pop()
            total = blocks[-1][1] + size
            blocks[-1] = [(blocks[-1][0] * blocks[-1][1] + mean * size) / total, total]
    level = np.concatenate([np.full(int(size), mean) for mean, size in blocks])
    result = np.empty(len(order))
    result[order] = np.clip(level, low, max(low, high - gap * (len(order) - 1))) + steps
    return result


def end_text(
    name: str,
    row: Mapping[str, Any],
    mean: str,
    *,
    count: bool,
    form: str = "{:.1f}",
    at: str = "",
) -> str:
    """The label of a line's end: its name, and under it the last mean with its interval.

    row: has the columns `mean`, low, high and n. count: whether n is said here, as where lines
    differ in it; else the figure's note says it once (`count_note`). at: where the number is from,
    if not from the end.
    """
    number = at + estimate_text(row[mean], row["low"], row["high"], row["n"], form)
    number += f", n = {row['n']:.0f}" if count else ""
    return f"{name}\n{number}".strip()


def label_width(text: str) -> float:
    """Width of such a label in inches: its first line in TEXT, the second in SMALL."""
    first, *rest = text.split("\n")
    return max([text_width(first, TEXT), *(text_width(line, SMALL) for line in rest)])


def names_height(names: int) -> float:
    """Inches that so many names take beside a panel, each on a line of its own."""
    return names * TEXT * NAME / 72


def numbers_fit(names: int, height: float) -> bool:
    """Whether so many names, each with a number under it, have room beside `height` inches."""
    return names * BOTH <= 72 * height + TEXT


def label_ends(
    axes: Axes,
    ends: Sequence[tuple[float, float, str, Look]],
    shows: Sequence[Mapping[str, str]] = (),
) -> None:
    """Label line ends (x, y, text, look) right of the panel, nudged apart, with thin leaders.

    A text may have a second line, smaller; where two lines each have no room, the first one stands
    alone; the panel has `names_height` at least, and its limits are final. shows: the cells of each
    end (see parts.py).
    """
    if not ends:
        return
    box = axes.get_position()
    wide, high = np.array([box.width, box.height]) * axes.figure.get_size_inches() * 72
    to_axes = axes.transData + axes.transAxes.inverted()
    points = to_axes.transform([(x, y) for x, y, _, _ in ends])
    texts = [text.split("\n") for _, _, text, _ in ends]
    two = max(map(len, texts)) > 1 and numbers_fit(len(ends), high / 72)
    gap = BOTH if two else TEXT * NAME
    heights = spread(points[:, 1] * high, gap, 0, high) / high
    cells = shows or [{}] * len(ends)
    for i, ((x, y), label, lines, (*_, look)) in enumerate(
        zip(points, heights, texts, ends, strict=True)
    ):
        path = [(x, y), (max(x, 1 + 3 / wide), y if x < 1 else label), (1 + 9 / wide, label)]
        leader = axes.plot(
            *zip(*path, strict=True),
            transform=axes.transAxes,
            clip_on=False,
            lw=0.45,
            color=look.colour,
            alpha=0.7,
        )
        style = {"transform": axes.transAxes, "color": look.text_colour, "va": "center_baseline"}
        up, down = (0.55 * SMALL / high, 0.55 * TEXT / high) if two and lines[1:] else (0, 0)
        names = [axes.text(1 + 11 / wide, label + up, lines[0], size=TEXT, **style)]
        if down:
            names += [axes.text(1 + 11 / wide, label - down, lines[1], size=SMALL, **style)]
        mark([*leader, *names], cells[i])


def count_note(n: pd.Series) -> str:
    """How many runs means rest on: "n = 5." or "n = 3 to 5."."""
    n = n[n > 0]
    if n.empty:
        return ""
    low, high = int(n.min()), int(n.max())
    return f"n = {low}." if low == high else f"n = {low} to {high}."


def looks(study: Mapping[str, Any], by: str) -> dict[str, Look]:
    """The look of each of the study's norms or models (`by`)."""
    names, known = study[f"{by}s"], NORM_COLOURS if by == "norm" else MODEL_COLOURS
    palette, marked = colours(names, known), marks(names, known)
    return {name: Look(palette[name], *marked[name]) for name in names}


def say_empty(axes: Axes, why: str = "no complete run") -> None:
    """Say in the middle of an empty panel why nothing is there."""
    axes.text(0.5, 0.5, why, ha="center", transform=axes.transAxes)


def missing_note(tables: Tables) -> str:
    """Footnote that names the runs that are in no mean; empty where all are."""
    return absent_runs(tables.runs)
