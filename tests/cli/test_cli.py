"""The command line, in this process on two tiny metrics, and in fresh ones where imports and signals matter."""

import csv
import io
import json
import os
import re
import subprocess
import sys
import typing

import numpy as np
import pytest
from PIL import Image

from iqametrics import create_metric, metric_info
from iqametrics.cli import common, score
from iqametrics.cli.inputs import Inputs
from iqametrics.cli.main import COMMANDS, main
from iqametrics.training.recipe import Recipe


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """dist/ with two levels of folders, ref/ with partners in other formats, a broken and an ambiguous one."""
    root = tmp_path_factory.mktemp("cli")
    generator = np.random.default_rng(0)
    names = ["dist/a10.png", "dist/a2.png", "dist/sub/b.png", "ref/a10.png", "ref/a2.bmp", "ref/sub/b.png"]
    for name in [*names, "twin/a2.bmp", "twin/a2.png", "twin/a10.png"]:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(path)
    (root / "bad").mkdir()
    (root / "bad" / "x.png").write_bytes(b"nothing")
    return root


@pytest.fixture
def run(fake_metrics, folder, capsys, monkeypatch):
    """Run the command line in the folder; status, stdout, stderr."""
    monkeypatch.chdir(folder)

    def call(*arguments, stdin=""):
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def rows(text):
    return json.loads(text)


NR = ("--metric", "fake-nr")
FR = ("--metric", "fake-fr.lite")
JSON = ("--format", "json")


