"""What an explanation shows in a notebook: facts in a table, and maps as PNG files inside the page."""

import base64
import io
from collections.abc import Mapping
from string import Template

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from iqametrics.common.markup import html_text

_LONGEST_SIDE = 256
_PICTURE_SIDE = 1024
_STOPS = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))
"""Dark to bright, and bright to any kind of colour vision."""
_OPACITY = 0.6


def extent(values: Tensor) -> tuple[float, float]:
    """Return the least and the greatest finite value of a map; zeros where there is none."""
    known = values[values.isfinite()]
    return (known.min().item(), known.max().item()) if known.numel() else (0.0, 0.0)


def map_pixels(values: Tensor) -> npt.NDArray[np.uint8]:
    """Colour a map: (H, W, 4), RGB and alpha.

    Args:
        values: (H, W); the least value is dark, the greatest bright, and a position without a finite value is clear. A
            map of equal values is dark.
    """
    numbers = values.detach().float().cpu().numpy()
    known = np.isfinite(numbers)
    low, high = extent(values.detach().float())
    shares = (np.where(known, numbers, low) - low) / (high - low or 1.0)
    places = np.linspace(0, 1, len(_STOPS))
    colours = [np.interp(shares, places, [stop[channel] for stop in _STOPS]) for channel in range(3)]
    return np.stack([*colours, known * 255.0], axis=-1).round().astype(np.uint8)


def map_png(values: Tensor) -> bytes:
    """Draw a map of `map_pixels` as a PNG file; small maps are enlarged by whole factors."""
    pixels = map_pixels(values)
    factor = max(1, _LONGEST_SIDE // max(pixels.shape))
    return _png(Image.fromarray(np.kron(pixels, np.ones((factor, factor, 1), np.uint8))))


def picture_png(picture: Tensor) -> bytes:
    """Write a picture (3, H, W) in [0, 1] as a PNG file, at most 1,024 pixels wide or high."""
    return _png(_shown(picture))


def overlay_png(values: Tensor, picture: Tensor) -> bytes:
    """Lay a map (H', W') over the picture (3, H, W) that it explains, as a PNG file of the picture's size."""
    below = _shown(picture)
    colours = Image.fromarray(map_pixels(values)).resize(below.size, Image.Resampling.BICUBIC)
    # In gray, so that all colour is the map's.
    gray = np.asarray(below.convert("L"), np.float64)[..., None].repeat(3, axis=2)
    rgba = np.asarray(colours, np.float64)
    share = _OPACITY * rgba[..., 3:] / 255
    return _png(Image.fromarray((share * rgba[..., :3] + (1 - share) * gray).round().astype(np.uint8)))


def _shown(picture: Tensor) -> Image.Image:
    pixels = picture.detach().float().cpu().clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()
    shown = Image.fromarray(pixels)
    shown.thumbnail((_PICTURE_SIDE, _PICTURE_SIDE), Image.Resampling.LANCZOS)
    return shown


def _png(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format="PNG")
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


def explanation_page(facts: Mapping[str, object], maps: Mapping[str, Tensor], picture: Tensor) -> str:
    """Write a page that shows the picture, the maps laid over it, and the facts; it needs nothing from elsewhere."""
    rows = "".join(f"<dt>{html_text(name)}</dt><dd>{html_text(value)}</dd>" for name, value in facts.items())
    figures = _image("the picture as the metric sees it", picture_png(picture)) + "".join(
        _image(_caption(name, values), overlay_png(values, picture)) for name, values in maps.items()
    )
    return _PAGE.substitute(rows=rows, figures=figures)


_PAGE = Template(
    """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>What a score came from</title>
<style>
:root { color-scheme: light dark; }
body { margin: 0 auto; max-width: 92rem; padding: 1.5rem clamp(0.9rem, 3vw, 2.5rem) 3rem;
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 1rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.25rem 1.5rem; margin: 0 0 1.5rem; }
dt { opacity: 0.7; }
dd { margin: 0; overflow-wrap: anywhere; }
div { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); gap: 1.2rem; }
figure { margin: 0; }
img { display: block; width: 100%; height: auto; border-radius: 8px; }
figcaption { font-size: 0.88rem; margin-top: 0.3rem; }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: 0.5rem; } }
</style>
</head>
<body>
<h1>What a score came from</h1>
<dl>$rows</dl>
<div>$figures</div>
</body>
</html>
"""
)


def _image(caption: str, png: bytes) -> str:
    data = base64.b64encode(png).decode()
    text = html_text(caption)
    return f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'


def _caption(name: str, values: Tensor) -> str:
    if not values.isfinite().any():
        return name
    low, high = extent(values)
    return f"{name} ({low:.3g} to {high:.3g})"


def _figure(name: str, values: Tensor) -> str:
    data = base64.b64encode(map_png(values)).decode()
    return (
        '<figure style="display:inline-block;margin:4px">'
        f'<img alt="{html_text(name)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{html_text(_caption(name, values))}</figcaption></figure>"
    )
