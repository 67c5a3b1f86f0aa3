"""What a reader switches in the report: networks, norms and axis values, in figures and tables."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import plot_final_accuracy_by_axis
import plot_test_accuracy
import synthetic
from normres.gallery import ENTRIES
from normres.parts import attributes, cells_of, id_attributes, shared_cells
from normres.svg import embed_svg
from report_pages import draw, opened, render, words, write_inputs

STUDY = {"axes": {"batch_size": [32, 128]}}
DRAWN = (
    "test_accuracy",
    "final_accuracy",
    "ranking",
    "seed_spread",
    "parameters_vs_macs",
    "pareto",
)
PARTS = "svg [data-model], svg [data-norm]"


def test_cells_name_a_configuration_and_what_several_share() -> None:
    rows = pd.DataFrame(
        {
            "model": ["resnet", "resnet"],
            "norm": ["none", "batch"],
            "batch_size": ["32", None],
            "mean": [1, 1],
        }
    )
    assert cells_of(rows.iloc[0], STUDY) == {
        "model": "resnet",
        "norm": "none",
        "batch_size": "32",
    }
    assert cells_of(rows.iloc[1], STUDY) == {"model": "resnet", "norm": "batch"}
    assert shared_cells(rows, STUDY) == {"model": "resnet"}
    assert shared_cells(rows.head(0), STUDY) == {}


def test_attributes_hold_both_sides_and_no_space() -> None:
    sides = {"model": "resnet", "norm": "none"}, {"model": "resnet", "norm": "a b"}
    assert attributes(*sides) == {"data-model": "resnet", "data-norm": "none a%20b"}


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("part-3?model=resnet&norm=a%20b", {"data-model": "resnet", "data-norm": "a%20b"}),
        ("part-3?onclick x=1", {}),
        ("part-x?model=resnet", {}),
        ("line2d_3", {}),
    ],
)
def test_only_ids_of_parts_become_attributes(name: str, found: dict[str, str]) -> None:
    assert id_attributes(name) == found


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of three networks and two norms with six figures, reported."""
    folder = tmp_path_factory.mktemp("switched")
    write_inputs(folder, "quickstart", norms=["none", "group"])
    synthetic.compare(folder / "study.json", {"of": {"norm": "group"}, "against": {"norm": "none"}})
    figures = [draw(folder, importlib.import_module(ENTRIES[n].command), n) for n in DRAWN]
    render(folder, figures)
    return folder


@pytest.fixture
def tab(browser: Any, study: Path) -> Iterator[Any]:
    """The report in a tab."""
    with opened(browser, study / "report.html") as tab:
        yield tab


@pytest.mark.parametrize("name", DRAWN)
def test_every_configuration_has_parts_of_its_own_in_a_figure(study: Path, name: str) -> None:
    markup = str(embed_svg(study / f"figures/{name}.svg", "f1-"))
    complete = pd.read_csv(study / "summary.csv", keep_default_na=False)
    for row in complete.to_dict("records"):
        assert markup.count(f'data-model="{row["model"]}" data-norm="{row["norm"]}"') >= 2, row
    assert "part-" not in markup


def shown(tab: Any, selector: str) -> list[str]:
    """Network and norm of each element that is displayed."""
    return tab.evaluate(
        """selector => [...document.querySelectorAll(selector)]
        .filter(part => getComputedStyle(part).display !== "none")
        .map(part => `${part.dataset.model ?? ""} ${part.dataset.norm ?? ""}`)""",
        selector,
    )


def test_a_network_is_switched_off_by_keyboard_and_all_come_back(tab: Any) -> None:
    rows = "section[aria-labelledby=results] tbody tr"
    before = {selector: shown(tab, selector) for selector in (PARTS, rows)}
    assert len(before[rows]) == 6 and "vgg11 group" in before[PARTS]
    status = tab.locator("#filter [role=status]")
    assert status.inner_text() == "All 6 configurations are shown."
    tab.get_by_role("button", name="Show or hide configurations").focus()
    tab.keyboard.press("Tab")  # convnet
    tab.keyboard.press("Tab")
    tab.keyboard.press("Space")
    assert not tab.get_by_role("checkbox", name="vgg11").is_checked()
    for selector, all_of_them in before.items():
        rest = [part for part in all_of_them if not part.startswith("vgg11")]
        assert shown(tab, selector) == rest
    figures = tab.locator("figure")
    for number in range(figures.count()):  # every figure lost some
        assert figures.nth(number).locator("svg .off").count()
    assert status.inner_text().startswith(
        "4 of 6 configurations are shown: networks convnet, resnet."
    )
    tab.get_by_role("checkbox", name="group").uncheck()
    assert shown(tab, rows) == ["convnet none", "resnet none"]
    assert "networks convnet, resnet; norms none." in status.inner_text()
    tab.get_by_role("button", name="Show all").press("Enter")
    tab.wait_for_function("!document.querySelector('.off')")
    assert {selector: shown(tab, selector) for selector in before} == before
    assert status.inner_text() == "All 6 configurations are shown."


