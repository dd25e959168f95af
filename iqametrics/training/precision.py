"""Mixed precision: the forward pass in half precision, its weights and its loss in float32."""

import contextlib
import os
from collections.abc import Iterator
from typing import Literal

import torch
from torch import nn

from iqametrics.errors import RecipeError
from iqametrics.training.tables import TrainTable
from iqametrics.weights.untrusted import one_line

_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
_SMALLEST_SCALE = 2.0**-10
_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


class Precision:
    """The type of a step's forward pass, and what keeps its gradient from underflowing.

    float16 has few small numbers, so the loss is multiplied by a scale before the backward pass and the gradient
    divided by it afterwards. If a gradient overflows, its step is skipped and the scale halved; 2000 steps in a row
    without overflow double it (torch's GradScaler).

    Args:
        amp: The recipe's `train.amp`.
        device: Device of the steps.

    Raises:
        RecipeError: If the device cannot compute in this type.
    """

    def __init__(self, amp: Literal["none", "bfloat16", "float16"], device: torch.device) -> None:
        self.amp, self.device, self.dtype = amp, device, _DTYPES.get(amp)
        self.scaler = torch.amp.GradScaler(device.type, enabled=amp == "float16")
        if self.dtype is not None:
            self._try()

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        """Return the context of a forward pass."""
        # Without autocast none is made: older torch refuses even a disabled one on MPS.
        return contextlib.nullcontext() if self.dtype is None else torch.autocast(self.device.type, self.dtype)

    @property
    def exhausted(self) -> bool:
        """Whether gradients overflow however small the loss is made."""
        return self.scaler.is_enabled() and self.scaler.get_scale() < _SMALLEST_SCALE

    def _try(self) -> None:
        """Try a small step, since only that shows what a device cannot do."""
        images = torch.ones(1, 3, 4, 4, device=self.device)
        try:
            layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 1)).to(self.device)
            with self.autocast():
                loss = layers(images).float().sum()
            self.scaler.scale(loss).backward()
        except RuntimeError as error:
            reason = str(error).strip().partition("\n")[0]
            raise RecipeError(
                f"train.amp = {self.amp!r}: {self.device} cannot compute in it ({reason}); use 'bfloat16' or 'none'"
            ) from error


def check_compiler(backend: str, device: torch.device) -> None:
    """Try torch.compile on a small product: whether there is what a backend needs, such as a C++ compiler, shows then.

    Raises:
        RecipeError: If it cannot compile.
    """
    if backend == "none":
        return
    weight = torch.ones(2, 2, device=device, requires_grad=True)
    try:
        torch.compile(lambda x: (x @ x).sum(), backend=backend)(weight).backward()
    except Exception as error:  # torch has no common class for what compilers and linkers say
        reason = one_line(str(error) or type(error).__name__)
        raise RecipeError(f"train.compile = {backend!r}: cannot compile here ({reason}); use 'none'") from error


@contextlib.contextmanager
def device_settings(train: TrainTable) -> Iterator[None]:
    """Set what torch keeps for the whole process as a recipe says, and restore it afterwards."""
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = (cudnn.allow_tf32, products.allow_tf32, cudnn.benchmark, cudnn.deterministic)
    strict = torch.are_deterministic_algorithms_enabled()
    warned, workspace = torch.is_deterministic_algorithms_warn_only_enabled(), os.environ.get(_WORKSPACE)
    try:
        cudnn.allow_tf32, products.allow_tf32 = train.tf32 != "none", train.tf32 == "all"
        cudnn.benchmark = train.cudnn_benchmark
        if train.deterministic:
            cudnn.deterministic = True
            # cuBLAS reads this when it starts; without it, torch refuses its products in this mode.
            os.environ.setdefault(_WORKSPACE, ":4096:8")
            # Warns where torch has no such algorithm, in place of ending the run.
            torch.use_deterministic_algorithms(True, warn_only=True)
        yield
    finally:
        cudnn.allow_tf32, products.allow_tf32, cudnn.benchmark, cudnn.deterministic = before
        torch.use_deterministic_algorithms(strict, warn_only=warned)
        if workspace is None:
            os.environ.pop(_WORKSPACE, None)
