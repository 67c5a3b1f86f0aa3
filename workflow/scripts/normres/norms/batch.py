"""Batch normalisation (Ioffe & Szegedy 2015), over the whole batch or over ghost batches."""

import torch
from torch import Tensor, nn

USES_BATCH_STATISTICS = True


class GhostBatchNorm2d(nn.BatchNorm2d):
    """Batch norm whose statistics see only `statistics_images` images of a batch at a time.

    In training mode a batch is cut, in its order, into ghost batches of that many images, each
    normalised by its own mean and variance (Hoffer et al. 2017, section 4). What is left at the end
    is a smaller ghost batch; a single image, which has no variance over images, joins the ghost
    batch before it. A batch of no more images than `statistics_images` is normalised as a whole.

    A step moves the running statistics once, by the momentum, towards the mean over its ghost
    batches of their means and unbiased variances. Hoffer et al. move them once a ghost batch: the
    statistics of evaluation would then rest on fewer images, too, the smaller the ghost batches.
    """

    def __init__(self, channels: int, statistics_images: int, affine: bool = True):
        super().__init__(channels, affine=affine)
        self.statistics_images = statistics_images

    def forward(self, images: Tensor) -> Tensor:
        """(N, channels, H, W) -> the same shape and type; computed in float32."""
        if not self.training or len(images) <= self.statistics_images:
            return super().forward(images)
        size = self.statistics_images
        rest = len(images) % size
        if rest == 1:
            rest += size
        whole = len(images) - rest
        parts = [images[:whole].unflatten(0, (-1, size))] if whole else []
        parts += [images[whole:].unsqueeze(0)] if rest else []
        outputs, means, variances = zip(*map(self._normalize, parts), strict=True)
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(torch.cat(means).mean(0), self.momentum)
            self.running_var.lerp_(torch.cat(variances).mean(0), self.momentum)
        return torch.cat(outputs) if len(outputs) > 1 else outputs[0]

    def _normalize(self, ghosts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalise ghost batches (G, n, C, H, W); also their means and unbiased variances (G, C).

        The images come back as (G * n, C, H, W).
        """
        values = ghosts.float()
        variance, mean = torch.var_mean(values, (1, 3, 4), correction=0, keepdim=True)
        output = (values - mean) * (variance + self.eps).rsqrt()
        if self.affine:
            output = output * self.weight.view(-1, 1, 1) + self.bias.view(-1, 1, 1)
        n = ghosts[0, :, 0].numel()
        unbiased = variance.detach().flatten(1) * (n / (n - 1))
        return output.to(ghosts.dtype).flatten(0, 1), mean.detach().flatten(1), unbiased


def build(channels: int, *, affine: bool = True, statistics_images: int = 0) -> nn.Module:
    """BatchNorm2d(channels) with PyTorch's momentum of 0.1 and eps of 1e-5.

    `statistics_images`: how many images of a batch the statistics see; 0 is all of them.
    """
    if statistics_images:
        return GhostBatchNorm2d(channels, statistics_images, affine)
    return nn.BatchNorm2d(channels, affine=affine)
