"""config.yaml: what it expands to, and the one line that each mistake gets."""

from copy import deepcopy
from pathlib import Path

import pytest
import yaml

from normres import catalog
from normres.config import check_file, read_config, unasked_studies
from normres.dataset_facts import CLASSES, SHAPES, SIZES
from normres.errors import InputError

PROJECT = Path(__file__).parents[1]

SMALL = {
    "dataset": "digits",
    "models": ["convnet", "resnet"],
    "norms": ["none", "group"],
    "seeds": [0, 1],
    "epochs": 2,
}


def expand(**changes):
    return read_config({"study": "s", "studies": {"s": {**SMALL, **changes}}}).studies[0]


def names(study):
    return [run.name for run in study.runs]


def test_the_projects_own_configuration():
    config = yaml.safe_load((PROJECT / "config.yaml").read_text())
    sizes = {}
    for name in config["studies"]:
        studies = read_config({**config, "study": name}).studies
        sizes[name] = sum(len(study.runs) for study in studies)
    assert sizes == {
        "quickstart": 27,
        "normalization": 15,
        "architectures": 15,
        "exercise": 30,
        "grid": 45,
        "precision": 90,
        "batch-size": 190,
        "batch-size-demo": 22,
        "skip": 180,
        "skip-demo": 36,
        "learning-rate": 75,
        "learning-rate-demo": 30,
        "affine-and-bias": 150,
        "affine-and-bias-demo": 30,
        "variance": 192,
        "variance-demo": 16,
        "norm-cost": 15,
    }


@pytest.mark.parametrize("name", ["batch-size", "batch-size-demo", "variance-demo"])
def test_no_batch_of_the_studies_of_statistics_has_a_single_image(name):
    """Neither a last batch, whatever the norm, nor a ghost batch."""
    config = yaml.safe_load((PROJECT / "config.yaml").read_text())
    (study,) = read_config({**config, "study": name}).studies
    for run in study.runs:
        images = run.specification["train_images"] or SIZES[study.dataset["name"]][0]
        batch_size = run.specification["batch_size"]
        assert batch_size > 1 and images % batch_size != 1
        assert run.specification.get("statistics_images") != 1


def test_the_study_of_batch_sizes_changes_one_thing_at_a_time():
    config = yaml.safe_load((PROJECT / "config.yaml").read_text())
    (study,) = read_config({**config, "study": "batch-size"}).studies
    first = [run for run in study.runs if run.seed == 0]
    ghosts = [run for run in first if run.axes.get("statistics_images")]
    assert [run.axes["statistics_images"] for run in ghosts] == [2, 4, 8, 16, 32]
    assert {run.axes["batch_size"] for run in ghosts} == {128}
    assert {run.norm for run in ghosts} == {"batch"}
    for norm in ("none", "batch", "group"):
        plain = [r.axes for r in first if r.norm == norm and not r.axes.get("statistics_images")]
        sizes = [(axes["learning_rate_scaling"], axes["batch_size"]) for axes in plain]
        assert sorted(sizes) == sorted(
            [("constant", n) for n in (2, 4, 8, 16, 32, 128)]
            + [("sqrt", n) for n in (2, 4, 8, 16, 32)]
        )


def test_the_study_of_skips_scales_only_what_explodes():
    config = yaml.safe_load((PROJECT / "config.yaml").read_text())
    (study,) = read_config({**config, "study": "skip"}).studies
    scaled = [run for run in study.runs if run.specification.get("zero_init_residual")]
    assert {(r.model, r.norm, r.axes["initialization"]) for r in scaled} == {
        ("resnet", "none", "he")
    }


@pytest.mark.parametrize("name", ["normalization", "architectures"])
def test_the_exercises_studies_follow_its_protocol(name):
    config = yaml.safe_load((PROJECT / "config.yaml").read_text())
    study = read_config({**config, "study": name}).studies[0]
    specification = study.runs[0].specification
    expected = {
        "optimizer": "adam",
        "learning_rate": 1e-4,
        "weight_decay": 0,
        "beta1": 0.9,
        "beta2": 0.999,
        "epsilon": 1e-8,
        "batch_size": 128,
        "precision": "float32",
        "initialization": "default",
        "train_images": 0,
        "normalize": {"normalization": "none", "architectures": "half"}[name],
        "epochs": {"normalization": 30, "architectures": 50}[name],
    }
    assert {key: specification[key] for key in expected} == expected


