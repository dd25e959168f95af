"""Mixed precision: the forward pass in half precision, its weights and its loss in float32."""

from typing import Literal

import torch
from torch import nn

from iqametrics.errors import RecipeError

_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
_SMALLEST_SCALE = 2.0**-10


class Precision:
    """How a step's forward pass is computed, and how its gradient is kept from underflowing.

    float16 has few small numbers, so its loss is multiplied by a scale before the backward pass and the gradient is
    divided by it again. A gradient that overflows skips its step and halves the scale; 2000 good ones in a row double
    it (torch's GradScaler).

    Args:
        amp: the recipe's `train.amp`.
        device: where the steps are computed.

    Raises:
        RecipeError: the device cannot compute in this type.
    """

    def __init__(self, amp: Literal["none", "bfloat16", "float16"], device: torch.device) -> None:
        self.amp, self.device, self.dtype = amp, device, _DTYPES.get(amp)
        self.scaler = torch.amp.GradScaler(device.type, enabled=amp == "float16")
        if self.dtype is not None:
            self._try()

    def autocast(self) -> torch.autocast:
        """Give the context of a forward pass."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None)

    @property
    def exhausted(self) -> bool:
        """Whether gradients overflow however small the loss is made."""
        return self.scaler.is_enabled() and self.scaler.get_scale() < _SMALLEST_SCALE

    def _try(self) -> None:
        """Take a small step as networks do, since devices know what they cannot do only when they are asked."""
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