class TestScore:
    def test_json_has_exactly_the_promised_keys(self, run):
        status, out, err = run("score", "dist/a2.png", *NR, *JSON)
        assert (status, err) == (0, "")
        metric = create_metric("fake-nr")
        assert rows(out) == [
            {
                **{"image": "dist/a2.png", "reference": None, "metric": "fake-nr.tiny"},
                "score": pytest.approx(metric("dist/a2.png").item()),
                "fingerprint": str(metric.fingerprint),
            }
        ]

    def test_formats_agree(self, run):
        wanted = rows(run("score", "dist", "--recursive", *NR, *JSON)[1])
        lines = [
            json.loads(line) for line in run("score", "dist", "--recursive", *NR, "--format", "jsonl")[1].splitlines()
        ]
        assert lines == wanted
        table = list(csv.DictReader(io.StringIO(run("score", "dist", "--recursive", *NR, "--format", "csv")[1])))
        assert list(table[0]) == ["image", "reference", "metric", "score", "error", "fingerprint"]
        assert [float(row["score"]) for row in table] == [row["score"] for row in wanted]
        text = run("score", "dist", "--recursive", *NR)[1].splitlines()
        assert text[0].split() == ["image", "metric", "score"]
        assert text[1].split() == ["dist/a2.png", "fake-nr.tiny", f"{wanted[0]['score']:.4f}"]

    def test_order_of_arguments_folders_and_stdin(self, run):
        status, out, _ = run("score", "dist/sub/b.png", "-", "dist", *NR, *JSON, stdin="ref/a2.bmp\n\ndist/sub\r\n")
        assert status == 0
        assert [row["image"] for row in rows(out)] == [
            *("dist/sub/b.png", "ref/a2.bmp", "dist/sub/b.png", "dist/a2.png", "dist/a10.png")
        ]

    def test_bad_files_do_not_lose_the_rest(self, run):
        status, out, err = run("score", "dist/a2.png", "bad/x.png", "absent.png", "dist/a10.png", *NR, *JSON)
        assert status == 1
        scores = [row["score"] for row in rows(out)]
        assert [score is None for score in scores] == [False, True, True, False]
        assert ["error" in row for row in rows(out)] == [False, True, True, False]
        assert len(err.splitlines()) == 2
        assert "bad/x.png" in err.splitlines()[0]
        assert "absent.png" in err.splitlines()[1]

    def test_folder_without_images(self, run, tmp_path):
        status, out, err = run("score", tmp_path, "dist/a2.png", *NR, *JSON)
        assert status == 1
        assert "holds no image" in err
        assert [row["score"] is None for row in rows(out)] == [True, False]

    def test_one_reference(self, run):
        status, out, _ = run("score", "dist", *FR, "--ref", "ref/a2.bmp", *JSON)
        assert status == 0
        metric = create_metric("fake-fr.lite")
        expected = [metric(f"dist/{name}.png", "ref/a2.bmp").item() for name in ("a2", "a10")]
        assert [row["score"] for row in rows(out)] == pytest.approx(expected, abs=1e-5)
        assert {row["reference"] for row in rows(out)} == {"ref/a2.bmp"}

    def test_pairs_by_path_then_by_stem(self, run):
        status, out, _ = run("score", "dist", "--recursive", *FR, "--ref-dir", "ref", *JSON)
        assert status == 0
        assert [(row["image"], row["reference"]) for row in rows(out)] == [
            ("dist/a2.png", "ref/a2.bmp"),
            ("dist/a10.png", "ref/a10.png"),
            ("dist/sub/b.png", "ref/sub/b.png"),
        ]

    def test_missing_and_ambiguous_partners(self, run):
        status, out, err = run("score", "dist", "ref/a2.bmp", "--recursive", *FR, "--ref-dir", "twin", *JSON)
        assert status == 1
        assert [row["reference"] for row in rows(out)] == ["twin/a2.png", "twin/a10.png", None, "twin/a2.bmp"]
        assert "no partner" in rows(out)[2]["error"]
        status, out, err = run("score", "ref/a2.bmp", *FR, "--ref-dir", "dist", *JSON)
        assert (status, rows(out)[0]["reference"]) == (0, "dist/a2.png")
        os.rename("twin/a2.bmp", "twin/a2.gif")
        try:
            status, out, err = run("score", "ref/a2.bmp", "ref/a10.png", *FR, "--ref-dir", "twin", *JSON)
        finally:
            os.rename("twin/a2.gif", "twin/a2.bmp")
        assert status == 1
        assert "several partners in twin (a2.gif, a2.png)" in err
        assert [row["score"] is None for row in rows(out)] == [True, False]

    def test_a_reference_serves_the_metrics_that_take_one(self, run):
        status, out, _ = run("score", "dist/a2.png", *FR, *NR, "--ref", "ref/a2.bmp", *JSON)
        assert status == 0
        assert [(row["metric"], row["reference"]) for row in rows(out)] == [
            ("fake-fr.lite", "ref/a2.bmp"),
            ("fake-nr.tiny", None),
        ]

    def test_gate(self, run):
        value = rows(run("score", "dist/a2.png", *NR, *JSON)[1])[0]["score"]
        assert run("score", "dist/a2.png", *NR, "--fail-below", value + 1e-3)[0] == 3
        assert run("score", "dist/a2.png", *NR, "--fail-below", value - 1e-3)[0] == 0
        assert run("score", "dist/a2.png", "absent.png", *NR, "--fail-below", value + 1e-3)[0] == 1
        pair = ("score", "dist/a2.png", *FR, "--ref", "ref/a2.bmp")  # lower is better
        value = rows(run(*pair, *JSON)[1])[0]["score"]
        assert run(*pair, "--fail-below", value - 1e-3)[0] == 3
        assert run(*pair, "--fail-below", value + 1e-3)[0] == 0

    def test_output_file(self, run, tmp_path):
        path = tmp_path / "scores.json"
        path.write_text("old")
        status, out, _ = run("score", "dist", *NR, *JSON, "--output", path)
        assert (status, out) == (0, "")
        assert len(rows(path.read_text())) == 2
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.skipif(os.name == "nt", reason="links")
    def test_an_output_through_a_link(self, run, tmp_path):
        (tmp_path / "link.json").symlink_to("scores.json")
        assert run("score", "dist", *NR, *JSON, "--output", tmp_path / "link.json")[0] == 0
        assert len(rows((tmp_path / "scores.json").read_text())) == 2
        assert (tmp_path / "link.json").is_symlink()

    @pytest.mark.parametrize("form", ["table", "csv", "json", "jsonl"])
    def test_interrupt_keeps_what_was_done(self, run, tmp_path, monkeypatch, form):
        original = score.to_record
        seen = []

        def interrupted(row, fails=None):
            if seen:
                raise KeyboardInterrupt
            seen.append(row)
            return original(row)

        monkeypatch.setattr(score, "to_record", interrupted)
        path = tmp_path / "scores"
        status, _, err = run("score", "dist", *NR, "--format", form, "--output", path)
        assert status == 130
        assert err == "iqametrics: interrupted\n"
        text = path.read_text()
        assert sorted(tmp_path.iterdir()) == [path, tmp_path / "scores.journal"]
        assert "a2.png" in text
        assert "a10.png" not in text
        if form == "json":
            assert len(rows(text)) == 1

    def test_any_other_failure_leaves_the_old_file(self, run, tmp_path, monkeypatch):
        monkeypatch.setattr(score, "to_record", lambda row, fails: 1 / 0)
        path = tmp_path / "scores"
        path.write_text("old")
        with pytest.raises(ZeroDivisionError):
            run("score", "dist", *NR, "--output", path)
        assert path.read_text() == "old"
        assert sorted(tmp_path.iterdir()) == [path, tmp_path / "scores.journal"]

    def test_names_that_would_upset_a_terminal_or_json(self, run, tmp_path):
        names = ["new\nline.png", "esc\x1b[31m.png", 'comma, "quote".png', "ünïcödé.png"]
        for name in names:
            Image.new("RGB", (9, 9)).save(tmp_path / name)
        for form in ("json", "csv", "table"):
            _, out, _ = run("score", *(tmp_path / name for name in names), *NR, "--format", form)
            if form == "json":
                assert [os.path.basename(row["image"]) for row in rows(out)] == names
            elif form == "csv":
                read = csv.DictReader(io.StringIO(out, newline=""))
                assert [os.path.basename(row["image"]) for row in read] == names
            else:
                assert len(out.splitlines()) == 5
                assert "\x1b" not in out

    def test_lite_note_is_told_once(self, run):
        status, _, err = run("score", "dist", "--metric", "fake-fr", "--ref", "ref/a2.bmp")
        assert status == 0
        assert err.count("fake-fr.lite by name") == 1
        assert err.startswith("iqametrics: note: ")
        assert run("score", "dist", "--metric", "fake-fr", "--ref", "ref/a2.bmp", "--quiet")[2] == ""

    def test_batch_size_workers_and_dtype(self, run):
        plain = rows(run("score", "dist", "--recursive", *NR, *JSON)[1])
        options = ("--batch-size", "1", "--workers", "2", "--device", "cpu")
        one = rows(run("score", "dist", "--recursive", *NR, *JSON, *options)[1])
        half = rows(run("score", "dist", "--recursive", *NR, *JSON, "--dtype", "bfloat16")[1])
        assert [row["score"] for row in one] == pytest.approx([row["score"] for row in plain], abs=1e-5)
        assert [row["score"] for row in half] == pytest.approx([row["score"] for row in plain], abs=2e-2)


