"""What notebooks of the site show: pictures with their scores, and figures that suit light and dark pages."""

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
from IPython.display import HTML
from PIL import Image
from torch import Tensor

from iqametrics import read_image
from iqametrics.images import ImageSource

_SIDE = 640
_STYLE = Path(__file__).with_name("figures.mplstyle")


def style_figures() -> None:
    """Draw the figures of a notebook as SVG, in the site's style."""
    from matplotlib import style
    from matplotlib_inline.backend_inline import set_matplotlib_formats

    set_matplotlib_formats("svg")
    style.use(_STYLE)


def cards(pictures: Sequence[tuple[ImageSource, str, float | None]]) -> HTML:
    """Show pictures in a row, each with a caption and its score as a number and a bar from 0 to 1.

    Args:
        pictures: Picture, caption and score of each; None for a picture without one.
    """
    return HTML(f'<div class="cards">{"".join(_card(*picture) for picture in pictures)}</div>')


def _card(picture: ImageSource, caption: str, score: float | None) -> str:
    shown = ""
    if score is not None:
        width = 100 * min(max(score, 0.0), 1.0)
        shown = (
            f'<span class="score">{score:.2f}</span><span class="bar"><span style="width: {width:.1f}%"></span></span>'
        )
    image = f'<img src="{_data(read_image(picture))}" alt="{escape(caption)}">'
    return f'<figure class="card">{image}<figcaption>{escape(caption)}{shown}</figcaption></figure>'


def _data(picture: Tensor) -> str:
    """Write a picture (3, H, W) in [0, 1] as a small WebP file in a data address."""
    pixels = picture.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, format="WEBP", quality=88)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"
