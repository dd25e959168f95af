"""Files of every kind that has a name, each with the pixels that an independent decoder, or its maker, says it has.

`tests/images/test_sweep.py` asks of each that it is read right or refused as unsupported, and
`benchmarks/decoding_sweep.py` prints the table. Only what is given to `read_image` knows this package.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

STEP = 1 / 255


@dataclass(frozen=True)
class Case:
    """One file.

    Attributes:
        group: Format and colour, a row of the table.
        name: All that distinguishes it.
        data: The file.
        expected: (H,W,3) in [0, 1], composited on white; None where there is no right answer, only a refusal.
        tolerance: Greatest difference of a value.
    """

    group: str
    name: str
    data: bytes
    expected: np.ndarray | None
    tolerance: float = 0.5 / 65535


def shown(values: np.ndarray, white: float) -> np.ndarray:
    """(H,W) or (H,W,C) with C of 1 to 4 -> (H,W,3) in [0, 1]: gray widened, alpha composited on white."""
    values = np.asarray(values, np.float64) / white
    values = values[..., None] if values.ndim == 2 else values
    colour, alpha = (values[..., :-1], values[..., -1:]) if values.shape[2] in (2, 4) else (values, 1.0)
    return np.broadcast_to(colour * alpha + (1 - alpha), (*values.shape[:2], 3))


def picture(channels: int, white: int, height: int = 21, width: int = 26) -> np.ndarray:
    """A picture with smooth parts, noise, and black and white to their ends; integers up to `white`."""
    y, x = np.mgrid[:height, :width]
    rng = np.random.default_rng(channels)
    planes = [(np.sin(x / (3 + c)) + np.cos(y / (4 + c)) + 2) / 4 for c in range(channels)]
    values = np.clip(np.stack(planes, axis=-1) + rng.normal(0, 0.02, (height, width, channels)), 0, 1)
    values[:4, :6], values[-4:, :6] = 1, 0
    values[5:7, 3:9] = 1 - 1e-3
    return np.rint(values * white).astype(np.uint8 if white < 256 else np.uint16)


def outcome(case: Case, read: Callable[[bytes], np.ndarray], refusal: type[Exception]) -> str:
    """Tell what became of a file: right, refused, "called damaged" though it is intact, or wrong."""
    try:
        found = read(case.data)
    except refusal as error:
        text = str(error)
        return "called damaged" if "damaged or cut short" in text else "refused"
    except Exception as error:
        return f"raised {type(error).__name__}"
    if case.expected is None or found.shape != case.expected.shape:
        return "wrong"
    return "right" if np.abs(found - case.expected).max() <= case.tolerance else "wrong"


def table(outcomes: Iterable[tuple[Case, str]]) -> Iterator[str]:
    """One line a group: how many were tried, and what became of them."""
    counts: dict[str, Counter[str]] = {}
    for case, result in outcomes:
        counts.setdefault(case.group, Counter())[result] += 1
    columns = ["right", "refused", "called damaged", "wrong"]
    yield f"{'':32}{'tried':>8}" + "".join(f"{column:>16}" for column in columns)
    counts["all"] = sum(counts.values(), Counter())
    for group, counter in counts.items():
        others = sum(count for result, count in counter.items() if result.startswith("raised"))
        row = [counter[column] + (others if column == "wrong" else 0) for column in columns]
        yield f"{group:32}{sum(counter.values()):>8}" + "".join(f"{count:>16}" for count in row)
