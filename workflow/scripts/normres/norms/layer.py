"""Layer normalisation over channels and pixels of an image: group normalisation with one group."""

from torch import nn


def build(channels: int, *, affine: bool = True) -> nn.Module:
    """GroupNorm(1, channels), eps 1e-5 (Wu & He 2018, section 3.1)."""
    return nn.GroupNorm(1, channels, affine=affine)
