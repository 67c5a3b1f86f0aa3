"""What a figure's file says about itself: its study, data, the runs' commit and the drawing code.

It stands in the text chunks of a PNG, in the <metadata> (Dublin Core) of an SVG and in the document
information of a PDF. All of it comes from the tables that the figure is drawn from and from the
code that draws: the same data give the same bytes, and a commit that changes neither draws nothing
anew. So the commits are those that the runs were trained at, as their run.json say; the code that
draws is told apart by its fingerprint.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from normres import fingerprint

UNKNOWN = "unknown"  # no run has left a result, or the code lay in no git checkout


def describe_origin(
    study: Mapping[str, Any], runs: pd.DataFrame, figure: str, command: str
) -> dict[str, str]:
    """Where a figure comes from, as texts in one line.

    Args:
        study: study.json.
        runs: runs.csv, with the columns `data_checksum` and `git_commit`.
        figure: its name, that of its files.
        command: the module under workflow/scripts that draws it.
    """
    words = figure.replace("_", " ").capitalize().replace("macs", "MACs")
    origin = {
        "title": f"{words}: {study['title']}",
        "study": study["study"],
        "dataset": study["dataset"]["name"],
        "data_checksum": _values(runs["data_checksum"]),
        "git_commit": _values(runs["git_commit"]),
        "figure_code": f"{command} {fingerprint.fingerprint(command)}",
    }
    return {key: _one_line(text) for key, text in origin.items()}


def file_metadata(origin: Mapping[str, str], kind: str) -> dict[str, Any]:
    """What matplotlib's savefig takes as `metadata` for a file of `kind`: png, svg or pdf.

    No file holds a date or, in the PNG, the version of matplotlib.
    """
    title = origin["title"]
    entries = [f"{key}={text}" for key, text in origin.items() if key != "title"]
    described = (
        f"Study {origin['study']} on {origin['dataset']}, data {origin['data_checksum']}; "
        f"trained at commit {origin['git_commit']}; drawn by {origin['figure_code']}"
    )
    if kind == "png":
        chunks = {key: text for key, text in origin.items() if key != "title"}
        return {"Software": None, "Title": title, "Description": described, **chunks}
    if kind == "svg":
        return {"Date": None, "Title": title, "Description": described, "Keywords": entries}
    return {
        "CreationDate": None,
        "Title": title,
        "Subject": described,
        "Keywords": "; ".join(entries),
    }


def _values(column: pd.Series) -> str:
    """The distinct values of a column, sorted; several where runs differ."""
    return ", ".join(sorted(column.dropna().astype(str).unique())) or UNKNOWN


def _one_line(text: str) -> str:
    """`text` without what XML or PNG cannot hold, in one line."""
    return "".join(c for c in " ".join(text.split()) if c.isprintable())
