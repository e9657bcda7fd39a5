"""What keeps a fit from following its own examples too closely, besides weight decay and dropout."""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..wire.specs import FitSpec
from .nested_lora import NestedLora


@contextmanager
def regularised(nested: NestedLora, spec: FitSpec) -> Iterator[None]:
    """
    Within the block, the model and its loss are those of training: smoothed labels, and noise on the embeddings. At its
    end an InputError if one of them was asked for and had no effect.
    """
    noise = _Noise(spec.neftune_alpha)
    nested.task.smooth(spec.label_smoothing)
    with ExitStack() as hooks:
        hooks.callback(nested.task.smooth, 0.0)
        for module in _embeddings(nested) if spec.neftune_alpha > 0 else []:
            hooks.enter_context(module.register_forward_hook(noise.add))
        yield
        if spec.label_smoothing > 0 and not nested.task.smoothing_was_read:
            raise InputError(
                f"has no effect on {type(nested.task).losses.__qualname__}, which is your own: smooth the labels there "
                "by self.label_smoothing, or set it to 0",
                "fit.label_smoothing",
            )
        if spec.neftune_alpha > 0 and not noise.was_added:
            raise _without_embeddings(nested)


def pull(values: Sequence[nn.Parameter], received: Sequence[Tensor], mu: float) -> None:
    """Adds the gradient of FedProx's μ/2 · ‖w − w_received‖² (Li et al., arXiv 1812.06127)."""
    for value, start in zip(values, received, strict=True):
        if value.grad is not None:
            value.grad.add_(value.detach() - start, alpha=mu)


class _Noise:
    """
    NEFTune (Jain et al., arXiv 2310.05914): uniform noise of at most alpha / √(tokens · size) on a batch's embeddings
    [batch, tokens, size], padding included.
    """

    def __init__(self, alpha: float) -> None:
        self._alpha = alpha
        self.was_added = False

    def add(self, _module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        self.was_added = True
        most = self._alpha / math.sqrt(output.shape[1] * output.shape[2])
        return output + torch.zeros_like(output).uniform_(-most, most)


def _embeddings(nested: NestedLora) -> Sequence[nn.Module]:
    """The modules that embed tokens: an encoder and a decoder may have one each, which share their weight."""
    base = nested.model.get_base_model()
    get = getattr(base, "get_input_embeddings", None)
    found = get() if get else None
    if not isinstance(found, nn.Module):
        raise _without_embeddings(nested)
    weight = getattr(found, "weight", None)
    sharing = [each for each in base.modules() if isinstance(each, nn.Embedding) and each.weight is weight]
    return sharing or [found]


def _without_embeddings(nested: NestedLora) -> InputError:
    name = type(nested.model.get_base_model()).__name__
    return InputError(f"needs token embeddings, and {name} uses none: set it to 0", "fit.neftune_alpha")
