"""Make the README's pictures of what a score looks like: one photograph, blurred until the metrics give 0.5 and 0.3.

    python benchmarks/score_pictures.py

From docs/example/seeding.jpg (CC0): its sharp left half as it is, and under Gaussian blur whose radius is found by
bisection on the mean of the two no-reference scores. Writes docs/example/score-*.jpg and prints their scores.
"""

import io
from pathlib import Path

from PIL import Image, ImageFilter

from iqametrics import create_metric
from iqametrics.metric import Metric

EXAMPLES = Path(__file__).resolve().parents[1] / "docs/example"
METRICS = ("bpclip-nr.lite", "pfd-iqa.lite")
SHARP_PART = (0, 0, 512, 384)
WANTED = (0.5, 0.3)
LARGEST_RADIUS, STEPS = 4.0, 8
JPEG_QUALITY = 90


def main() -> None:
    """Write the three pictures and print their scores."""
    metrics = [create_metric(name) for name in METRICS]
    with Image.open(EXAMPLES / "seeding.jpg") as image:
        photograph = image.convert("RGB").crop(SHARP_PART)
    pictures = {0.7: (0.0, encoded(photograph, 0.0))}
    pictures |= {wanted: blurred_to(photograph, wanted, metrics) for wanted in WANTED}
    for wanted, (radius, content) in pictures.items():
        path = EXAMPLES / f"score-{wanted}.jpg"
        path.write_bytes(content)
        scores = ", ".join(f"{metric.full_name} {metric(content).item():.2f}" for metric in metrics)
        print(f"{path.name}: Gaussian blur of radius {radius:.2f}: {scores}")


def blurred_to(photograph: Image.Image, wanted: float, metrics: list[Metric]) -> tuple[float, bytes]:
    """Find the radius whose file scores as wanted, by the mean of the metrics; return it and the file."""
    low, high = 0.0, LARGEST_RADIUS
    for _ in range(STEPS):
        radius = (low + high) / 2
        content = encoded(photograph, radius)
        mean = sum(metric(content).item() for metric in metrics) / len(metrics)
        low, high = (radius, high) if mean > wanted else (low, radius)
    return radius, content


def encoded(photograph: Image.Image, radius: float) -> bytes:
    """Blur a photograph and return it as a JPEG file."""
    stream = io.BytesIO()
    photograph.filter(ImageFilter.GaussianBlur(radius)).save(stream, "JPEG", quality=JPEG_QUALITY)
    return stream.getvalue()


if __name__ == "__main__":
    main()