def test_a_list_is_an_axis_only_where_it_applies():
    study = expand(groups=[8, 32], depth=[1, 3], seeds=[0])
    assert names(study) == [
        "convnet/none/seed0",
        "convnet/group/groups=8/seed0",
        "convnet/group/groups=32/seed0",
        "resnet/none/depth=1/seed0",
        "resnet/none/depth=3/seed0",
        "resnet/group/depth=1/groups=8/seed0",
        "resnet/group/depth=1/groups=32/seed0",
        "resnet/group/depth=3/groups=8/seed0",
        "resnet/group/depth=3/groups=32/seed0",
    ]


def test_the_order_of_keys_moves_no_run():
    assert names(expand(groups=[8, 32], depth=[1, 3])) == names(
        expand(depth=[1, 3], groups=[8, 32])
    )


def test_overrides_and_exclusions():
    study = expand(
        overrides={"resnet": {"learning_rate": 0.5}},
        exclude=[{"model": "convnet", "norm": "group", "reason": "too slow"}],
    )
    rates = {run.model: run.specification["learning_rate"] for run in study.runs}
    assert rates == {"convnet": 1e-4, "resnet": 0.5}
    assert not any("convnet/group" in name for name in names(study))
    assert study.excluded == [{"model": "convnet", "norm": "group", "reason": "too slow"}]


def test_naming_a_default_changes_nothing():
    plain, explicit = expand(), expand(batch_size=128, learning_rate="1e-4", precision="float32")
    assert [run.specification for run in plain.runs] == [r.specification for r in explicit.runs]
    assert plain.definition == explicit.definition


def test_one_and_one_point_zero_are_the_same_learning_rate():
    a, b = expand(learning_rate=[1, 2]), expand(learning_rate=[1.0, 2.0])
    assert names(a) == names(b)
    assert a.definition == b.definition


def test_whole_numbers_written_as_floats_are_whole_numbers():
    study = expand(seeds=[1.0, 2], epochs=2.0, batch_size=[32.0, 64])
    assert names(study)[0] == "convnet/none/batch_size=32/seed1" and study.epochs == 2
    assert isinstance(study.runs[0].specification["epochs"], int)


def test_exclusions_match_what_a_run_is_resolved_to():
    rates = [1e-3, 1e-4]
    rule = {"learning_rate": "1e-3", "model": "resnet", "reason": "known to diverge"}
    study = expand(learning_rate=rates, exclude=[rule])
    assert sum("resnet" in name for name in names(study)) == 4
    assert not any("resnet" in name and "0.001" in name for name in names(study))
    both = expand(
        batch_size=[16, 32, 64],
        exclude=[{"model": ["resnet"], "batch_size": [16, 64], "reason": "asked at 32"}],
    )
    assert {run.axes["batch_size"] for run in both.runs if run.model == "resnet"} == {32}
    assert {run.axes["batch_size"] for run in both.runs if run.model == "convnet"} == {16, 32, 64}
    everything = expand(exclude=[{"norm": "group", "optimizer": "adam", "reason": "x"}])
    assert {run.norm for run in everything.runs} == {"none"}


def test_a_folder_named_as_a_data_set_has_its_own_size(tmp_path):
    folder = tmp_path / "digits"
    folder.mkdir()
    study = expand(dataset={"folder": str(folder)}, norms=["batch"], batch_size=16)
    assert len(study.runs) == 4  # 1,297 digits in batches of 16 would leave one image


def test_a_data_sets_own_size_that_is_named_changes_nothing():
    assert expand(image_size=32).dataset == expand().dataset
    assert expand(image_size=32).definition == expand().definition
    assert expand(image_size=16).dataset["id"] == "digits-16px"


def test_text_from_the_command_line_becomes_numbers():
    study = expand(epochs="3", learning_rate=["1e-3", "1e-4"], compile="false")
    assert study.epochs == 3
    assert study.axes == {"learning_rate": [1e-3, 1e-4]}
    assert study.runs[0].specification["compile"] is False


