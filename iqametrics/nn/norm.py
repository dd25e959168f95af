"""Batch normalisation whose statistics and affine parameters stay as they were loaded."""

from functools import lru_cache

from torch import nn


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d that always normalises by its stored statistics.

    It is an ordinary `nn.BatchNorm2d` in evaluation mode (same parameters, buffers and state dict), except that
    `train()` cannot take it out of that mode and that its affine parameters need no gradient.
    """

    def __init__(self, source: nn.BatchNorm2d) -> None:
        super().__init__(source.num_features, eps=source.eps, momentum=source.momentum, affine=source.affine)
        # The tensors themselves are taken over, so that device, dtype and memory format stay what they are.
        self._parameters.update(source._parameters)
        self._buffers.update(source._buffers)
        self.requires_grad_(False)
        self.training = False

    def train(self, mode: bool = True) -> "FrozenBatchNorm2d":
        """Stay in evaluation mode, whatever `mode` says."""
        return super().train(False)


def freeze_batch_norm(module: nn.Module) -> nn.Module:
    """Replace each BatchNorm2d of a module by one that training does not change.

    Running statistics and affine parameters stay as they are, whatever `.train()` is called later. The names in
    the state dict stay the same, so checkpoints fit before and after. A later `module.requires_grad_(True)` makes
    the affine parameters trainable again: freeze last.

    Args:
        module: A network, changed in place, or a single BatchNorm2d, of which a frozen twin is returned.

    Returns:
        The module, for chaining.
    """
    if type(module) is nn.BatchNorm2d:
        return FrozenBatchNorm2d(module)
    if isinstance(module, nn.BatchNorm2d):
        # A kind of its own, which does more (timm's have the activation in them): it stays what it is, but frozen.
        module.__class__ = _frozen(type(module))  # type: ignore[arg-type]
        return module.requires_grad_(False).eval()
    for name, child in module.named_children():
        setattr(module, name, freeze_batch_norm(child))
    return module


class _Frozen(nn.Module):
    def train(self, mode: bool = True) -> "_Frozen":
        return super().train(False)


@lru_cache(maxsize=16)
def _frozen(kind: type[nn.BatchNorm2d]) -> type[nn.BatchNorm2d]:
    if issubclass(kind, FrozenBatchNorm2d | _Frozen):
        return kind

    class Frozen(_Frozen, kind):  # type: ignore[misc, valid-type]
        pass

    return Frozen
