"""The optimizer of a fit, its learning rates from step to step, and its weight decay."""

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from ..errors import InputError
from ..wire.specs import Adafactor, FitSpec, Sgd
from .nested_lora import NestedLora, dense_parameters, factors
from .steps import Step


def optimizer_of(nested: NestedLora, r: int, spec: FitSpec) -> tuple[torch.optim.Optimizer, LambdaLR]:
    """
    Of what trains in tier r's adapter, and its learning rates. Without weight decay, which `decay` adds: an optimizer
    would also shrink components that a step's truncation left out.
    """
    pairs = factors(nested, r)
    groups = [
        {"params": [a for a, _ in pairs if a.requires_grad], "lr": spec.lr},
        {"params": [b for _, b in pairs], "lr": spec.lr_b},
        {"params": dense_parameters(nested, r), "lr": spec.head_lr},
    ]
    optimizer = _optimizer([group for group in groups if group["params"]], spec, nested.device)
    return optimizer, LambdaLR(optimizer, lambda step: warmth(spec, step))


def warmth(spec: FitSpec, step: int) -> float:
    """Share of the learning rates in a step, counted from 0."""
    return min(1.0, (step + 1) / (spec.warmup_steps + 1))


def _optimizer(groups: list[dict[str, object]], spec: FitSpec, device: torch.device) -> torch.optim.Optimizer:
    asked = spec.optimizer
    if isinstance(asked, Sgd):
        return torch.optim.SGD(groups, momentum=asked.momentum, nesterov=asked.nesterov)
    if isinstance(asked, Adafactor):
        # At the given rate, as transformers' trainer has it: a rate in proportion to the weights would leave B at zero.
        from transformers.optimization import Adafactor as OfTransformers

        return OfTransformers(groups, lr=spec.lr, scale_parameter=False, relative_step=False)
    beta1, beta2 = asked.betas
    if asked.name == "adamw":
        return torch.optim.AdamW(groups, betas=(beta1, beta2), eps=asked.eps, weight_decay=0.0)
    if device.type != "cuda":
        raise InputError(f"adamw_8bit needs CUDA, and this worker trains on {device.type}: use adamw", "fit.optimizer")
    try:
        from bitsandbytes.optim import AdamW8bit  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError(
            "adamw_8bit needs the package bitsandbytes: pip install bitsandbytes", "fit.optimizer"
        ) from error
    return AdamW8bit(groups, betas=(beta1, beta2), eps=asked.eps, weight_decay=0.0)


@torch.no_grad()
def decay(nested: NestedLora, r: int, spec: FitSpec, step: Step, share: float) -> None:
    """
    A step's weight decay, at `share` of the learning rates; call it after clipping and before the optimizer's step.
    Decoupled from the gradient (Loshchilov and Hutter, arXiv 1711.05101), for sgd added to it, as PyTorch does. Leaves
    alone: components that all of the step's truncations left out, those that do not train, biases and norms.
    """
    if spec.optimizer.weight_decay == 0:
        return
    trained = [index for index in spec.components or range(r) if index < step.largest]
    for a, b in factors(nested, r):
        if a.requires_grad:
            _shrink(a, (trained,), spec.lr * share, spec)
        _shrink(b, (slice(None), trained), spec.lr_b * share, spec)
    for value in dense_parameters(nested, r):
        if value.dim() > 1:
            _shrink(value, (slice(None),), spec.head_lr * share, spec)


def _shrink(value: Tensor, where: tuple[slice | list[int], ...], lr: float, spec: FitSpec) -> None:
    weight_decay = spec.optimizer.weight_decay
    if value.grad is None:  # as in PyTorch, whose optimizers pass it over
        return
    if not isinstance(spec.optimizer, Sgd):
        value[where] = value[where] * (1 - lr * weight_decay)
    else:
        value.grad[where] = value.grad[where].add(value[where], alpha=weight_decay)
