"""Tables, plans, sources, verdicts and reports of the benchmark harness, and its commands."""

import csv
import io
import json
import math
import statistics
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from benchmark_fake import PLACE, PLAN, execute, figures, jobs, result
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from iqametrics import registry
from iqametrics.benchmark.jobs import SCORES, Executor, read_scores
from iqametrics.benchmark.lines import judge
from iqametrics.benchmark.plan import (
    Job,
    Target,
    command,
    compared_row,
    image_passes,
    is_ours,
    overrides,
    plan_comparison,
    plan_table,
    unfilled_rows,
)
from iqametrics.benchmark.render import render
from iqametrics.benchmark.report import make_report
from iqametrics.benchmark.run import job_folder, open_run, planned_jobs, read_plan, run_jobs
from iqametrics.benchmark.sources import read_sources
from iqametrics.benchmark.tables import AVERAGE, list_tables, paper_table
from iqametrics.cli.main import main
from iqametrics.datasets.catalogue import dataset_spec, list_datasets
from iqametrics.datasets.labelled import LabelledImages
from iqametrics.datasets.protocol import SIX_TWO_TWO, random_parts
from iqametrics.datasets.sample import Sample
from iqametrics.errors import DataError
from iqametrics.training.recipe import read_recipe
from iqametrics.training.recipes import find_recipe

IDS = [
    *(f"bpclip-table{number}" for number in range(2, 7)),
    "bpclip-fig5",
    *(f"pfd-table{number}" for number in range(1, 6)),
]
TRAINED = [name for name in IDS if name != "bpclip-fig5"]


class TestTables:
    def test_ids(self):
        assert list_tables() == IDS

    def test_names_are_those_of_the_catalogue(self):
        for name in IDS:
            assert set(paper_table(name).datasets) <= set(list_datasets())
            for cell in paper_table(name).cells:
                assert cell.dataset in {*list_datasets(), AVERAGE}
                assert cell.train in {*list_datasets(), ""}
                assert cell.statistic in {"plcc", "srcc", "mean", "std", "flops", "parameters"}

    def test_a_cell_stands_once(self):
        for name in IDS:
            keys = [(cell.row, cell.place, cell.statistic) for cell in paper_table(name).cells]
            assert len(keys) == len(set(keys))

    def test_numbers_are_possible(self):
        for name in IDS:
            for cell in paper_table(name).cells:
                assert cell.value is None or 0 < cell.value < 1
                assert cell.std is None or (0 < cell.std < 0.05 and cell.row == "BPCLIP")

    @pytest.mark.parametrize(("name", "slips"), [("pfd-table3", []), ("pfd-table5", ["3"])])
    def test_printed_averages_are_those_of_the_row(self, name, slips):
        """The averages check the columns that text recognition had slipped; the one that does not fit is marked."""
        table = paper_table(name)
        for row in table.rows:
            values = [c.value for c in table.cells if c.row == row and c.dataset != AVERAGE]
            average = next(c for c in table.cells if c.row == row and c.dataset == AVERAGE)
            fits = abs(statistics.fmean(values) - average.value) <= 0.0005 + 1e-9
            assert fits == (row not in slips)
            assert ("slip" in average.note) == (row in slips)

    def test_slip_of_the_paper_is_kept_and_marked(self):
        cells = [c for c in paper_table("bpclip-table2").cells if c.dataset == "kadid10k" and c.row in ("VIF", "VSI")]
        assert [cell.value for cell in cells] == [0.687, 0.679, 0.687, 0.679]
        assert all("slip of the paper" in cell.note for cell in cells)

    def test_unknown_table(self):
        with pytest.raises(DataError, match="did you mean 'pfd-table1'"):
            paper_table("pfd-tabel1")


class TestPlan:
    @pytest.mark.parametrize("name", TRAINED)
    @pytest.mark.parametrize("size", ["paper", "lite"])
    def test_every_recipe_of_every_job_is_there_and_reads(self, name, size):
        planned = plan_table(paper_table(name), splits=1, size=size)
        assert len({job.id for job in planned}) == len(planned)
        for job in planned:
            assert Job.from_dict(json.loads(json.dumps(job.to_dict()))) == job
            if job.recipe:
                source = LabelledImages(root="/data", dataset=job.train)
                recipe = read_recipe(find_recipe(job.recipe), overrides(job, source, "cpu", Path("/cache")))
                assert recipe.metric.name == job.metric
                assert (recipe.data.dataset, recipe.data.root) == (job.train, "/data")
                assert recipe.split.seed == (job.split or 0)
                assert image_passes(job) >= recipe.train.epochs * dataset_spec(job.train).images // 2
                if job.protocol == "official":
                    assert recipe.split.by == "official"
                else:
                    share = 0.2 if job.protocol == "6:2:2" else 0.08
                    assert (recipe.split.validation, recipe.split.test) == (pytest.approx(share), pytest.approx(0.2))
                    with_references = dataset_spec(job.train).mode == "fr"
                    assert recipe.split.by == ("reference" if with_references else "image")

    def test_ten_splits_of_each_cell(self):
        planned = plan_table(paper_table("pfd-table3"), rows=["b"], datasets=["live", "clive"])
        assert [(job.train, job.split) for job in planned] == [
            (name, split) for name in ("live", "clive") for split in range(10)
        ]
        assert {job.changes for job in planned} == {("model.use_pdr=false",)}
        assert {job.targets for job in planned} == {(Target(dataset=n, part="test"),) for n in ("live", "clive")}

    def test_one_training_serves_all_that_it_is_tested_on(self):
        (job,) = plan_table(paper_table("bpclip-table3"), rows=["BPCLIP"], splits=1)
        assert job.recipe == "paper/bpclip-fr/kadid10k"
        assert [(t.dataset, t.part) for t in job.targets] == [("live", "all"), ("csiq", "all"), ("tid2013", "all")]
        assert job.datasets == ["kadid10k", "live", "csiq", "tid2013"]
        assert [job.place(target) for target in job.targets] == paper_places("bpclip-table3")

    def test_across_datasets_in_both_directions(self):
        planned = plan_table(paper_table("pfd-table2"), rows=["PFD-IQA"], splits=1)
        places = [job.place(target) for job in planned for target in job.targets]
        assert places == paper_places("pfd-table2")

    def test_official_split_is_one_job(self):
        (job,) = plan_table(paper_table("bpclip-table5"), rows=["BPCLIP"], splits=10)
        assert (job.id, job.recipe) == ("bpclip-koniq10k-official", "paper/bpclip-nr/koniq10k-official")

    @pytest.mark.parametrize("steps", ["1", "3", "5", "10"])
    def test_sampling_steps(self, steps):
        job = plan_table(paper_table("pfd-table5"), rows=[steps], splits=1)[0]
        assert job.changes == (f"model.sampling_steps={steps}",)

    def test_finished_metrics_take_the_test_part_of_each_split(self):
        planned = plan_table(paper_table("bpclip-table2"), rows=["PSNR"], datasets=["live"], splits=2)
        assert [(job.metric, job.targets[0].part) for job in planned] == [
            ("piq/psnr", "random:0:test"),
            ("piq/psnr", "random:1:test"),
        ]
        assert all(not job.recipe and job.size == "finished" for job in planned)

    @pytest.mark.parametrize("name", TRAINED)
    def test_every_row_that_a_package_can_run_gives_each_job_once(self, name):
        """Table 2 of PFD-IQA tests on KonIQ-10k twice; a finished metric scores it once, and fills both columns."""
        table = paper_table(name)
        able = [row for row in table.rows if compared_row(table, row).adapter or is_ours(table, row)]
        names = [job.id for job in plan_table(table, rows=able, splits=2)]
        assert len(set(names)) == len(names)

    def test_files_of_ones_own_never_share_a_folder(self, tmp_path, fake_metrics):
        files = ["a_b.safetensors", "a-b.safetensors", "A-b.safetensors", f"{'x' * 300}.safetensors"]
        names = [job.id for job in plan_comparison([f"fake-nr={file}" for file in files], ["mine"])]
        assert len(set(names)) == len(files)
        assert all(len(name) < 200 for name in names)

    def test_rows_that_nothing_can_run(self):
        table = paper_table("bpclip-table2")
        assert unfilled_rows(table)["DeepQA"] == "nothing here can run it"
        assert "PSNR" not in unfilled_rows(table)
        assert plan_table(table, rows=["DeepQA"]) == []

    def test_unknown_names(self):
        with pytest.raises(DataError, match="no row 'bpclip' here; did you mean 'BPCLIP'"):
            plan_table(paper_table("bpclip-table5"), rows=["bpclip"])
        with pytest.raises(DataError, match="no dataset 'live' here"):
            plan_table(paper_table("bpclip-table5"), datasets=["live"])
        with pytest.raises(DataError, match="benchmark cost"):
            plan_table(paper_table("bpclip-fig5"))

    def test_commands(self):
        sources = {"live": LabelledImages(root="/data/li ve", dataset="live")}
        trained, finished = (
            plan_table(paper_table("bpclip-table2"), rows=[row], datasets=["live"], splits=1)[0]
            for row in ("BPCLIP", "PSNR")
        )
        text = command(trained, sources, Path("run"), "cuda")
        assert text.startswith("iqametrics train paper/bpclip-fr/live --set 'data.dataset=\"live\"'")
        assert "'data.root=\"/data/li ve\"'" in text
        assert text.endswith(
            "--set split.seed=0 --set train.seed=0 --output run/jobs/bpclip-live-split00/train --resume"
        )
        assert command(finished, sources, Path("run"), "cpu") == (
            "iqametrics evaluate --metric piq/psnr --dataset live --root '/data/li ve' --split random:0:test "
            "--device cpu"
        )

    def test_passes(self):
        """200 epochs of 60% of LIVE's 779 images; a trial of three epochs is counted as what it is."""
        live: dict[str, Any] = {"rows": ["BPCLIP"], "datasets": ["live"], "splits": 1}
        table = paper_table("bpclip-table2")
        assert image_passes(plan_table(table, **live)[0]) == 467 * 200
        assert image_passes(plan_table(table, **live, changes=["train.epochs=3"])[0]) == 467 * 3


def paper_places(table_id):
    return list(dict.fromkeys(cell.place for cell in paper_table(table_id).cells))


class TestSources:
    def test_paths_start_from_the_file(self, tmp_path):
        path = tmp_path / "data.toml"
        path.write_text('[datasets.live]\nroot = "LIVE"\n[datasets.mine]\ncsv = "a/b.csv"\nmos_range = [1, 5]\n')
        live, mine = read_sources(path).values()
        assert (live.root, live.dataset, live.csv) == (str(tmp_path / "LIVE"), "live", "")
        assert (mine.csv, mine.dataset, mine.mos_range) == (str(tmp_path / "a/b.csv"), "", (1.0, 5.0))
        assert mine.to_table() == {"csv": f"{tmp_path}/a/b.csv", "mos_range": [1.0, 5.0]}

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("[datasets.live]\nrot = 'x'", r"unknown keys: rot"),
            ("[datasets.live]\nlabels = 'made'", "neither root nor csv"),
            ("[datasets.live]\nroot = 3", "should be a string"),
            ("[datasets.live]\nroot = 'x'\nlabels = 'guessed'", "choose one of human, made"),
            ("[datasets.live]\ncsv = 'x'\nmos_range = [1]", r"give \[worst, best\]"),
            ("[datasets.live]\ncsv = 'x'\nlayout = 'live'", "leave out one"),
            ("[live]\nroot = 'x'", "nothing else"),
            ("[datasets.kadid]\nroot = 'x'", "kadid10k"),
            ("[datasets.'../x']\nroot = 'x'", "names of folders"),
            ("root =", "not a readable TOML"),
        ],
    )
    def test_mistakes(self, tmp_path, text, message):
        path = tmp_path / "data.toml"
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            read_sources(path)

    def test_only_listed_images(self, photos, tmp_path):
        names = tmp_path / "few.txt"
        names.write_text("# held out\nsub/P1.png\np3.png\n")
        source = LabelledImages(csv=str(photos), images=str(names))
        assert [sample.image.name for sample in source.load()] == ["p1.png", "p3.png"]
        names.write_text("p1.png\nnone.png\n")
        with pytest.raises(DataError, match=r"1 of its names are not in the dataset, e\.g\. none\.png"):
            source.load()


numbers = st.floats(0, 1)
spreads = st.none() | st.floats(0, 0.1)


class TestVerdict:
    @given(numbers, spreads, spreads)
    def test_a_number_agrees_with_itself(self, paper, paper_std, measured_std):
        assert judge(paper, paper_std, paper, measured_std) == "within"

    @given(numbers, spreads, numbers, spreads)
    def test_above_and_below_are_mirror_images(self, paper, paper_std, measured, measured_std):
        mirrored = {"above": "below", "below": "above", "within": "within"}
        verdict = judge(paper, paper_std, measured, measured_std)
        assert judge(1 - paper, paper_std, 1 - measured, measured_std) in (mirrored[verdict], "within")
        if verdict != "within":
            assert (measured > paper) == (verdict == "above")

    @given(numbers, st.floats(0, 0.1), st.floats(0, 1), spreads)
    def test_more_spread_never_loses_agreement(self, paper, paper_std, measured, measured_std):
        if judge(paper, paper_std, measured, measured_std) == "within":
            assert judge(paper, paper_std * 2, measured, measured_std) == "within"

    def test_worked_cases(self):
        assert judge(0.967, 0.011, 0.9786, 0.5) == "above"
        assert judge(0.967, 0.011, 0.9785, 0.5) == "within"  # 0.011 and half a unit
        assert judge(0.967, 0.011, 0.9554, 0.5) == "below"
        assert judge(0.931, None, 0.9325, 0.001) == "within"
        assert judge(0.931, None, 0.9326, None) == "above"
        assert judge(0.931, None, None, None) == "not run"
        assert judge(None, None, 0.9, 0.1) == "no paper value"


@pytest.fixture
def run(tmp_path):
    """A finished run of two columns of a table."""
    open_run(tmp_path / "run", PLAN, jobs(), resume=False)
    run_jobs(jobs(), tmp_path / "run", lambda job, folder: result(job), lambda text: None)
    return tmp_path / "run"


@pytest.fixture
def photos(tmp_path):
    """A CSV of eight photographs whose opinion rises with their brightness."""
    rows = ["image,mos"]
    for number in range(8):
        Image.new("RGB", (40, 32), (20 + 25 * number,) * 3).save(tmp_path / f"p{number}.png")
        rows.append(f"p{number}.png,{number / 10}")
    path = tmp_path / "photos.csv"
    path.write_text("\n".join(rows))
    return path


class TestReport:
    def test_means_and_spreads_over_splits(self, run):
        lines = {(line.row, line.place, line.statistic): line for line in make_report(run).lines}
        values = [figures(job)["live"]["srcc"] for job in jobs() if job.train == "live"]
        line = lines["BPCLIP", "live", "srcc"]
        assert (line.n, line.planned, line.images) == (10, 10, 1000)
        assert line.measured == pytest.approx(np.mean(values))
        assert line.measured_std == pytest.approx(np.std(values, ddof=1))
        assert line.difference == pytest.approx(np.mean(values) - 0.985)
        assert (line.verdict, line.selection) == ("within", "best-val")
        assert lines["BPCLIP", "kadid10k", "srcc"].verdict == "not run"
        assert lines["DeepQA", "live", "srcc"].note == "nothing here can run it"
        assert len(lines) == len(paper_table("bpclip-table2").cells)

    def test_averages(self, tmp_path):
        planned = plan_table(paper_table("pfd-table5"), rows=["5"], splits=2)
        plan = {"table": "pfd-table5", "size": "paper", "changes": [], "labels": {}}
        open_run(tmp_path, plan, planned, resume=False)
        images = {"live": 779, "clive": 1162}

        def done(job, folder):
            figure = {"n": 9, "srcc": 0.9 + job.split / 100, "plcc": 0.8, "plcc_logistic": 0.8}
            return {**PLACE, "figures": {job.train: figure}, "images": images, "selection": "best-val"}

        run_jobs(planned[:3], tmp_path, done, lambda text: None)
        averages = [line for line in make_report(tmp_path).lines if line.place == AVERAGE]
        line = next(line for line in averages if line.row == "5")
        assert line.measured == pytest.approx((0.905 + 0.8 + 0.9 + 0.8) / 4)
        assert (line.n, line.planned, line.verdict) == (1, 2, "below")
        assert {line.verdict for line in averages if line.row != "5"} == {"not run"}

    @pytest.mark.parametrize(
        ("plan", "images", "note"),
        [
            ({"size": "lite"}, 779, "a small model"),
            ({"changes": ["train.epochs=1"]}, 779, "a changed recipe"),
            ({"labels": {"live": "made"}}, 779, "live has made labels here"),
            ({}, 20, "live has 20 images here, not 779"),
        ],
    )
    def test_what_is_not_the_papers_is_not_compared(self, tmp_path, plan, images, note):
        plan = {**PLAN, **plan}
        planned = [job for job in jobs() if job.train == "live"]
        open_run(tmp_path, plan, planned, resume=False)
        body = {"images": {"live": images}}
        run_jobs(planned, tmp_path, lambda job, folder: {**result(job), **body}, lambda text: None)
        (line,) = [
            x for x in make_report(tmp_path).lines if (x.row, x.place, x.statistic) == ("BPCLIP", "live", "srcc")
        ]
        assert (line.verdict, line.note) == ("not comparable", note)
        assert line.measured is not None

    def test_weights_that_have_seen_the_images_are_not_compared(self, tmp_path):
        planned = plan_table(paper_table("bpclip-table4"), rows=["MUSIQ"], datasets=["koniq10k", "spaq"], splits=1)
        plan = {"table": "bpclip-table4", "size": "paper", "changes": [], "labels": {}}
        open_run(tmp_path, plan, planned, resume=False)

        def done(job, folder):
            name = job.targets[0].dataset
            figure = {"n": 9, "srcc": 0.9, "plcc": 0.9, "plcc_logistic": 0.9}
            images = {name: dataset_spec(name).images}
            return {**PLACE, "figures": {name: figure}, "images": images, "selection": "not trained"}

        run_jobs(planned, tmp_path, done, lambda text: None)
        lines = {line.place: line for line in make_report(tmp_path).lines if line.n and line.statistic == "srcc"}
        assert (lines["koniq10k"].verdict, lines["spaq"].verdict) == ("not comparable", "not comparable")
        assert "have seen images of koniq10k" in lines["koniq10k"].note
        assert "weights were trained on koniq10k, not on spaq" in lines["spaq"].note

    @pytest.mark.parametrize(
        ("name", "row", "places"),
        [
            ("pfd-table2", "DBCNN", ["koniq10k->clive"]),  # pyiqa's was trained on KonIQ-10k
            ("bpclip-table3", "DISTS", ["kadid10k->live", "kadid10k->csiq", "kadid10k->tid2013"]),
            ("bpclip-table3", "AHIQ", []),
        ],
    )
    def test_across_datasets_weights_must_be_of_the_same_training_set(self, tmp_path, name, row, places):
        planned = plan_table(paper_table(name), rows=[row])
        open_run(tmp_path, {"table": name, "size": "paper", "changes": [], "labels": {}}, planned, resume=False)

        def done(job, folder):
            (dataset,) = job.datasets
            figure = {"n": 9, "srcc": 0.5, "plcc": 0.5, "plcc_logistic": 0.5}
            images = {dataset: dataset_spec(dataset).images}
            return {**PLACE, "figures": {dataset: figure}, "images": images, "selection": "not trained"}

        run_jobs(planned, tmp_path, done, lambda text: None)
        lines = [line for line in make_report(tmp_path).lines if line.row == row and line.statistic == "srcc"]
        assert {(line.n, line.planned) for line in lines} == {(1, 1)}
        finished = [line for line in lines if line.measured is not None]
        assert [line.place for line in finished if line.verdict == "below"] == places
        assert {line.verdict for line in finished} <= {"below", "not comparable"}
        assert "the papers name no part" in render(make_report(tmp_path), "md")

    def test_a_mean_is_judged_by_its_cells_spreads_and_a_spread_is_not_judged(self, tmp_path):
        """Each cell 0.004 below the paper, with 0.01 between its two splits: within, and so is their mean."""
        for name, row in (("pfd-table5", "5"), ("pfd-table4", "d")):
            table = paper_table(name)
            planned = plan_table(table, rows=[row], splits=2)
            folder = tmp_path / name
            open_run(folder, {"table": name, "size": "paper", "changes": [], "labels": {}}, planned, resume=False)

            def done(job, folder, table=table, row=row):
                cells = {c.statistic: c.value for c in table.cells if (c.row, c.dataset) == (row, job.train)}
                figure = {key: value - 0.004 + 0.01 * (job.split - 0.5) for key, value in cells.items()}
                figure |= {"n": 9, "plcc_logistic": 0.9}
                images = {job.train: dataset_spec(job.train).images}
                return {**PLACE, "figures": {job.train: figure}, "images": images, "selection": "best-val"}

            run_jobs(planned, folder, done, lambda text: None)
            verdicts = {(x.place, x.statistic): x.verdict for x in make_report(folder).lines if x.row == row}
            average = verdicts.pop((AVERAGE, "mean" if name == "pfd-table5" else "std"))
            assert set(verdicts.values()) == {"within"}
            assert average == ("within" if name == "pfd-table5" else "")

    def test_a_figure_chosen_by_the_test_part_says_so(self, tmp_path):
        open_run(tmp_path, PLAN, jobs(), resume=False)
        body = {"selection": "best-test"}
        run_jobs(jobs(), tmp_path, lambda job, folder: {**result(job), **body}, lambda text: None)
        assert "best-test chooses the epoch by the test part" in render(make_report(tmp_path), "md")


class TestComparison:
    @pytest.fixture
    def compared(self, fake_metrics, photos, tmp_path):
        sources = {"mine": LabelledImages(csv=str(photos)), "twin": LabelledImages(csv=str(photos))}
        planned = plan_comparison(["fake-nr", "fake-nr.lite", "fake-nr.tiny"], ["mine", "twin"])
        folder = tmp_path / "run"
        plan = {"table": "compare", "size": "finished", "changes": [], "labels": {"mine": "human", "twin": "made"}}
        open_run(folder, plan, planned, resume=False)
        return folder, planned, run_jobs(planned, folder, Executor(sources, "cpu", folder), lambda text: None)

    def test_scores_figures_and_pairs(self, compared):
        from iqametrics import create_metric

        folder, planned, outcome = compared
        assert outcome.failed == {}
        rows = read_scores(job_folder(folder, planned[0]))
        metric = create_metric("fake-nr")
        assert rows[3]["score"] == pytest.approx(metric(str(folder.parent / "p3.png")).item())
        assert [row["mos"] for row in rows] == [number / 10 for number in range(8)]
        report = make_report(folder)
        assert len(report.lines) == 2 * 2 * 4
        assert [(name, pair.a, pair.b) for name, pair in report.pairs] == [("mine", "fake-nr.tiny", "fake-nr.lite")]
        assert [row["score"] for row in rows] != [row["score"] for row in read_scores(job_folder(folder, planned[2]))]
        assert any("No significance on twin" in fact and "circular" in fact for fact in report.facts)

    def test_weights_of_ones_own(self, fake_metrics, photos, tmp_path):
        from iqametrics import create_metric
        from iqametrics.weights.manifest import read_manifest

        (lite,) = (
            entry for entry in read_manifest(registry.WEIGHTS_FOLDER).of_metric("fake-nr") if entry.tag == "lite"
        )
        file = tmp_path / "own.safetensors"
        file.write_bytes((registry.WEIGHTS_FOLDER / lite.file).read_bytes())
        (job,) = plan_comparison([f"fake-nr={file}"], ["mine"])
        assert (job.metric, job.weights) == ("fake-nr", str(file))
        Executor({"mine": LabelledImages(csv=str(photos))}, "cpu", tmp_path)(job, tmp_path)
        expected = create_metric("fake-nr.lite")(str(tmp_path / "p3.png")).item()
        assert read_scores(tmp_path)[3]["score"] == pytest.approx(expected)

    def test_full_reference_metrics_keep_to_data_with_references(self, fake_metrics):
        planned = plan_comparison(["fake-fr.lite", "fake-nr.lite"], ["a", "b"], no_references=["b"])
        assert [job.id for job in planned] == ["fake-fr.lite-a-all", "fake-nr.lite-a-all", "fake-nr.lite-b-all"]

    def test_a_damaged_score_file(self, compared):
        folder, planned, _ = compared
        (job_folder(folder, planned[0]) / SCORES).write_text("dataset,image,group,mos,score\nmine,a,b,x,1\n")
        with pytest.raises(DataError, match="is damaged"):
            make_report(folder)

    def test_the_version_of_another_packages_metric_is_kept(self, photos, tmp_path):
        from importlib.metadata import version

        table = photos.read_text().replace("image,", "image,reference,").replace(".png,", ".png,p7.png,")
        photos.write_text(table)
        source = LabelledImages(csv=str(photos))
        (job,) = plan_comparison(["piq/psnr"], ["live"])
        body = Executor({"live": source}, "cpu", tmp_path)(job, tmp_path)
        assert body["packages"]["piq"] == version("piq")

    def test_an_image_that_cannot_be_scored_fails_the_job(self, fake_metrics, photos, tmp_path):
        (tmp_path / "p2.png").write_bytes(b"nothing")
        executor = Executor({"mine": LabelledImages(csv=str(photos))}, "cpu", tmp_path)
        with pytest.raises(DataError, match=r"1 of 8 images cannot be scored, first: .*p2\.png"):
            executor(plan_comparison(["fake-nr"], ["mine"])[0], tmp_path)
        with pytest.raises(DataError, match="images of this dataset have none"):
            executor(plan_comparison(["fake-fr.lite"], ["mine"])[0], tmp_path)
        with pytest.raises(DataError, match=r"add \[datasets\.other\]"):
            executor(plan_comparison(["fake-nr"], ["other"])[0], tmp_path)


class TestTraining:
    @pytest.fixture
    def trained(self, monkeypatch, tmp_path):
        """An executor whose trainer is made up; it tests on `test`, and notes how it was called."""
        samples = [Sample(image=Path(f"/data/{n}.bmp"), reference=Path(f"/data/r{n}.bmp"), mos=n / 9) for n in range(9)]
        test = [samples[index] for index in random_parts(samples, seed=0, shares=SIX_TWO_TWO).test]
        seen = []

        def train_recipe(recipe, output, *, resume):
            seen.append((recipe.split.seed, recipe.data.root, resume))
            output.mkdir(parents=True, exist_ok=True)
            figure = {"n": len(test), "srcc": 0.9, "plcc": 0.8, "plcc_logistic": 0.85}
            record = {"selection": "best-val", "results": {"validation": {}, "test": figure}}
            (output / "results.json").write_text(json.dumps(record))
            rows = [f"{s.image.name},,test,{s.reference.name},{s.mos},0.4\n" for s in test]
            (output / "predictions.csv").write_text(
                "image,reference,part,group,mos,score\nx.bmp,,validation,r,0.1,0.2\n" + "".join(rows)
            )
            return output

        monkeypatch.setattr("iqametrics.training.run.train_recipe", train_recipe)
        made = SimpleNamespace(fingerprint="bpclip-fr:0:0")
        monkeypatch.setattr("iqametrics.registry.create_metric", lambda name, **_: made)
        monkeypatch.setattr(LabelledImages, "load", lambda self, range_option: samples)
        executor = Executor({"live": LabelledImages(root="/data", dataset="live")}, "cpu", tmp_path)
        return executor, test, seen

    def test_a_trained_job_takes_the_trainers_figures_and_resumes_it(self, trained, tmp_path):
        executor, test, seen = trained
        body = executor(jobs()[0], tmp_path)
        assert seen == [(0, "/data", True)]
        assert body["figures"]["live"]["srcc"] == 0.9
        assert body["fingerprint"] == "bpclip-fr:0:0"
        assert (body["selection"], body["images"], body["passes"]) == ("best-val", {"live": 9}, 467 * 200)
        assert [(row["image"], row["score"]) for row in read_scores(tmp_path)] == [(s.image.name, 0.4) for s in test]

    def test_a_dataset_to_test_on_is_read_before_the_training(self, trained, tmp_path, monkeypatch):
        executor, _, seen = trained
        samples = executor.sources["live"].load("")

        def load(self, range_option):
            if self.dataset == "csiq":
                raise DataError("csiq is not whole")
            return samples

        monkeypatch.setattr(LabelledImages, "load", load)
        executor.sources = {name: LabelledImages(root="/data", dataset=name) for name in ("live", "csiq")}
        (job,) = plan_table(paper_table("pfd-table2"), rows=["PFD-IQA"], datasets=["csiq"], splits=1)
        with pytest.raises(DataError, match="not whole"):
            executor(job, tmp_path)
        assert seen == []

    def test_a_test_part_other_than_the_protocols_is_refused(self, trained, tmp_path):
        executor, test, _ = trained
        test.pop()
        with pytest.raises(DataError, match="other images than the protocol's random:0:test"):
            executor(jobs()[0], tmp_path)


@pytest.fixture
def cli(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        status = main(["benchmark", *map(str, arguments)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


class TestCommands:
    def test_list_has_exactly_the_promised_keys(self, cli):
        status, out, err = cli("list", "--format", "json")
        found = json.loads(out)
        assert (status, err) == (0, "")
        assert [table["id"] for table in found] == IDS
        assert all(list(table) == ["id", "title", "paper", "datasets", "rows", "columns"] for table in found)

    def test_list_tells_what_can_be_run(self, cli, tmp_path):
        (tmp_path / "data.toml").write_text('[datasets.clive]\nroot = "x"\n[datasets.koniq10k]\nroot = "y"\n')
        status, out, _ = cli("list", "--data", "data.toml")
        lines = {line.split()[0]: line for line in out.splitlines()}
        assert status == 0
        assert lines["pfd-table2"].endswith("  clive->koniq10k koniq10k->clive")
        assert lines["bpclip-table2"].endswith("  none")

    def test_show_has_exactly_the_promised_keys(self, cli):
        found = json.loads(cli("show", "bpclip-table4", "--format", "json")[1])
        assert list(found) == ["id", "cells"]
        assert found["cells"][-1] == {
            "row": "BPCLIP",
            "dataset": "spaq",
            "statistic": "srcc",
            "value": 0.92,
            "std": 0.003,
        }
        nulls = [cell for cell in found["cells"] if cell["value"] is None]
        assert [(cell["row"], cell["dataset"]) for cell in nulls] == [("MUSIQ", "clive")] * 2

    def test_show_as_a_table(self, cli):
        out = cli("show", "bpclip-table2")[1]
        assert "0.985 ±0.003" in out
        assert "0.687*" in out
        assert "Kept as printed" in out

    def test_dry_run_lists_each_job_and_makes_nothing(self, cli, tmp_path):
        status, out, err = cli("run", "pfd-table4", "--rows", "a", "--splits", "2", "--dry-run")
        rows = list(csv.DictReader(io.StringIO(out)))
        assert status == 0
        assert [row["job"] for row in rows] == [f"a-{name}-split0{n}" for name in ("clive", "koniq10k") for n in (0, 1)]
        assert all("model.use_ana=false" in row["command"] for row in rows)
        assert {row["hours"] for row in rows} == {"unknown"}
        assert "4 jobs" in err
        assert list(tmp_path.iterdir()) == []

    def test_dry_run_adds_up_what_is_measured(self, cli, tmp_path):
        changes = ("model.width=8", "model.gate_max_width=4", "train.crop=64")
        options = [word for change in changes for word in ("--set", change)]
        arguments = ("run", "bpclip-table2", "--rows", "BPCLIP", "PSNR", "--datasets", "live", "csiq", "--splits", "2")
        status, out, err = cli(*arguments, "--size", "lite", *options, "--device", "cpu", "--dry-run", "--measure")
        rows = list(csv.DictReader(io.StringIO(out)))
        trained = [row for row in rows if row["row"] == "BPCLIP"]
        assert status == 0
        assert (len(rows), len(trained)) == (8, 4)
        assert {row["steps"] for row in rows if row not in trained} == {"none"}
        # Both have 6:2:2 parts by reference: 29 and 30 references of 779 and 866 images.
        per_epoch = {name: math.ceil(count / 16) for name, count in (("live", 457), ("csiq", 520))}
        assert all(int(row["steps"]) == 20 * per_epoch[row["data"].partition("(")[0]] for row in trained)
        assert f"{sum(int(row['steps']) for row in trained):,} steps" in err
        total = sum(float(row["hours"]) for row in trained)
        told = float(err.partition(" hours on one device")[0].rpartition(", ")[2])
        assert told == pytest.approx(total, abs=0.1)
        assert "8 jobs in 2 rows, 4 of them trained" in err
        assert list(tmp_path.iterdir()) == []

    def test_a_comparison_and_its_reports(self, cli, fake_metrics, photos, tmp_path):
        (tmp_path / "data.toml").write_text('[datasets.mine]\ncsv = "photos.csv"\n')
        arguments = ("run", "compare", "--metrics", "fake-nr", "--data", "data.toml", "--device", "cpu")
        status, _, err = cli(*arguments)
        assert (status, "1 jobs done" in err) == (0, True)
        assert cli(*arguments)[0] == 1  # there is a run
        assert "1 were done before" in cli(*arguments, "--resume")[2]
        assert planned_jobs(read_plan(Path("runs/compare")))[0].metric == "fake-nr.tiny"
        status, out, _ = cli("report", "runs/compare")
        assert "| fake-nr.tiny | mine | 8 |" in out
        assert cli("report", "runs/compare", "--format", "csv", "--save", "report.csv")[1] == ""
        assert Path("report.csv").read_text().startswith("table,row,place,statistic")

    def test_failed_jobs_are_told_and_give_status_1(self, cli, fake_metrics, photos, tmp_path):
        (tmp_path / "data.toml").write_text('[datasets.mine]\ncsv = "gone.csv"\n')
        status, _, err = cli("run", "compare", "--metrics", "fake-nr", "--data", "data.toml")
        assert status == 1
        assert "fake-nr.tiny-mine-all failed:" in err
        assert "1 failed" in err

    def test_a_named_row_that_nothing_can_run_is_told(self, cli):
        status, _, err = cli("run", "bpclip-table2", "--rows", "BPCLIP", "DeepQA", "--splits", "1", "--dry-run")
        assert (status, "DeepQA (nothing here can run it)" in err, "JSPL" in err) == (0, True, False)

    def test_training_takes_whole_datasets(self, cli, tmp_path):
        (tmp_path / "few.txt").write_text("a.bmp")
        (tmp_path / "data.toml").write_text('[datasets.live]\nroot = "x"\nimages = "few.txt"\n')
        status, _, err = cli("run", "bpclip-table2", "--rows", "BPCLIP", "--data", "data.toml")
        assert (status, "training takes whole datasets" in err, err.count("\n")) == (1, True, 1)

    @pytest.mark.parametrize(
        ("arguments", "status", "message"),
        [
            (("show", "pfd-table9"), 1, "no table"),
            (("run", "pfd-table5"), 2, "--data is missing"),
            (("run", "pfd-table5", "--measure"), 2, "--dry-run"),
            (("run", "pfd-table5", "--shard", "3/2"), 2, "numbered from 1 to 2"),
            (("run", "pfd-table5", "--split", "official"), 2, "belong to the table compare"),
            (("run", "compare"), 2, "needs --metrics"),
            (("run", "compare", "--metrics", "nonsense"), 2, "unknown metric"),
            (("run", "bpclip-table2", "--rows", "DeepQA", "--dry-run"), 1, "nothing here can run DeepQA"),
            (("run", "bpclip-fig5", "--dry-run"), 1, "benchmark cost"),
            (("report", "nowhere"), 1, "plan.json: cannot be read"),
            (("report", "nowhere", "--save", "no/such/report.md"), 2, "there is no folder no/such"),
            (("run", "pfd-table5", "--set", "train.epoch=1", "--dry-run"), 1, "epoch"),
        ],
    )
    def test_mistakes_are_one_line(self, cli, arguments, status, message):
        found, _, err = cli(*arguments)
        assert (found, message in err, err.count("\n")) == (status, True, 1)


@pytest.mark.slow
def test_plots_are_in_the_page_and_repeat(run):
    from iqametrics.benchmark.plots import address, scatter_plots

    job = jobs()[0]
    (job_folder(run, job) / SCORES).write_text(
        "dataset,image,group,mos,score\n" + "".join(f"live,{n}.bmp,g,{n / 9},{n / 8}\n" for n in range(9))
    )
    (plot,) = scatter_plots(run)
    assert plot[:2] == ("bpclip-live-split00-on-live", "BPCLIP (paper) on live, split 0: 9 images")
    assert Image.open(io.BytesIO(plot[2])).size == (400, 320)
    assert next(scatter_plots(run))[2] == plot[2]
    page = render(make_report(run), "html", {plot[1]: address(plot[2])})
    assert '<img alt="BPCLIP (paper) on live, split 0: 9 images" src="data:image/png;base64,iVBOR' in page
    assert "://" not in page


def test_a_dataset_tested_on_after_two_trainings_has_two_plots(tmp_path):
    from iqametrics.benchmark.plots import scatter_plots

    planned = plan_table(paper_table("pfd-table2"), rows=["PFD-IQA"], datasets=["koniq10k"], splits=1)
    open_run(tmp_path, {"table": "pfd-table2", "size": "paper", "changes": [], "labels": {}}, planned, resume=False)

    def done(job, folder):
        (folder / SCORES).write_text("dataset,image,group,mos,score\nkoniq10k,a,a,0.1,0.2\nkoniq10k,b,b,0.3,0.4\n")
        return {**PLACE, "figures": {}, "images": {}, "selection": "last"}

    run_jobs(planned, tmp_path, done, lambda text: None)
    captions = [caption for _, caption, _ in scatter_plots(tmp_path)]
    assert captions == [f"PFD-IQA (paper) on {name}->koniq10k, split 0: 2 images" for name in ("flive", "clive")]


def test_list_show_and_dry_run_do_without_torch():
    code = (
        "import sys; from iqametrics.cli.main import main; "
        "main(['benchmark', 'list']); main(['benchmark', 'show', 'pfd-table1', '--format', 'json']); "
        "assert main(['benchmark', 'run', 'pfd-table5', '--dry-run']) == 0; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_the_fake_worker_keeps_its_steps(tmp_path):
    """The kill test is only as good as its worker: what it has done it does not do again."""
    folder = tmp_path / "jobs" / "x"
    folder.mkdir(parents=True)
    (folder / "steps").write_text("...")
    assert execute(jobs()[0], folder) == result(jobs()[0])
    assert (folder / "steps").read_text() == "...."
