"""Mutated pictures and bombs, each read in a process that is watched; the long run is `benchmarks/attack.py`."""

import os
import re
import sys

import pytest
from attack_bombs import BOMBS
from attack_images import Images
from attack_worker import Fault, Report, Worker, check_refusal

from iqametrics.errors import ImageReadError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads memory as Linux tells it")
LARGE = re.compile(r"1 GB|256 MB|\d+00x\d+00|million|\d0 MB|300 frames|laughs")
"""Bombs that are slow to make or to read; `test_budget.py` has smaller ones of their kinds."""


class Misbehaving:
    """A job whose cases do what the worker is to notice."""

    def __init__(self, seed: int) -> None:
        self.held: list[bytes] = []

    def prepare(self, number: int) -> tuple[str, int]:
        return f"case {number}", number

    def run(self, case: tuple[str, int]) -> str:
        {1: self.raises, 2: self.prints, 3: self.writes, 4: self.dies, 5: self.grows, 6: self.runs_out}.get(
            case[1], lambda: None
        )()
        return "fine"

    def raises(self) -> None:
        raise KeyError("a")

    def prints(self) -> None:
        os.write(2, b"libjunk: warning\n")

    def writes(self) -> None:
        with open("core", "w") as file:
            file.write("x")

    def dies(self) -> None:
        os.abort()

    def grows(self) -> None:
        self.held.append(b"x" * 1_200_000_000)

    def runs_out(self) -> None:
        try:
            bytearray(2**40)
        except MemoryError as error:
            refusal = ImageReadError("a.png: is damaged or cut short")
            refusal.__cause__ = error
            check_refusal(refusal)


NOTICED = {
    1: "KeyError",
    2: "it wrote .*libjunk",
    3: r"it left \['core'\]",
    4: "status -6",
    5: "MB",
    6: "memory ran out",
}


@pytest.mark.slow
def test_the_worker_notices():
    with Worker(f"{__name__}:Misbehaving", 0) as worker:
        reports = {number: worker.do(number) for number in (0, *NOTICED, 9)}
    for number in (0, 9):
        assert (reports[number].outcome, reports[number].fault) == ("fine", "")
    for number, words in NOTICED.items():
        assert reports[number].outcome == "fault"
        assert re.search(words, reports[number].fault)


def test_a_message_of_two_lines_is_a_fault():
    check_refusal(ImageReadError("a.png: is damaged"))
    with pytest.raises(Fault, match="not one plain line"):
        check_refusal(ImageReadError("a.png: is\ndamaged"))


def test_a_case_is_known_by_its_number():
    images = Images(3)
    assert images.prepare(5) == Images(3).prepare(5)
    assert len({images.prepare(number).data for number in range(60)}) > 55


def faults(job: str, numbers) -> list[Report]:
    with Worker(job, 11) as worker:
        return [report for number in numbers if (report := worker.do(number)).fault]


@pytest.mark.slow
def test_mutated_pictures():
    assert faults("attack_images:Images", range(300)) == []


@pytest.mark.slow
def test_bombs():
    quick = [number for number, name in enumerate(BOMBS) if not LARGE.search(name)]
    assert len(quick) > 30
    assert faults("attack_bombs:Bombs", quick) == []
