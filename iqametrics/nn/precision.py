"""Parts of a network that autocast must leave in float32."""

import contextlib

import torch
from torch import Tensor


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
