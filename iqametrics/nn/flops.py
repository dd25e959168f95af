"""What torch's counter of operations leaves out or counts wrongly: attention on a CPU, gradients of grouped kernels."""

import math
from typing import Any

import torch


def attention_flops(query: torch.Size, key: torch.Size, value: torch.Size, *_: Any, **__: Any) -> int:
    """Count the two matrix products of attention, of shapes (batch, heads, tokens, width)."""
    return 2 * math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def attention_backward_flops(
    gradient: torch.Size, query: torch.Size, key: torch.Size, value: torch.Size, *_: Any, **__: Any
) -> int:
    """Count the five matrix products of its backward pass: the scores again, and four gradients."""
    return 2 * math.prod(query[:-1]) * key[-2] * (3 * query[-1] + 2 * value[-1])


def convolution_backward_flops(
    gradient: torch.Size, image: torch.Size, kernel: torch.Size, *rest: Any, **_: Any
) -> int:
    """Count the gradients of a convolution, each of which costs what the convolution did.

    torch's own count takes the gradient of a kernel in groups for that of a full one, which is as many times too much.
    """
    *_others, transposed, _padding, _groups, wanted = rest
    positions = math.prod((image if transposed else gradient)[2:])
    return 2 * gradient[0] * positions * math.prod(kernel) * sum(wanted[:2])


COUNTED: dict[Any, Any] = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: attention_backward_flops,
    torch.ops.aten.convolution_backward: convolution_backward_flops,
}
"""`custom_mapping` of `torch.utils.flop_counter.FlopCounterMode`."""
