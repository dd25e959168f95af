"""Mixed precision: the forward pass in half precision, its weights and its loss in float32."""

from typing import Literal

import torch
from torch import nn

from iqametrics.errors import RecipeError

_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
_SMALLEST_SCALE = 2.0**-10


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

    def autocast(self) -> torch.autocast:
        """Return the context of a forward pass."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None)

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
