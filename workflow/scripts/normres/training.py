"""The training of one run: the exercise's protocol, epoch by epoch.

Negative log-likelihood of log-softmax, every epoch in a new order, the short last batch kept,
constant learning rate. Losses are sums divided by the number of images. Nothing in the loop over
the batches waits for the device: the loss is summed there and read once an epoch.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from normres.batches import ImageSet
from normres.devices import Computation
from normres.errors import InputError
from normres.evaluation import PROBE_IMAGES, Evaluation, evaluate, gradient_norms
from normres.history import COLUMNS, Row
from normres.images import Images, split, stratified_subset
from normres.models import build_network, initialize
from normres.seeding import derive, generator


def build_optimizer(network: nn.Module, specification: Mapping[str, Any]) -> torch.optim.Optimizer:
    """The optimiser that the specification names, over all parameters."""
    common = {
        "lr": specification["learning_rate"],
        "weight_decay": specification["weight_decay"],
        "fused": True,
    }
    if specification["optimizer"] == "sgd":
        return torch.optim.SGD(network.parameters(), momentum=specification["momentum"], **common)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[specification["optimizer"]]
    return kind(
        network.parameters(),
        betas=(specification["beta1"], specification["beta2"]),
        eps=specification["epsilon"],
        **common,
    )


class TrainingRun:
    """A network in training, with all that its next epoch depends on.

    `history` holds a row (see history.COLUMNS) for each epoch done, the first one being epoch 0,
    before training. Same specification, images and computation: the same rows, bit for bit, but for
    the times.
    """

    def __init__(self, specification: Mapping[str, Any], images: Images, computation: Computation):
        self.specification = specification
        self.images = images
        self.computation = computation
        self.history: list[Row] = []
        self.sets = select_images(specification, images, computation)
        height, width, channels = images.shape
        if height != width:
            raise InputError(
                f"{images.name}: images of {height} x {width} pixels, but networks take squares; "
                "set `image_size` in the study"
            )
        network = build_network(specification, channels, height, len(images.class_names))
        initialize(network, specification["seed"], specification["initialization"])
        self.network = network.to(computation.device, memory_format=computation.memory_format)
        self.forward = torch.compile(self.network) if computation.compiled else self.network
        self.optimizer = build_optimizer(self.network, specification)
        self._test_logits: torch.Tensor | None = None

    @property
    def epoch(self) -> int:
        """The number of epochs done; -1 before the evaluation of the initial network."""
        return len(self.history) - 1

    @property
    def diverged(self) -> bool:
        """Whether the last epoch's losses are not finite."""
        last = self.history[-1] if self.history else {}
        return not all(math.isfinite(last.get(key) or 0) for key in ("train_loss", "test_loss"))

    def train(self, on_batch: Callable[[int, int], None] = lambda *_: None) -> Iterator[Row]:
        """Do the epochs that are left, yielding each one's row; stop after a diverged one.

        `on_batch` is told the images of the epoch done so far and their total, after every batch.
        """
        if not self.history:
            yield self._finish_epoch({"train_loss": None, "images_per_second": None}, 0.0)
        while self.epoch < self.specification["epochs"] and not self.diverged:
            started = self._now()
            loss = self._train_epoch(self.epoch + 1, on_batch)
            seconds = self._now() - started
            speed = len(self.sets["train"]) / seconds
            yield self._finish_epoch({"train_loss": loss, "images_per_second": speed}, seconds)

    def _now(self) -> float:
        self.computation.synchronize()
        return time.perf_counter()

    def _train_epoch(self, epoch: int, on_batch: Callable[[int, int], None]) -> float:
        """Train one epoch; its loss is the running mean over its images."""
        seed, batch_size = self.specification["seed"], self.specification["batch_size"]
        images = self.sets["train"]
        order = torch.randperm(len(images), generator=generator(seed, "order", epoch))
        order = order.to(self.computation.device)
        torch.manual_seed(derive(seed, "dropout", epoch))
        loss_sum = torch.zeros((), dtype=torch.float64, device=self.computation.device)
        done = 0
        self.network.train()
        for positions in order.split(batch_size):
            batch, labels = images.batch(positions)
            with self.computation.autocast():
                logits = self.forward(batch)
            loss = cross_entropy(logits.float(), labels)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            loss_sum += loss.detach() * len(positions)
            done += len(positions)
            on_batch(done, len(images))
        return float(loss_sum) / len(images)

    def _finish_epoch(self, trained: Row, seconds: float) -> Row:
        """Evaluate the network and append the epoch's row to the history."""
        started = self._now()
        test = self._evaluate("test")
        train_eval = self._evaluate("train_eval")
        validation = self._evaluate("validation") if len(self.sets["validation"]) else None
        first, last = gradient_norms(
            self.network, self.sets["probe"], self.specification["seed"], self.computation
        )
        self._test_logits = test.logits
        before = self.history[-1] if self.history else {"train_seconds": 0.0, "eval_seconds": 0.0}
        measured = {
            "epoch": self.epoch + 1,
            "test_loss": test.loss,
            "test_correct": test.correct,
            "test_accuracy": test.accuracy,
            "train_eval_loss": train_eval.loss,
            "train_eval_accuracy": train_eval.accuracy,
            "validation_loss": validation.loss if validation else None,
            "validation_accuracy": validation.accuracy if validation else None,
            "first_conv_grad_norm": first,
            "last_conv_grad_norm": last,
            "train_seconds": before["train_seconds"] + seconds,
            "eval_seconds": before["eval_seconds"] + self._now() - started,
        }
        values = trained | measured
        row = {column: values[column] for column in COLUMNS}
        self.history.append(row)
        return row

    def _evaluate(self, name: str) -> Evaluation:
        return evaluate(self.network, self.forward, self.sets[name], self.computation)

    def test_logits(self) -> np.ndarray:
        """The network's logits on the test images, float16 (n_test, classes).

        Values beyond float16's range become its largest, so that their order at the top may tie.
        """
        if self._test_logits is None:  # after a resumption with nothing left to train
            self._test_logits = self._evaluate("test").logits
        limit = float(np.finfo(np.float16).max)
        return self._test_logits.clamp(-limit, limit).numpy().astype(np.float16)

    def weights(self) -> dict[str, torch.Tensor]:
        """The network's parameters and buffers, on the CPU and contiguous."""
        return {
            name: value.detach().cpu().contiguous()
            for name, value in self.network.state_dict().items()
        }

    def state_dict(self) -> dict[str, Any]:
        """All that the next epoch depends on beside the arguments of the run."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": self.history,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict` of a run with the same specification, its epochs aside."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.history = list(state["history"])


def select_images(
    specification: Mapping[str, Any], images: Images, computation: Computation
) -> dict[str, ImageSet]:
    """The images a run trains on, evaluates on and probes its gradients with, on the device.

    Which images are taken is fixed by the data set and the sizes, not by the seed.
    """
    parts = split(
        images,
        train_images=specification["train_images"] or None,
        test_images=specification["test_images"] or None,
        validation_images=specification["validation_images"],
    )
    labels = images.labels[parts.train]

    def sample(purpose: str, size: int) -> np.ndarray:
        return parts.train[stratified_subset(labels, min(size, len(labels)), purpose)]

    indices = {
        "train": parts.train,
        "train_eval": sample("train_eval", specification["train_eval_images"]),
        "probe": sample("probe", PROBE_IMAGES),
        "validation": parts.validation,
        "test": parts.test,
    }
    return {
        name: ImageSet(images, chosen, specification["normalize"], computation)
        for name, chosen in indices.items()
    }
