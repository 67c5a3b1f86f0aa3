"""The report: complete, escaped, and a page that works alone in a browser."""

import csv
import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

import check_claims
import plot_final_accuracy
import plot_test_accuracy
import render_report
import synthetic
from normres import job_environment
from normres.claims import exercise_claims
from normres.config import read_config
from normres.errors import InputError
from normres.files import seal, write_text
from normres.gallery import ENTRIES
from normres.svg import embed_svg
from report_pages import (
    ENVIRONMENT,
    HOSTILE,
    change,
    draw,
    opened,
    render,
    table_options,
    words,
    write_inputs,
)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of 18 runs, two without a result, with a hostile title; drawn and reported."""
    folder = tmp_path_factory.mktemp("quickstart")
    change(
        write_inputs(folder, "quickstart", norms=["none", "group"]),
        title=HOSTILE,
        excluded=[{"model": "resnet", "norm": "layer", "reason": "told <b>twice</b>"}],
    )
    synthetic.compare(folder / "study.json", {"of": {"norm": "group"}, "against": {"norm": "none"}})
    figures = [
        draw(folder, plot_test_accuracy, "test_accuracy"),
        draw(folder, plot_final_accuracy, "final_accuracy"),
    ]
    render(folder, figures)
    return folder


@pytest.fixture(scope="module")
def page(study: Path) -> str:
    return (study / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def small_inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inputs of a study with two configurations."""
    folder = tmp_path_factory.mktemp("small")
    write_inputs(folder, "normalization", norms=["none", "batch"], seeds=2, epochs=3)
    return folder


@pytest.fixture
def small(small_inputs: Path, tmp_path: Path) -> Path:
    """A copy of those inputs, to change before reporting."""
    return shutil.copytree(small_inputs, tmp_path / "small")


def test_report_has_every_part(page: str) -> None:
    text = words(page)
    for part in (
        "18, of 6 configurations",
        "1,297 training and 500 test images, 10 classes, 32 \N{MULTIPLICATION SIGN} 32 pixels",
        "Figure 1. Highest mean test accuracy: resnet, group norm, ",
        "], n = 2; next: vgg11, group norm, ",
        "Test accuracy by epoch, one panel per norm",
        "Test accuracy after the last epoch of every",
        "n = 3 seeds per configuration, except vgg11, no norm (n = 2); resnet, group norm (n = 2)",
        "million, 1 MAC = 1 multiply-add",
        "162.37",  # ResNet's MACs in millions
        "28,144,010",  # VGG11's parameters
        "batches of 128",
        "Layers of vgg11, group norm",
        "sha256:0",
        "git checkout 41eaeb9f00 make run STUDY=quickstart",
        "snakemake --cores all --config study=quickstart",
        "chosen on the test images",
        "resnet, layer norm: told <b>twice</b>",
    ):
        assert part in text.replace("\N{NO-BREAK SPACE}", " "), part


def test_a_call_with_a_configuration_of_its_own_is_repeated_with_it(tmp_path: Path) -> None:
    write_inputs(tmp_path, "quickstart", models=["resnet"], norms=["none"])
    text = words(render(tmp_path, call="snakemake --cores all --configfile 'my <file>.yaml'"))
    assert "--configfile 'my <file>.yaml' --config study=quickstart" in text
    assert "make run STUDY" not in text


def test_what_the_command_line_changed_of_a_study_is_repeated(tmp_path: Path, monkeypatch) -> None:
    write_inputs(tmp_path, "quickstart", models=["resnet"], norms=["none"])
    monkeypatch.setattr("os.environ", dict(os.environ))
    study = {"dataset": "digits", "models": ["resnet"], "norms": ["none"], "seeds": [0]}
    config = {"study": "s", "studies": {"s": {**study, "epochs": 2}}}
    given = {"study": "s", "device": "cpu", "studies": {"s": {"epochs": 2}}}
    job_environment.prepare(read_config(config), ["my.yaml"], given)
    call = os.environ["NORMRES_CALL"]
    assert shlex.split(call)[3:] == [
        "--configfile", "my.yaml", "--config", 'studies={"s":{"epochs":2}}'
    ]  # fmt: skip
    text = words(render(tmp_path, call=call))
    assert """--config 'studies={"s":{"epochs":2}}' study=quickstart""" in text
    assert "make run STUDY" not in text


