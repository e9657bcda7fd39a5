"""
The state of a fit's optimizer as one vector, in which it travels from a client's fit to the client's next one.

It holds parameter by parameter, A and B of every module and then those of `dense`: how many steps the optimizer has
made with it (not with sgd, which does not count), and its tensors, each flattened row by row. A parameter that the
optimizer has not stepped yet has zeros, with which every one of these optimizers starts.
"""

import math

import torch
from torch import Tensor, nn

from ..wire.specs import Adafactor, AdamW, FitSpec, Sgd
from .nested_lora import NestedLora, dense_parameters, lora_parameters

_STEP = "step"


def give_state(optimizer: torch.optim.Optimizer, nested: NestedLora, r: int, spec: FitSpec, state: Tensor) -> None:
    """Has a new optimizer, of tier r's adapter, go on from this state. Raises ValueError if it is another's."""
    parts = _parts(nested, r, spec)
    if state.shape != (expected := sum(size for *_, size in parts),):
        raise ValueError(
            f"state: expected {expected} values, as {spec.optimizer.name} has them, got {list(state.shape)}"
        )
    training = {value for group in optimizer.param_groups for value in group["params"]}
    for (value, name, shape, _), part in zip(parts, state.split([size for *_, size in parts]), strict=True):
        if value in training:
            optimizer.state[value][name] = _as_kept(name, part, shape, value, spec)


def state_of(
    optimizer: torch.optim.Optimizer, nested: NestedLora, r: int, spec: FitSpec, carried: Tensor | None
) -> Tensor:
    """The optimizer's state; of parameters that it did not train, what was `carried` from the fit before."""
    parts = _parts(nested, r, spec)
    sizes = [size for *_, size in parts]
    before = torch.zeros(sum(sizes)) if carried is None else carried
    values = []
    for (value, name, _, _), part in zip(parts, before.split(sizes), strict=True):
        kept = optimizer.state[value].get(name) if value in optimizer.state else None
        values.append(part if kept is None else torch.as_tensor(kept, dtype=torch.float32).reshape(-1).cpu())
    return torch.cat(values)


def _as_kept(name: str, part: Tensor, shape: torch.Size, value: nn.Parameter, spec: FitSpec) -> Tensor | int:
    """As the optimizer itself keeps it: the number of steps on the CPU, in transformers a plain number."""
    if name != _STEP:
        return part.clone().reshape(shape).to(value.device)
    return int(part.item()) if isinstance(spec.optimizer, Adafactor) else part.clone().reshape(())


def _parts(nested: NestedLora, r: int, spec: FitSpec) -> list[tuple[nn.Parameter, str, torch.Size, int]]:
    """Of every parameter in order: the names of what the optimizer keeps, each with its shape and size."""
    parameters = [*lora_parameters(nested, r), *dense_parameters(nested, r)]
    kept = [(value, name, shape) for value in parameters for name, shape in _kept(spec.optimizer, value.shape)]
    return [(value, name, shape, math.prod(shape)) for value, name, shape in kept]


def _kept(optimizer: AdamW | Sgd | Adafactor, shape: torch.Size) -> list[tuple[str, torch.Size]]:
    if isinstance(optimizer, Sgd):
        return [("momentum_buffer", shape)]
    step = (_STEP, torch.Size())
    if isinstance(optimizer, AdamW):
        return [step, ("exp_avg", shape), ("exp_avg_sq", shape)]
    if len(shape) < 2:
        return [step, ("exp_avg_sq", shape)]
    return [step, ("exp_avg_sq_row", shape[:-1]), ("exp_avg_sq_col", torch.Size([*shape[:-2], shape[-1]]))]
