"""Instance normalisation (Ulyanov et al. 2016)."""

from torch import nn

LEAST_PIXELS = 2  # of a map: one has no variance


def build(channels: int, *, affine: bool = True) -> nn.Module:
    """InstanceNorm2d(channels), eps 1e-5, without running statistics."""
    return nn.InstanceNorm2d(channels, affine=affine)
