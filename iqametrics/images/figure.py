"""A picture and maps over it as one figure, such as the papers print."""

import io
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from iqametrics.images.show import overlay_png, picture_png

_TILE, _GAP, _CAPTION = 240, 10, 20
"""Width of a tile, space between tiles and height of a caption, in pixels."""


def figure_bytes(picture: Tensor, rows: Sequence[Sequence[tuple[str, Tensor | None]]], form: str = "PNG") -> bytes:
    """Lay maps over a picture, and put them in rows, as the content of a file.

    Args:
        picture: (3, H, W) in [0, 1].
        rows: Rows of tiles: a caption, and a map (H', W'), or None for the picture itself.
        form: "PNG" or "JPEG".
    """
    height = round(_TILE * picture.shape[-2] / picture.shape[-1])
    columns = max(len(row) for row in rows)
    step = (_TILE + _GAP, height + _CAPTION + _GAP)
    figure = Image.new("RGB", (columns * step[0] + _GAP, len(rows) * step[1] + _GAP), "white")
    draw, font = ImageDraw.Draw(figure), ImageFont.load_default()
    for at, row in enumerate(rows):
        for column, (caption, values) in enumerate(row):
            left, top = _GAP + column * step[0], _GAP + at * step[1]
            content = picture_png(picture) if values is None else overlay_png(values, picture)
            with Image.open(io.BytesIO(content)) as tile:
                figure.paste(tile.convert("RGB").resize((_TILE, height), Image.Resampling.LANCZOS), (left, top))
            draw.text((left + 2, top + height + 3), caption, fill="black", font=font)
    stream = io.BytesIO()
    figure.save(stream, format=form, quality=85)
    return stream.getvalue()