def test_comparisons_are_findings_a_table_and_what_no_data_could_show(page: str) -> None:
    section = page[page.index('<h2 id="comparisons">') : page.index('<h2 id="claims">')]
    text = words("<body>" + section)
    assert re.search(
        r"The mean test accuracy of resnet, group norm is \d\.\d\d points (above|below) that of "
        r"resnet, no norm \(95 % interval .* to .*, n = 2 and 3, p = .* after Holm's adjustment",
        text,
    )
    assert "n = 2 and 3 its smallest p is 0.20, 0.40 after Holm's adjustment for 3." in text
    assert "1 diverged or failed" in text and "runs per side for 0.5 points" in text
    assert "Other pairs, without a test (12)" in text
    assert 'href="comparisons.csv"' in section and "nan" not in text.lower().split()


def test_runs_without_result_are_named_with_reason_and_log(page: str) -> None:
    notice = page[page.index("<aside") : page.index("</aside>")]
    text = words("<body>" + notice)
    assert "2 of 18 runs are in no mean" in text
    assert "vgg11/none/seed1 diverged: the loss is not finite" in text
    assert "resnet/group/seed2 failed: the disk is full" in text
    assert 'href="logs/resnet/group/seed2.log"' in notice
    assert page.index("<aside") < page.index("Abstract</h2>")


def test_what_comes_from_the_study_is_escaped(page: str) -> None:
    assert "alert(1)" in page
    assert "<script>alert" not in page
    assert "<b>twice" not in page
    escaped = "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &#34;x&#34;"
    assert f"<title>{escaped}</title>" in page
    assert f"<h1>{escaped}</h1>" in page


def test_page_asks_for_nothing_from_elsewhere(page: str) -> None:
    tags = re.findall(r"<[^>]*(?:\bsrc|\bhref)=[^>]*>", page)
    assert tags
    for tag in tags:
        (target,) = re.findall(r"(?:\bsrc|\bhref)=\"([^\"]*)\"", tag)
        assert target.startswith(("#", "data:")) or tag.startswith("<a "), tag
    assert not re.search(r"https?:|@import|url\((?!#)", page)


def test_links_lead_to_the_figures_files(study: Path, page: str) -> None:
    links = re.findall(r'href="(figures/[^"]*)"', page)
    assert len(links) == 8
    for link in links:
        assert (study / link).is_file()


def test_ids_are_unique_and_references_lead_somewhere(page: str) -> None:
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    targets = re.findall(r'href="#([^"]*)"', page) + re.findall(r"url\(#([^)]*)\)", page)
    assert set(targets) <= set(ids)


def test_same_inputs_give_the_same_bytes(study: Path, page: str) -> None:
    figures = [study / f"figures/{name}.svg" for name in ("test_accuracy", "final_accuracy")]
    assert render(study, figures) == page
    assert len(page.encode()) < 5e6


def test_main_numbers_claim_no_order_where_intervals_overlap(small: Path) -> None:
    old = list(csv.DictReader((small / "summary.csv").read_text().splitlines()))
    keys = [f"test_accuracy_{part}" for part in ("mean", "low", "high")]

    def claim(*intervals: tuple[str, str, str], n: str = "2") -> str:
        new = ({"n": n} | dict(zip(keys, interval, strict=True)) for interval in intervals)
        lines = [old[0], *((a | b).values() for a, b in zip(old, new, strict=True))]
        write_text(small / "summary.csv", "".join(",".join(line) + "\n" for line in lines))
        seal(small / "summary.csv")  # else it would be refused as edited
        return words(render(small)).replace("\N{NO-BREAK SPACE}", " ")

    overlapping = claim(("0.90", "0.88", "0.92"), ("0.91", "0.89", "0.93"))
    assert "resnet, batch norm has the highest mean test accuracy of 2" in overlapping
    assert "91.00 % (95 % interval 89.00 to 93.00 %, n = 2)" in overlapping
    assert "interval of resnet, no norm overlaps with it, so nothing is said" in overlapping
    apart = claim(("0.90", "0.89", "0.91"), ("0.80", "0.79", "0.81"))
    assert "The other's interval lies entirely below it." in apart
    equal = claim(("0.90", "", ""), ("0.80", "0.79", "0.81"))
    assert "90.00 % (no interval, as all runs are equal, n = 2)" in equal
    single = claim(("0.90", "", ""), ("0.80", "", ""), n="1")
    assert "no interval from a single run" in single
    assert "nothing is said about the order to resnet, batch norm" in single


