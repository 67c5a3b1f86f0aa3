"""Configurations at random: whatever stands in config.yaml, read_config returns or says one line.

Valid configurations are generated from the schema itself, so that a new option is covered as soon
as it is there; then each is broken in random places with values that hurt elsewhere.
"""

import datetime
import re
from copy import deepcopy
from itertools import chain
from types import SimpleNamespace

import hypothesis.strategies as st
import pytest
import yaml
from hypothesis import HealthCheck, given, settings

from normres import catalog
from normres.config import read_config
from normres.dataset_facts import SIZES
from normres.errors import InputError
from normres.options import option_schemas, schema
from normres.pipeline import Pipeline

EXAMPLES = settings(
    max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)

HOSTILE_TEXTS = [
    "",
    " ",
    "'",
    '"; touch x; "',
    "$(touch x)",
    "`touch x`",
    "a\nb",
    "a\n",
    "a\rb\tc\x1b[2J",
    "\0",
    "\u2028",
    "\ud800",
    "../../up",
    "/etc/passwd",
    "{wildcards.study}",
    "{{7*7}}",
    "%s%n",
    "<script>alert(1)</script>",
    "*",
    "~",
    "~nobody/there",
    "-rf",
    "n" * 100_000,
    "9" * 5000,
    "1e999",
    "nan",
    "NaN",
    "-inf",
    "0x10",
    "١٢",
    "1_000",
    "true",
    "null",
    "[1, 2",
    "é ü 漢",
]


def itself():
    """A list that contains itself, as YAML's `&a [*a]`."""
    value = []
    value.append(value)
    return value


def deep():
    """Lists in lists, more than Python's stack holds."""
    value = []
    for _ in range(3000):
        value = [value]
    return value


hostile = st.one_of(
    st.sampled_from(HOSTILE_TEXTS),
    st.text(),
    st.sampled_from([None, True, False, 0, -1, 0.5, -0.0, 1e308, 10**400, -(10**5000), 2**64]),
    st.sampled_from([float("nan"), float("inf"), float("-inf"), datetime.date(2024, 1, 1), b"x"]),
    st.sampled_from([[], {}, [[]], [None], {"a": {}}, {1: 2}, {None: 1}, {"": ""}]).map(deepcopy),
    st.builds(itself) | st.builds(deep) | st.builds(lambda: {"x", "y"}),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
        max_leaves=8,
    ),
)


def values(value_schema):
    """Values that fit a schema of config.schema.yaml, small ones where it sets no limit."""
    if "enum" in value_schema:
        return st.sampled_from(value_schema["enum"])
    kinds = value_schema["type"]
    kind = kinds if isinstance(kinds, str) else kinds[0]
    low = value_schema.get("exclusiveMinimum", value_schema.get("minimum", 0))
    high = value_schema.get("exclusiveMaximum", value_schema.get("maximum", 100))
    if kind == "boolean":
        return st.booleans()
    if kind == "integer":
        return st.integers(low, min(high, 100))
    if kind == "number":
        open_ends = {
            "exclude_min": "exclusiveMinimum" in value_schema,
            "exclude_max": "exclusiveMaximum" in value_schema,
        }
        return st.floats(low, high, **open_ends)
    assert kind == "string", value_schema
    return st.text("abc ?", min_size=value_schema.get("minLength", 0), max_size=10)


def lists(items, **sizes):
    return st.lists(items, min_size=1, max_size=3, unique=True, **sizes)


@st.composite
def comparisons(draw, models, norms):
    """A comparison of two sides, possible or not."""
    named = {"model": st.sampled_from(models), "norm": st.sampled_from(norms)}
    named["batch_size"] = st.sampled_from([32, 128])
    keys = draw(lists(st.sampled_from(list(named))))
    entry = {side: {key: draw(named[key]) for key in keys} for side in ("of", "against")}
    return entry | draw(st.sampled_from([{}, {"paired": True}, {"metric": "test_loss"}]))


