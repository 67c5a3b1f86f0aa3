"""The exercise's residual network: three stages of basic blocks (He et al. 2016, section 4.2)."""

from collections.abc import Callable

from torch import Tensor, nn

from normres.layers import Classifier

CHANNELS = (32, 64, 128)
MIN_SIDE = 1  # every convolution is padded


class BasicBlock(nn.Module):
    """conv3x3 - norm - ReLU - conv3x3 - norm - (+ shortcut) - ReLU.

    (N, inplanes, H, W) -> (N, planes, ceil(H / stride), ceil(W / stride)). The shortcut is the
    identity, or a 1x1 convolution with norm where the shape changes (option B of He et al. 2016).
    """

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int = 1,
        norm_layer: Callable[[int], nn.Module] = nn.Identity,
        conv_bias: bool = False,
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride=stride, padding=1, bias=conv_bias)
        self.norm1 = norm_layer(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=conv_bias)
        self.norm2 = norm_layer(planes)
        self.shortcut = self._shortcut(inplanes, planes, stride, norm_layer, conv_bias)

    @staticmethod
    def _shortcut(inplanes, planes, stride, norm_layer, conv_bias) -> nn.Module:
        if stride == 1 and inplanes == planes:
            return nn.Identity()
        conv = nn.Conv2d(inplanes, planes, 1, stride=stride, bias=conv_bias)
        return nn.Sequential(conv, norm_layer(planes))

    def residual(self, x: Tensor) -> Tensor:
        """The branch that the shortcut is added to."""
        x = self.norm1(self.conv1(x)).relu()
        return self.norm2(self.conv2(x))

    def forward(self, x: Tensor) -> Tensor:
        return (self.residual(x) + self.shortcut(x)).relu()

    def zero_residual(self) -> None:
        """Make the block start as its shortcut (Goyal et al. 2017, section 5.1).

        Zeroes the scale of the last norm; without a norm that has one, the last convolution.
        """
        last = self.norm2 if getattr(self.norm2, "weight", None) is not None else self.conv2
        for parameter in last.parameters(recurse=False):
            nn.init.zeros_(parameter)


class ResNet(nn.Module):
    """Stem, three stages of `depth` blocks (32, 64, 128 channels; stride 1, 2, 2), pooling, linear.

    (N, in_channels, side, side) -> (N, classes). `pooling` "sum" is the exercise's; "mean" is the
    usual one. The ReLU after the blocks is the exercise's too: it changes nothing.
    """

    block = BasicBlock

    def __init__(
        self,
        in_channels: int,
        classes: int,
        norm_layer: Callable[[int], nn.Module],
        conv_bias: bool | None = None,
        depth: int = 3,
        pooling: str = "sum",
        zero_init_residual: bool = False,
    ):
        super().__init__()
        self.stem = nn.Conv2d(in_channels, CHANNELS[0], 3, padding=1, bias=conv_bias is not False)
        stages: list[nn.Module] = []
        inplanes = CHANNELS[0]
        for planes, stride in zip(CHANNELS, (1, 2, 2), strict=True):
            blocks: list[nn.Module] = []
            for i in range(depth):
                blocks.append(
                    self.block(
                        inplanes, planes, stride if i == 0 else 1, norm_layer, bool(conv_bias)
                    )
                )
                inplanes = planes
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.pooling = pooling
        self.zero_init_residual = zero_init_residual
        self.classifier = Classifier(inplanes, classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.stages(self.stem(images).relu()).relu().float()
        pooled = features.sum((2, 3)) if self.pooling == "sum" else features.mean((2, 3))
        return self.classifier(pooled)

    def finish_initialization(self) -> None:
        """Called once every layer has its initial values."""
        if self.zero_init_residual:
            for block in self.stages.modules():
                if isinstance(block, BasicBlock):
                    block.zero_residual()


def build(
    in_channels: int,
    side: int,
    classes: int,
    norm_layer: Callable[[int], nn.Module],
    *,
    conv_bias: bool | None = None,
    depth: int = 3,
    pooling: str = "sum",
    zero_init_residual: bool = False,
) -> ResNet:
    """The exercise's ResNet, for any `side`; only its stem has a bias unless `conv_bias` is set."""
    return ResNet(in_channels, classes, norm_layer, conv_bias, depth, pooling, zero_init_residual)
