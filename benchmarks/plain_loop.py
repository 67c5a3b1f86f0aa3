"""Training as it is usually written: what this project's speed is compared with.

A DataLoader over torchvision's transforms, float32, Adam with its defaults, one `.item()` a step, as
in PyTorch's own CIFAR-10 tutorial. Only the network's definition is this project's.
"""

import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from normres.images import Images
from normres.models import build_network


class Photographs(Dataset):
    """Images of a prepared data set, one by one, as torchvision's own data sets give them."""

    def __init__(self, images: Images):
        self.images = images
        self.transform = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)]
        )

    def __len__(self) -> int:
        return self.images.n_train

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = Image.fromarray(self.images.images[index])
        return self.transform(image), int(self.images.labels[index])


class PlainLoop:
    """The loop, which can be asked for a number of steps at a time."""

    def __init__(self, specification: dict, images: Images, device: str, workers: int):
        self.device = torch.device(device)
        self.network = build_network(specification, 3, 32, len(images.class_names)).to(self.device)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-4)
        self.criterion = nn.CrossEntropyLoss()
        self.loader = DataLoader(
            Photographs(images),
            batch_size=specification["batch_size"],
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            persistent_workers=workers > 0,
        )
        self.batches = iter(self.loader)

    def train(self, steps: int) -> float:
        """Do some steps; returns the last loss."""
        self.network.train()
        for _ in range(steps):
            try:
                images, labels = next(self.batches)
            except StopIteration:
                self.batches = iter(self.loader)
                images, labels = next(self.batches)
            images, labels = images.to(self.device), labels.to(self.device)
            self.optimizer.zero_grad()
            loss = self.criterion(self.network(images), labels)
            loss.backward()
            self.optimizer.step()
            running_loss = loss.item()
        return running_loss