@st.composite
def claims(draw, models, norms):
    """A claim about two of a study's configurations, with a test that may be wrong."""
    one, other = (f"{draw(st.sampled_from(models))}/{draw(st.sampled_from(norms))}" for _ in "ab")
    test = draw(
        st.sampled_from(
            [
                "accuracy({}, last) - accuracy({}, last) >= margin",
                "params({}) / params({}) in [0.5, margin]",
                "train_loss({}, 1) > 2 and (test_loss({}, 0..1) < 3 or macs({}) = 2 within margin)",
                "macs({}) > > macs({})",
                "__import__('os').system('{}')",
            ]
        )
    )
    claim = {"id": draw(st.sampled_from(["a", "b-1", "norm-helps"])), "statement": "It is so."}
    return claim | {
        "test": test.format(one, other, one),
        "margins": {"margin": draw(st.floats(0, 9))},
    }


@st.composite
def studies(draw):
    """A study that fits the schema; whether it is possible (groups, sizes) is another question."""
    properties = schema()["$defs"]["study"]["properties"]
    models = draw(lists(st.sampled_from(catalog.names("networks"))))
    study = {
        "dataset": draw(st.sampled_from(sorted(SIZES))),
        "models": models,
        "norms": draw(lists(st.sampled_from(catalog.names("norms")))),
        "seeds": draw(lists(values(properties["seeds"]["items"]))),
        "epochs": draw(values(properties["epochs"])),
    }
    if draw(st.booleans()):
        study["title"] = draw(values(properties["title"]))
    chosen = draw(st.lists(st.sampled_from(list(option_schemas())), max_size=4, unique=True))
    for name in chosen:
        value = values(option_schemas()[name])
        study[name] = draw(value | lists(value))
    if draw(st.booleans()):
        name = draw(st.sampled_from(list(option_schemas())))
        study["overrides"] = {models[0]: {name: draw(values(option_schemas()[name]))}}
    if draw(st.booleans()):
        study["exclude"] = [{"model": models[0], "reason": draw(st.text("ab", min_size=1))}]
    if draw(st.booleans()):
        declared = comparisons(models, study["norms"])
        study["comparisons"] = draw(st.lists(declared, min_size=1, max_size=2))
    if draw(st.booleans()):
        study["claims"] = draw(st.lists(claims(models, study["norms"]), min_size=1, max_size=2))
    return study


@st.composite
def configurations(draw):
    """A configuration that fits the schema, with settings and a group of studies."""
    names = draw(lists(st.from_regex(r"\A[a-z0-9][a-z0-9_-]{0,9}\Z")))
    names = [name for name in names if name not in ("data", "store")] or ["s"]
    config = {"studies": {name: draw(studies()) for name in names}}
    config["study"] = draw(st.sampled_from(names) | lists(st.sampled_from(names)))
    for name, value_schema in schema()["properties"].items():
        if name not in config and value_schema["type"] != "array" and draw(st.booleans()):
            config[name] = draw(values(value_schema))
    return config


def places(value, so_far=()):
    """The path to every member of nested maps and lists, eight levels down at most."""
    members = value.items() if isinstance(value, dict) else enumerate(value)
    for key, member in members:
        yield (*so_far, key)
        if isinstance(member, dict | list) and len(so_far) < 7:
            yield from places(member, (*so_far, key))


@st.composite
def broken(draw):
    """A valid configuration, broken in one to three places: replaced, removed, added or renamed."""
    config = deepcopy(draw(configurations()))
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from(list(places(config)) or [("study",)]))
        parent = config
        for key in way:
            parent = parent[key]
        if last not in (parent if isinstance(parent, dict) else range(len(parent))):
            continue  # all is gone already
        action = draw(st.sampled_from(["replace", "replace", "remove", "add", "rename"]))
        if action == "replace":
            parent[last] = draw(hostile)
        elif action == "remove":
            del parent[last]
        elif isinstance(parent, list):
            parent.append(draw(hostile))
        else:
            key = draw(st.sampled_from(HOSTILE_TEXTS) | st.text() | st.sampled_from([1, None, 0.5]))
            parent[key] = parent.pop(last) if action == "rename" else draw(hostile)
    return config


