"""The language of claims: what it reads, the line that each mistake gets, and a user's claims."""

import time
from dataclasses import replace

import pytest
import yaml

import check_claims
from claim_tables import CLAIMS, DATASET, make_tables
from conftest import PROJECT
from normres import gallery
from normres.claim_designs import differences
from normres.claims import exercise_claims, read_claims, study_claims
from normres.config import read_config
from normres.errors import InputError
from normres.expression_parser import LONGEST, parse
from normres.expressions import Compare, Equivalent, Every, Inside, Some, constant_value
from normres.pipeline import Pipeline

MARGINS = {"low": 1, "high": 2}
A, B = "accuracy(resnet/none, last)", "accuracy(resnet/batch, last)"


@pytest.mark.parametrize(
    "text, kind",
    [
        (f"{A} > {B}", Compare),
        (f"{A} - {B} * 2 <= -low", Compare),
        (f"({A} + 1) / 2 > 3", Compare),
        (f"{A} in [low, 2 * high]", Inside),
        (f"{A} = {B} within low", Equivalent),
        (f"{A} > 1 and {B} < 2 and params(resnet/none) > 3", Every),
        (f"({A} > 1 or {B} < 2) and {A} > 0", Every),
        (f"{A} > 1 and {B} < 2 or {A} > 0", Some),
        ("slope(accuracy(resnet/none, 21..last-1)) > 0", Compare),
        (f"epochs_to(accuracy(resnet/none), 0.9 * mean({B})) < 3", Compare),
        ("trend(log10(first_gradient(resnet/none/depth=*, 0))) > 0", Compare),
    ],
)
def test_what_the_language_reads(text, kind):
    assert isinstance(parse(text, MARGINS), kind)


def test_constants_are_computed_and_operators_bind_as_usual():
    test = parse(f"{A} > 1 + 2 * 3 - 8 / 4", {})
    assert constant_value(test.right) == 5
    assert parse(f"{A} < high", MARGINS).right.value == 2


@pytest.mark.parametrize(
    "text, where, what",
    [
        ("", "at the end", "expected"),
        ("acuracy(resnet/none, 1) > 0", "character 1", "did you mean 'accuracy'?"),
        ("accuracy(resnet/none) > 0", "character 1", "needs an epoch here"),
        ("accuracy(resnet, 1) > 0", "character 10", "expected a configuration"),
        ("accuracy(resnet/none, soon) > 0", "character 23", "expected an epoch"),
        ("accuracy(resnet/none, 9..3) > 0", "character 23", "ends after it starts"),
        ("accuracy(resnet/none, 1) > margin", "character 28", "unknown margin 'margin'"),
        ("accuracy(resnet/none, 1)", "at the end", "expected <, <=, >, >="),
        ("accuracy(resnet/none, 1) > 0 and", "at the end", "expected"),
        ("accuracy(resnet/none, 1) > 0 xor 1", "character 30", "expected `and`, `or`"),
        ("accuracy(resnet/none, 1) == 0", "character 27", "expected"),
        ("accuracy(resnet/none, 1) in [2, 1]", "character 30", "ends before it starts"),
        (f"{A} = {B} within 0", "character 67", "above 0"),
        ("params(resnet/none, 1) > 0", "character 20", "params has no epochs"),
        ("slope(params(resnet/none)) > 0", "character 7", "a statistic over epochs"),
        ("slope(accuracy(resnet/none, 1)) > 0", "character 7", "a range of epochs"),
        ("accuracy(resnet/none/depth=*, 1) > 0", "character 1", "only stands inside trend"),
        ("trend(accuracy(resnet/none, 1)) > 0", "character 1", "one axis open"),
        ("1 > 0", "character 1", "compares constants only"),
        (f"mean({A}) > 0", "character 1", "mean(...) has no interval"),
        (f"{A} - 2 * mean({B}) > 0", "character 35", "mean(...) has no interval"),
        (f"epochs_to(train_loss(resnet/none), 1) > mean({A})", "character 41", "no interval"),
        ("params(resnet/none) / 0 > 1", "character 23", "division by 0"),
        ("params(resnet/none) > 1e99", "character 23", "too large"),
        ("params(resnet/none) > 1.2345678901234567", "character 23", "more than 15 digits"),
    ],
)
def test_a_mistake_is_one_line_with_its_position(text, where, what):
    with pytest.raises(InputError) as error:
        parse(text, MARGINS)
    message = str(error.value)
    assert where in message and what in message and "\n" not in message


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('touch hacked') > 0",
        "params(resnet/none).__class__ > 0",
        "accuracy.__globals__ > 0",
        "exec('1') > 0",
        "(lambda: 0)() > 0",
        "[x for x in (1,)] > 0",
        "params(resnet/none) ** 9 ** 9 > 0",
        "params(resnet/none) if 1 else 0 > 0",
        "f'{params}' > 0",
        "params(../../etc/passwd) > 0",
        "params(resnet/none;x) > 0",
        "params('resnet/none') > 0",
        "params(*resnet/none) > 0",
        "params(resnet/none) > 0\nimport os",
        "params(resnet/none) > 0 # and",
        "params(resnet/none) > 0j",
        "params(résnet/none) > 0",
        "params(resnet/none) > ١",  # noqa: RUF001 (a digit, and not one of ours)
        "print(1) > 0",
        "x := 1",
        "params[0] > 0",
        "True > 0",
        "\0 > 0",
    ],
)
def test_nothing_else_is_read(text):
    with pytest.raises(InputError):
        parse(text, {})