def test_costs_layers_and_comparisons_are_switched_too(tab: Any) -> None:
    tab.get_by_role("checkbox", name="resnet").uncheck()
    costs = "section[aria-labelledby=costs] "
    for selector in (f"{costs}tbody tr[data-model]", f"{costs}details[data-model]"):
        assert {part.split()[0] for part in shown(tab, selector)} == {"convnet", "vgg11"}
    # A comparison is of two configurations, and is shown where both are.
    compared = "section[aria-labelledby=comparisons] tbody tr"
    assert not [part for part in shown(tab, compared) if "resnet" in part]
    assert "vgg11 none group" in [
        part.replace("group none", "none group") for part in shown(tab, compared)
    ]
    tab.get_by_role("checkbox", name="none").uncheck()
    rest = shown(tab, compared)
    assert rest and not [part for part in rest if "none" in part.split()]


def test_what_is_switched_off_stays_so_when_sorted_and_enlarged(tab: Any) -> None:
    tab.get_by_role("checkbox", name="vgg11").uncheck()
    tab.locator("#results ~ .scroll thead button").nth(3).click()
    rows = shown(tab, "section[aria-labelledby=results] tbody tr")
    assert len(rows) == 4 and "vgg11" not in " ".join(rows)
    tab.locator(".zoom").first.click()
    there = shown(tab, "#viewer svg [data-model]")
    assert there and "vgg11" not in " ".join(there)
    tab.keyboard.press("Escape")


def test_switches_are_native_named_and_grouped(tab: Any) -> None:
    groups = tab.locator("#filter fieldset")
    assert groups.locator("legend").all_inner_texts() == ["Networks", "Norms"]
    boxes = tab.locator("#filter input")
    assert boxes.evaluate_all(
        "all => all.every(box => box.type === 'checkbox' && box.labels.length)"
    )
    opener = tab.get_by_role("button", name="Show or hide configurations")
    assert opener.get_attribute("aria-expanded") == "true"
    opener.press("Enter")
    assert opener.get_attribute("aria-expanded") == "false"
    assert not boxes.first.is_visible()
    said = tab.get_by_text("Captions, findings, ranks, fronts and tests are of all configurations")
    assert not said.is_visible()
    opener.press("Enter")
    assert said.is_visible()


def test_print_has_what_is_shown_and_says_so(tab: Any) -> None:
    status = tab.locator("#filter [role=status]")
    tab.emulate_media(media="print")
    assert not status.is_visible()
    tab.emulate_media(media="screen")
    tab.get_by_role("checkbox", name="vgg11").uncheck()
    tab.emulate_media(media="print")
    assert status.is_visible() and not tab.locator("#filter form").is_visible()
    assert "vgg11" not in " ".join(shown(tab, PARTS))


def test_on_a_narrow_screen_the_switches_are_folded(browser: Any, study: Path) -> None:
    with opened(browser, study / "report.html", viewport={"width": 420, "height": 700}) as tab:
        assert not tab.locator("#filter form").is_visible()
        tab.get_by_role("button", name="Show or hide configurations").click()
        assert tab.get_by_role("checkbox", name="vgg11").is_visible()
        assert tab.evaluate("document.documentElement.scrollWidth") == 420


def test_without_javascript_all_is_shown_and_no_switch(browser: Any, study: Path) -> None:
    with opened(browser, study / "report.html", java_script_enabled=False) as tab:
        assert not tab.locator("#filter").is_visible()
        assert tab.locator("svg [data-model=vgg11]").first.is_visible()


def test_axis_values_are_switched(browser: Any, tmp_path: Path) -> None:
    folder = tmp_path / "axis"
    write_inputs(folder, "batch-size", epochs=3)
    curves = draw(folder, plot_test_accuracy, "test_accuracy")
    axis = ("--axis", "batch_size")
    ends = draw(folder, plot_final_accuracy_by_axis, "final_accuracy_by_batch_size", *axis)
    render(folder, [curves, ends])
    with opened(browser, folder / "report.html") as tab:
        assert tab.locator("#filter legend").all_inner_texts() == ["Norms", "Batch size"]
        assert tab.locator("figure:nth-of-type(1) svg [data-batch_size='128']").count()
        tab.get_by_role("checkbox", name="128").uncheck()
        sizes = tab.evaluate(
            """selector => [...document.querySelectorAll(selector)]
            .filter(part => !part.matches(".off")).map(part => part.dataset.batch_size)""",
            "figure:nth-of-type(1) svg [data-batch_size]",
        )
        assert set(sizes) == {"32"}
        assert len(shown(tab, "section[aria-labelledby=results] tbody tr")) == 2
        # Its lines go over all batch sizes: they belong to a norm alone.
        assert tab.locator("figure:nth-of-type(2) svg [data-norm]").count()
        assert not tab.locator("figure:nth-of-type(2) svg .off").count()


@pytest.mark.slow
def test_report_of_the_default_grid_is_small(tmp_path: Path) -> None:
    write_inputs(tmp_path, "quickstart", norms=["none", "batch", "group"], seeds=5, epochs=50)
    plain = {name: entry for name, entry in ENTRIES.items() if not entry.tables}
    figures = [
        draw(tmp_path, importlib.import_module(entry.command), name, *entry.arguments.split())
        for name, entry in plain.items()
    ]
    assert len(figures) >= 10
    assert len(render(tmp_path, figures).encode()) < 4e6  # the others have 0.4 MB


def test_one_configuration_has_no_switch(tmp_path: Path) -> None:
    write_inputs(tmp_path, "single")
    page = render(tmp_path)
    assert 'id="filter"' not in page and "Abstract" in words(page)
