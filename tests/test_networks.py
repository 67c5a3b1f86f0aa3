"""The networks and norms: sizes, positions of the norms, and outputs recomputed by hand."""

import inspect

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from normres import catalog
from normres.errors import InputError
from normres.models import build_network, initialize
from normres.networks.plainnet import PlainBlock
from normres.networks.resnet import BasicBlock
from normres.networks.vgg11 import LAYOUT
from normres.options import resolve

NORMS = ["none", "batch", "group", "layer", "instance"]
MODELS = ["resnet", "plainnet", "vgg11", "convnet"]

# Parameters without norm and with an affine norm: the exercise's table. The plain twin lacks the
# two 1x1 convolutions, 32 x 64 + 64 x 128 weights, and their norms, 2 x (64 + 128).
PARAMETERS = {
    "resnet": (1_081_482, 1_084_554),
    "plainnet": (1_081_482 - 10_240, 1_084_554 - 10_240 - 384),
    "vgg11": (28_144_010, 28_149_514),
    "convnet": (2_453_962, 2_454_410),
}


def build(model, norm="none", in_channels=3, side=32, classes=10, seed=0, **options):
    """A network in evaluation mode, with statistics, scales and shifts unlike their defaults."""
    specification = resolve(model, norm, seed=0, epochs=1, given=options)
    network = build_network(specification, in_channels, side, classes)
    initialize(network, seed, "default")
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if tensor.ndim == 1 and tensor.is_floating_point():
            low = 0.5 if name.endswith(("var", "weight")) else -0.5
            tensor.uniform_(low, low + 1, generator=generator)
    return network.eval()


def images(count=2, channels=3, side=32):
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(1))


# Independent recomputation from the state dict -------------------------------------------------


def normalize(x, state, prefix, norm):
    if norm == "none":
        return x
    weight, bias = state[f"{prefix}.weight"], state[f"{prefix}.bias"]
    if norm == "batch":
        mean, variance = state[f"{prefix}.running_mean"], state[f"{prefix}.running_var"]
        return F.batch_norm(x, mean, variance, weight, bias, training=False, eps=1e-5)
    groups = {"group": 32, "layer": 1, "instance": x.shape[1]}[norm]
    parts = x.reshape(len(x), groups, -1)
    mean = parts.mean(2, keepdim=True)
    variance = parts.var(2, keepdim=True, correction=0)
    x = ((parts - mean) / torch.sqrt(variance + 1e-5)).reshape(x.shape)
    return x * weight.view(1, -1, 1, 1) + bias.view(1, -1, 1, 1)


def convolve(x, state, prefix, **options):
    return F.conv2d(x, state[f"{prefix}.weight"], state.get(f"{prefix}.bias"), **options)


def linear(x, state, prefix):
    return x @ state[f"{prefix}.weight"].T + state[f"{prefix}.bias"]


def recompute_resnet(state, x, norm, shortcuts=True):
    x = convolve(x, state, "stem", padding=1).clamp(min=0)
    for stage in range(3):
        for i in range(3):
            block, stride = f"stages.{stage}.{i}", 2 if stage > 0 and i == 0 else 1
            y = convolve(x, state, f"{block}.conv1", padding=1, stride=stride)
            y = normalize(y, state, f"{block}.norm1", norm).clamp(min=0)
            y = convolve(y, state, f"{block}.conv2", padding=1)
            y = normalize(y, state, f"{block}.norm2", norm)
            if shortcuts and stride == 2:
                x = convolve(x, state, f"{block}.shortcut.0", stride=2)
                x = normalize(x, state, f"{block}.shortcut.1", norm)
            x = (y + x if shortcuts else y).clamp(min=0)
    return linear(x.sum((2, 3)), state, "classifier")


def recompute_plainnet(state, x, norm):
    return recompute_resnet(state, x, norm, shortcuts=False)


