"""What a part of a figure or a row of a table shows, so that a reader can switch it off and on.

A part has cells of its configuration: model, norm and axis values. In an SVG they are in the id of
its group, "part-3?model=resnet&norm=batch"; in report.html they are data attributes, which its
filter reads. Values are quoted as in an address, so that none has a space.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pandas as pd

from normres.tables import configuration_columns

if TYPE_CHECKING:  # the report draws nothing
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ID = re.compile(r"part-\d+\?([a-z0-9_]+=[^&\s]*(?:&[a-z0-9_]+=[^&\s]*)*)")


def cells_of(row: Mapping[str, Any], study: Mapping[str, Any]) -> dict[str, str]:
    """The cells of a row that name its configuration: {"model": "resnet", "norm": "batch"}."""
    names = [name for name in configuration_columns(study) if name in row]
    return {name: str(row[name]) for name in names if pd.notna(row[name])}


def shared_cells(rows: pd.DataFrame, study: Mapping[str, Any]) -> dict[str, str]:
    """The cells that all rows share, for a part that shows all of them."""
    names = [name for name in configuration_columns(study) if name in rows]
    same = [name for name in names if rows[name].nunique(dropna=False) == 1]
    return cells_of(rows[same].iloc[0], study) if len(rows) else {}


@contextmanager
def showing(axes: "Axes", cells: Mapping[str, str]) -> Iterator[None]:
    """Mark what is drawn on `axes` within the block as showing `cells`; inner blocks win."""
    before = {*axes.get_children()}
    yield
    mark([artist for artist in axes.get_children() if artist not in before], cells)


def mark(artists: "Iterable[Artist]", cells: Mapping[str, str]) -> None:
    """Mark those artists as showing `cells` that are not marked yet."""
    for artist in artists:
        if cells and artist.get_gid() is None:
            artist.set_gid("?" + "&".join(f"{name}={token(cells[name])}" for name in cells))


def number_parts(figure: "Figure") -> None:
    """Make the ids of the marked parts of a figure unique, the same ones for the same drawing."""
    marked = figure.findobj(lambda artist: (artist.get_gid() or "").startswith("?"))
    for number, artist in enumerate(dict.fromkeys(marked), start=1):
        artist.set_gid(f"part-{number}{artist.get_gid()}")


def token(value: Any) -> str:
    """A cell as one word."""
    return quote(str(value), safe="")


def attributes(*sides: Mapping[str, str]) -> dict[str, str]:
    """Data attributes of a row that shows `sides`, by name; values of one are kept apart by " "."""
    found: dict[str, dict[str, None]] = {}
    for side in sides:
        for name, value in side.items():
            found.setdefault(f"data-{name}", {})[token(value)] = None
    return {name: " ".join(values) for name, values in found.items()}


def id_attributes(name: str) -> dict[str, str]:
    """Data attributes for the id of a part in an SVG; none for any other id."""
    match = ID.fullmatch(name)
    cells = [cell.partition("=") for cell in match[1].split("&")] if match else []
    return {f"data-{key}": value for key, _, value in cells}
