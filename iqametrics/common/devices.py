"""Which device computes: one rule for scoring, training and benchmark."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from iqametrics.errors import IqaError

if TYPE_CHECKING:
    import torch

AUTO = "auto"
DEVICES = (AUTO, "cpu", "cuda", "mps")
"""Names that the command line accepts."""


def best_device() -> str:
    """Name the fastest kind of device that is there: "cuda", else "mps", else "cpu"."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def find_device(name: "str | torch.device", *, error: type[IqaError], what: str = "device") -> "torch.device":
    """Return the device of a name, once it is known to work.

    Args:
        name: "auto" for the fastest that is there, or a device as torch names it: "cpu", "cuda", "cuda:1", "mps".
        error: Class of the error where there is no such device.
        what: Name of the option in the message.
    """
    import torch

    try:
        device = torch.device(best_device() if name == AUTO else name)
        if not _is_there(device):
            raise RuntimeError("this machine has none")
    except (RuntimeError, AssertionError, ValueError, TypeError, NotImplementedError) as reason:
        told = (str(reason) or type(reason).__name__).splitlines()[0]
        raise error(f"{what} {str(name)!r} cannot be used here ({told}); use 'cpu' or 'auto'") from reason
    return device


def _is_there(device: "torch.device") -> bool:
    """Look for a device; for kinds other than CUDA and MPS, torch's own error says why there is none."""
    import torch

    if device.type == "cuda":
        # Without a tensor on it: each of several processes would take memory of the first GPU.
        return (device.index or 0) < torch.cuda.device_count()
    if device.type == "mps":
        return torch.backends.mps.is_available()
    torch.empty(1, device=device)
    return True


def as_float64(tensor: "torch.Tensor") -> "torch.Tensor":
    """Return a tensor in float64: where it is, or on the CPU where its device (MPS) has no float64."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()


@contextlib.contextmanager
def defaults_of_torch() -> Iterator[None]:
    """Make tensors on the CPU and in float32 where nothing else is asked for, whatever defaults the caller has set."""
    import torch

    dtype = torch.get_default_dtype()
    with contextlib.ExitStack() as stack:
        if dtype != torch.float32:
            torch.set_default_dtype(torch.float32)
            stack.callback(torch.set_default_dtype, dtype)
        if torch.empty(0).device.type != "cpu":
            # Only then: it costs a little at every call of torch.
            stack.enter_context(torch.device("cpu"))
        yield
