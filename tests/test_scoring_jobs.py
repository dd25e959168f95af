"""Scoring by several threads: the same rows in the same order."""

import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from iqametrics import create_metric
from iqametrics.cli.main import main
from iqametrics.scoring import Item, Row, score_items
from iqametrics.scoring_jobs import default_jobs, score_in_jobs


def named(items: Iterable[Item]) -> Iterator[Row]:
    for item in items:
        yield Row(item.image, None, f"{threading.current_thread().name} {torch.get_num_threads()}", 1.0)


def test_rows_come_in_order_and_from_several_threads() -> None:
    items = [Item(str(number)) for number in range(101)]
    meeting = threading.Barrier(3)

    def together(share: Iterable[Item]) -> Iterator[Row]:
        share = list(share)
        if share and int(share[0].image) < 24:  # the first share of each thread: all three are at work at once
            meeting.wait(timeout=30)
        yield from named(share)

    rows = list(score_in_jobs(items, together, jobs=3))
    assert [row.image for row in rows] == [item.image for item in items]
    assert len({row.metric for row in rows}) == 3


def test_the_processors_are_divided_and_given_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        rows = list(score_in_jobs([Item("a")], named, jobs=2))
        assert rows[0].metric.endswith(" 2")
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("threads", "count", "jobs"), [(2, 16, 2), (2, 15, 1), (2, None, 1), (1, 100, 1), (16, 100, 4)]
)
def test_jobs_by_default(threads: int, count: int | None, jobs: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert default_jobs([create_metric("bpclip-nr.lite")], count) == jobs
    finally:
        torch.set_num_threads(before)


def test_images_are_taken_as_they_are_needed() -> None:
    taken = []

    def endless() -> Iterator[Item]:
        while True:
            taken.append(len(taken))
            yield Item(str(len(taken)))

    rows = score_in_jobs(endless(), named, jobs=2)
    assert next(rows).image == "1"
    rows.close()  # type: ignore[attr-defined]
    assert len(taken) <= 3 * 8


def test_a_fault_ends_all_threads() -> None:
    def faulty(share: Iterable[Item]) -> Iterator[Row]:
        raise ValueError("a fault")

    with pytest.raises(ValueError, match="a fault"):
        list(score_in_jobs([Item(str(number)) for number in range(40)], faulty, jobs=2))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("iqametrics-job")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(10):
        pixels = rng.integers(0, 256, (64, 64 + number % 3, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    (tmp_path / "4.png").write_bytes(b"no picture")
    return tmp_path


def test_scores_are_those_of_one_thread(folder: Path) -> None:
    metric = create_metric("bpclip-nr.lite")
    items = [Item(str(path)) for path in sorted(folder.iterdir())]

    def score(share: Iterable[Item]) -> Iterator[Row]:
        return score_items([metric], share, workers=1)

    expected, rows = list(score(items)), list(score_in_jobs(items, score, jobs=2))
    assert [(row.image, row.error) for row in rows] == [(row.image, row.error) for row in expected]
    scores = [(row.score, other.score) for row, other in zip(rows, expected, strict=True) if row.error is None]
    assert len(scores) == 9
    assert all(one == pytest.approx(other, abs=1e-5) for one, other in scores if one is not None)


def test_the_command_takes_jobs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["score", str(folder), "--metric", "bpclip-nr.lite", "--format", "csv", "--quiet"]
    assert main([*command, "--jobs", "2"]) == 1
    rows = capsys.readouterr().out.splitlines()
    assert [row.split(",")[0].rsplit("/", 1)[-1] for row in rows[1:]] == [f"{number}.png" for number in range(10)]


def test_metrics_that_share_state_take_no_jobs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pyiqa")
    assert main(["score", str(folder), "--metric", "pyiqa/entropy", "--jobs", "2"]) == 2
    assert "--jobs" in capsys.readouterr().err
