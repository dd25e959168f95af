"""What must stay in float32: parts of a network under autocast, and networks in half precision where that hurts."""

import contextlib
import copy
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

_COPIES: "WeakKeyDictionary[nn.Module, tuple[list[tuple[int, int]], nn.Module]]" = WeakKeyDictionary()


def without_autocast(tensor: Tensor) -> contextlib.AbstractContextManager[None]:
    """Return a context in which autocast is off on the device of a tensor.

    Under autocast the operands of `@` are cast to half precision, also those that were made float32 just before. A
    cosine times 100 would then be wrong by a quarter, and a probability by several hundredths.
    """
    if not torch.amp.is_autocast_available(tensor.device.type):
        return contextlib.nullcontext()
    return torch.autocast(tensor.device.type, enabled=False)


def working_dtype(*tensors: Tensor) -> torch.dtype:
    """Return the widest dtype of the tensors, float32 at least."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def float32_copy(model: nn.Module) -> nn.Module:
    """Return a copy of a network in float32, made once for the tensors that it has now.

    Args:
        model: A network in half precision. Threads may ask for its copy at once.
    """
    state = [(tensor.data_ptr(), tensor._version) for tensor in model.state_dict(keep_vars=True).values()]
    known = _COPIES.get(model)
    if known is None or known[0] != state:
        with torch.inference_mode(False):
            known = (state, copy.deepcopy(model).float())
        _COPIES[model] = known
    return known[1]
