"""The pages of docs/ that list what there is agree with the code."""

import pytest

from conftest import PROJECT
from count_complexity import count_network
from documentation import option_rows, section, table_rows, undocumented
from normres import catalog
from normres.analyses import ANALYSES
from normres.options import resolve

PAGE = "options.md"


@pytest.mark.parametrize("heading", ["The file", "A study", "Training options"])
def test_every_key_of_the_schema_has_its_row(heading):
    assert table_rows(PAGE, heading) == option_rows()[heading]


@pytest.mark.parametrize("heading, kind", [("Networks", "networks"), ("Norms", "norms")])
def test_every_network_and_norm_has_a_row(heading, kind):
    named = [row.split("`")[1] for row in table_rows(PAGE, heading)]
    assert sorted(named) == catalog.names(kind)


@pytest.mark.parametrize("model", catalog.names("networks"))
def test_parameters_and_macs_are_those_counted(model):
    (row,) = [row for row in table_rows(PAGE, "Networks") if row.startswith(f"| `{model}`")]
    _, _, parameters, macs, side = row.strip("| ").split(" | ")
    none, *normed = (
        count_network(resolve(model, norm, 0, 1, {}), (3, 32, 32), 10)
        for norm in ("none", "batch", "group")
    )
    (params,) = {counted.params for counted in normed}
    assert parameters == f"{none.params:,}, {params:,}"
    assert {f"{counted.macs:,}" for counted in (none, *normed)} == {macs}
    assert side == f"{catalog.constant('networks', model, 'MIN_SIDE')} or more"


def test_a_column_that_no_page_names_is_found(tmp_path):
    """What test_workflow.py asks of every table that a study writes."""
    table = tmp_path / "timing.csv"
    table.write_text("model,norm,step_seconds,step_centuries\n")
    assert undocumented(table) == ["step_centuries"]
    table = tmp_path / "summary.csv"
    table.write_text("gap_mean,gap_low,gap_median\n")
    assert undocumented(table) == ["gap_median"]


def test_published_tables_have_these_columns_too():
    named = [*PROJECT.glob("docs/results/*/summary.csv"), *PROJECT.glob("docs/results/*/runs.csv")]
    assert len(named) == 6
    for table in named:
        assert undocumented(table) == []


def test_every_table_of_an_analysis_is_described():
    described = section("studies.md", "Columns of these tables")
    for name in ANALYSES:
        assert f"| `{name}.csv` |" in described