def verdict(config):
    """What read_config says: "" where it returns; the line, which must be one, where it refuses."""
    try:
        pipeline = Pipeline(read_config(config))
    except InputError as error:
        line = str(error)
        assert line and line.isprintable(), f"not one line: {line!r}"
        assert len(line) < 3000, f"{len(line)} characters: {line[:200]}"
        return line
    check_paths(pipeline)
    return ""


def check_paths(pipeline):
    """No file of a configuration that is accepted lies outside results/, or needs quotes."""
    collected = [pipeline.run_files(SimpleNamespace(study=name)) for name in pipeline.studies]
    for path in chain(pipeline.deliverables(None), *collected):
        assert re.fullmatch(r"results(/[\w.+=-]+)+", path, re.ASCII), path
        parts = path.split("/")
        assert ".." not in parts and max(map(len, parts)) < 200, path


@EXAMPLES
@given(configurations())
def test_a_configuration_from_the_schema_is_taken_or_refused_in_a_line(config):
    verdict(config)


def test_the_generator_makes_configurations_that_are_taken():
    """Else the tests here would test the refusal of one and the same mistake."""
    outcomes = []

    @settings(EXAMPLES, max_examples=100)
    @given(configurations())
    def count(config):
        outcomes.append(verdict(config))

    count()
    taken = outcomes.count("")
    assert taken > 10 and len(set(outcomes)) > 10, f"{taken} of {len(outcomes)} taken"


@EXAMPLES
@given(broken())
def test_a_broken_configuration_is_taken_or_refused_in_a_line(config):
    verdict(config)


@pytest.mark.slow
@settings(EXAMPLES, max_examples=2_000, derandomize=False)
@given(broken())
def test_many_broken_configurations(config):
    verdict(config)


SMALL = {"dataset": "digits", "models": ["convnet"], "norms": ["none"], "seeds": [0], "epochs": 1}
TEXT_KEYS = ["title", "dataset", "folder", "models", "norms", "seeds", "epochs", "learning_rate"]
TEXT_KEYS += ["optimizer", "reason", "study", "name of the study", "key", "device", "data_root"]


@pytest.mark.parametrize("key", TEXT_KEYS)
def test_hostile_texts_everywhere(key, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for text in HOSTILE_TEXTS:
        study = {**SMALL}
        config = {"study": "s", "studies": {"s": study}}
        match key:
            case "folder":
                study["dataset"] = {"folder": text}
            case "models" | "norms" | "seeds":
                study[key] = [text]
            case "reason":
                study["models"] = ["convnet", "resnet"]
                study["exclude"] = [{"model": "resnet", "reason": text}]
            case "name of the study":
                config |= {"study": text, "studies": {text: study}}
            case "key":
                study[text] = 1
            case "study" | "device" | "data_root":
                config[key] = text
            case _:
                study[key] = text
        verdict(config)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("key", [*schema()["$defs"]["study"]["properties"], *option_schemas()])
@pytest.mark.parametrize("kind", ["nested", "itself", "huge", "date", "bytes", "set"])
def test_what_yaml_can_say_beside_text_and_numbers(key, kind):
    text = {
        "nested": "[" * 60 + "]" * 60,
        "itself": "&a [*a]",
        "huge": "0x" + "f" * 5000,
        "date": "2024-01-01",
        "bytes": "!!binary aGk=",
        "set": "!!set {a, b}",
    }[kind]
    config = {"study": "s", "studies": {"s": {**SMALL, key: yaml.safe_load(text)}}}
    assert key in verdict(config)


def test_a_grid_that_would_never_end_is_refused():
    many = {name: [i / 1000 for i in range(1, 500)] for name in ("learning_rate", "beta1", "beta2")}
    line = verdict({"study": "s", "studies": {"s": {**SMALL, **many}}})
    assert "124251499 runs" in line and "studies.s" in line
