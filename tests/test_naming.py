"""What a metric is called: one reading for all commands, quick refusals, and files with any name."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fakes import metadata, seeded_model

from iqametrics import UnknownMetricError, WeightsError, create_metric, metric_info
from iqametrics.cli.main import main
from iqametrics.naming import MetricName, parse_name, run_tag
from iqametrics.weights.checkpoint import save_checkpoint

COMMIT = "0" * 40


@pytest.fixture
def image():
    return torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def mine(tmp_path, fake_metrics, monkeypatch):
    """A checkpoint in the working folder, with the tag of a shipped one and weights of its own."""
    monkeypatch.chdir(tmp_path)
    save_checkpoint("mine.safetensors", seeded_model(seed=9).state_dict(), metadata("fake-nr", tag="lite"))
    return tmp_path / "mine.safetensors"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("pfd-iqa", ("pfd-iqa", None, None)),
        ("pfd-iqa.lite", ("pfd-iqa", "lite", None)),
        ("pfd-iqa.v1.2", ("pfd-iqa", "v1.2", None)),
        ("piq/fsim", ("piq/fsim", None, None)),
        ("bpclip-nr=mine.safetensors", ("bpclip-nr", None, "mine.safetensors")),
        (r"bpclip-nr=C:\x.safetensors", ("bpclip-nr", None, r"C:\x.safetensors")),
        (r"bpclip-nr=\\host\share\x.safetensors", ("bpclip-nr", None, r"\\host\share\x.safetensors")),
        ("bpclip-nr=runs/lr=0.1/a.b=c.safetensors", ("bpclip-nr", None, "runs/lr=0.1/a.b=c.safetensors")),
        ("bpclip-nr.first=a/b.safetensors", ("bpclip-nr", "first", "a/b.safetensors")),
        (f"bpclip-nr=hub:org/x@{COMMIT}", ("bpclip-nr", None, f"hub:org/x@{COMMIT}")),
        (f"bpclip-nr=hub:org/x@{COMMIT}:y.safetensors", ("bpclip-nr", None, f"hub:org/x@{COMMIT}:y.safetensors")),
    ],
)
def test_parts(text, parts):
    assert parse_name(text) == MetricName(*parts)


class TestFiles:
    @pytest.mark.parametrize(
        "name", ["x.safetensors", "lr=0.1.v2=b.safetensors", "a.b", "ä ö.safetensors", "x.SAFETENSORS"]
    )
    def test_any_file_name(self, mine, name, image):
        (mine.parent / "runs.d").mkdir()
        shutil.copy(mine, mine.parent / "runs.d" / name)
        for given in (f"runs.d/{name}", f"./runs.d/{name}", str(mine.parent / "runs.d" / name)):
            assert torch.equal(create_metric(f"fake-nr={given}")(image), create_metric("fake-nr", weights=mine)(image))

    @pytest.mark.skipif(sys.platform == "win32", reason="a backslash is no part of a name there")
    def test_a_windows_path_is_one_name(self, mine, image):
        shutil.copy(mine, r"C:\x.safetensors")
        assert create_metric(r"fake-nr=C:\x.safetensors").name == "fake-nr"

    def test_home(self, mine, monkeypatch):
        monkeypatch.setenv("HOME", str(mine.parent))
        monkeypatch.setenv("USERPROFILE", str(mine.parent))
        assert create_metric("fake-nr=~/mine.safetensors").tag == "lite"

    def test_a_tag_is_what_the_file_is_called(self, mine):
        assert create_metric("fake-nr.first=mine.safetensors").full_name == "fake-nr.first"
        assert metric_info("fake-nr.first=mine.safetensors").full_name == "fake-nr.first"

    def test_weights_twice(self, mine):
        for name, weights in (
            ("fake-nr=mine.safetensors", "tiny"),
            ("fake-nr=mine.safetensors", None),
            ("fake-nr.tiny", mine),
        ):
            with pytest.raises(UnknownMetricError, match="leave out one"):
                create_metric(name, weights=weights)


REFUSED = [
    ("fake-nr=", UnknownMetricError, "nothing after the equals sign"),
    ("fake-nr=gone.safetensors", WeightsError, r"gone\.safetensors: cannot be read"),
    ("fake-nr=tiny", WeightsError, r"write fake-nr\.tiny"),
    ("fake-n=mine.safetensors", UnknownMetricError, "did you mean 'fake-nr'"),
    ("fake-fr=mine.safetensors", WeightsError, "of fake-nr, not of fake-fr"),
    ("fake-nr.tiny=mine.safetensors", UnknownMetricError, "is a checkpoint of its own"),
    ("fake-nr.a b=mine.safetensors", UnknownMetricError, "is no tag"),
    ("fake-nr.=mine.safetensors", UnknownMetricError, "leave out the dot"),
    ("mine.safetensors", UnknownMetricError, r"write METRIC=mine\.safetensors"),
    ("runs/mine.safetensors", UnknownMetricError, "names a checkpoint but no metric"),
    (f"hub:org/x@{COMMIT}", UnknownMetricError, "names a checkpoint but no metric"),
    ("fake-nr=hub:org/x@main", WeightsError, "40 digits of a commit"),
    ("fake-nr=hub:x", WeightsError, "not of the form hub:"),
    ("piq/ssim=mine.safetensors", WeightsError, "has the weights that piq gives it"),
]


class TestRefusals:
    @pytest.mark.parametrize(("name", "error", "words"), REFUSED)
    def test_by_the_library(self, mine, name, error, words):
        for ask in (create_metric, metric_info):
            with pytest.raises(error, match=words):
                ask(name)

    @pytest.mark.parametrize(
        "command", [["score", "x.png", "--metric"], ["info"], ["evaluate", "--csv", "x", "--metric"]]
    )
    @pytest.mark.parametrize(("name", "error", "words"), REFUSED)
    def test_by_the_commands(self, mine, capsys, command, name, error, words):
        assert main([*command, name]) == (2 if error is UnknownMetricError else 1)
        assert len(capsys.readouterr().err.splitlines()) == 1

    @pytest.mark.parametrize("name", ["bpclip-nr.no", "bpclip-nr=gone.safetensors", "bpclip-nr=hub:org/x@main"])
    @pytest.mark.parametrize("command", ["score x.png --metric", "info", "evaluate --csv x --metric"])
    def test_without_torch(self, command, name):
        code = (
            f"import sys; from iqametrics.cli.main import main; status = main({[*command.split(), name]})\n"
            "print(status, 'torch' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.split() in (["1", "False"], ["2", "False"])


class TestCommands:
    def test_info_shows_the_files_own_record(self, mine, capsys):
        record = metadata("fake-nr", tag="run-1", training={"data": ["my.csv"]}, licence="my terms")
        save_checkpoint(mine, seeded_model().state_dict(), record)
        assert main(["info", "fake-nr=mine.safetensors"]) == 0
        shown = capsys.readouterr().out
        assert "fake-nr.run-1" in shown
        assert "my.csv" in shown
        assert "my terms" in shown
        assert main(["info", "fake-nr=mine.safetensors", "--format", "json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["metadata"]["training"] == {"data": ["my.csv"]}
        assert told["checkpoint"]["source"] == "file"

    def test_score_tells_two_files_and_a_shipped_one_apart(self, mine, picture, capsys):
        shutil.copy(mine, "other.safetensors")
        names = ["fake-nr.lite", "fake-nr=mine.safetensors", "fake-nr=other.safetensors", "fake-nr.tiny"]
        options = [word for name in names for word in ("--metric", name)]
        assert main(["score", str(picture), *options, "--format", "jsonl"]) == 0
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [row["metric"] for row in rows] == names
        assert rows[0]["score"] != rows[1]["score"] == rows[2]["score"]

    def test_fail_below_knows_each(self, mine, picture):
        command = ["score", str(picture), "--metric", "fake-nr=mine.safetensors", "--metric", "fake-nr.lite"]
        assert main([*command, "--fail-below", "fake-nr=mine.safetensors=1000"]) == 3
        assert main([*command, "--fail-below", "fake-nr=mine.safetensors=-1000"]) == 0
        assert main([*command, "--fail-below", "fake-nr.lite=1000"]) == 3

    def test_evaluate_compares_a_shipped_one_with_a_file_of_its_tag(self, mine, labels, capsys):
        command = ["evaluate", "--csv", str(labels), "--format", "json"]
        names = ["fake-nr.lite", "fake-nr=mine.safetensors"]
        assert main([*command, "--metric", names[0], "--metric", names[1]]) == 0
        told = json.loads(capsys.readouterr().out)
        assert [figures["metric"] for figures in told["results"]] == names
        assert [(pair["a"], pair["b"]) for pair in told["comparison"]] == [tuple(names)]
        assert main([*command, "--metric", names[1], "--metric", names[1]]) == 2
        assert "could not be told apart" in capsys.readouterr().err


@pytest.fixture
def picture(tmp_path):
    from PIL import Image

    path = tmp_path / "picture.png"
    Image.new("RGB", (30, 20), (200, 100, 50)).save(path)
    return path


@pytest.fixture
def labels(tmp_path):
    from PIL import Image

    rows = ["image,mos"]
    for number in range(12):
        Image.new("RGB", (20, 20), (20 * number, 255 - 15 * number, 7 * number)).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{number % 5}")
    path = tmp_path / "labels.csv"
    path.write_text("\n".join(rows))
    return path


@pytest.mark.parametrize(
    ("folder", "tag"),
    [
        ("runs/mine", "mine"),
        ("runs/bpclip-nr", "custom"),
        ("runs/bpclip-nr-blur", "blur"),
        ("runs/bpclip-fr-blur", "bpclip-fr-blur"),
        ("runs/lite", "run-lite"),
        ("runs/Lite", "run-Lite"),
        ("runs/bpclip-nr.lite", "run-lite"),
        ("runs/untrained", "run-untrained"),
        ("runs/lr=0.1, v2", "lr-0-1-v2"),
        ("runs/Läufe", "Laufe"),
        ("runs/прогон", "custom"),
        ("runs/../here", "here"),
        ("runs/mine/split-07", "mine-split-07"),
        ("jobs/t2-koniq/train", "t2-koniq-train"),
        ("mine/teacher", "mine-teacher"),
        ("runs/" + "x" * 200, "x" * 64),
        ("runs/$(rm -rf)`", "rm--rf"),
        ("/", "custom"),
    ],
)
def test_a_trained_checkpoint_is_called_after_its_folder(folder, tag):
    found = run_tag(Path(folder), "bpclip-nr")
    assert found == tag
    assert parse_name(f"bpclip-nr.{found}").tag == found
