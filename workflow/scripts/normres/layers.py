"""Layers that several networks share."""

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