def test_several_studies_and_groups_of_studies():
    studies = {"a": SMALL, "b": {**SMALL, "epochs": 1}, "both": ["a", "b"]}

    def chosen(study):
        return [s.name for s in read_config({"study": study, "studies": studies}).studies]

    assert chosen("both") == chosen("a,b") == chosen(["a", "b"]) == chosen("both,a") == ["a", "b"]


def test_an_image_folder(tmp_path):
    folder = tmp_path / "mine ä"
    folder.mkdir()
    dataset = expand(dataset={"folder": str(folder)}, image_size=48).dataset
    assert dataset["folder"] == str(folder)
    assert dataset["id"].startswith("mine---") and dataset["id"].endswith("-48px")


def test_facts_cover_the_same_data_sets():
    assert set(SIZES) == set(SHAPES) == set(CLASSES)


def test_a_network_file_states_what_the_configuration_needs():
    for model in catalog.names("networks"):
        assert catalog.constant("networks", model, "CHANNELS")
        assert catalog.constant("networks", model, "MIN_SIDE") >= 1


REPORTED = {
    "model": "resnet",
    "norm": "none",
    "test_loss": 1.0,
    "test_correct": 5,
    "test_images": 10,
}

MISTAKES = {
    "unknown key": ({"batchsize": 32}, ["s", "'batchsize'", "did you mean 'batch_size'"]),
    "cost of no norm": (
        {"norms": ["none"], "analyses": ["norm_cost"]},
        ["analyses.0", "norm_cost needs a norm"],
    ),
    "cost in two precisions": (
        {"precision": ["float32", "bfloat16"], "analyses": ["norm_cost"]},
        ["analyses.0", "norm_cost needs one precision, not an axis"],
    ),
    "unknown model": ({"models": ["resnt"]}, ["models", "'resnt'", "'resnet'", "convnet"]),
    "unknown norm": ({"norms": ["bacth"]}, ["norms", "'bacth'", "'batch'"]),
    "unknown data set": ({"dataset": "cifar"}, ["dataset", "'cifar'", "cifar10"]),
    "wrong type": ({"epochs": "many"}, ["epochs", "'many'", "a whole number"]),
    "bare no": ({"norms": [False]}, ["norms.0", "False is not text", "booleans"]),
    "duplicate seed": ({"seeds": [1, 2, 1]}, ["seeds", "1 is listed twice"]),
    "empty grid": ({"models": []}, ["models", "empty"]),
    "empty axis": ({"learning_rate": []}, ["learning_rate", "empty"]),
    "negative epochs": ({"epochs": -1}, ["epochs", "-1 is too small", "the least is 1"]),
    "zero learning rate": ({"learning_rate": [0.1, 0]}, ["learning_rate.1", "above 0"]),
    "unknown value": ({"optimizer": "adm"}, ["optimizer", "'adm'", "did you mean 'adam'"]),
    "groups": ({"groups": 48}, ["groups", "48 groups do not divide", "32 channels"]),
    "missing folder": ({"dataset": {"folder": "/no/such"}}, ["dataset.folder", "/no/such"]),
    "small images": ({"models": ["vgg11"], "image_size": 16}, ["image_size", "vgg11", "32 x 32"]),
    "too many images": ({"train_images": 2000}, ["train_images", "the most is 1297"]),
    "single image": (
        {"norms": ["batch"], "train_images": 65, "batch_size": 64},
        ["batch_size", "65 training images", "'batch'"],
    ),
    "unread option": ({"momentum": 0.5}, ["momentum", "none of the study's"]),
    "exclude without reason": ({"exclude": [{"model": "resnet"}]}, ["exclude.0", "reason"]),
    "everything excluded": ({"exclude": [{"seed": 1, "reason": "x"}]}, ["exclude.0", "'seed'"]),
    "nothing left": (
        {"models": ["resnet"], "exclude": [{"model": "resnet", "reason": "x"}]},
        ["no run is left"],
    ),
    "override of another model": ({"overrides": {"vgg11": {"depth": 2}}}, ["overrides", "'vgg11'"]),
    "override key": (
        {"overrides": {"resnet": {"dept": 2}}},
        ["overrides.resnet", "did you mean 'depth'"],
    ),
    "override without effect": (
        {"overrides": {"convnet": {"depth": 7}}},
        ["overrides.convnet.depth", "none of its runs"],
    ),
    "exclusion of nothing": (
        {"exclude": [{"model": "convnet", "norm": "batch", "reason": "x"}]},
        ["exclude.0", "fits no configuration"],
    ),
    "excluded value of nothing": (
        {"batch_size": [16, 32], "exclude": [{"batch_size": [16, 64], "reason": "x"}]},
        ["exclude.0.batch_size", "64 fits no configuration"],
    ),
    "analysis without its axis": (
        {"analyses": ["gradients", "variance"], "order_seed": [0, 1]},
        ["analyses.1", "variance needs initialization_seed as an axis"],
    ),
    "analysis without its option": (
        {"analyses": ["learning_rates"], "learning_rate": [0.1, 0.2]},
        ["analyses.0", "learning_rates needs validation_images"],
    ),
    "unknown analysis": ({"analyses": ["varience"]}, ["'varience'", "did you mean 'variance'"]),
    "null": ({"seeds": None}, ["seeds", "nothing (null) is not a list"]),
    "not a number": ({"learning_rate": float("nan")}, ["learning_rate", "not a finite number"]),
    "infinity": ({"learning_rate": [0.1, "inf"]}, ["learning_rate.1", "not a finite number"]),
    "broken text": ({"affine": "["}, ["affine", "'['", "true or false"]),
    "text of a choice": ({"compile": "["}, ["compile", "'['", "auto, true, false"]),
    "number as key": ({"overrides": {1: {}}}, ["overrides", "1 is not text", "quotes"]),
    "too few images": ({"train_images": 5}, ["train_images", "5 images of 10 classes"]),
    "reported twice": ({"reported": [REPORTED, REPORTED]}, ["reported.1", "there twice"]),
    "reported for another": (
        {"reported": [{**REPORTED, "model": "restnet"}]},
        ["reported.0.model", "'restnet'", "'resnet'"],
    ),
    "more correct than images": (
        {"reported": [{**REPORTED, "test_correct": 11}]},
        ["reported.0", "more than test_images"],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_one_line_that_names_it(mistake):
    changes, words = MISTAKES[mistake]
    with pytest.raises(InputError) as caught:
        expand(**changes)
    line = str(caught.value)
    assert "\n" not in line
    assert all(word in line for word in words), line


def test_a_study_may_be_called_by_a_number():
    """As `--config study=2024` gives it."""
    made = read_config({"study": 2024, "studies": {"2024": SMALL}})
    assert [study.name for study in made.studies] == ["2024"]


@pytest.mark.parametrize(
    "text, words",
    [
        ("MIN_SIDE = 9", ["own.py", "no function `build`"]),
        ("def build(:", ["own.py, line 1"]),
        ("CHANNELS = (2 * 16,)\ndef build(*, x): ...", ["own.py, line 1: CHANNELS is no literal"]),
        ("\x00", ["own.py"]),
    ],
)
def test_a_file_that_is_no_network_is_named(tmp_path, monkeypatch, text, words):
    (tmp_path / "networks").mkdir()
    (tmp_path / "networks" / "own.py").write_text(text)
    monkeypatch.setattr(catalog, "PACKAGE", tmp_path)
    catalog._statements.cache_clear()
    with pytest.raises(InputError) as caught:
        catalog.options("networks", "own")
        catalog.constant("networks", "own", "CHANNELS")
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_constant_may_say_its_type(tmp_path, monkeypatch):
    (tmp_path / "norms").mkdir()
    (tmp_path / "norms" / "typed.py").write_text("MIN_SIDE: int = 9")
    monkeypatch.setattr(catalog, "PACKAGE", tmp_path)
    assert catalog.constant("norms", "typed", "MIN_SIDE") == 9


def test_mistakes_outside_a_study():
    good = {"study": "s", "studies": {"s": SMALL}}
    for changes, words in [
        ({"study": "t"}, ["'t'", "Allowed: s"]),
        ({"devcie": "cpu"}, ["'devcie'", "did you mean 'device'"]),
        ({"device": "gpu"}, ["device", "'gpu'"]),
        ({"studies": {}}, ["studies", "empty"]),
        ({"studies": {"s": SMALL, "../up": SMALL}}, ["../up"]),
        ({"studies": {"s": SMALL, "store": SMALL}}, ["'store'", "uses itself"]),
        ({"studies": {"s": SMALL, 2024: SMALL}}, ["2024 is not text"]),
        ({"save_every": float("nan")}, ["save_every", "not a finite number"]),
        ({"studies": 1}, ["studies", "not a mapping"]),
        ({"studies": {"s": None}}, ["studies.s", "nothing (null)"]),
        ({"studies": {"s": ["u"]}}, ["'u'"]),
    ]:
        with pytest.raises(InputError) as caught:
            read_config({**good, **changes})
        assert all(word in str(caught.value) for word in words), str(caught.value)
        assert "\n" not in str(caught.value)


def test_reading_leaves_the_configuration_as_it_was():
    raw = {"study": "s", "studies": {"s": {**SMALL, "overrides": {"resnet": {"depth": "2"}}}}}
    before = deepcopy(raw)
    read_config(raw)
    assert raw == before


@pytest.mark.parametrize(
    "text, words",
    [
        ("s: {epochs: 1, seeds: [0],\n  epochs: 2}", ["s.epochs", "line 1", "line 2"]),
        ("a: 1\nb:\n  - {c: 1}\n  - d: 1\n    e: 1\n    d: 2\n", ["b.1.d", "line 4", "line 6"]),
    ],
)
def test_a_key_given_twice_is_refused(tmp_path, text, words):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        check_file(tmp_path / "mine.yaml")
    assert all(word in str(caught.value) for word in ["mine.yaml", *words])


def test_a_key_given_once_is_taken(tmp_path):
    for text in ("", '{"a": {"b": 1}, "c": {"b": 1}}', "[1, 1]"):
        (tmp_path / "mine.json").write_text(text)
        check_file(tmp_path / "mine.json")
    check_file(PROJECT / "config.yaml")


@pytest.mark.parametrize(
    "content, words",
    [
        (b"a: 1\nb: [1,\nc: 2\n", "line 4 in what begins in line 2: did not find"),
        (b"a:\n\tb: 1\n", "line 2: found (a tab )?character"),
        (b"a: 1\nb: c: d\n", "line 2: mapping values are not allowed"),
        (b"a: 1\nb: \xff\n", "codec can't decode byte 0xff"),
        (b"a: \x00\n", ": unacceptable character"),
    ],
)
def test_a_file_that_is_no_yaml_is_refused_with_its_line(tmp_path, content, words):
    (tmp_path / "mine.yaml").write_bytes(content)
    with pytest.raises(InputError, match=f"mine.yaml: no YAML.*{words}") as caught:
        check_file(tmp_path / "mine.yaml")
    assert "\n" not in str(caught.value)


def test_yaml_and_json_are_taken(tmp_path):
    for text in ("", "a: [1]", '{\n\t"a": 1\n}'):
        (tmp_path / "mine.yaml").write_text(text)
        check_file(tmp_path / "mine.yaml")
    check_file(tmp_path / "none.yaml")  # Snakemake says that


def test_studies_that_a_file_defines_and_nobody_asks_for_are_told(tmp_path):
    mine, site = tmp_path / "mine.yaml", tmp_path / "site.yaml"
    mine.write_text("studies: {b: {epochs: 1}, a: {epochs: 2}}\n")
    site.write_text("device: cpu\n")
    assert unasked_studies([mine, site], ["quickstart"]) == ["a", "b"]
    assert unasked_studies([mine], ["quickstart", "a"]) == []
    assert unasked_studies([site], ["quickstart"]) == []
    site.write_text("studies:\n")
    assert unasked_studies([site, mine], ["quickstart"]) == ["a", "b"]
    site.write_text("studies: {both: [quickstart, grid]}\n")
    assert unasked_studies([site], ["quickstart", "grid"]) == []
    assert unasked_studies([site], ["quickstart"]) == ["both"]
