"""What changes a fingerprint, and what must not."""

import shutil
from pathlib import Path

import pytest

from normres import catalog, fingerprint

SCRIPTS = Path(fingerprint.__file__).parents[1]


@pytest.fixture
def scripts(tmp_path, monkeypatch):
    """A copy of the scripts that a test may edit, as the fingerprints' code."""
    copy = tmp_path / "scripts"
    shutil.copytree(SCRIPTS, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(fingerprint, "SCRIPTS", copy)
    return copy


def fresh(function, *arguments):
    for memo in (fingerprint._imports, fingerprint._tree, fingerprint._digest):
        memo.cache_clear()
    return function(*arguments)


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def runs():
    """Fingerprint of a run of every network with every norm."""
    return {
        (network, norm): fresh(fingerprint.of_run, network, norm)
        for network in catalog.names("networks")
        for norm in catalog.names("norms")
    }


def changed(before, after):
    return {key for key in before if before[key] != after[key]}


def test_comments_docstrings_and_layout_do_not_count(scripts):
    before = runs()
    path = scripts / "normres" / "training.py"
    text = path.read_text()
    text = text.replace('"""The training of one run', '"""Another text', 1)
    text = text.replace(
        "        self.history.append(row)", "        # why\n\n        self.history.append( row )"
    )
    path.write_text("# a comment\n" + text)
    assert not changed(before, runs())


def test_a_network_concerns_its_own_runs(scripts):
    before = runs()
    edit(scripts / "normres/networks/vgg11.py", "nn.Dropout(0.5)", "nn.Dropout(0.4)")
    assert {network for network, _ in changed(before, runs())} == {"vgg11"}


def test_a_network_that_builds_on_another_follows_it(scripts):
    before = runs()
    edit(scripts / "normres/networks/resnet.py", "padding=1", "padding=2")
    assert {network for network, _ in changed(before, runs())} == {"resnet", "plainnet"}


def test_a_norm_concerns_its_own_runs(scripts):
    before = runs()
    edit(
        scripts / "normres/norms/group.py", "GroupNorm(groups, channels,", "GroupNorm(1, channels,"
    )
    assert {norm for _, norm in changed(before, runs())} == {"group"}


@pytest.mark.parametrize("module", ["training", "evaluation", "batches", "models", "seeding"])
def test_what_trains_and_measures_concerns_all_runs(scripts, module):
    before = runs()
    path = scripts / f"normres/{module}.py"
    path.write_text(path.read_text() + "\nADDED = 1\n")
    assert changed(before, runs()) == set(before)


@pytest.mark.parametrize(
    "module",
    [
        *("progress", "files", "errors", "config", "store", "environment", "figures", "datasets"),
        *("options", "leases"),
    ],
)
def test_what_cannot_change_a_number_concerns_no_run(scripts, module):
    before = runs()
    path = scripts / f"normres/{module}.py"
    path.write_text(path.read_text() + "\nADDED = 1\n")
    assert not changed(before, runs())


def test_the_figure_style_concerns_all_figures_and_a_figure_only_itself(scripts):
    figures = sorted(path.stem for path in scripts.glob("plot_*.py"))
    before = {name: fresh(fingerprint.fingerprint, name) for name in figures}
    path = scripts / f"{figures[0]}.py"
    path.write_text(path.read_text() + "\nADDED = 1\n")
    after = {name: fresh(fingerprint.fingerprint, name) for name in figures}
    assert changed(before, after) == {figures[0]}
    path = scripts / "normres/figures.py"
    path.write_text(path.read_text() + "\nADDED = 1\n")
    assert changed(after, {n: fresh(fingerprint.fingerprint, n) for n in figures}) == set(figures)


def test_values_and_operators_count(scripts):
    seen = {fresh(fingerprint.fingerprint, "normres.seeding")}
    path = scripts / "normres/seeding.py"
    original = path.read_text()
    for old, new in [(">> 1", ">> 2"), (">> 1", "<< 1"), ('"big"', '"little"'), ("[:8]", "[:4]")]:
        path.write_text(original.replace(old, new))
        seen.add(fresh(fingerprint.fingerprint, "normres.seeding"))
    assert len(seen) == 5
