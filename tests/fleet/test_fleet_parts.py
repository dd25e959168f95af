"""Nothing lost, nothing doubled: what was finished before a run was killed is taken over, and only that."""

from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="the extra `fleet` is not installed")

import fleet_here
from fleet_here import png

from iqametrics.errors import DataError
from iqametrics.fleet import parts as parts_module
from iqametrics.fleet.parts import Parts
from iqametrics.fleet.units import MOST, Given, cut, units
from iqametrics.fleet.worker import UnitScorer, load_rows
from iqametrics.pipeline import BatchScorer

pytestmark = pytest.mark.usefixtures("fake_metrics")
COUNT = 120


@pytest.fixture
def folder(tmp_path, monkeypatch):
    # Names decide where units end, so they are the same each time.
    monkeypatch.chdir(tmp_path)
    pictures = Path("in")
    pictures.mkdir()
    for number in range(COUNT):
        (pictures / f"{number}.png").write_bytes(png(number))
    return pictures


def pictures(count):
    return [Given(f"{number}.png", ["file", f"{number}.png"]) for number in range(count)]


def test_units_hold_every_picture_once_and_none_is_large():
    given = pictures(5000)
    found = list(units(3, given))
    assert [picture for unit in found for picture in unit.pictures] == given
    assert [unit.number for unit in found] == list(range(len(found)))
    assert [unit.last for unit in found] == [False] * (len(found) - 1) + [True]
    assert max(len(unit.pictures) for unit in found) <= MOST
    assert 150 < len(found) < 350


def test_a_picture_that_is_added_changes_the_unit_it_is_in():
    given = pictures(2000)
    before = list(cut(given))
    after = list(cut([*given[:1000], Given("new.png", ["file", "new.png"]), *given[1000:]]))
    assert len([unit for unit in after if unit not in before]) <= 3


def test_a_unit_is_known_by_names_places_stamps_and_what_scores_it():
    def digest(maker="m", **changes):
        picture = Given(**{"image": "a", "place": ["file", "a"], "stamp": [1, 2]} | changes)
        return next(units(0, [picture])).digest(maker)

    others = [digest("n"), digest(image="b"), digest(place=["file", "b"]), digest(stamp=[1, 3]), digest(reference="r")]
    assert len({digest(), *others}) == 6
    assert next(units(7, [Given("a", ["file", "a"], stamp=[1, 2])])).digest("m") == digest()


@pytest.mark.parametrize("rows_in_a_part", [1, 50, 10_000])
def test_what_is_finished_is_not_scored_again(folder, tmp_path, monkeypatch, rows_in_a_part):
    monkeypatch.setattr(parts_module, "ROWS", rows_in_a_part)
    whole, all_of_them = fleet_here.score([folder], tmp_path)
    assert all_of_them == COUNT
    _, first = fleet_here.score([folder], tmp_path, stop_after=1)
    rows, second = fleet_here.score([folder], tmp_path, resume=True)
    assert rows == whole
    assert 0 < first < COUNT
    assert first + second == COUNT
    assert fleet_here.score([folder], tmp_path, resume=True) == (whole, 0)
    assert fleet_here.score([folder], tmp_path)[1] == COUNT


def test_changed_added_and_removed_pictures_are_noticed(folder, tmp_path):
    fleet_here.score([folder], tmp_path)
    (folder / "5.png").write_bytes(png(1000, (30, 20)))
    (folder / "119.5.png").write_bytes(png(1001))
    (folder / "70.png").unlink()
    rows, scored = fleet_here.score([folder], tmp_path, resume=True)
    assert 2 < scored < COUNT
    assert rows == fleet_here.score([folder], tmp_path)[0]
    assert len(rows) == COUNT


def test_pictures_with_an_error_are_tried_again_and_only_these(tmp_path, monkeypatch):
    path = fleet_here.write_tar(tmp_path / "a.tar", {f"{n}.png": png(n) for n in range(COUNT)})
    whole, _ = fleet_here.score([path], tmp_path)
    from iqametrics.fleet import places

    usual = places.Piece.__call__

    def flaky(self):
        if self.name.endswith(("/4.png", "/5.png", "/80.png")):
            raise OSError(5, "the network is gone")
        return usual(self)

    with monkeypatch.context() as broken:
        broken.setattr(places.Piece, "__call__", flaky)
        rows, scored = fleet_here.score([path], tmp_path)
    assert scored == COUNT
    assert [number for number, row in enumerate(rows) if row["error"]] == [4, 5, 80]
    assert fleet_here.score([path], tmp_path, resume=True) == (whole, 3)
    assert fleet_here.score([path], tmp_path, resume=True) == (whole, 0)


def test_equal_inputs_are_one_row_each_however_often_they_are_given(folder, tmp_path):
    once, _ = fleet_here.score([folder], tmp_path)
    rows, _ = fleet_here.score([folder, folder], tmp_path)
    assert rows == once * 2
    assert fleet_here.score([folder, folder], tmp_path, resume=True) == (rows, 0)


def test_half_a_part_is_as_if_it_were_not_there(folder, tmp_path):
    whole, _ = fleet_here.score([folder], tmp_path)
    left = tmp_path / "out.parts" / ".000001.parquet.abcd.part"
    left.write_bytes(b"PAR1")
    assert fleet_here.score([folder], tmp_path, resume=True) == (whole, 0)
    assert not left.exists()


def test_a_damaged_part_is_told(folder, tmp_path):
    fleet_here.score([folder], tmp_path)
    path = tmp_path / "out.parts" / "000000.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="remove it"):
        Parts(tmp_path / "out.parts", 1, resume=True)


def test_a_picture_that_ends_its_process_costs_its_row(folder):
    (unit, *_) = fleet_here.units([folder])
    scorer = UnitScorer([BatchScorer("fake-nr.tiny", device="cpu")], {})
    digest = unit.digest("m")
    usual = load_rows(scorer.score(digest, unit.dump()))
    asked = []

    def may_try(key):
        asked.append(key)
        return len(asked) != 2

    rows = load_rows(scorer.score_one_by_one(digest, unit.dump(), may_try))
    assert len(set(asked)) == len(unit.pictures)
    assert "dies each time" in rows[1].error
    assert [rows[0], *rows[2:]] == [usual[0], *usual[2:]]


def test_several_metrics_give_a_row_each(folder):
    (unit, *_) = fleet_here.units([folder])
    names = ["fake-nr.tiny", "fake-nr.lite"]
    both = load_rows(UnitScorer([BatchScorer(name, device="cpu") for name in names], {}).score(b"", unit.dump()))
    assert [row.metric for row in both] == names * len(unit.pictures)
    for index, name in enumerate(names):
        alone = load_rows(UnitScorer([BatchScorer(name, device="cpu")], {}).score(b"", unit.dump()))
        assert both[index::2] == alone