class TestUsage:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "arguments are required"),
            (["scor"], "invalid choice"),
            (["score", "x.png"], "--metric"),
            (["score", *NR], "IMAGE"),
            (["score", "x.png", "--metric", "fake-n"], "did you mean 'fake-nr'"),
            (["score", "x.png", "--metric", "fake-nr.big"], "unknown checkpoint of fake-nr 'big'"),
            (["score", "x.png", *NR, "--colour"], "--colour"),
            (["score", "x.png", *NR, "--recurs"], "--recurs"),
            (["score", "x.png", *NR, "--format", "xml"], "xml"),
            (["score", "x.png", *NR, "--batch-size", "0"], "--batch-size"),
            (["score", "x.png", *NR, "--workers", "many"], "--workers"),
            (["score", "x.png", *NR, "--fail-below", "nan"], "--fail-below"),
            (["score", "x.png", *NR, "--device", "tpu"], "tpu"),
            (["score", "x.png", *FR], "give --ref or --ref-dir"),
            (["score", "x.png", *NR, "--ref", "y.png"], "takes no reference"),
            (["score", "x.png", *NR, "--ref-dir", "y"], "takes no reference"),
            (["score", "x.png", *FR, "--ref", "y.png", "--ref-dir", "y"], "not allowed with"),
            (["score", "-", "-", *NR], "once only"),
            (["score", "x.png", *NR, "--output", "/nowhere/at/all.json"], "--output"),
            (["info", "fake"], "did you mean"),
            (["train", "x.toml", "--set", "novalue"], "KEY=VALUE"),
            (["evaluate", "--csv", "x.csv"], "--metric"),
        ],
    )
    def test_status_2_and_one_line(self, run, arguments, message):
        status, out, err = run(*arguments)
        assert (status, out) == (2, "")
        assert len(err.splitlines()) == 1
        assert err.startswith("iqametrics: error: ")
        assert message in err

    @pytest.mark.parametrize(
        "arguments",
        [
            ["score", "dist/a2.png", *FR, "--ref-dir", "nowhere"],
            ["evaluate", *NR, "--csv", "nowhere.csv"],
            ["score", "dist/a2.png", *NR, "--device", "cuda"],
        ],
    )
    def test_our_errors_are_one_line_and_status_1(self, run, arguments):
        status, _, err = run(*arguments)
        assert status == 1
        assert len(err.splitlines()) == 1
        assert err.startswith("iqametrics: error: ")

    def test_help_and_version(self, run):
        for command in COMMANDS:
            status, out, _ = run(command, "--help")
            assert status == 0
            assert out.startswith(f"usage: iqametrics {command}")
            assert "%%" not in out  # argparse halves it in an option's help, not in a description


