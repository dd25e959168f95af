"""What methods declare, and that the trainer and the benchmark know of it by the declarations alone."""

import ast
import configparser
from dataclasses import replace
from pathlib import Path

import fakes
import pytest
from places import ROOT

from iqametrics import list_metrics, methods, register_metric
from iqametrics.benchmark.plan import plan_table, unfilled_rows
from iqametrics.benchmark.tables import list_tables, paper_table
from iqametrics.bpclip import METHOD as BPCLIP
from iqametrics.errors import RecipeError
from iqametrics.spec import Method, PaperTable, TableRow
from iqametrics.training.recipe import read_recipe
from iqametrics.training.recipes import find_recipe, list_recipes


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(methods, "_registered", [])


def words_of(path):
    """Names and texts of a module's code; docstrings, which may give examples, are not code."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.value
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.alias | ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name):
            yield node.id


def named_methods(folder):
    found = [(path.name, word) for path in sorted(folder.rglob("*.py")) for word in words_of(path)]
    return [(name, word) for name, word in found if "bpclip" in word.lower() or "pfd" in word.lower()]


@pytest.mark.parametrize("room", ["training", "benchmark"])
def test_the_room_names_no_method(room):
    assert list((ROOT / "iqametrics" / room).glob("*.py"))
    assert named_methods(ROOT / "iqametrics" / room) == []


@pytest.mark.parametrize("text", ["from iqametrics.pfd_iqa import x", "x = 'BPCLIP'", "def train_pfd(): pass"])
def test_a_named_method_is_found(tmp_path, text):
    (tmp_path / "plan.py").write_text(f'"""Of bpclip."""\n{text}\n')
    assert len(named_methods(tmp_path)) == 1


@pytest.mark.parametrize("package", methods.METRIC_PACKAGES)
def test_what_a_built_in_method_declares_is_there(package):
    method = next(m for m in methods.methods() if m.metrics[0].factory.startswith(package))
    assert {spec.name for spec in method.metrics} <= set(method.objectives)
    for path in (*method.objectives.values(), *(spec.factory for spec in method.metrics)):
        assert isinstance(methods.named_class(path), type)
    for row in method.rows:
        assert row.row in paper_table(row.table).rows
        assert set(row.metrics.values()) <= set(method.objectives)


def test_recipes_and_tables_are_packed():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    patterns = settings["options.package_data"]["iqametrics"].split()
    packed = {path for pattern in patterns for path in (ROOT / "iqametrics").glob(pattern)}
    tables = {table.file for table in methods.paper_tables().values()}
    assert tables | set(methods.recipe_files().values()) <= packed


def write_recipe(folder, name, text="[metric]\nname='fake-nr'\ntag='x'\n[split]\nvalidation=0.2\nby='image'\n"):
    path = folder / f"{name}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def method(**changes):
    return Method(**{"metrics": (fakes.FakeNr.spec,), "objectives": {"fake-nr": "fakes:FakeNr"}, **changes})


class TestRegistered:
    def test_a_whole_method_has_the_powers_of_one_in_the_tree(self, tmp_path):
        write_recipe(tmp_path, "lite/fake-nr")
        (tmp_path / "table.csv").write_text(
            "# Made up.\nrow,train,dataset,statistic,value,std,note\nFake,,koniq10k,srcc,0.9,,\n"
        )
        table = PaperTable(id="fake-table1", title="A", paper="B", file=tmp_path / "table.csv", protocol="8:2")
        row = TableRow(table="fake-table1", row="Fake", metrics={"nr": "fake-nr"}, changes=("train.lr=0.5",))
        register_metric(method(recipes=tmp_path, tables=(table,), rows=(row,)))
        assert "fake-nr" in list_metrics("nr")
        assert find_recipe("fake-nr") == tmp_path / "lite" / "fake-nr.toml"
        assert read_recipe("fake-nr", data={"csv": "/a.csv"}).metric.tag == "x"
        assert methods.named_class(methods.objectives()["fake-nr"]) is fakes.FakeNr
        assert paper_table("fake-table1").comments == ("Made up.",)
        (job,) = plan_table(paper_table("fake-table1"), splits=1, size="lite")
        assert (job.metric, job.recipe, job.changes, job.protocol) == (
            "fake-nr",
            "lite/fake-nr",
            ("train.lr=0.5",),
            "8:2",
        )
        methods.unregister_metric("fake-nr")
        assert "fake-nr" not in list_metrics("nr")
        assert "fake-table1" not in list_tables()
        assert "lite/fake-nr" not in list_recipes()

    def test_a_row_in_anothers_table(self, tmp_path):
        before = plan_table(paper_table("bpclip-table2"), splits=2)
        write_recipe(tmp_path, "paper/fake-nr/live")
        row = TableRow(table="bpclip-table2", row="Fake", metrics={"fr": "fake-nr"})
        register_metric(method(recipes=tmp_path, rows=(row,)))
        table = paper_table("bpclip-table2")
        assert table.rows[-1] == "Fake"
        added = [cell for cell in table.cells if cell.row == "Fake"]
        assert {cell.dataset for cell in added} == {"live", "csiq", "tid2013", "kadid10k"}
        assert all(cell.value is None for cell in added)
        # Recipes for the other datasets are missing: the table is planned without the row, which says why.
        assert plan_table(table, splits=2) == before
        assert unfilled_rows(table)["Fake"] == "there is no recipe paper/fake-nr/csiq"
        jobs = plan_table(table, rows=["Fake"], datasets=["live"], splits=2)
        assert [(job.recipe, job.protocol) for job in jobs] == [("paper/fake-nr/live", "6:2:2")] * 2

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"objectives": {"bpclip-nr": "a:B"}}, r"an objective named 'bpclip-nr' is there already"),
            ({"tables": BPCLIP.tables[:1]}, r"a table 'bpclip-table2' is there already"),
            ({"rows": BPCLIP.rows[:1]}, r"in table bpclip-table2, a row 'BPCLIP' is there already"),
            ({"metrics": (fakes.FakeNr.spec, fakes.FakeNr.spec)}, r"a metric named 'fake-nr' is there already"),
            ({"recipes": Path("nowhere")}, r"the folder of recipes nowhere does not exist"),
            ({"metrics": (replace(fakes.FakeNr.spec, name="a.b"),)}, r"'a\.b' is no name for a metric"),
        ],
    )
    def test_what_is_taken_or_impossible_is_refused(self, changes, message):
        with pytest.raises(ValueError, match=message):
            register_metric(method(**changes))
        assert methods.metric_specs().keys() == {spec.name for m in methods.methods() for spec in m.metrics}
        assert "fake-nr" not in list_metrics()

    @pytest.mark.parametrize("name", ["lite/bpclip-nr", "fake-nr", "lite/fake-nr/a/b"])
    def test_recipes_are_of_the_methods_own_objectives(self, tmp_path, name):
        write_recipe(tmp_path, name)
        with pytest.raises(ValueError, match=r"is not SIZE/NAME\.toml .* objectives for NAME \(fake-nr\)"):
            register_metric(method(recipes=tmp_path))

    def test_what_cannot_be_trained_is_told_with_what_can(self, tmp_path):
        from iqametrics.training.run import train_recipe

        write_recipe(tmp_path, "mine", "[metric]\nname='fake-nr'\ntag='x'\n[split]\nvalidation=0.2\nby='image'\n")
        register_metric(fakes.FakeNr.spec)
        recipe = read_recipe(tmp_path / "mine.toml", data={"csv": "/a.csv"})
        with pytest.raises(RecipeError, match=r"'fake-nr' cannot be trained; choose one of bpclip-fr, bpclip-nr, pfd"):
            train_recipe(recipe, tmp_path / "run")
