"""`benchmarks/epoch_time.py`: what it adds up, and the figures that are stored."""

import json

import epoch_time
import pytest
from places import ROOT

STORED = json.loads((ROOT / "benchmarks" / "results" / "epoch_time.json").read_text())


def test_the_smallest_of_each_kind_of_seconds_counts():
    found = [epoch_time.Taken(3.04, 1.0), epoch_time.Taken(2.0, 1.26)]
    assert epoch_time.least(found) == {"seconds": 2.0, "processor_seconds": 1.0}


def test_an_epoch_is_drawn_out_from_its_steps(monkeypatch):
    """Of twenty steps every tenth is taken: its crops count ten times, the validation once."""
    taken = iter([epoch_time.Taken(1.0, 0.5), epoch_time.Taken(4.0, 2.0)])
    made = []

    class Made:
        def __init__(self, *_, **__):
            pass

        def training(self, items, shares):
            made.extend(shares)
            return iter(shares)

        def whole(self, items, size):
            return iter(())

    def run(call):
        call()
        return next(taken)

    monkeypatch.setattr(epoch_time, "Batches", Made)
    monkeypatch.setattr(epoch_time, "epoch_steps", lambda *_: range(20))
    monkeypatch.setattr(epoch_time, "portions", lambda views, **_: [views])
    monkeypatch.setattr(epoch_time, "taken", run)
    recipe = epoch_time.read_recipe("paper/bpclip-nr/koniq10k", [], {"csv": "none"})
    data = epoch_time.RunData([], [], [])
    assert epoch_time.epoch(recipe, data, None, 2, 10) == epoch_time.Taken(14.0, 7.0)
    assert made == [0, 10]


@pytest.mark.parametrize("name", epoch_time.RECIPES)
def test_the_tables_are_those_of_the_stored_file(name):
    found = STORED["recipes"][name]
    ways = found["an_epoch"]
    cells = [ways["decoded"], ways["cached"], found["to_fill_the_cache"]]
    figures = [str(cell["processor_seconds"]) for cell in cells]
    row = f"| `{name}` | {found['crops']:,} of {found['crop']} | {' | '.join(figures)} |"
    assert row in (ROOT / "docs" / "training.md").read_text()
    factor = round(ways["decoded"]["processor_seconds"] / ways["cached"]["processor_seconds"])
    row = f"| {figures[2]} | {figures[0]} | {figures[1]} | {factor} |"
    assert row in (ROOT / "benchmarks" / "results" / "README.md").read_text()


def test_the_stored_file_names_no_folder_of_a_machine():
    assert not any("/" in part for part in STORED["command"])