class TestListAndInfo:
    def test_list(self, run):
        status, out, _ = run("list", "--mode", "fr", *JSON)
        assert status == 0
        found = {row["name"]: row for row in rows(out)}
        assert "bpclip-fr" in found
        assert "bpclip-nr" not in found
        assert found["fake-fr"] == {
            **{"name": "fake-fr", "mode": "fr", "better": "lower", "low": 0.0, "high": 2.0, "paper": "none"},
            "checkpoints": ["lite"],
        }
        for form in ("table", "csv", "jsonl"):
            assert "pfd-iqa" in run("list", "--format", form)[1]

    def test_info(self, run):
        status, out, _ = run("info", "fake-fr", "--all")
        assert status == 0
        for fact in (
            "fake-fr.lite",
            "lower",
            "0 to 2",
            "CC0",
            "training.data",
            "results.srcc",
            "https://example.org/fr",
        ):
            assert fact in out
        assert rows(run("info", "fake-fr", *JSON)[1]) == json.loads(json.dumps(metric_info("fake-fr").to_dict()))


class TestEvaluate:
    @pytest.fixture
    def table(self, folder):
        path = folder / "labels.csv"
        lines = ["image,mos,reference"]
        lines += [
            f"{name},{mos},ref/a{10 if index % 2 else 2}.{'png' if index % 2 else 'bmp'}"
            for index, (name, mos) in enumerate(LABELS)
        ]
        path.write_text("\n".join(lines) + "\n")
        return path

    def test_figures_equal_scipy(self, run, table, tmp_path):
        from scipy import stats

        status, out, err = run("evaluate", *NR, "--csv", table, *JSON, "--save", tmp_path / "scores.csv")
        assert status == 0
        assert (
            err == "iqametrics: note: the images share only 2 references, so intervals come out somewhat too narrow\n"
        )
        metric = create_metric("fake-nr")
        scores = [metric(name).item() for name, _ in LABELS]
        opinions = [mos for _, mos in LABELS]
        figures = rows(out)
        assert figures["n"] == 6
        assert figures["metric"] == "fake-nr.tiny"
        assert figures["srcc"] == pytest.approx(stats.spearmanr(scores, opinions).statistic)
        assert figures["plcc"] == pytest.approx(stats.pearsonr(scores, opinions).statistic, abs=1e-5)
        assert figures["krcc"] == pytest.approx(stats.kendalltau(scores, opinions).statistic)
        assert {"plcc_logistic", "rmse", "srcc_low", "srcc_high"} <= figures.keys()
        saved = list(csv.DictReader(io.StringIO((tmp_path / "scores.csv").read_text())))
        assert [float(row["mos"]) for row in saved] == pytest.approx(opinions)
        assert [float(row["score"]) for row in saved] == pytest.approx(scores, abs=1e-5)
        assert "srcc" in run("evaluate", *NR, "--csv", table)[1]

    def test_with_references_and_a_bad_image(self, run, table, folder):
        status, out, _ = run("evaluate", *FR, "--csv", table, *JSON)
        assert (status, rows(out)["failed"]) == (0, 0)
        table.write_text(table.read_text() + "bad/x.png,3,ref/a2.bmp\n")
        status, out, err = run("evaluate", *FR, "--csv", table, *JSON)
        assert (status, rows(out)["n"], rows(out)["failed"]) == (1, 6, 1)
        assert "bad/x.png" in err

    def test_one_reference_for_all(self, run, table):
        table.write_text(table.read_text().replace("ref/a10.png\n", "ref/a2.bmp\n"))
        status, out, err = run("evaluate", *FR, "--csv", table, *JSON)
        assert (status, rows(out)["n"]) == (0, 6)
        assert "share one group" in err

    def test_reference_column_is_needed(self, run, folder):
        (folder / "bare.csv").write_text("image,mos\ndist/a2.png,1\n")
        status, _, err = run("evaluate", *FR, "--csv", "bare.csv")
        assert status == 1
        assert "fill in the column reference" in err

    @pytest.mark.parametrize("text", ["", "image,mos\n", "image,mos\ndist/a2.png,good\n", "a,b\n1,2\n"])
    def test_bad_tables(self, run, folder, text):
        (folder / "wrong.csv").write_text(text)
        status, _, err = run("evaluate", *NR, "--csv", "wrong.csv")
        assert status == 1
        assert len(err.splitlines()) == 1


LABELS = [
    ("dist/a10.png", 1.5),
    ("dist/a2.png", 3.0),
    ("dist/sub/b.png", 72.0),
    ("ref/a10.png", 4.0),
    ("twin/a2.png", 5.5),
    ("twin/a10.png", 2.0),
]


def test_an_interrupted_training_says_how_to_go_on(run, monkeypatch, tmp_path):
    def interrupted(*_, **__):
        raise KeyboardInterrupt("stopped in epoch 2 after step 7; go on with --resume")

    monkeypatch.setattr("iqametrics.training.run._train", interrupted)
    (tmp_path / "r.toml").write_text("[metric]\nname = 'bpclip-nr'\n[data]\ncsv = 'a.csv'\n")
    status, _, err = run("train", tmp_path / "r.toml")
    assert status == 130
    assert err == "iqametrics: stopped in epoch 2 after step 7; go on with --resume\n"


def test_the_help_of_train_shows_a_key_that_recipes_have(run):
    table, key = re.search(r"\((\w+)\.(\w+)=", run("train", "--help")[1]).groups()
    assert key in typing.get_type_hints(typing.get_type_hints(Recipe)[table])


def test_synthesize_is_handed_its_arguments(run, folder, monkeypatch, tmp_path):
    import iqametrics.datasets.synthetic as synthetic

    seen = []
    monkeypatch.setattr(
        synthetic, "synthesize", lambda *args, **keywords: seen.append((args, keywords)) or "labels.csv"
    )
    status, out, _ = run("synthesize", "--pristine", folder / "dist", "--out", tmp_path, "--seed", "7")
    assert (status, out) == (0, "labels.csv\n")
    ((pristine, out_folder), keywords) = seen[0]
    assert sorted(path.name for path in pristine) == ["a10.png", "a2.png", "b.png"]
    assert (out_folder, keywords["seed"]) == (tmp_path, 7)


def test_items_are_lazy_on_stdin(folder):
    def paths():
        yield str(folder / "dist" / "a2.png")
        raise AssertionError("read too far")

    assert next(iter(Inputs(["-"], stdin=paths()))).image.endswith("a2.png")


def python(*arguments, **keywords):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, **keywords)


class TestFreshProcess:
    @pytest.mark.parametrize(
        "command", [["--help"], *([name, "--help"] for name in COMMANDS), ["list"], ["info", "pfd-iqa"]]
    )
    def test_answers_without_torch(self, command):
        code = (
            "import sys; from iqametrics.cli.main import main; status = main(sys.argv[1:])\n"
            "heavy = [m for m in ('torch', 'numpy', 'scipy', 'PIL', 'tqdm') if m in sys.modules]\n"
            "sys.exit(status or (f'imported {heavy}' if heavy else 0))"
        )
        answer = python("-c", code, *command)
        assert (answer.returncode, answer.stderr) == (0, "")

    def test_help_is_quick(self):
        # Processor time, the least of three: what else runs on the machine does not matter.
        times = []
        for _ in range(3):
            before = os.times()
            assert python("-m", "iqametrics", "--help").returncode == 0
            after = os.times()
            times.append(after.children_user + after.children_system - before.children_user - before.children_system)
        assert min(times) < 0.4

    def test_version(self):
        answer = python("-m", "iqametrics", "--version")
        assert answer.returncode == 0 or "PackageNotFoundError" in answer.stderr  # not installed, run from the tree

    def test_broken_pipe_is_silent(self, tmp_path):
        code = "import sys; from iqametrics.cli.main import main; sys.exit(main(['list', '--format', 'jsonl']))"
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.close()
        _, err = process.communicate()
        assert (process.returncode, err) == (common.EXIT_BROKEN_PIPE, b"")
