"""Hostile checkpoints: real ones of which header, record, sizing, config or tensors were changed.

Each is refused in one line, or loaded and then scores with a finite number or refuses to, within the cost of a file.
"""

import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from attack_worker import Fault, check_refusal

from iqametrics import create_metric
from iqametrics.errors import IqaError
from iqametrics.publishing.card import card
from iqametrics.weights.checkpoint import read_metadata
from iqametrics.weights.manifest import WEIGHTS_FOLDER

METRICS = ("bpclip-fr", "bpclip-nr", "pfd-iqa")
FILE = Path("hostile.safetensors")
NASTY: list[Any] = [
    *(0, 1, -1, 2, 3, 7, 63, 64, 65, 1000, 4096, 9999, 10**5, 2**31 - 1, 2**31, 2**63, 10**18, 10**400, -(10**18)),
    *(0.0, 0.5, -0.5, 1e-300, 1e300, 1e308, True, False, None, "", "x", "\n\x1b[2J", "efficientnet_lite0", "x" * 10**5),
    *([], {}, [0], [1, 2, 3], [[[]]], [0] * 1000, {"a": 1}, [1e300] * 3, [None] * 3, ["a", "b"], {"": {"": {"": ""}}}),
]
ENORMOUS = 2**33
"""Elements that a header may claim of a tensor that a sparse file then holds."""


class Parts(NamedTuple):
    """A safetensors file in its parts.

    Attributes:
        table: dtype, shape and data_offsets of each tensor.
        record: The metadata of this package.
        data: The bytes of the tensors.
    """

    table: dict[str, Any]
    record: dict[str, Any]
    data: bytes

    @classmethod
    def of(cls, content: bytes) -> "Parts":
        (length,) = struct.unpack_from("<Q", content)
        table = json.loads(content[8 : 8 + length])
        record = json.loads(table.pop("__metadata__")["iqametrics"])
        return cls(table, record, content[8 + length :])

    def joined(self) -> bytes:
        header = json.dumps({"__metadata__": {"iqametrics": json.dumps(self.record)}, **self.table}).encode()
        return struct.pack("<Q", len(header)) + header + self.data


Change = Callable[[Parts, random.Random], bytes]


def flipped_header(parts: Parts, rng: random.Random) -> bytes:
    content = bytearray(parts.joined())
    (length,) = struct.unpack_from("<Q", content)
    for _ in range(rng.choice([1, 1, 2, 5])):
        content[rng.randrange(8 + length)] ^= 1 << rng.randrange(8)
    return bytes(content)


def wrong_length(parts: Parts, rng: random.Random) -> bytes:
    content = parts.joined()
    (length,) = struct.unpack_from("<Q", content)
    wrong = rng.choice([0, 1, length - 1, length + 1, length * 2, len(content), 2**31, 2**63, 2**64 - 1])
    return struct.pack("<Q", wrong) + content[8:]


def cut(parts: Parts, rng: random.Random) -> bytes:
    content = parts.joined()
    if rng.random() < 0.2:
        return content + rng.randbytes(rng.choice([1, 8, 1000]))
    return content[: rng.randrange(len(content))]


def changed_record(parts: Parts, rng: random.Random) -> bytes:
    record = dict(parts.record)
    for _ in range(rng.choice([1, 1, 2])):
        key = rng.choice([*record, "surprise"])
        if rng.random() < 0.2:
            record.pop(key, None)
        elif isinstance(record.get(key), dict) and record[key] and rng.random() < 0.5:
            record[key] = {**record[key], rng.choice(list(record[key])): rng.choice(NASTY)}
        else:
            record[key] = rng.choice(NASTY)
    return parts._replace(record=record).joined()


def changed_sizing(parts: Parts, rng: random.Random) -> bytes:
    keys = rng.choices(["min_side", "max_side", "short_side"], k=rng.choice([1, 2]))
    sizing = {**parts.record["sizing"], **{key: rng.choice(NASTY) for key in keys}}
    return parts._replace(record={**parts.record, "sizing": sizing}).joined()


def changed_config(parts: Parts, rng: random.Random) -> bytes:
    config = dict(parts.record["config"])
    for _ in range(rng.choice([1, 1, 2, 3])):
        key = rng.choice(list(config))
        value = config[key]
        near: list[Any] = [value]
        if isinstance(value, int | float) and not isinstance(value, bool):
            near = [value + 1, value * 2, value * 1000, -value, value / 2, float(value), str(value)]
        elif isinstance(value, bool):
            near = [not value]
        config[key] = rng.choice(near) if rng.random() < 0.5 else rng.choice(NASTY)
    return parts._replace(record={**parts.record, "config": config}).joined()


