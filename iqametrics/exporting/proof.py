"""What an exported file computes, beside what the metric computes, on pictures of odd sizes."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from iqametrics.errors import ExportError
from iqametrics.exporting.files import import_extra
from iqametrics.metric import Metric

TOLERANCE = 1e-5
"""Greatest difference between a score of a file and that of the metric."""

Case = tuple[int, int, int]


@dataclass(frozen=True)
class Proof:
    """How far a file is from its metric.

    Attributes:
        cases: Number, height and width of the images of each call.
        errors: Greatest difference of a score in each of them.
        runtime: What ran the file, with its version.
    """

    cases: tuple[Case, ...]
    errors: tuple[float, ...]
    runtime: str

    @property
    def largest(self) -> float:
        """Greatest difference of all."""
        return max(self.errors)


def prove(path: Path, metric: Metric, format: str, size: tuple[int, int] | None) -> Proof:
    """Run a file on pictures and compare the scores with the metric's.

    Args:
        path: The file.
        metric: The metric that it was made of.
        format: "onnx" or "pt2".
        size: Height and width that the file was made for; None for any.

    Raises:
        ExportError: If a score differs by more than `TOLERANCE`, or the file does not run.
        MissingExtraError: If onnxruntime is not installed.
    """
    run, runtime = (_onnx_runner if format == "onnx" else _pt2_runner)(path)
    cases = proof_cases(metric, size)
    errors = []
    for case in cases:
        images = [_pictures(case, seed) for seed in range(1 + (metric.mode == "fr"))]
        expected = metric(*images)
        try:
            found = run(images)
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise ExportError(
                f"the exported file does not run on {_shown(case)} ({reason}); nothing was kept"
            ) from error
        difference = float((found - expected).abs().max()) if found.shape == expected.shape else float("inf")
        if not difference <= TOLERANCE:
            raise ExportError(
                f"the exported file gives {found.tolist()} for {_shown(case)}, the metric {expected.tolist()}; nothing "
                f"was kept, since that is more than {TOLERANCE:g} apart"
            )
        errors.append(difference)
    return Proof(cases, tuple(errors), runtime)


def proof_cases(metric: Metric, size: tuple[int, int] | None) -> tuple[Case, ...]:
    """Give the batches that a file is proven on: odd sizes, smaller, within and larger than the sizing's limits."""
    if size is not None:
        return (1, *size), (3, *size)
    least = metric.sizing.short_side or metric.sizing.min_side
    most = metric.sizing.max_side or 2 * least
    within = (least + most) // 2 | 1
    return (
        (1, 53, 71),
        (2, least + 37, within),
        (1, most + 101, least + 1),
        (3, least, least),
        (1, within, most + 1),
    )


def _pictures(case: Case, seed: int) -> Tensor:
    """Draw pictures that are smooth with some grain, as photographs are."""
    count, height, width = case
    generator = torch.Generator().manual_seed(1000 * height + width)
    coarse = torch.rand(count, 3, 9, 9, generator=generator)
    grain = torch.rand(count, 3, height, width, generator=generator.manual_seed(seed))
    smooth = F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False)
    return (0.8 * smooth + 0.2 * grain).clamp(0, 1)


def _shown(case: Case) -> str:
    return f"{case[0]} image{'s' if case[0] > 1 else ''} of {case[2]}x{case[1]}"


def _onnx_runner(path: Path) -> tuple[Callable[[list[Tensor]], Tensor], str]:
    onnxruntime = import_extra("onnxruntime")
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ExportError(f"onnxruntime does not load the file ({' '.join(str(error).split())[:200]})") from error

    def run(images: list[Tensor]) -> Tensor:
        inputs = {name: image.numpy() for name, image in zip(("dist", "ref"), images, strict=False)}
        return torch.from_numpy(session.run(["score"], inputs)[0])

    return run, f"onnxruntime {onnxruntime.__version__}"


def _pt2_runner(path: Path) -> tuple[Callable[[list[Tensor]], Tensor], str]:
    with path.open("rb") as stream:
        module = torch.export.load(stream).module()

    def run(images: list[Tensor]) -> Tensor:
        with torch.no_grad():
            scores: Tensor = module(*images)
        return scores

    return run, f"torch {torch.__version__}"
