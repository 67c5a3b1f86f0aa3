"""Training as it is usually written: what this project's speed is compared with.

A DataLoader over torchvision's transforms, float32, one `.item()` a step, as in PyTorch's own
CIFAR-10 tutorial; but where that has SGD with momentum this has Adam, as the exercise does, with
PyTorch's defaults: on a CPU a loop over the parameters, not its fused form. On CUDA float32 is what
PyTorch makes of it by default, convolutions in TF32, unless the process has chosen otherwise. Only
the network's definition and its initial weights are this project's.
"""

import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from normres.images import Images
from normres.models import build_network, initialize


class Photographs(Dataset):
    """Images of a prepared data set, one by one, as torchvision's own data sets give them."""

    def __init__(self, images: Images):
        self.images = images
        channels = images.shape[2]
        self.transform = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize([0.5] * channels, [0.5] * channels)]
        )

    def __len__(self) -> int:
        return self.images.n_train

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """An image, float32 (C, H, W), and its label; test images follow those of training."""
        pixels = self.images.images[index]
        if self.images.shape[2] == 1:  # Pillow's grey images have no axis of channels
            pixels = pixels[..., 0]
        return self.transform(Image.fromarray(pixels)), int(self.images.labels[index])


class PlainLoop:
    """The loop, which can be asked for a number of steps at a time."""

    def __init__(
        self,
        specification: dict,
        images: Images,
        device: str,
        workers: int = 0,
        drop_last: bool = False,
    ):
        self.device = torch.device(device)
        side, _, channels = images.shape
        network = build_network(specification, channels, side, len(images.class_names))
        initialize(network, specification["seed"], "default")  # on the CPU, as ours are drawn
        self.network = network.to(self.device)
        rate = specification["learning_rate"]
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=rate)
        self.criterion = nn.CrossEntropyLoss()
        self.loader = DataLoader(
            Photographs(images),
            batch_size=specification["batch_size"],
            shuffle=True,
            drop_last=drop_last,
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

    @torch.no_grad()
    def accuracy(self) -> float:
        """The share of the test images that are classified correctly."""
        self.network.eval()
        photographs = self.loader.dataset
        first, end = photographs.images.n_train, len(photographs.images.images)
        correct = 0
        for index in range(first, end):
            image, label = photographs[index]
            correct += int(self.network(image[None].to(self.device)).argmax()) == label
        return correct / (end - first)
