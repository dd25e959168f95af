"""The same numbers at a lower cost, while scores are computed and nothing else.

A convolution with a BatchNorm behind it is one convolution with another kernel, as long as the statistics stay what
they are. Training must not do that: its gradients go to the kernel and the affine parameters one by one, and a run must
give what it gave before. So whoever computes scores says so by `scoring`, and every part asks `is_scoring`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

_scoring: ContextVar[bool] = ContextVar("scoring", default=False)


@contextmanager
def scoring() -> Iterator[None]:
    """Say that what is computed here are scores, so that cheaper ways to the same numbers may be taken."""
    token = _scoring.set(True)
    try:
        yield
    finally:
        _scoring.reset(token)


def is_scoring() -> bool:
    """Tell whether scores are computed, without gradients and by torch itself.

    A graph that is traced or compiled must hold the parameters, not what was made of them.
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    return _scoring.get()


def channels_last(x: Tensor) -> Tensor:
    """Lay a map out channels-last while scores are computed on a CPU, whose convolutions are faster so."""
    return x.contiguous(memory_format=torch.channels_last) if is_scoring() and x.device.type == "cpu" else x


class _State(NamedTuple):
    """What a tensor was when something was made of it."""

    tensor: Tensor
    version: int
    address: int

    @classmethod
    def of(cls, tensor: Tensor) -> "_State":
        # Tensors that were made in inference mode count no versions; they cannot be changed outside of it either.
        return cls(tensor, 0 if tensor.is_inference() else tensor._version, tensor.data_ptr())

    def holds(self, tensor: Tensor) -> bool:
        return tensor is self.tensor and _State.of(tensor)[1:] == self[1:]


class Folded(NamedTuple):
    """Kernel and bias of a convolution that does the work of two layers.

    Attributes:
        weight: Kernel, (C', C / groups, k, k).
        bias: Bias, (C',).
    """

    weight: Tensor
    bias: Tensor


class FoldingModule(nn.Module):
    """Base of modules that keep what they made of their parameters for scoring.

    What is kept stands beside the parameters and not among them: it is in no state dict, no copy and no pickle, and it
    is made anew once a parameter or statistic has changed.
    """

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[str, tuple[tuple[_State, ...], Folded]] = {}

    def folded(
        self, name: str, conv: nn.Conv2d, norm: nn.BatchNorm2d, change: Callable[[Tensor], Tensor] | None = None
    ) -> Folded:
        """Return a convolution of this module with the BatchNorm behind it.

        Args:
            name: Under which it is kept.
            conv: The convolution, without a bias of its own.
            norm: The BatchNorm, in evaluation mode.
            change: What else is done to the kernel.
        """
        assert norm.running_mean is not None
        assert norm.running_var is not None
        sources = (conv.weight, norm.weight, norm.bias, norm.running_mean, norm.running_var)
        return self.keep(name, sources, lambda: _fold(conv, norm, change))

    def keep(self, name: str, sources: Sequence[Tensor], make: Callable[[], Folded]) -> Folded:
        """Return what is kept under a name, made where it is not there or a source has changed since.

        Args:
            name: The name.
            sources: The tensors that it is made of.
            make: Makes it.
        """
        kept = self._kept.get(name)
        if kept is not None and all(state.holds(source) for state, source in zip(kept[0], sources, strict=True)):
            return kept[1]
        made = make()
        self._kept[name] = (tuple(_State.of(source) for source in sources), made)
        return made

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "FoldingModule":
        # A change of dtype and back may bring another content to the same address.
        self._kept.clear()
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": {}}


@torch.no_grad()
def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d, change: Callable[[Tensor], Tensor] | None) -> Folded:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    # Half precision would be rounded twice.
    working = torch.promote_types(conv.weight.dtype, torch.float32)
    scale = norm.weight.to(working) * torch.rsqrt(norm.running_var.to(working) + norm.eps)
    weight = (conv.weight.to(working) * scale[:, None, None, None]).to(conv.weight.dtype)
    bias = (norm.bias.to(working) - norm.running_mean.to(working) * scale).to(conv.weight.dtype)
    weight = weight if change is None else change(weight)
    if weight.device.type == "cpu":
        weight = weight.contiguous(memory_format=torch.channels_last)
    return Folded(weight, bias)
