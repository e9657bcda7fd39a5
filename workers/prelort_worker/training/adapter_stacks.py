"""
The adapters of several fits in one buffer. A batch of examples of any of them goes through the frozen base at once,
each example through the adapter of its own fit.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from ..errors import InputError
from ..wire.specs import FitSpec
from .nested_lora import AdaptedModule, NestedLora, SavedModule, adapter_name, dense_parameters


@dataclass(frozen=True)
class Start:
    """What a fit starts from, and what its steps do to it."""

    r: int
    # [r, width]
    rows: Tensor
    dense: Tensor
    # [n, width]: further components, which may act and do not train.
    merged: Tensor | None
    spec: FitSpec

    @property
    def n_merged(self) -> int:
        return 0 if self.merged is None else len(self.merged)


class AdapterStacks:
    """
    A [fits, R, in] and B [fits, out, R] of each module, R the largest rank with what is merged, and the parameters of
    modules trained in full. All are parts of one buffer, so that the optimiser's step is a few operations.
    """

    def __init__(self, nested: NestedLora, fits: Sequence[Start]) -> None:
        self.n_fits = len(fits)
        self.r = max(fit.r + fit.n_merged for fit in fits)
        factors = [((self.r, each.shape.in_), (each.shape.out, self.r)) for each in nested.modules]
        shapes = [shape for pair in factors for shape in pair]
        self._n_factors = len(shapes)
        shapes += [tuple(value.shape) for value in dense_parameters(nested, nested.tiers[0])]
        self._shapes = [(len(fits), *shape) for shape in shapes]
        self._ends = [0, *accumulate(math.prod(shape) for shape in self._shapes)]
        self._values, self._grads, self._rates = (torch.zeros(self._ends[-1], device=nested.device) for _ in range(3))
        for index, fit in enumerate(fits):
            self._write(nested, index, fit)
        self._leaves = [value.detach().requires_grad_() for value in self._parts(self._values)]
        for leaf, grad in zip(self._leaves, self._parts(self._grads), strict=True):
            leaf.grad = grad
        self._values.requires_grad_().grad = self._grads
        self._optimizer = torch.optim.AdamW([self._values], lr=1.0, weight_decay=0.0)

    def read(self, index: int, r: int) -> tuple[Tensor, Tensor]:
        """Rows [r, width] and dense [size] of a fit: float32 copies on the CPU."""
        parts = [value[index] for value in self._parts(self._values.detach())]
        factors = parts[: self._n_factors]
        rows = [part[:r] if number % 2 == 0 else part[:, :r].T for number, part in enumerate(factors)]
        dense = [part.reshape(-1) for part in parts[self._n_factors :]]
        return torch.cat(rows, dim=1).cpu(), torch.cat(dense).cpu() if dense else torch.zeros(0)

    def reset(self) -> None:
        """Sets the gradients to zero."""
        self._grads.zero_()

    def leave(self, index: int) -> None:
        """That fit trains no more."""
        for rate in self._parts(self._rates):
            rate[index] = 0

    def clip(self, largest: dict[int, float]) -> dict[int, float]:
        """Scales the gradients of each fit down to its largest norm, unless that is 0; returns the norms before."""
        if not any(largest.values()):
            return dict.fromkeys(largest, 0.0)
        trained = self._parts(self._grads * (self._rates > 0))
        norms = torch.stack([part.flatten(1).square().sum(1) for part in trained]).sum(0).sqrt()
        for index, limit in largest.items():
            if limit > 0:
                for grad in self._parts(self._grads):
                    grad[index] *= (limit / (norms[index] + 1e-6)).clamp(max=1.0)
        return {index: norms[index].item() for index in largest}

    @torch.no_grad()
    def update(self) -> None:
        """A step of AdamW, which is proportional to the learning rate: taken at 1, and scaled to that of each value."""
        before = self._values.clone()
        self._optimizer.step()
        self._values.sub_(before).mul_(self._rates).add_(before)

    @contextmanager
    def acting(self, nested: NestedLora, lanes: Tensor, mask: Tensor) -> Iterator[None]:
        """Within the block, each example of a batch goes through the adapter of its own fit, masked."""
        leaves = [leaf.index_select(0, lanes) for leaf in self._leaves]
        dense = iter(leaves[self._n_factors :])
        with ExitStack() as stack:
            stack.enter_context(nested.model.disable_adapter())
            for number, module in enumerate(nested.modules):
                hook = _adapter_hook(module, leaves[2 * number], leaves[2 * number + 1], mask, nested.scale)
                stack.enter_context(cast(nn.Module, module.layer).register_forward_hook(hook))
            for saved in nested.saved:
                names = [name for name, _ in saved.parameters(adapter_name(nested.tiers[0]))]
                own = {name.removeprefix(f"{saved.name}."): next(dense) for name in names}
                stack.enter_context(saved.wrapper.register_forward_hook(_saved_hook(saved, own)))
            yield

    def _write(self, nested: NestedLora, index: int, fit: Start) -> None:
        values, rates = ([part[index] for part in self._parts(buffer)] for buffer in (self._values, self._rates))
        rows = fit.rows if fit.merged is None else torch.cat([fit.rows, fit.merged])
        trained = list(range(fit.r)) if fit.spec.components is None else fit.spec.components
        offset = 0
        for number, module in enumerate(nested.modules):
            middle, end = offset + module.shape.in_, offset + module.width
            values[2 * number][: len(rows)] = rows[:, offset:middle]
            values[2 * number + 1][:, : len(rows)] = rows[:, middle:end].T
            rates[2 * number][trained] = 0 if fit.spec.freeze_a else fit.spec.lr
            rates[2 * number + 1][:, trained] = fit.spec.lr_b
            offset = end
        offset = 0
        for value, rate in zip(values[self._n_factors :], rates[self._n_factors :], strict=True):
            value[:] = fit.dense[offset : offset + value.numel()].view_as(value)
            rate[:] = fit.spec.head_lr
            offset += value.numel()

    def _parts(self, buffer: Tensor) -> list[Tensor]:
        """[fits, *shape] each."""
        places = zip(pairwise(self._ends), self._shapes, strict=True)
        return [buffer[start:end].view(shape) for (start, end), shape in places]


def _adapter_hook(module: AdaptedModule, a: Tensor, b: Tensor, mask: Tensor, scale: float):
    """Adds s·B·A of each example's own adapter, masked, to what the frozen module gives."""

    def apply(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        x = inputs[0]
        if x.shape[0] != len(mask):
            raise InputError(
                f"{module.shape.name} sees {x.shape[0]} rows for a batch of {len(mask)} examples, so fits cannot "
                "train side by side; leave it out of target_modules, or compare without --side-by-side"
            )
        hidden = torch.bmm(x.reshape(len(a), -1, x.shape[-1]), a.transpose(1, 2)) * (scale * mask).unsqueeze(1)
        return output + torch.bmm(hidden, b.transpose(1, 2)).view(output.shape)

    return apply


def _saved_hook(saved: SavedModule, parameters: dict[str, Tensor]):
    """Each example through a module with the parameters of its own fit."""
    original = saved.wrapper.original_module

    def apply(_module: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> Tensor:
        (x,) = inputs
        # Of a batch of one, since a head may take the first position of every example.
        return vmap(lambda own, part: functional_call(original, own, (part.unsqueeze(0),)).squeeze(0))(parameters, x)

    return apply