def recompute_vgg11(state, x, norm):
    position = 0
    for channels in [64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"]:
        if channels == "M":
            x = F.max_pool2d(x, 2, 2)
            position += 1
        else:
            x = convolve(x, state, f"features.{position}", padding=1)
            x = normalize(x, state, f"features.{position + 1}", norm).clamp(min=0)
            position += 3
    x = linear(x.flatten(1), state, "hidden.0").clamp(min=0)
    return linear(linear(x, state, "hidden.3").clamp(min=0), state, "classifier")


def recompute_convnet(state, x, norm):
    for position, stride in [(0, 1), (3, 2), (6, 1)]:
        x = convolve(x, state, f"features.{position}", stride=stride)
        x = normalize(x, state, f"features.{position + 1}", norm).clamp(min=0)
    return linear(linear(x.flatten(1), state, "hidden").clamp(min=0), state, "classifier")


RECOMPUTE = {
    "resnet": recompute_resnet,
    "plainnet": recompute_plainnet,
    "vgg11": recompute_vgg11,
    "convnet": recompute_convnet,
}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("model", MODELS)
def test_forward_pass_matches_an_independent_recomputation(model, norm):
    network = build(model, norm)
    with torch.no_grad():
        expected = RECOMPUTE[model](network.state_dict(), images(), norm)
        logits = network(images())
    assert logits.shape == (2, 10)
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())


# Sizes and shapes ------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("model", MODELS)
def test_parameter_counts_are_those_of_the_exercise(model, norm):
    network = build(model, norm)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert parameters == PARAMETERS[model][norm != "none"]


@pytest.mark.parametrize("affine", [True, False])
def test_a_norm_without_scale_and_shift_has_no_parameters(affine):
    for norm in NORMS[1:]:
        network = build("resnet", norm, affine=affine)
        parameters = sum(parameter.numel() for parameter in network.parameters())
        assert parameters == PARAMETERS["resnet"][affine]


@pytest.mark.parametrize(
    ("model", "side"),
    [(model, side) for model in MODELS for side in (28, 48, 64) if (model, side) != ("vgg11", 28)],
)
def test_other_channels_sides_and_classes(model, side):
    network = build(model, "group", in_channels=1, side=side, classes=7)
    assert network(images(3, 1, side)).shape == (3, 7)


@pytest.mark.parametrize("model", MODELS)
def test_the_smallest_side_works_and_one_pixel_less_is_refused(model):
    smallest = catalog.constant("networks", model, "MIN_SIDE")
    assert build(model, side=smallest)(images(side=smallest)).shape == (2, 10)
    with pytest.raises(InputError, match=rf"{model} needs images of {smallest} x"):
        build(model, side=smallest - 1)


def test_maps_of_one_pixel_are_refused_where_the_norm_cannot_use_them():
    assert build("convnet", "instance", side=11).train()(images(side=11)).shape == (2, 10)
    with pytest.raises(InputError, match=r"instance needs maps of 2 pixels .* maps of 1 x 1 in co"):
        build("convnet", "instance", side=10)
    assert build("convnet", "group", side=10).train()(images(side=10)).shape == (2, 10)


def test_groups_of_one_value_are_refused():
    """One channel a group on maps of one pixel: a variance of 0, and a single image an error."""
    lines = r"group needs groups of 2 values .* maps of 1 x 1 in resnet, 32 channels in 32 groups:"
    with pytest.raises(InputError, match=lines):
        build("resnet", "group", side=1)
    for side, groups in ((1, 16), (2, 32)):  # two channels a group, or four pixels
        network = build("resnet", "group", side=side, groups=groups).train()
        assert network(images(1, side=side)).shape == (1, 10)


