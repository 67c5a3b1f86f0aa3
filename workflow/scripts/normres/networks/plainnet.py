"""The ResNet without its skip connections: the plain twin of He et al. 2016, section 4.1."""

from collections.abc import Callable

from torch import Tensor, nn

from normres.networks import resnet

CHANNELS = (32, 64, 128)
MIN_SIDE = 1


class PlainBlock(resnet.BasicBlock):
    """conv3x3 - norm - ReLU - conv3x3 - norm - ReLU; shapes as in BasicBlock, no shortcut."""

    @staticmethod
    def _shortcut(inplanes, planes, stride, norm_layer, conv_bias) -> None:
        return None

    def forward(self, x: Tensor) -> Tensor:
        return self.residual(x).relu()


class PlainNet(resnet.ResNet):
    """ResNet of plain blocks. Layers have the same names, so they start from the same weights."""

    block = PlainBlock


def build(
    in_channels: int,
    side: int,
    classes: int,
    norm_layer: Callable[[int], nn.Module],
    *,
    conv_bias: bool | None = None,
    depth: int = 3,
    pooling: str = "sum",
) -> PlainNet:
    """The plain twin, for any `side`; only its stem has a bias unless `conv_bias` is set."""
    return PlainNet(in_channels, classes, norm_layer, conv_bias, depth, pooling)