@pytest.mark.parametrize(
    "text",
    [
        "(" * 1000 + "1",
        "-" * 1000 + "1 > 0",
        "((" * 10 + A + "))" * 10 + " > 0 and",
        "+".join(["params(a/b)"] * 100) + " > 0",
        "(params(a/b) > 0 or " * 50,
        "log(" * 100 + A,
        "params(a/b) > 0 and " * 99 + "1",
        "a" * (LONGEST + 1),
        "1" * LONGEST,
    ],
)
def test_long_and_deep_input_ends_at_once(text):
    started = time.perf_counter()
    with pytest.raises(InputError):
        parse(text, {})
    assert time.perf_counter() - started < 2


# ---- Claims ----


def test_the_claims_of_the_write_up_fit_together():
    claims = list(CLAIMS.values())
    for claim in claims:
        assert claim.figure in gallery.ENTRIES
        assert all(other in CLAIMS and other != claim.id for other in claim.contradicts)
        assert claim.section in ("5.1", "5.2", "both")
    assert [claim.id for claim in claims if not claim.design] == []


@pytest.fixture(scope="module")
def studies():
    """The studies of config.yaml as study.json describes them, by name."""
    config = yaml.safe_load((PROJECT / "config.yaml").read_text())
    names = {claim.design["study"] for claim in CLAIMS.values()} | {"grid"}
    config["study"] = sorted(names)
    return {study.name: study.describe() for study in read_config(config).studies}


@pytest.mark.parametrize("name", CLAIMS)
def test_the_studies_of_the_project_have_the_designs_of_the_claims(studies, name):
    """`grid` has the data, epochs and options of `architectures`, so it answers, too."""
    claim = CLAIMS[name]
    answering = [claim.design["study"]]
    answering += ["grid"] if answering == ["architectures"] else []
    for study in answering:
        tables = replace(make_tables(claim, {}, seeds=2), study=studies[study])
        assert differences(claim, tables, DATASET) == []


MINE = {"id": "mine", "statement": "Mine.", "test": "params(convnet/none/batch_size=16) > 1"}


