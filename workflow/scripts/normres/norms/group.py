"""Group normalisation (Wu & He 2018)."""

from torch import nn

LEAST_PIXELS = 2  # of all maps of a group together: one value has no variance


def build(channels: int, *, groups: int = 32, affine: bool = True) -> nn.Module:
    """GroupNorm(groups, channels), eps 1e-5; `groups` must divide `channels`."""
    return nn.GroupNorm(groups, channels, affine=affine)
