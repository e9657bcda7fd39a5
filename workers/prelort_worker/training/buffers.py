"""
Buffers of the frozen model, such as BatchNorm's running statistics. They are in no update and no exported file, so no
task may change them: a worker's result must not depend on the clients it trained before.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..errors import InputError


@contextmanager
def unchanged_buffers(model: nn.Module) -> Iterator[None]:
    """
    Restores every buffer that belongs in a checkpoint, and raises InputError with the modules that changed one. Other
    buffers are caches, such as rotary frequencies, which long inputs replace.
    """
    state = model.state_dict().keys()
    before = {name: value for name, value in copy_buffers(model).items() if name in state}
    try:
        yield
    finally:
        changed = restore_buffers(model, before)
    if changed:
        told = ", ".join(f"{name} of a {type(owner_of(model, name)).__name__}" for name in changed[:5])
        raise InputError(
            f"the model changes its own buffers while it runs: {told}{', …' if len(changed) > 5 else ''}; they are in "
            "no update and no exported file, so they must not change; use a model without such modules, or keep them "
            "in evaluation mode in a custom task",
            "model.name_or_path",
        )


def copy_buffers(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.named_buffers()}


@torch.no_grad()
def restore_buffers(model: nn.Module, before: Mapping[str, Tensor]) -> list[str]:
    """Returns the names of the buffers that had changed."""
    changed = []
    for name, value in before.items():
        owner, own_name = owner_of(model, name), name.rpartition(".")[2]
        now = getattr(owner, own_name, None)
        if isinstance(now, Tensor) and _kind(now) == _kind(value):
            if _is_same(now, value):
                continue
            now.copy_(value)
        else:
            setattr(owner, own_name, value.clone())
        changed.append(name)
    return changed


def owner_of(model: nn.Module, buffer: str) -> nn.Module:
    return model.get_submodule(buffer.rpartition(".")[0])


def _kind(tensor: Tensor) -> object:
    return tensor.shape, tensor.dtype, tensor.device


def _is_same(a: Tensor, b: Tensor) -> bool:
    """Bit by bit, so that NaN equals itself."""
    return torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8))
