"""What explanations of all methods have in common: facts, maps over the picture, and how both are shown and kept."""

import json
import os
import re
from abc import ABC, abstractmethod
from pathlib import Path

import torch
from torch import Tensor

from iqametrics.common.files import write_file
from iqametrics.errors import InputError
from iqametrics.images.figure import figure_bytes
from iqametrics.images.show import explanation_html, explanation_page, extent, overlay_png, picture_png

EXPLANATION_FILE, PICTURE_FILE = "explanation.json", "picture.png"
HARM = "lowers the score"
"""Name of a map that says where the score of a picture without reference is lost."""


class Explanation(ABC):
    """Explanation of one image's score.

    Attributes:
        picture: The image as the network saw it, (3, H, W) in [0, 1]; None where features were explained.
    """

    picture: Tensor | None

    @abstractmethod
    def facts(self) -> dict[str, str]:
        """Return what there is to say in words and numbers, by name."""

    @abstractmethod
    def maps(self) -> dict[str, Tensor]:
        """Return the maps (H, W) over the picture, by name."""

    def figure(self) -> list[list[str]]:
        """Return the names of the maps as the rows of a figure; the picture stands before the first row."""
        return [list(self.maps())]

    def save_figure(self, target: str | os.PathLike[str]) -> None:
        """Write the picture and the maps over it as one figure.

        Args:
            target: The file: JPEG where it ends in `.jpg` or `.jpeg`, else PNG.

        Raises:
            InputError: If the file cannot be written.
        """
        picture, maps = self._shown(), self.maps()
        rows: list[list[tuple[str, Tensor | None]]] = [[(name, maps[name]) for name in row] for row in self.figure()]
        rows[0].insert(0, ("picture", None))
        path = Path(target)
        form = "JPEG" if path.suffix.lower() in (".jpg", ".jpeg") else "PNG"
        write_file(path, figure_bytes(picture, rows, form), error=InputError)

    def _shown(self) -> Tensor:
        if self.picture is None:
            raise InputError("this explanation has no picture to lay its maps over; get it from metric.explain(...)")
        return self.picture

    def _repr_html_(self) -> str:
        """Show facts and maps in a notebook."""
        return explanation_html(self.facts(), self.maps())

    def save(self, target: str | os.PathLike[str]) -> list[Path]:
        """Keep the explanation.

        Args:
            target: A file that ends in `.html`: one page with everything in it. Any other: a folder, which is made if
                need be: `explanation.json` (facts, and the least and greatest value of each map), `picture.png` (the
                picture as the network saw it) and one PNG file for each map, laid over the picture.

        Returns:
            The files that were written.

        Raises:
            InputError: If a file cannot be written.
        """
        path, picture = Path(target), self._shown()
        if path.suffix.lower() == ".html":
            write_file(path, explanation_page(self.facts(), self.maps(), picture), error=InputError)
            return [path]
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{path}: cannot be made ({error.strerror}); give another folder") from error
        files: dict[str, str | bytes] = {PICTURE_FILE: picture_png(picture)}
        told: dict[str, dict[str, object]] = {}
        for name, values in self.maps().items():
            file = f"{_file_name(name)}.png"
            files[file] = overlay_png(values, picture)
            low, high = extent(values)
            told[name] = {"file": file, "low": low, "high": high}
        files[EXPLANATION_FILE] = json.dumps({"facts": self.facts(), "maps": told}, indent=1) + "\n"
        for file, content in files.items():
            write_file(path / file, content, error=InputError)
        return [path / file for file in files]


def differences(levels: list[Tensor], others: list[Tensor], height: int, width: int) -> Tensor:
    """Tell where two images differ by their features: 1 - cosine of the channels, the mean over the levels.

    Args:
        levels: Levels of one image, (1, C_i, H_i, W_i) each.
        others: Those of the other.
        height: Rows of the map.
        width: Columns of it.

    Returns:
        (height, width), in [0, 2]; 0 where the features are alike.
    """
    # In float64: float32's cosine of equal vectors is 1 within 1e-7 only.
    pairs = [(one.double(), other.double()) for one, other in zip(levels, others, strict=True)]
    maps = [(1 - torch.cosine_similarity(one, other, dim=1)).clamp(min=0) for one, other in pairs]
    return torch.stack([torch.nn.functional.adaptive_avg_pool2d(each, (height, width)) for each in maps]).mean((0, 1))


def _file_name(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
