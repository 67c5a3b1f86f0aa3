"""What is measured on a network between epochs: loss, accuracy, logits, gradient norms."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from normres.batches import ImageSet
from normres.devices import Computation, short_of_memory
from normres.seeding import derive

TEST_BATCH = 1024  # the exercise's, for images of 32 x 32 pixels
PROBE_IMAGES = 32  # training images whose loss gives the gradient norms


@dataclass(frozen=True)
class Evaluation:
    """Results over a set of images."""

    loss: float  # summed negative log-likelihood / number of images
    correct: int
    accuracy: float  # a fraction
    logits: Tensor  # float32 (N, classes), on the CPU


@torch.no_grad()
def evaluate(
    network: nn.Module,
    images: ImageSet,
    computation: Computation,
    after_batch: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Evaluate `network` in evaluation mode, never compiled: its batches are few and large.

    `after_batch` is called after each batch; it may raise to stop. Raises MemoryError where there
    is too little memory.
    """
    network.eval()
    loss = torch.zeros((), dtype=torch.float64, device=computation.device)
    correct = torch.zeros((), dtype=torch.int64, device=computation.device)
    logits, size = [], batch_size(images)
    fewer = " or runs_per_gpu" if computation.device.type == "cuda" else ""
    with short_of_memory(f"for {size} images to evaluate; try a smaller image_size{fewer}"):
        for batch, labels in images.in_order(size):
            with computation.autocast():
                output = network(batch).float()
            loss += cross_entropy(output, labels, reduction="sum")
            correct += (output.argmax(1) == labels).sum()
            logits.append(output)
            after_batch()
        all_logits = torch.cat(logits).cpu()
    hits = int(correct)
    return Evaluation(
        loss=float(loss) / len(images),
        correct=hits,
        accuracy=hits / len(images),
        logits=all_logits,
    )


def batch_size(images: ImageSet) -> int:
    """How many images an evaluation takes at a time: fewer where they are larger, for memory."""
    side = images.pixels.shape[1]
    return max(1, min(TEST_BATCH, TEST_BATCH * 32**2 // side**2))


def gradient_norms(
    network: nn.Module, images: ImageSet, seed: int, computation: Computation
) -> list[float]:
    """Norms of the loss's gradient at each convolution's weights, in order of depth.

    Measured in training mode on `images` as one batch; 1x1 convolutions of shortcuts do not count,
    nor do those that are not trained. Weights, buffers and the random state are left as they were;
    the network comes back in training mode.
    """
    weights = [
        module.weight
        for module in network.modules()
        if isinstance(module, nn.Conv2d)
        and module.kernel_size != (1, 1)
        and module.weight.requires_grad
    ]
    if not weights:
        return []
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    batch, labels = next(images.in_order(len(images)))
    devices = [computation.device] if computation.device.type == "cuda" else []
    network.train()
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(derive(seed, "probe"))
        with computation.autocast():
            output = network(batch)
        loss = cross_entropy(output.float(), labels)
        gradients = torch.autograd.grad(loss, weights, allow_unused=True)
    for name, buffer in network.named_buffers():
        buffer.copy_(buffers[name])
    norms = [gradient.double().norm() for gradient in gradients if gradient is not None]
    return torch.stack(norms).tolist() if norms else []