@pytest.mark.parametrize("model", MODELS)
def test_images_of_one_batch_do_not_see_each_other_in_evaluation(model):
    network = build(model, "batch")
    with torch.no_grad():
        together = network(images(4))
        alone = torch.cat([network(image[None]) for image in images(4)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


# Blocks ----------------------------------------------------------------------------------------


def test_basic_block_has_the_signature_of_the_exercise():
    parameters = list(inspect.signature(BasicBlock).parameters.values())[:4]
    assert [parameter.name for parameter in parameters] == [
        "inplanes",
        "planes",
        "stride",
        "norm_layer",
    ]
    assert [parameter.default for parameter in parameters] == [
        inspect.Parameter.empty,
        inspect.Parameter.empty,
        1,
        nn.Identity,
    ]


@pytest.mark.parametrize(
    ("inplanes", "planes", "stride", "shape"),
    [
        (4, 4, 1, (2, 4, 9, 9)),
        (4, 8, 1, (2, 8, 9, 9)),
        (4, 4, 2, (2, 4, 5, 5)),
        (4, 8, 2, (2, 8, 5, 5)),
    ],
)
def test_basic_block_adds_its_shortcut_before_the_last_relu(inplanes, planes, stride, shape):
    block = BasicBlock(inplanes, planes, stride)
    x = images(2, inplanes, 9) - 0.5
    y = F.conv2d(x, block.conv1.weight, stride=stride, padding=1).relu()
    y = F.conv2d(y, block.conv2.weight, padding=1)
    projected = stride != 1 or inplanes != planes
    shortcut = F.conv2d(x, block.shortcut[0].weight, stride=stride) if projected else x
    assert isinstance(block.shortcut, nn.Sequential if projected else nn.Identity)
    assert block(x).shape == shape
    torch.testing.assert_close(block(x), (y + shortcut).relu())


def test_basic_block_has_no_biases_unless_asked():
    assert not any(name.endswith("bias") for name in BasicBlock(4, 8).state_dict())
    biased = BasicBlock(4, 8, 2, nn.Identity, True)
    assert sum(name.endswith("bias") for name in biased.state_dict()) == 3


def test_plain_block_ends_in_a_relu_without_a_shortcut():
    block = PlainBlock(4, 8, 2)
    x = images(2, 4, 9) - 0.5
    y = F.conv2d(x, block.conv1.weight, stride=2, padding=1).relu()
    torch.testing.assert_close(block(x), F.conv2d(y, block.conv2.weight, padding=1).relu())


def test_the_plain_twin_has_the_names_and_starting_weights_of_resnet():
    residual = build_network(resolve("resnet", "batch", 0, 1, {}), 3, 32, 10)
    plain = build_network(resolve("plainnet", "batch", 0, 1, {}), 3, 32, 10)
    for network in (residual, plain):
        initialize(network, 5, "default")
    residual, plain = residual.state_dict(), plain.state_dict()
    assert set(residual) - set(plain) == {name for name in residual if ".shortcut." in name}
    assert set(plain) <= set(residual)
    assert all(torch.equal(plain[name], residual[name]) for name in plain)


# Norms -----------------------------------------------------------------------------------------


def test_group_norm_of_one_channel_a_group_is_affine_instance_norm():
    group = catalog.load("norms", "group").build(32)
    instance = catalog.load("norms", "instance").build(32)
    for layer in (group, instance):
        layer.weight.data.copy_(torch.linspace(0.5, 1.5, 32))
        layer.bias.data.copy_(torch.linspace(-1, 1, 32))
    x = images(3, 32, 8)
    torch.testing.assert_close(group(x), instance(x))
    torch.testing.assert_close(instance.eval()(x), instance.train()(x))


def test_layer_norm_is_group_norm_with_one_group():
    layer = catalog.load("norms", "layer").build(64)
    assert isinstance(layer, nn.GroupNorm)
    assert (layer.num_groups, layer.num_channels, layer.eps) == (1, 64, 1e-5)
    x = images(3, 64, 8)
    torch.testing.assert_close(layer(x), F.layer_norm(x, x.shape[1:]))


def test_batch_norm_gives_the_new_batch_a_weight_of_a_tenth():
    layer = catalog.load("norms", "batch").build(3)
    x = images(4)
    layer(x)
    mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=1)
    torch.testing.assert_close(layer.running_mean, 0.1 * mean)
    torch.testing.assert_close(layer.running_var, 0.9 + 0.1 * variance)


def test_groups_must_divide_the_channels():
    with pytest.raises(ValueError, match="divisible"):
        build("resnet", "group", groups=5)
    assert build("resnet", "group", groups=8).stages[0][0].norm1.num_groups == 8


@pytest.mark.parametrize("model", MODELS)
def test_a_norm_follows_every_convolution_but_the_stem_of_resnet(model):
    calls = []
    network = build(model, "batch")
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
            module.register_forward_hook(
                lambda module, args, output, name=name: calls.append(
                    (name, module, args[0], output)
                )
            )
    network(images())
    normalized = {call[2].data_ptr() for call in calls if isinstance(call[1], nn.BatchNorm2d)}
    convolutions = [call for call in calls if isinstance(call[1], nn.Conv2d)]
    bare = [name for name, _, _, output in convolutions if output.data_ptr() not in normalized]
    assert bare == (["stem"] if model in ("resnet", "plainnet") else [])
    assert len(calls) == 2 * len(convolutions) - len(bare)
    channels = {call[1].num_features for call in calls if isinstance(call[1], nn.BatchNorm2d)}
    assert channels == set(catalog.constant("networks", model, "CHANNELS"))


@pytest.mark.parametrize("model", MODELS)
def test_convolution_biases_do_not_depend_on_the_norm(model):
    def biases(**options):
        modules = build(model, **options).named_modules()
        return [
            name for name, module in modules
            if isinstance(module, nn.Conv2d) and module.bias is not None
        ]  # fmt: skip

    expected = {"resnet": 1, "plainnet": 1, "vgg11": 8, "convnet": 3}[model]
    convolutions = {"resnet": 21, "plainnet": 19, "vgg11": 8, "convnet": 3}[model]
    assert all(len(biases(norm=norm)) == expected for norm in NORMS)
    assert biases(conv_bias=False) == []
    assert len(biases(conv_bias=True)) == convolutions


# Options ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("model", ["resnet", "plainnet"])
def test_depth_is_the_number_of_blocks_a_stage(model, depth):
    network = build(model, depth=depth)
    assert [len(stage) for stage in network.stages] == [depth] * 3
    assert network(images()).shape == (2, 10)


def test_pooling_sums_as_in_the_exercise_or_averages():
    total, mean = build("resnet", pooling="sum"), build("resnet", pooling="mean")
    bias = total.classifier.bias
    torch.testing.assert_close(
        (total(images()) - bias) / 64, mean(images()) - bias, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("norm", NORMS)
def test_zero_init_residual_starts_each_block_as_its_shortcut(norm):
    specification = resolve("resnet", norm, 0, 1, {"zero_init_residual": True})
    network = build_network(specification, 3, 32, 10)
    initialize(network, 0, "default")
    for stage, inplanes in zip(network.stages, (32, 32, 64), strict=True):
        x = images(2, inplanes, 8)
        torch.testing.assert_close(stage[0](x), stage[0].shortcut(x).relu())
    assert network.stages[0][0].conv1.weight.abs().min() > 0


def test_vgg11_drops_units_before_the_relu():
    hidden = build("vgg11").hidden
    kinds = [nn.Linear, nn.Dropout, nn.ReLU] * 2
    assert [type(module) for module in hidden] == kinds
    assert [module.p for module in hidden if isinstance(module, nn.Dropout)] == [0.5, 0.5]
    assert LAYOUT.count("M") == 5


@pytest.mark.parametrize("model", MODELS)
def test_the_last_layer_is_float32_under_autocast(model):
    network = build(model, "group")
    types = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(
                lambda module, _, output, name=name: types.update({name: output.dtype})
            )
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = network(images())
    assert logits.dtype == types.pop("classifier") == torch.float32
    assert set(types.values()) == {torch.bfloat16}


# Catalogue -------------------------------------------------------------------------------------


def test_catalog_lists_the_files_and_their_options():
    assert set(catalog.names("networks")) >= set(MODELS)
    assert set(catalog.names("norms")) >= set(NORMS)
    assert catalog.options("networks", "convnet") == ["conv_bias"]
    assert catalog.options("networks", "resnet") == [
        "conv_bias",
        "depth",
        "pooling",
        "zero_init_residual",
    ]
    assert catalog.options("networks", "plainnet") == ["conv_bias", "depth", "pooling"]
    assert catalog.options("norms", "group") == ["groups", "affine"]
    assert catalog.options("norms", "none") == []


def test_catalog_reads_constants_without_importing():
    assert catalog.constant("networks", "resnet", "CHANNELS") == (32, 64, 128)
    assert catalog.constant("norms", "batch", "USES_BATCH_STATISTICS", False) is True
    assert catalog.constant("norms", "group", "USES_BATCH_STATISTICS", False) is False


@pytest.mark.parametrize("kind", ["networks", "norms"])
def test_every_file_of_the_catalog_keeps_its_contract(kind):
    for name in catalog.names(kind):
        module = catalog.load(kind, name)
        keywords = [
            parameter.name
            for parameter in inspect.signature(module.build).parameters.values()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        ]
        assert catalog.options(kind, name) == keywords
        if kind == "networks":
            assert module.CHANNELS and module.MIN_SIDE >= 1
