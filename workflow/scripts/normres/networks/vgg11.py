"""VGG11: configuration A of Simonyan & Zisserman 2015, table 1, as in the exercise (part 5.2)."""

from collections.abc import Callable

from torch import Tensor, nn

from normres.layers import Classifier

CHANNELS = (64, 128, 256, 512)
MIN_SIDE = 32  # five 2x2 poolings leave one pixel

LAYOUT = (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M")  # M: 2x2 max pooling


class VGG11(nn.Module):
    """Eight 3x3 convolutions (padding 1) with norm and ReLU, and three linear layers.

    (N, in_channels, side, side) -> (N, classes). Dropout stands before ReLU, as in the exercise.
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
        for channels in LAYOUT:
            if channels == "M":
                layers.append(nn.MaxPool2d(2))
                side //= 2
            else:
                conv = nn.Conv2d(in_channels, channels, 3, padding=1, bias=conv_bias)
                layers += [conv, norm_layer(channels), nn.ReLU()]
                in_channels = channels
        self.features = nn.Sequential(*layers)
        self.hidden = nn.Sequential(
            nn.Linear(in_channels * side * side, 4096),
            nn.Dropout(0.5),
            nn.ReLU(),
            nn.Linear(4096, 4096),
            nn.Dropout(0.5),
            nn.ReLU(),
        )
        self.classifier = Classifier(4096, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.hidden(self.features(images).flatten(1)))


def build(
    in_channels: int,
    side: int,
    classes: int,
    norm_layer: Callable[[int], nn.Module],
    *,
    conv_bias: bool | None = None,
) -> VGG11:
    """The exercise's VGG11; its convolutions have biases unless `conv_bias` says otherwise."""
    return VGG11(in_channels, side, classes, norm_layer, conv_bias is not False)
