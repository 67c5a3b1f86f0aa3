"""The training of one run: the exercise's protocol, epoch by epoch.

Negative log-likelihood of log-softmax, every epoch in a new order, the short last batch kept,
constant learning rate. Losses are sums divided by the number of images. Nothing in the loop over
the batches waits for the device: the loss is summed there and read once an epoch (steps.py).
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from normres.batches import ImageSet
from normres.devices import Computation
from normres.errors import InputError
from normres.evaluation import PROBE_IMAGES, Evaluation, evaluate, gradient_norms
from normres.history import COLUMNS, GRADIENT_NORMS, Row, is_diverged, pack_norms
from normres.images import Images, split, stratified_subset
from normres.models import build_network, initialize
from normres.seeding import (
    derive,
    generator,
    random_states,
    restore_random_states,
    seed_all,
)
from normres.steps import GraphedStep, Step
from normres.working_copy import WorkingCopy

SCALED_FROM = 128  # images per batch at which learning_rate_scaling changes nothing


def effective_learning_rate(specification: Mapping[str, Any]) -> float:
    """The optimiser's learning rate: the specification's, scaled by its learning_rate_scaling.

    "sqrt" multiplies it by sqrt(batch_size / 128), as Malladi et al. 2022 derive it for Adam; the
    betas and epsilon, which their rule scales too, stay.
    """
    rate = specification["learning_rate"]
    if specification.get("learning_rate_scaling", "constant") == "sqrt":
        rate *= math.sqrt(specification["batch_size"] / SCALED_FROM)
    return rate


def build_optimizer(
    network: nn.Module, specification: Mapping[str, Any], graphed: bool = False
) -> torch.optim.Optimizer:
    """The optimiser that the specification names, over all parameters.

    `graphed`: its steps will be captured in a CUDA graph.
    """
    common = {
        "lr": effective_learning_rate(specification),
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
        capturable=graphed,
        **common,
    )


@dataclass
class EpochProgress:
    """How far an epoch is that has begun and has no row in the history yet."""

    images: int  # done, in the epoch's order
    loss_sum: torch.Tensor  # float64, on the device: over these images
    seconds: float  # of training, over all attempts
    random_states: Mapping[str, Any] | None  # to go on with; None: at the epoch's start


class TrainingRun:
    """A network in training, with all that its next step depends on.

    `history` holds a row (see history.py) for each epoch done, the first one being epoch 0,
    before training. Same specification, images and computation: the same rows, bit for bit, but for
    the times, however often the run was stopped and its `state_dict` loaded in between.
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
        initialize(network, specification["initialization_seed"], specification["initialization"])
        self.network = network.to(computation.device, memory_format=computation.memory_format)
        self.working = WorkingCopy(self.network, computation.precision)
        if computation.dense_products:
            self.working.use_dense_products()
        if computation.compiled and computation.device.type == "cuda":
            self.working.use_compilable_forms(padded=computation.precision == "bfloat16")
        self.optimizer = build_optimizer(self.network, specification, computation.graphed)
        self.step = self._build_step()
        self.progress: EpochProgress | None = None
        self._test_logits: torch.Tensor | None = None

    def _build_step(self) -> Step:
        """What trains on the images at given positions; see steps.py."""
        return (GraphedStep if self.computation.graphed else Step)(
            self.network,
            self.working,
            self.optimizer,
            self.sets["train"],
            self.computation,
            min(self.specification["batch_size"], len(self.sets["train"])),
        )

    @property
    def epoch(self) -> int:
        """The number of epochs done; -1 before the evaluation of the initial network."""
        return len(self.history) - 1

    @property
    def diverged(self) -> bool:
        """Whether the last epoch's losses are not finite."""
        return bool(self.history) and is_diverged(self.history[-1])

    @property
    def fraction(self) -> float:
        """The part of the epoch in training that is done."""
        return self.progress.images / len(self.sets["train"]) if self.progress else 0.0

    def train(self, after_batch: Callable[[], None] = lambda: None) -> Iterator[Row]:
        """Do the epochs that are left, yielding each one's row; stop after a diverged one.

        `after_batch` is called between any two batches, of training or evaluation. It may raise:
        then `state_dict` is a state from which another TrainingRun goes on to the same end.
        """
        if not self.history:
            yield self._finish_epoch({"train_loss": None, "images_per_second": None}, after_batch)
        while self.epoch < self.specification["epochs"] and not self.diverged:
            self._train_epoch(after_batch)
            images = len(self.sets["train"])
            trained = {
                "train_loss": float(self.progress.loss_sum) / images,  # running mean over the epoch
                "images_per_second": images / self.progress.seconds,
            }
            yield self._finish_epoch(trained, after_batch)

    def _now(self) -> float:
        self.computation.synchronize()
        return time.perf_counter()

    def _train_epoch(self, after_batch: Callable[[], None]) -> None:
        """Train the next epoch, or what is left of it, keeping `progress` true after every step."""
        epoch, seed = self.epoch + 1, self.specification["order_seed"]
        images, device = self.sets["train"], self.computation.device
        order = torch.randperm(len(images), generator=generator(seed, "order", epoch)).to(device)
        seed_all(derive(seed, "dropout", epoch))
        if self.progress is None:
            nothing = torch.zeros((), dtype=torch.float64, device=device)
            self.progress = EpochProgress(0, nothing, 0.0, None)
        elif self.progress.random_states is not None:
            restore_random_states(self.progress.random_states, device)
        progress = self.progress
        before, started = progress.seconds, self._now()
        self.working.module.train()
        try:
            while progress.images < len(images):
                positions = order[progress.images :][: self.specification["batch_size"]]
                progress.loss_sum += self.step(positions) * len(positions)
                progress.images += len(positions)
                after_batch()
        finally:
            progress.seconds = before + self._now() - started
            progress.random_states = random_states(device)

    def _finish_epoch(self, trained: Row, after_batch: Callable[[], None]) -> Row:
        """Evaluate the network and append the epoch's row to the history."""
        started = self._now()
        test = self._evaluate("test", after_batch)
        train_eval = self._evaluate("train_eval", after_batch)
        validation = (
            self._evaluate("validation", after_batch) if len(self.sets["validation"]) else None
        )
        norms = gradient_norms(
            self.working.module,
            self.sets["probe"],
            self.specification["order_seed"],
            self.computation,
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
            "first_conv_grad_norm": norms[0] if norms else None,  # of a network without any
            "last_conv_grad_norm": norms[-1] if norms else None,
            "train_seconds": before["train_seconds"]
            + (self.progress.seconds if self.progress else 0.0),
            "eval_seconds": before["eval_seconds"] + self._now() - started,
        }
        values = trained | measured
        row = {column: values[column] for column in COLUMNS} | {GRADIENT_NORMS: pack_norms(norms)}
        self.history.append(row)
        self.progress = None
        return row

    def _evaluate(self, name: str, after_batch: Callable[[], None] = lambda: None) -> Evaluation:
        return evaluate(self.working.module, self.sets[name], self.computation, after_batch)

    def test_logits(self) -> np.ndarray:
        """The network's logits on the test images, float16 (n_test, classes).

        Values beyond float16's range become its largest, so that their order at the top may tie.
        """
        if self._test_logits is None:  # after a resumption with nothing left to train
            self._test_logits = self._evaluate("test").logits
        limit = float(np.finfo(np.float16).max)
        return self._test_logits.clamp(-limit, limit).numpy().astype(np.float16)

    def weights(self) -> dict[str, torch.Tensor]:
        """The network's parameters and buffers, copied to the CPU, in the contiguous layout.

        Tensor.contiguous() would leave 1x1 kernels the strides of channels_last, which a file has.
        """
        return {
            name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, value in self.network.state_dict().items()
        }

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on beside the arguments of the run."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": self.history,
            "progress": vars(self.progress) if self.progress else None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict` of a run with the same specification, its epochs aside."""
        self.network.load_state_dict(state["network"])
        self.working.refresh()
        self.optimizer.load_state_dict(state["optimizer"])
        # The state may come from another device or layout; the fused optimisers go through memory
        # without a look at strides.
        for group in self.optimizer.param_groups:
            if "capturable" in group:
                group["capturable"] = self.computation.graphed
        for parameter, moments in self.optimizer.state.items():
            for name, value in moments.items():
                if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                    moments[name] = torch.empty_like(parameter).copy_(value)
        self.step = self._build_step()
        self.history = list(state["history"])
        self.progress = None
        if state["progress"] is not None:
            self.progress = EpochProgress(**state["progress"])
            self.progress.loss_sum = self.progress.loss_sum.to(self.computation.device)


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