def test_mixed_environments_and_inexact_runs_are_said(small: Path) -> None:
    assert "same conditions" not in words(render(small))
    record = small / "runs/resnet/batch/seed1/run.json"
    gpu = {"device": "cuda", "device_name": "a GPU", "cuda": "13.0", "git_commit": "99+changes"}
    change(
        record,
        environment=ENVIRONMENT | gpu,
        exact=False,
        data={"name": "x", "checksum": "sha256:1"},
    )
    text = words(render(small))
    assert "CUDA 13.0" in text
    assert "They differ in device, name of the device (see" in text
    assert "so not exact: resnet/batch/seed1." in text
    assert "Trained on other data than dataset.json describes: resnet/batch/seed1." in text
    assert "a processor (3 runs); a GPU (1 run)" in text
    assert "The runs come from 2 commits" in text


def test_times_are_shown_with_n_spread_and_device(tmp_path: Path) -> None:
    untimed = {"resnet/group": "OutOfMemoryError: no <room>"}
    write_inputs(tmp_path, "normalization", seeds=2, epochs=3, untimed=untimed)
    page = render(tmp_path)
    text = words(page)
    assert re.search(r"medians over 10 interleaved repeats.* speaks of this process alone\]", text)
    assert "name of the device a processor, precision float32" in text
    assert "prediction, 128 images" in text and "peak memory MB" in text
    assert "Not timed: resnet/group (OutOfMemoryError: no <room>)" in text
    table = page[page.index("Times and peak memory of each configuration") :]
    table = table[: table.index("</table>")]
    assert table.count("<tr") == 1 + 2 and "[" in table


def test_settings_mark_what_differs_from_the_exercise(small: Path) -> None:
    page = render(small)
    marked = re.findall(r'<mark title="[^"]*">([^<]*)</mark>', page)
    assert marked == ["synthetic digits (8x8)", "3", "0.001"]  # data set, epochs, learning rate
    change(small / "study.json", dataset={"id": "svhn", "name": "svhn"}, epochs=30)
    marked = re.findall(r'<mark title="[^"]*">([^<]*)</mark>', render(small))
    assert marked == ["0.001"]


def test_axes_and_reported_numbers_are_shown(tmp_path: Path) -> None:
    reported = {"model": "resnet", "norm": "none", "test_loss": 1.346, "test_correct": 7839}
    write_inputs(tmp_path, "batch-size", epochs=3, reported=[reported | {"test_images": 10_000}])
    page = render(tmp_path)
    text = words(page)
    assert "reported accuracy %, one run" in text
    assert "78.39" in text
    assert "Batch size 32, 128" in text
    assert "32, 128 compared" in text
    assert page.count('data-value="32.0"') >= 2  # sorted as a number


def test_costs_are_in_the_order_of_the_study(tmp_path: Path) -> None:
    write_inputs(tmp_path, "batch-size", epochs=3)
    path = tmp_path / "complexity.csv"
    table = pd.read_csv(path, keep_default_na=False)
    table.iloc[::-1].to_csv(path, index=False)
    seal(path)
    costs = words(render(tmp_path)).partition("What the networks cost")[2].partition("Files")[0]
    rows = re.findall(r"resnet (none|group) (32|128)", costs)
    assert rows == [("none", "32"), ("none", "128"), ("group", "32"), ("group", "128")]