def changed_weights(parts: Parts, rng: random.Random) -> bytes:
    """Values that are not finite, or finite and absurd, or flipped bits."""
    data = bytearray(parts.data)
    for _ in range(rng.choice([1, 1, 3, 10])):
        place = parts.table[rng.choice(list(parts.table))]
        begin, end = place["data_offsets"]
        kind: Any = {"F16": np.float16, "F32": np.float32}.get(place["dtype"])
        if kind is None or end == begin or rng.random() < 0.3:
            for _ in range(20):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            continue
        values = np.frombuffer(data, kind, (end - begin) // np.dtype(kind).itemsize, begin)
        most = float(np.finfo(kind).max)
        fill = rng.choice([np.nan, np.inf, -np.inf, most, -most, 1e4, 0.0, 1e-7])
        where = slice(None) if rng.random() < 0.5 else rng.randrange(len(values))
        values[where] = fill
    return parts._replace(data=bytes(data)).joined()


def changed_tensors(parts: Parts, rng: random.Random) -> bytes:
    """Tensors renamed, missing, surplus, of another shape or kind."""
    table = {name: dict(place) for name, place in parts.table.items()}
    name = rng.choice(list(table))
    kind, data = rng.randrange(6), parts.data
    if kind == 0:
        table["surplus" if rng.random() < 0.5 else "backbone.surplus"] = table.pop(name)
    elif kind == 1:
        table[name]["shape"] = rng.choice([[], [0], [1, *table[name]["shape"]], table[name]["shape"][::-1], [2**40]])
    elif kind == 2:
        table[name]["dtype"] = rng.choice(["F16", "BF16", "I16", "I32", "F64", "BOOL", "U8", "F8_E4M3", "", None])
    elif kind == 3:
        table[name]["data_offsets"] = [rng.choice([-1, 0, 4, 2**62]), rng.choice([0, 8, len(data), 2**63])]
    elif kind == 4:
        count = rng.choice([1, 10**3, 10**6])
        table["extra"] = {"dtype": "F32", "shape": [count], "data_offsets": [len(data), len(data) + 4 * count]}
        data += bytes(4 * count)
    else:
        other = rng.choice(list(table))
        table[name], table[other] = table[other], table[name]
    return parts._replace(table=table, data=data).joined()


def sparse(parts: Parts, rng: random.Random) -> bytes:
    """A header that claims an enormous tensor; the file is made as large as it says, of holes."""
    table = {name: dict(place) for name, place in parts.table.items()}
    count = rng.choice([2**26, 2**28, 2**29, 2**30 - 2**20, ENORMOUS])
    name = rng.choice(["surplus", "backbone.surplus", "zzz"])
    table[name] = {"dtype": "F32", "shape": [count], "data_offsets": [len(parts.data), len(parts.data) + 4 * count]}
    return parts._replace(table=table).joined()


CHANGES: dict[str, tuple[int, Change]] = {
    "header flipped": (2, flipped_header),
    "wrong length": (1, wrong_length),
    "cut": (1, cut),
    "record": (4, changed_record),
    "sizing": (3, changed_sizing),
    "config": (6, changed_config),
    "weights": (5, changed_weights),
    "tensors": (4, changed_tensors),
    "enormous tensor": (1, sparse),
}


class Checkpoints:
    """The job of the worker: load one hostile checkpoint and score two pictures with it."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.contents = {name: (WEIGHTS_FOLDER / f"{name}.lite.safetensors").read_bytes() for name in METRICS}
        generator = torch.Generator().manual_seed(0)
        self.pictures = [torch.rand(3, 64, 64, generator=generator), torch.rand(3, 40, 300, generator=generator)]
        for name in METRICS:
            self._score(name, create_metric(f"{name}.lite"))

    def prepare(self, number: int) -> tuple[str, str]:
        """Write the file of a number: what was done to it, and the metric."""
        rng = random.Random(f"{self.seed} {number}")
        metric = METRICS[number % len(METRICS)]
        kind = rng.choices(list(CHANGES), [weight for weight, _ in CHANGES.values()])[0]
        parts = Parts.of(self.contents[metric])
        content = CHANGES[kind][1](parts, rng)
        with FILE.open("wb") as file:
            file.write(content)
            if kind == "enormous tensor":
                table = Parts.of(content).table
                file.truncate(
                    len(content) + max(place["data_offsets"][1] for place in table.values()) - len(parts.data)
                )
        return f"{metric}: {kind}", metric

    def run(self, case: tuple[str, str]) -> str:
        """Load and score: "refused", "refuses to score" or "scored".

        Raises:
            Fault: If a score is not finite, or a message is not one line.
        """
        try:
            return self._run(case[1])
        finally:
            FILE.unlink()

    def _run(self, name: str) -> str:
        try:
            card(read_metadata(FILE), sha256="0" * 64, elements=1)
            metric = create_metric(name, weights=FILE)
        except IqaError as error:
            check_refusal(error)
            return "refused"
        try:
            self._score(name, metric)
        except IqaError as error:
            check_refusal(error)
            return "refuses to score"
        return "scored"

    def _score(self, name: str, metric: Any) -> None:
        for picture in self.pictures:
            scores = metric(picture, picture.flip(-1)) if name.endswith("-fr") else metric(picture)
            if not scores.isfinite().all():
                raise Fault(f"its score is {scores}")
