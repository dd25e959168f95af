"""What an explanation shows in a notebook: facts in a table, and maps as PNG files inside the page."""

import base64
import io
from collections.abc import Mapping

import numpy as np
from PIL import Image
from torch import Tensor

from iqametrics.common.markup import html_text

_LONGEST_SIDE = 256


def map_png(values: Tensor) -> bytes:
    """Draw a map as a PNG file, in shades of gray with an alpha channel.

    Args:
        values: (H, W); the least value is black, the greatest white, and a position without a finite value is clear. A
            map of equal values is black. Small maps are enlarged by whole factors.
    """
    numbers = values.detach().float().cpu().numpy()
    known = np.isfinite(numbers)
    low, high = (float(numbers[known].min()), float(numbers[known].max())) if known.any() else (0.0, 0.0)
    shares = (np.where(known, numbers, low) - low) / (high - low or 1.0)
    pixels = np.stack([shares * 255, known * 255.0], axis=-1).round().astype(np.uint8)
    factor = max(1, _LONGEST_SIDE // max(numbers.shape))
    stream = io.BytesIO()
    Image.fromarray(np.kron(pixels, np.ones((factor, factor, 1), np.uint8))).save(stream, format="PNG")
    return stream.getvalue()


def explanation_html(facts: Mapping[str, object], maps: Mapping[str, Tensor]) -> str:
    """Write facts and maps as a piece of HTML that needs nothing from elsewhere.

    Args:
        facts: Value by name.
        maps: Map (H, W) by name; each is shown with its least and greatest value.
    """
    rows = "".join(f"<tr><th>{html_text(name)}</th><td>{html_text(value)}</td></tr>" for name, value in facts.items())
    figures = "".join(_figure(name, values) for name, values in maps.items())
    return f"<table>{rows}</table><div>{figures}</div>"


def _figure(name: str, values: Tensor) -> str:
    known = values[values.isfinite()]
    extent = f" ({known.min().item():.3g} to {known.max().item():.3g})" if known.numel() else ""
    data = base64.b64encode(map_png(values)).decode()
    caption = html_text(f"{name}{extent}")
    return (
        '<figure style="display:inline-block;margin:4px">'
        f'<img alt="{html_text(name)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )
