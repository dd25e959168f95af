"""Readings of a silent paper against each other: on a validation part, beside the table's jobs, never on the test."""

import csv
import json

import pytest
from benchmark_fake import PLACE
from training_fake import leave_curves_out, write_dataset

from iqametrics.benchmark.plan import plan_table
from iqametrics.benchmark.readings import reading_lines, recipe_readings
from iqametrics.benchmark.render import render
from iqametrics.benchmark.report import make_report
from iqametrics.benchmark.run import open_run, read_result, run_jobs
from iqametrics.benchmark.tables import paper_table
from iqametrics.benchmark.variants import read_choices, variant_jobs, variant_lines, variants_folder
from iqametrics.cli.main import main
from iqametrics.datasets.csv_dataset import read_csv_dataset
from iqametrics.datasets.protocol import select
from iqametrics.errors import DataError

CHOICES = {"model.similarity": ["softmax", "pairs"], "model.nr_gate": ["linear", "gelu"]}


def table_jobs(splits=2):
    return plan_table(paper_table("bpclip-table4"), rows=["BPCLIP"], datasets=["clive", "spaq"], splits=splits)


class TestPlan:
    def test_each_training_under_each_combination_on_the_validation_part(self):
        jobs = table_jobs()
        found = variant_jobs(jobs, CHOICES)
        assert len(found) == len({job.id for job in found}) == 4 * len(jobs)
        assert {target.part for job in found for target in job.targets} == {"validation"}
        assert all("split.withhold_test=true" in job.changes for job in found)
        assert not {job.id for job in found} & {job.id for job in jobs}

    def test_a_training_that_is_tested_on_several_datasets_is_one(self):
        jobs = plan_table(paper_table("bpclip-table3"), rows=["BPCLIP"], splits=1)
        found = variant_jobs(jobs, {"model.heads": ["4", "8"]})
        assert len(found) == 2 * len({job.train for job in jobs})
        assert all([target.dataset for target in job.targets] == [job.train] for job in found)

    def test_what_is_not_a_choice_is_told(self):
        for text in ("model.similarity", "similarity=a,b", "split.seed=1,2", "data.csv=a,b", "model.heads=4,4"):
            with pytest.raises(DataError, match="--variants"):
                read_choices([text])
        assert read_choices(["train.flips=[],['h','v']"]) == {"train.flips": ["[]", "['h','v']"]}
        with pytest.raises(DataError, match="none of these rows is trained"):
            variant_jobs(plan_table(paper_table("bpclip-table4"), rows=["BRISQUE"], splits=1), CHOICES)


class TestReport:
    @pytest.fixture
    def run(self, tmp_path):
        """The variants of a run whose table has not been filled: pairs better than softmax, in one of two splits."""
        jobs = variant_jobs(table_jobs(), {"model.similarity": ["softmax", "pairs"]})
        folder = variants_folder(tmp_path, {"model.similarity": ["softmax", "pairs"]})
        plan = {"table": "bpclip-table4", "size": "paper", "changes": [], "labels": {}}
        open_run(folder, {**plan, "variants": {"model.similarity": ["softmax", "pairs"]}}, jobs, resume=False)

        def done(job, place):
            value = (0.8 if "model.similarity=pairs" in job.changes else 0.7) + 0.02 * job.split
            figure = {"n": 9, "srcc": value, "plcc": value, "plcc_logistic": value}
            return {**PLACE, "figures": {job.train: figure}, "images": {job.train: 9}, "selection": "best-val"}

        run_jobs([job for job in jobs if job.train == "clive"], folder, done, lambda text: None)
        return tmp_path

    def test_stands_beside_the_papers_number_and_fills_no_cell(self, run):
        lines = {
            (line.dataset, line.reading): line
            for line in variant_lines(run, paper_table("bpclip-table4"))
            if line.statistic == "srcc"
        }
        pairs = lines["clive", "model.similarity=pairs"]
        softmax = lines["clive", "model.similarity=softmax"]
        assert (softmax.in_table, pairs.in_table) == (True, False)
        assert pairs.measured == pytest.approx(0.81)
        assert pairs.spread == pytest.approx(0.02 / 2**0.5)
        printed = next(
            cell.value
            for cell in paper_table("bpclip-table4").cells
            if (cell.row, cell.place, cell.statistic) == ("BPCLIP", "clive", "srcc")
        )
        assert pairs.paper == printed
        assert lines["spaq", "model.similarity=pairs"].measured is None
        report = make_report(run)
        assert {line.verdict for line in report.lines if line.row == "BPCLIP"} == {"not run"}
        text = render(report, "md")
        assert "| BPCLIP | clive srcc | model.similarity=pairs |  | 0.8100 ± 0.0141 | 2/2 |" in text
        assert "validation parts" in render(report, "html")

    def test_the_variants_folder_is_no_run_of_the_table(self, run):
        with pytest.raises(DataError, match="holds variants"):
            make_report(variants_folder(run, {"model.similarity": []}))

    def test_show(self, run, capsys):
        assert main(["benchmark", "show", "bpclip-table4", "--run", str(run)]) == 0
        assert "model.similarity=pairs" in capsys.readouterr().out
        assert main(["benchmark", "show", "bpclip-table4", "--run", str(run), "--format", "json"]) == 0
        found = json.loads(capsys.readouterr().out)["variants"]
        assert {line["in_table"] for line in found if line["reading"].endswith("softmax")} == {True}
        assert main(["benchmark", "show", "bpclip-table4", "--run", str(run / "other")]) == 1
        assert "holds no variants" in capsys.readouterr().err


