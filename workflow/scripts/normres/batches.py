"""Images on the device that trains, and the batches made from them."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from normres.devices import Computation
from normres.images import Images


class ImageSet:
    """Some images of a prepared data set, kept as uint8 on the device.

    `indices` selects them, in this order. `normalize` is the option of that name.
    """

    def __init__(
        self, images: Images, indices: np.ndarray, normalize: str, computation: Computation
    ):
        device = computation.device
        self.memory_format = computation.memory_format
        self.pixels = torch.from_numpy(images.images)
        self.labels = torch.from_numpy(np.asarray(images.labels))
        self.indices = torch.from_numpy(np.asarray(indices))
        if device.type != "cpu":  # on the CPU the memory-mapped file itself is read
            self.pixels = self.pixels[self.indices].to(device)
            self.labels = self.labels[self.indices].to(device)
            self.indices = torch.arange(len(self.indices), device=device)
        channels = images.shape[2]
        mean, deviation = {
            "none": (None, None),
            "half": ([0.5] * channels, [0.5] * channels),
            "dataset": (images.channel_mean, images.channel_std),
        }[normalize]
        if mean is not None:
            mean = torch.tensor(mean, device=device).view(1, -1, 1, 1)
            deviation = torch.tensor(deviation, device=device).view(1, -1, 1, 1)
        self.mean, self.deviation = mean, deviation

    def __len__(self) -> int:
        return len(self.indices)

    def batch(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """The images at `positions` (B,), a tensor on the device, and their labels (B,).

        Images are float32 (B, C, H, W), as torchvision's ToTensor and Normalize give them.
        """
        chosen = self.indices[positions]
        images = self.pixels[chosen].permute(0, 3, 1, 2).to(torch.float32).div_(255)
        if self.mean is not None:
            images = images.sub_(self.mean).div_(self.deviation)
        return images.contiguous(memory_format=self.memory_format), self.labels[chosen]

    def in_order(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All images in their order, in batches of `batch_size`; the last one may be shorter."""
        for positions in torch.arange(len(self), device=self.indices.device).split(batch_size):
            yield self.batch(positions)
