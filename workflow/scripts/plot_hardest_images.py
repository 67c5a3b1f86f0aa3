"""Draw the test images that most runs have wrong, with their class and what they are taken for.

    python workflow/scripts/plot_hardest_images.py --hardest_images results/S/hardest_images.csv \\
        --dataset results/data/D/dataset.json --study results/S/study.json \\
        --bands results/S/bands.csv --curves results/S/curves.csv \\
        --summary results/S/summary.csv --runs results/S/runs.csv \\
        --out results/S/figures/hardest_images

Reads the images.npy beside dataset.json.
"""

import math
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from normres import figures
from normres.errors import run_command
from normres.images import Images, open_images
from normres.predictions import HARDEST

SHOWN, COLUMNS = 24, 8
SIDE = 0.78  # inches


def draw(tables: figures.Tables, images: Images) -> tuple[Figure, pd.DataFrame, str]:
    """Draw the figure; return it, the rows it shows and its finding."""
    hardest = tables.others["hardest_images"]
    drawn = hardest.head(SHOWN)
    count = max(1, math.ceil(len(drawn) / COLUMNS))
    longest = [*drawn["label"], *(f"> {name}" for name in drawn["predicted"]), ""]
    side = min(1.3, max(SIDE, *(figures.text_width(text, figures.SMALL) for text in longest)))
    figure, grid = figures.page(
        (count, COLUMNS),
        (side, side),
        question="Which images do most runs have wrong?",
        study=tables.study,
        notes=[
            "Above each image: its class; > what the runs that have it wrong most often take it "
            "for; how many of the runs of all configurations have it wrong (exact). Of equally "
            "hard images, those first whose class is given the least probability.",
            figures.missing_note(tables),
        ],
        left=0.0,
        right=0.12,
        above=0.5,
        below=0.06,
    )
    wide = grid[0, 0].get_position().width * figure.get_size_inches()[0]
    for index, place in enumerate(grid.flat):
        place.set_axis_off()
        if index >= len(drawn):
            continue
        row = drawn.iloc[index]
        pixels = np.asarray(images.images[int(row["image"])])
        grey = pixels.shape[2] == 1
        place.imshow(
            pixels[..., 0] if grey else pixels,
            cmap="gray",
            vmin=0,
            vmax=255,
            interpolation="nearest",
        )
        for line, (text, colour) in enumerate(
            (
                (fit(row["label"], wide), figures.INK),
                (fit(f"> {row['predicted']}", wide), "#A33A00"),
                (f"{row['wrong']} of {row['n']}", figures.FAINT),
            )
        ):
            place.text(
                0,
                1 + (2.35 - line) * 0.13 / wide,
                text,
                transform=place.transAxes,
                size=figures.SMALL,
                color=colour,
                va="bottom",
            )
    if drawn.empty:
        say = "no complete run" if hardest.empty and not tables.summary["n"].any() else "no image"
        grid[0, 0].text(0, 0.5, say, transform=grid[0, 0].transAxes)
    return figure, drawn, describe(hardest)


def fit(text: str, width: float) -> str:
    """`text`, cut to `width` inches."""
    while text and figures.text_width(text, figures.SMALL) > width:
        text = text.rstrip("\N{HORIZONTAL ELLIPSIS}")[:-1] + "\N{HORIZONTAL ELLIPSIS}"
    return text


def describe(hardest: pd.DataFrame) -> str:
    """How many images all runs have wrong."""
    if hardest.empty:
        return ""
    runs = int(hardest["n"].max())
    everyone = int((hardest["wrong"] == runs).sum())
    first = hardest.iloc[0]
    more = " or more" if everyone == len(hardest) == HARDEST else ""
    few = {"0": "No test image is", "1": "1 test image is"}
    images = few.get(f"{everyone}{more}", f"{everyone}{more} test images are")
    return (
        f"{images} wrong in all {runs} runs; the hardest, "
        f"image {first['image']} of class {first['label']!r}, is taken for {first['predicted']!r} "
        f"by {first['predicted_by']} of {first['n']} runs (exact counts)."
    )


def main(argv: list[str] | None = None) -> int | None:
    parser = figures.parser(__doc__, "hardest_images")
    parser.add_argument("--dataset", type=Path, required=True, help="dataset.json")
    arguments = parser.parse_args(argv)
    images = open_images(arguments.dataset.parent)
    figures.render(partial(draw, images=images), arguments)


if __name__ == "__main__":
    run_command(main)