def test_a_study_without_a_complete_run_has_a_report(tmp_path: Path) -> None:
    write_inputs(tmp_path, "single", status={"resnet/none/seed0": "missing"})
    text = words(render(tmp_path))
    assert "No run is complete, so there is no number to show." in text
    assert "1 of 1 runs is in no mean" in text
    assert "resnet/none/seed0 failed: no results" in text


def test_every_figure_has_a_caption_of_its_own() -> None:
    template = render_report.load_templates().get_template("figure.rst")
    names = [*ENTRIES, "something_else"]
    captions = [template.render(snakemake={"wildcards": {"figure": name}}) for name in names]
    assert len(set(captions)) == len(names)
    assert all(len(caption) > 80 for caption in captions[:-1])
    assert captions[-1].strip() == "Something else."


def test_svg_is_stripped_of_all_but_drawing(tmp_path: Path) -> None:
    path = tmp_path / "hostile.svg"
    path.write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        'viewBox="0 0 1 1" width="9pt" onload="alert(1)"><style>* {color: red}</style>'
        '<script>alert(1)</script><a href="https://x.org"><path d="M 0 0"/></a>'
        '<defs><path id="glyph" d="M 0 0 \nL 1 1"/><path id="unused" d="M 1 1"/></defs>'
        '<use xlink:href="#glyph" style="fill: url(#glyph); stroke: url(https://x.org/y)"/>'
        '<image xlink:href="https://x.org/z.png"/><image xlink:href="data:image/png;base64,AA=="/>'
        "<foreignObject><p>hello</p></foreignObject></svg>"
    )
    assert embed_svg(path, 'f1-"') == (
        '<svg viewBox="0 0 1 1" aria-hidden="true" focusable="false">'
        '<defs><path id="f1-&quot;glyph" d="M 0 0 L 1 1" /><path d="M 1 1" /></defs>'
        '<use href="#f1-&quot;glyph" style="fill: url(#f1-&quot;glyph); stroke: none" />'
        '<image /><image href="data:image/png;base64,AA==" /></svg>'
    )


@pytest.mark.parametrize("text", [None, "", "<svg"])
def test_broken_figures_are_named(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "broken.svg"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=r"broken\.svg"):
        embed_svg(path, "f1-")


def test_claims_are_counted_and_transfers_are_apart(page: str) -> None:
    section = page[page.index('<h2 id="claims"') : page.index('<h2 id="costs"')]
    decided, folded = section.split("<details>")
    text = words(f"<body>{decided}")
    assert (
        "Of 38 claims of the exercise's write-up: 1 supported , 8 refuted , 29 not measured" in text
    )
    assert "transfer" not in text and decided.count("<tr id=") == 9
    assert "VGG11 has about as many parameters as ResNet." in text
    assert "26.02 (exact), claimed 0.8 to 1.25: does not hold" in text
    text = words(f"<body>{folded}")
    assert folded.count("<tr id=") == 29 and "transfer:" in text
    assert "snakemake --cores all --config study=normalization" in text
    assert "This study, unless said otherwise: synthetic digits (8x8) instead of cifar10;" in text
    assert "contradicts: ConvNet starts with the highest loss. (not measured)" in text
    assert "it needs epoch 30; the study has 5" in text


def test_a_users_claims_come_first_and_are_escaped(small: Path) -> None:
    claims = small / "mine.json"
    mine = {"id": "mine", "statement": HOSTILE, "design": {}, "own": True}
    others = [
        mine | {"test": "params(resnet/batch) > 1", "figure": "test_accuracy"},
        mine | {"id": "more", "test": "params(resnet/batch) < 1", "contradicts": ["mine"]},
    ]
    claims.write_text(json.dumps([*exercise_claims(), *others]))
    options = table_options(small, "curves", "complexity", "timing")
    names = ("study", "dataset")
    options += [part for name in names for part in (f"--{name}", str(small / f"{name}.json"))]
    out = small / "claims.csv"
    check_claims.main([*options, "--claims", str(claims), "--out", str(out)])
    page = render(small, [draw(small, plot_test_accuracy, "test_accuracy")])
    section = page[page.index('<h2 id="claims"') : page.index('<h2 id="costs"')]
    text = words(f"<body>{section}")
    assert "Of 2 claims of your own: 1 supported , 1 refuted ." in text
    assert text.index("Your own") < text.index("not measured by this study")
    assert "&lt;script&gt;alert(1)" in section and "<script>" not in section
    assert 'href="#figure-1"' in section
    assert text.count('contradicts: <script>alert(1)</script> & "x"') == 2


