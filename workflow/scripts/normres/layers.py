"""Layers that several networks share, and faster forms of layers."""

import torch
from torch import Tensor, nn


class Classifier(nn.Linear):
    """The last linear layer of a network, computed in float32 whatever autocast says.

    (N, features) -> (N, classes), float32. Logits in bfloat16 keep 8 bits: too few for a
    cross-entropy near zero. In compiled code on CUDA it is products and sums, fused with what is
    around them: the library took 54 us for the gradient of these few weights, of 500 us for a step
    of ConvNet (one H100, torch 2.11.0, batch 128).
    """

    def forward(self, features: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            if features.is_cuda and torch.compiler.is_compiling():
                return self.summed_products(features.float())
            return super().forward(features.float())

    def summed_products(self, features: Tensor) -> Tensor:
        """The same without a matrix product: (N, classes, features) values, then their sums."""
        return (features[:, None] * self.weight).sum(-1) + self.bias


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


class PaddedConv2d(nn.Conv2d):
    """A convolution of fewer than 8 channels, given channels of zeros up to 8.

    The same numbers but for the order of sums. Tensor cores take channels by 16 bytes, 8 in
    bfloat16: the gradient of ResNet's first convolution, of 3 channels, took 114 us of a step of
    1900, that of one of 32 channels 48 (H100, torch 2.11.0, cuDNN 9.19, batch 128).
    """

    CHANNELS = 8

    @classmethod
    def fits(cls, convolution: nn.Conv2d) -> bool:
        """Whether `convolution` has the shape that this form is for."""
        return convolution.groups == 1 and convolution.in_channels < cls.CHANNELS

    def forward(self, images: Tensor) -> Tensor:
        padding = (0, 0, 0, 0, 0, self.CHANNELS - self.in_channels)
        weight = nn.functional.pad(self.weight, padding)
        return self._conv_forward(nn.functional.pad(images, padding), weight, self.bias)


class FusableGroupNorm(nn.GroupNorm):
    """Group norm in operations that a compiler can fuse whatever the layout of the images.

    (N, C, H, W) -> (N, C, H, W), float32, as autocast has it. PyTorch's own decomposition copies
    images in channels_last into contiguous ones and back. Not compiled, it is nn.GroupNorm.
    """

    def forward(self, images: Tensor) -> Tensor:
        if not torch.compiler.is_compiling():
            return super().forward(images)
        grouped = images.float().unflatten(1, (self.num_groups, -1))
        variance, mean = torch.var_mean(grouped, (2, 3, 4), correction=0, keepdim=True)
        normed = ((grouped - mean) * torch.rsqrt(variance + self.eps)).flatten(1, 2)
        if self.weight is None:
            return normed
        return normed * self.weight.view(-1, 1, 1) + self.bias.view(-1, 1, 1)
