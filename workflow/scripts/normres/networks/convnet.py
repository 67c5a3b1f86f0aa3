"""ConvNet: three convolutions without padding and two linear layers (exercise, part 5.2)."""

from collections.abc import Callable

from torch import Tensor, nn

from normres.layers import Classifier

CHANNELS = (32, 64, 128)
MIN_SIDE = 9  # 9 -> 7 -> 3 -> 1 pixels


class ConvNet(nn.Module):
    """conv 3x3 - norm - ReLU three times (stride 1, 2, 1; no padding), then 128 hidden units.

    (N, in_channels, side, side) -> (N, classes). At side 32 the convolutions leave 128 x 12 x 12.
    """

    def __init__(
        self,
        in_channels: int,
        side: int,
        classes: int,
        norm_layer: Callable[[int], nn.Module],
        conv_bias: bool = True,
    ):
        super().__init__()
        layers: list[nn.Module] = []
        for channels, stride in zip(CHANNELS, (1, 2, 1), strict=True):
            conv = nn.Conv2d(in_channels, channels, 3, stride=stride, bias=conv_bias)
            layers += [conv, norm_layer(channels), nn.ReLU()]
            in_channels, side = channels, (side - 3) // stride + 1
        self.features = nn.Sequential(*layers)
        self.hidden = nn.Linear(in_channels * side * side, 128)
        self.classifier = Classifier(128, classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.features(images).flatten(1)
        return self.classifier(self.hidden(features).relu())


def build(
    in_channels: int,
    side: int,
    classes: int,
    norm_layer: Callable[[int], nn.Module],
    *,
    conv_bias: bool | None = None,
) -> ConvNet:
    """The exercise's ConvNet; its convolutions have biases unless `conv_bias` says otherwise."""
    return ConvNet(in_channels, side, classes, norm_layer, conv_bias is not False)