# ---- In a browser ----


@pytest.fixture
def tab(browser: Any, study: Path) -> Iterator[Any]:
    """The report in a tab."""
    with opened(browser, study / "report.html") as tab:
        yield tab


def is_drawn(screenshot: bytes) -> bool:
    """Whether a screenshot has many colours, as text and figures have."""
    return len(Image.open(BytesIO(screenshot)).convert("RGB").getcolors(maxcolors=1 << 24)) > 100


def test_page_is_drawn_and_fits_narrow_and_dark_screens(tab: Any) -> None:
    for width, scheme in ((1200, "light"), (420, "dark")):
        tab.set_viewport_size({"width": width, "height": 900})
        tab.emulate_media(color_scheme=scheme)
        assert is_drawn(tab.screenshot(full_page=True))
        assert tab.evaluate("document.documentElement.scrollWidth") == width
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"


def column(tab: Any, number: int) -> list[str]:
    """The texts of a column of the table of results, without the intervals."""
    cells = tab.locator(f"#results ~ .scroll tbody tr > :nth-child({number})").all_inner_texts()
    return [cell.split("\n")[0] for cell in cells]


def test_results_are_sorted_by_click_and_by_keyboard(tab: Any) -> None:
    header = tab.locator("#results ~ .scroll thead th").nth(3)
    before = column(tab, 4)
    header.get_by_role("button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    assert column(tab, 4) == sorted(before, key=float) != before
    tab.keyboard.press("Enter")  # the header has the focus
    assert header.get_attribute("aria-sort") == "descending"
    assert column(tab, 4) == sorted(before, key=float, reverse=True)
    tab.keyboard.press("Enter")
    assert header.get_attribute("aria-sort") is None
    assert column(tab, 4) == before


def test_figure_opens_zooms_and_closes_by_keyboard(tab: Any) -> None:
    button, viewer = tab.locator(".zoom").nth(1), tab.locator("#viewer")
    button.focus()
    tab.keyboard.press("Enter")
    assert viewer.is_visible()
    drawing = viewer.locator("svg")
    whole = drawing.get_attribute("viewBox")
    tab.keyboard.press("+")
    tab.keyboard.press("ArrowRight")
    zoomed = [float(number) for number in drawing.get_attribute("viewBox").split()]
    assert zoomed[2] == pytest.approx(float(whole.split()[2]) / 1.4)
    tab.mouse.wheel(0, -100)
    tab.keyboard.press("0")
    assert drawing.get_attribute("viewBox") == whole
    tab.keyboard.press("Escape")
    assert not viewer.is_visible()
    assert button.locator("svg").get_attribute("viewBox") == whole
    assert button.evaluate("button => button === document.activeElement")


def test_figure_is_moved_by_mouse(tab: Any) -> None:
    tab.locator(".zoom").first.click()
    drawing = tab.locator("#viewer svg")
    x, *_ = map(float, drawing.get_attribute("viewBox").split())
    tab.mouse.move(600, 500)
    tab.mouse.down()
    tab.mouse.move(700, 500)
    tab.mouse.up()
    moved, *_ = map(float, drawing.get_attribute("viewBox").split())
    assert moved < x
    tab.mouse.wheel(0, -300)
    tab.wait_for_function("width => drawing.viewBox.baseVal.width < width", arg=400)
    tab.get_by_role("button", name="Close").click()
    assert not tab.locator("#viewer").is_visible()


def test_print_view_has_the_results_without_controls(tab: Any) -> None:
    tab.set_viewport_size({"width": 690, "height": 990})
    tab.emulate_media(media="print")
    assert not tab.locator("nav").is_visible()
    assert tab.locator("#results ~ .scroll table").is_visible()
    assert tab.evaluate("document.documentElement.scrollWidth") <= 690
    assert is_drawn(tab.screenshot(full_page=True))
