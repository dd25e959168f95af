"""A device that this machine does not have, played by the CPU: it computes, and refuses what the real one refuses.

Tensors on it are wrappers that say they are on "cuda" or "mps". An operation that mixes them with tensors of the CPU
raises, but for those that the real devices allow: a CPU tensor without dimensions, indices, and copies. On "mps" no
tensor of float64 can be made.
"""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

ATEN = torch.ops.aten
_COPIES = {ATEN.copy_.default, ATEN._to_copy.default}
_INDEXED = {ATEN.index.Tensor, ATEN.index_put.default, ATEN.index_put_.default, ATEN._index_put_impl_.default}


class MixedDevicesError(Exception):
    """Tensors of two devices in one operation."""


class NoFloat64Error(Exception):
    """A tensor of float64 on a device that has none."""


class Away(torch.Tensor):
    """A tensor on the other device; `held` has its numbers."""

    held: torch.Tensor
    place: torch.device
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, held: torch.Tensor, device: torch.device) -> "Away":
        if held.dtype == torch.float64 and device.type == "mps":
            raise NoFloat64Error("a float64 tensor on mps")
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=torch.device("meta"),
        )
        made.held, made.place = held, device
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self.place

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return computed(func, args, kwargs or {})


class _Generator(torch.Generator):
    """A generator of the other device; it draws as the CPU's, and its numbers have to be brought."""

    def __new__(cls, device: object = "cpu") -> "_Generator":
        return super().__new__(cls, "cpu")  # type: ignore[call-arg]


class _Device(TorchDispatchMode):
    """Catches the making of tensors on the other device, which has no argument that is on it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})


def computed(func: Any, args: Any, kwargs: Any) -> Any:
    """Compute on the CPU and put the result where it belongs."""
    found = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, torch.Tensor)]
    away = [value for value in found if isinstance(value, Away)]
    asked = kwargs.get("device")
    asked = None if asked is None else torch.device(asked)
    if away and func not in _COPIES:
        refuse_mixing(func, args, found, away[0].device)
    device = away[0].device if asked is None and away else asked
    if func is ATEN.copy_.default and isinstance(args[0], Away) is False:
        device = None
    if func is ATEN._fused_sdp_choice.default:
        return 0  # plain products, which every device has
    held_args, held_kwargs = tree_map(lambda value: value.held if isinstance(value, Away) else value, (args, kwargs))
    if device is not None and device.type != "cpu" and "device" in held_kwargs:
        held_kwargs["device"] = torch.device("cpu")
    out = func(*held_args, **held_kwargs)
    if func._schema.is_mutable and isinstance(args[0], torch.Tensor):
        return args[0]
    if device is None or device.type == "cpu":
        return out
    return tree_map(lambda value: Away(value, device) if isinstance(value, torch.Tensor) else value, out)


def refuse_mixing(func: Any, args: Any, found: list[torch.Tensor], device: torch.device) -> None:
    """Raise where a tensor of the CPU with dimensions stands among those of the device."""
    allowed = tree_flatten(args[1:])[0] if func in _INDEXED else []
    for value in found:
        if not isinstance(value, Away) and value.ndim and not any(value is index for index in allowed):
            raise MixedDevicesError(f"{func}: a CPU tensor of shape {tuple(value.shape)} among those of {device}")


@contextlib.contextmanager
def other_device(name: str) -> Iterator[torch.device]:
    """Play a device of this name; its random generators are the CPU's."""
    with _Device(), mock.patch.object(torch, "Generator", _Generator):
        yield torch.device(name)


def move(module: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    """Put a module's parameters and buffers on the device, as `Module.to` does with a real one."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = torch.nn.Parameter(
                    Away(parameter.detach().clone(), device), requires_grad=parameter.requires_grad
                )
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = Away(buffer.detach().clone(), device)
    return module
