"""The network that computes, beside the float32 weights that are trained.

In bfloat16 the weights of convolutions and hidden linear layers are kept twice: in float32, for the
optimiser, and rounded to bfloat16, for the passes (Micikevicius et al. 2018, section 3.1). The
rounded ones are written once a step; autocast alone would cast each weight anew in each pass, into
fresh memory. The bytes are the same, but for SmallMapConv2d: it sums the gradients of a weight in
the weight's type.
"""

import copy

import torch
from torch import Tensor, nn

from normres.layers import Classifier, FusableGroupNorm, PaddedConv2d, SmallMapConv2d


class WorkingCopy:
    """A copy of `network` to compute with.

    `module` shares every parameter and buffer with `network`, but for those that autocast would
    cast, where `precision` is "bfloat16": these are rounded copies. `update_gradients` must be
    called between the backward pass and the optimiser's step, `refresh` after the step and whenever
    the weights of `network` were changed otherwise.
    """

    def __init__(self, network: nn.Module, precision: str):
        rounded = {  # by id: modules may share a parameter
            id(parameter): parameter
            for module in network.modules()
            if isinstance(module, nn.Conv2d | nn.Linear) and not isinstance(module, Classifier)
            for parameter in module.parameters(recurse=False)
            if precision == "bfloat16" and parameter.requires_grad
        }
        twins = {key: nn.Parameter(value.detach().bfloat16()) for key, value in rounded.items()}
        # What deepcopy finds in its memo it takes from there instead of copying it.
        memo = {id(tensor): tensor for tensor in [*network.parameters(), *network.buffers()]}
        self.module = copy.deepcopy(network, memo | twins)
        self._rounded, self._twins = list(rounded.values()), list(twins.values())
        self._gradients = [torch.zeros_like(parameter) for parameter in self._rounded]

    @torch.no_grad()
    def update_gradients(self) -> None:
        """Give the float32 weights the gradients of their copies."""
        for parameter, gradient, twin in zip(
            self._rounded, self._gradients, self._twins, strict=True
        ):
            parameter.grad = None if twin.grad is None else gradient
        used = [i for i, twin in enumerate(self._twins) if twin.grad is not None]
        if used:
            torch._foreach_copy_(
                [self._gradients[i] for i in used], [self._twins[i].grad for i in used]
            )

    @torch.no_grad()
    def refresh(self) -> None:
        """Round the float32 weights into their copies."""
        if self._twins:
            torch._foreach_copy_(self._twins, self._rounded)

    def use_dense_products(self) -> None:
        """Compute 3x3 convolutions on maps of 2x2 pixels as dense products; see SmallMapConv2d."""
        for module in self.module.modules():
            if type(module) is nn.Conv2d and SmallMapConv2d.fits(module):
                module.__class__ = SmallMapConv2d  # the same parameters under the same names

    def use_compilable_forms(self, padded: bool) -> None:
        """Compute group norms by FusableGroupNorm, and first layers by PaddedConv2d if `padded`."""
        for module in self.module.modules():
            if type(module) is nn.GroupNorm:
                module.__class__ = FusableGroupNorm
            elif padded and type(module) is nn.Conv2d and PaddedConv2d.fits(module):
                module.__class__ = PaddedConv2d


def state_tensors(network: nn.Module, optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Every tensor that a step changes: weights, buffers and the optimiser's state."""
    moments = [
        value
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, Tensor)
    ]
    return [*(p.detach() for p in network.parameters()), *network.buffers(), *moments]