class TestReadings:
    def test_are_the_marked_values_of_the_recipe_and_those_that_it_extends(self):
        found = {reading.field: reading for reading in recipe_readings("paper/pfd-iqa/clive")}
        assert (found["model.time_grid"].value, found["model.time_grid"].mark) == ("half", "lineage: DiffKD")
        assert found["model.mask_ratio"].mark == "open"
        assert "train.epochs" not in found  # the paper's
        assert "train.save_every" not in found
        assert recipe_readings("lite/bpclip-nr") == []

    def test_a_row_that_changes_one_says_so(self):
        (line,) = (text for text in reading_lines("paper/pfd-iqa/clive", ["model.time_grid=start"]) if "grid" in text)
        assert line == "[changed] model.time_grid=start"

    def test_the_report_of_a_table_says_which_were_used(self, tmp_path):
        jobs = table_jobs()
        plan = {"table": "bpclip-table4", "size": "paper", "changes": [], "labels": {}}
        open_run(tmp_path, plan, jobs, resume=False)
        facts = [fact for fact in make_report(tmp_path).facts if "[lineage: TOPIQ]" in fact]
        assert facts
        assert "BPCLIP (bpclip-nr)" in facts[0]
        assert "model.feed_forward=4" in facts[0]
        assert sum("clive" in fact for fact in facts) == 1


@pytest.mark.slow
def test_no_image_of_the_test_part_is_seen(tmp_path, monkeypatch, capsys):
    """A row of the paper trained for an epoch under two readings, on images of noise that stand in for CLIVE's."""
    leave_curves_out(monkeypatch.setattr)
    write_dataset(tmp_path, count=40, sizes=((48, 48),))
    (tmp_path / "data.toml").write_text('[datasets.clive]\ncsv = "data.csv"\n')
    monkeypatch.chdir(tmp_path)
    command = ["benchmark", "run", "bpclip-table4", "--rows", "BPCLIP", "--datasets", "clive", "--splits", "1"]
    command += ["--size", "lite", "--data", "data.toml", "--device", "cpu", "--output", "run"]
    changes = ("train.epochs=1", "train.crop=32", "model.width=8", "model.heads=2", "train.selection='best-val'")
    command += [word for change in changes for word in ("--set", change)]
    command += ["--variants", "model.similarity=softmax,pairs"]
    assert main(command) == 0
    samples = read_csv_dataset(tmp_path / "data.csv")
    tested = {sample.image.name for sample in select(samples, "random:0:test")}
    folder = tmp_path / "run" / "variants" / "model.similarity"
    places = list((folder / "jobs").iterdir())
    assert len(places) == 2
    for place in places:
        trained = json.loads((place / "train" / "results.json").read_text())
        assert trained["images"] == {"train": 29, "validation": 3, "test": 0}
        assert list(trained["results"]) == ["validation"]
        with (place / "scores.csv").open() as stream:
            scored = {row["image"] for row in csv.DictReader(stream)}
        assert len(scored) == 3
        assert not scored & tested
        assert not any(name in (place / "train" / "predictions.csv").read_text().split(",") for name in tested)
    assert not (tmp_path / "run" / "jobs").exists()
    report = render(make_report(tmp_path / "run"), "md")
    assert "model.similarity=pairs" in report
    assert main(command) == 1
    assert "already holds a run" in capsys.readouterr().err
    assert main([*command, "--resume"]) == 0
    assert "2 were done before" in capsys.readouterr().err
    assert read_result(tmp_path / "run", table_jobs()[0]) is None
