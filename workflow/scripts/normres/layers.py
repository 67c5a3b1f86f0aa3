"""Layers that several networks share, and faster forms of layers."""

import torch
from torch import Tensor, nn


class Classifier(nn.Linear):
    """The last linear layer of a network, computed in float32 whatever autocast says.

    (N, features) -> (N, classes), float32. Logits in bfloat16 keep 8 bits: too few for a
    cross-entropy near zero.
    """

    def forward(self, features: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            return super().forward(features.float())


class SmallMapConv2d(nn.Conv2d):
    """A 3x3 convolution with padding 1 that takes maps of 2x2 pixels as one dense product.

    (N, C, 2, 2) -> (N, O, 2, 2): each output pixel sees all four input pixels, so the convolution
    is a matrix of (4 O) x (4 C) weights, 16 products of pixels instead of the 36 with padding.
    Other maps are convolved as usual.
    """

    @staticmethod
    def fits(convolution: nn.Conv2d) -> bool:
        """Whether `convolution` has the shape that this form is for."""
        c = convolution
        shape = (c.kernel_size, c.stride, c.padding, c.dilation, c.groups, c.padding_mode)
        return shape == ((3, 3), (1, 1), (1, 1), (1, 1), 1, "zeros")

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[2:] != (2, 2):
            return super().forward(images)
        kernel = self.weight.permute(0, 2, 3, 1)  # (O, 3, 3, C)
        # What output pixel (i, j) sees of the kernel, one after the other: (4, O, 2, 2, C).
        windows = [kernel[:, 1 - i : 3 - i, 1 - j : 3 - j] for i in (0, 1) for j in (0, 1)]
        matrix = torch.stack(windows).reshape(4 * self.out_channels, 4 * self.in_channels)
        pixels = images.permute(0, 2, 3, 1).reshape(len(images), -1)  # (N, 4 C)
        bias = None if self.bias is None else self.bias.repeat(4)
        output = nn.functional.linear(pixels, matrix, bias)
        return output.view(len(images), 2, 2, -1).permute(0, 3, 1, 2)