def own(*claims, everywhere=(), **changes):
    study = {
        "dataset": "digits",
        "models": ["convnet"],
        "norms": ["none", "group"],
        "seeds": [0, 1],
        "epochs": 4,
        "batch_size": [16, 32],
        "claims": list(claims),
        **changes,
    }
    config = read_config({"study": "s", "studies": {"s": study}, "claims": list(everywhere)})
    return study_claims(config.claims, config.studies[0], gallery.ENTRIES)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"test": "params(convnet/none) >"}, "claim mine: test: at the end"),
        ({"test": "speed(convnet/none) > 1"}, "unknown statistic 'speed'"),
        ({"test": "params(convnext/none) > 1"}, "did you mean 'convnet'"),
        ({"test": "params(convnet/nome) > 1"}, "did you mean 'none'"),
        ({"test": "params(convnet/none/batchsize=2) > 1"}, "did you mean 'batch_size'"),
        ({"test": "params(convnet/none/batch_size=x) > 1"}, "'x' is not a whole number"),
        ({"test": "params(convnet/none/batch_size=64) > 1"}, "it has 16, 32"),
        ({"test": "params(convnet/none) > 1"}, "name one, such as /batch_size=16"),
        ({"test": "params(resnet/none) > 1"}, "unknown"),
        ({"test": "params(convnet/batch) > 1"}, "unknown"),
        ({"test": "accuracy(convnet/none/batch_size=16, 9) > 1"}, "the study has epochs 0 to 4"),
        ({"test": "trend(accuracy(convnet/none/depth=*, 1)) > 1"}, "does not vary depth"),
        ({"tests": "x"}, "did you mean 'test'"),
        ({"id": "Mine!"}, "is not a name"),
        ({"id": "norm-helps"}, "two claims of this id"),
        ({"margins": {"a": "b"}}, "'b' is not a number"),
        ({"margins": {"a\n": 1}}, "margins: 'a\\n' is not a name"),
        ({"contradicts": ["nobody"]}, "contradicts 'nobody'"),
        ({"figure": "test_acuracy"}, "did you mean 'test_accuracy'"),
        ({"readings": {"a": "x", "b": "y"}}, "either `test` or `readings`"),
        ({"design": "normalisation"}, "did you mean 'normalization'"),
        ({"design": {"options": {"lr": 1}}}, "unknown"),
        ({"statement": ""}, "is empty"),
        ({"also": {"more": "params(convnet/none) > 1"}}, "also.more"),
        ({"also": {"a\n": "params(convnet/none) > 1"}}, "also.'a\\n'"),
        ({"flag": {"words": "so"}}, "'test' is missing"),
    ],
)
def test_a_wrong_claim_is_one_line_before_anything_starts(change, words):
    with pytest.raises(InputError) as error:
        own({**MINE, **change})
    assert words in str(error.value) and "\n" not in str(error.value)
    assert "config" in str(error.value)


def test_a_claim_for_every_study_may_ask_for_what_one_has_not():
    claims = own(everywhere=[{**MINE, "test": "accuracy(resnet/none, 50) > 1"}])
    assert claims[-1]["own"] and len(claims) == 39
    with pytest.raises(InputError, match=r"config.claims: claim mine: test: at the end"):
        own(everywhere=[{**MINE, "test": "params(convnet/none) >"}])


def test_margins_as_yaml_reads_them():
    claims = own({**MINE, "test": f"{MINE['test'][:-1]}least", "margins": {"least": "1e-4"}})
    assert claims[-1]["margins"] == {"least": 1e-4}


def test_a_claim_is_no_part_of_a_studys_definition():
    study = {
        "dataset": "digits",
        "models": ["convnet"],
        "norms": ["none"],
        "seeds": [0],
        "epochs": 1,
    }

    def pipeline(**changes):
        return Pipeline(read_config({"study": "s", "studies": {"s": {**study, **changes}}}))

    plain, claimed = pipeline(), pipeline(claims=[{**MINE, "test": "params(convnet/none) > 1"}])
    assert plain.definition("s") == claimed.definition("s")
    assert plain.list_file("claims", "s") != claimed.list_file("claims", "s")
    assert plain.listed("claims", "s") != claimed.listed("claims", "s")


def test_a_users_claim_is_answered_by_any_study_that_has_what_it_names():
    claim = read_claims([own(MINE)[-1]], "s")[0]
    tables = make_tables(claim, {}, dataset={"id": "digits", "name": "digits"})
    assert check_claims.judge(claim, tables, DATASET)["verdict"] == "supported"
    asking = read_claims([own({**MINE, "design": {"dataset": "svhn"}})[-1]], "s")[0]
    row = check_claims.judge(
        asking, make_tables(asking, {}, dataset=tables.study["dataset"]), DATASET
    )
    assert row["verdict"] == "not measured" and row["transfer_verdict"] == "supported"


def test_the_command_lists_the_claims(capsys):
    check_claims.main(["--list"])
    said = capsys.readouterr().out
    assert all(claim["id"] in said for claim in exercise_claims())
