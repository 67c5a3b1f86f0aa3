"""Batch normalisation (Ioffe & Szegedy 2015)."""

from torch import nn

USES_BATCH_STATISTICS = True


def build(channels: int, *, affine: bool = True) -> nn.Module:
    """BatchNorm2d(channels) with PyTorch's momentum of 0.1 and eps of 1e-5."""
    return nn.BatchNorm2d(channels, affine=affine)
