"""Values that a task brought, and what is sent of them."""

import math
from typing import TypeAlias

import torch

from ..seeds import derive
from ..wire.encoding import decode, encode
from ..wire.fields import Dtype, PartName
from ..wire.frames import Payload, Tensor
from ..wire.messages import Fit

# Rows [r, width] and dense [size].
Values: TypeAlias = tuple[torch.Tensor, torch.Tensor]


def decoded(payload: Payload) -> dict[PartName, torch.Tensor]:
    if "rows" not in payload:
        raise ValueError("tensors: expected rows")
    return {
        name: torch.from_numpy(decode(tensor.data, tensor.dtype, math.prod(tensor.shape)).reshape(tensor.shape))
        for name, tensor in payload.items()
    }


def encoded(tensor: torch.Tensor, dtype: Dtype = "F32", seed: int = 0) -> Tensor:
    values = tensor.contiguous().numpy().reshape(-1)
    return Tensor(tuple(tensor.shape), encode(values, dtype, seed).data, dtype)


def encoded_update(task: Fit, received: Values, ended: Values) -> dict[PartName, Tensor]:
    """new − received, rounded to what was asked for."""
    rows, dense = ended[0] - received[0], ended[1] - received[1]
    update: dict[PartName, Tensor] = {"rows": _rounded("rows", rows, task)}
    if len(dense):
        update["dense"] = _rounded("dense", dense, task)
    return update


def _rounded(name: str, change: torch.Tensor, task: Fit) -> Tensor:
    return encoded(change, task.update_dtype, derive(task.seed, f"round {name}"))
