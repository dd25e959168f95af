"""`iqametrics results`: what is written, what is refused, and what a check finds in a result that was changed."""

import copy
import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from places import ROOT
from scipy.stats import spearmanr

from iqametrics.cli.main import main
from iqametrics.results.check import form_problems, inner_problems, schema
from iqametrics.results.record import read_record, write_record
from iqametrics.results.table import result_files

CLAIM = ("--title", "Noise, 12 pictures", "--source", "made here", "--trained", "no", "--selection", "none")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Twelve pictures of three references, opinions from 1 to 5."""
    generator = np.random.default_rng(5)
    rows = []
    for name in [f"ref{i}.png" for i in range(3)] + [f"{i:02}.png" for i in range(12)]:
        Image.fromarray(generator.integers(0, 256, (16, 18, 3), dtype=np.uint8)).save(tmp_path / name)
    for i in range(12):
        rows.append({"image": f"{i:02}.png", "mos": round(generator.uniform(1, 5), 3), "reference": f"ref{i % 3}.png"})
    with open(tmp_path / "opinions.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return tmp_path


@pytest.fixture
def add(fake_metrics, capsys, monkeypatch: pytest.MonkeyPatch, data: Path):
    def call(*more: str, claim: tuple[str, ...] = CLAIM) -> tuple[int, str]:
        output = data / "results" / "one.json"
        output.parent.mkdir(exist_ok=True)
        given = ["--metric", "fake-fr.lite", "--csv", str(data / "opinions.csv"), "--output", str(output)]
        command = ["results", "add", *given, *claim, *more]
        monkeypatch.setattr("sys.argv", ["iqametrics", *command])
        status = main(command)
        return status, capsys.readouterr().err

    return call


@pytest.fixture
def record(add, data: Path):
    assert add() == (0, "")
    return read_record(data / "results" / "one.json")


def test_a_result_has_scores_digests_and_figures(record, data: Path) -> None:
    rows = record["scores"]
    with open(data / "opinions.csv") as file:
        opinions = [float(row["mos"]) for row in csv.DictReader(file)]
    assert [row["image"] for row in rows] == [f"{i:02}.png" for i in range(12)]
    assert rows[4]["sha256"] == hashlib.sha256((data / "04.png").read_bytes()).hexdigest()
    assert rows[4]["reference_sha256"] == hashlib.sha256((data / "ref1.png").read_bytes()).hexdigest()
    expected = spearmanr([row["score"] for row in rows], opinions).statistic
    assert record["figures"]["srcc"] == pytest.approx(expected, abs=1e-9)
    assert record["interval"] == {"level": 0.95, "by": "reference", "groups": 3}
    assert record["made"]["command"].startswith("iqametrics results add --metric fake-fr.lite --csv opinions.csv")


def test_no_opinion_and_no_folder_is_written(record, data: Path) -> None:
    text = (data / "results" / "one.json").read_text("utf-8")
    assert str(data) not in text
    with open(data / "opinions.csv") as file:
        assert not [row["mos"] for row in csv.DictReader(file) if f" {row['mos']}," in text]


def test_a_good_result_is_good_by_its_form_and_by_the_data(record, data: Path, capsys) -> None:
    folder = str(data / "results")
    assert main(["results", "validate", folder]) == 0
    assert main(["results", "validate", folder, "--csv", str(data / "opinions.csv")]) == 0
    assert "1 of 1 results are good (form, contents, files, opinions and figures)" in capsys.readouterr().out


CHANGES = {
    "a figure out of range": (lambda r: r["figures"].update(srcc=1.2), "1.2 is greater"),
    "a field that nobody knows": (lambda r: r.update(remark="x"), "remark"),
    "a missing part": (lambda r: r.pop("interval"), "'interval' is a required property"),
    "another digest": (lambda r: r["scores"][0].update(sha256="0" * 64), "samples_sha256"),
    "a row too few": (lambda r: r["scores"].pop(), "but there are 11 scores"),
    "a row twice": (lambda r: r["scores"].__setitem__(1, dict(r["scores"][0])), "listed twice"),
    "other weights": (lambda r: r["metric"].update(weights="1" * 64), "metric.fingerprint"),
    "ends of the interval": (lambda r: r["figures"].update(srcc_low=0.9, srcc_high=-0.9), "the interval"),
    "trained or not": (lambda r: r.update(trained="perhaps"), "trained"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_changed_result_is_found(record, what: str) -> None:
    change, expected = CHANGES[what]
    changed = copy.deepcopy(record)
    change(changed)
    assert expected in "\n".join(form_problems(changed) or inner_problems(changed))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda r, _: r["figures"].update(srcc=r["figures"]["srcc"] + 0.01), "but the scores give"),
        (lambda r, _: r["scores"][3].update(score=r["scores"][3]["score"] + 0.5), "but the scores give"),
        (lambda _, d: Image.new("RGB", (16, 18)).save(d / "03.png"), "03.png: this file or its reference is another"),
        (
            lambda _, d: (d / "opinions.csv").write_text((d / "opinions.csv").read_text().replace(",4.", ",3.", 1)),
            "the opinions",
        ),
    ],
)
def test_the_data_find_what_the_form_cannot(record, data: Path, change, expected: str, capsys) -> None:
    change(record, data)
    path = data / "results" / "one.json"
    write_record(path, record)
    assert main(["results", "validate", str(path), "--csv", str(data / "opinions.csv")]) == 1
    assert expected in capsys.readouterr().err


def test_what_cannot_be_a_result_is_refused(add, data: Path) -> None:
    status, told = add("--images", str(data / "few.txt"))
    assert status == 1
    assert "few.txt" in told
    status, told = add("--paper", "bpclip-table2:PSNR")
    assert status == 2
    assert "bpclip-table2 has no row 'PSNR'" in told
    (data / "05.png").write_text("no picture")
    status, told = add()
    assert status == 1
    assert "1 images could not be scored" in told.splitlines()[-1]
    assert not (data / "results" / "one.json").exists()


def test_a_list_of_images_is_kept_to(add, data: Path) -> None:
    (data / "few.txt").write_text("# some\n03.png\n04.png\n05.png\n07.png\n")
    assert add("--images", str(data / "few.txt"))[0] == 0
    found = read_record(data / "results" / "one.json")
    assert [row["image"] for row in found["scores"]] == ["03.png", "04.png", "05.png", "07.png"]


def test_a_checkpoint_that_names_the_data_has_not_been_kept_from_them(add, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iqametrics.cli.results.known_images", lambda *_: "opinions.csv")
    status, told = add()
    assert (status, "--trained choice" in told) == (2, True)
    assert add(claim=(*CLAIM[:5], "yes", *CLAIM[6:]))[0] == 0


def test_a_table_has_the_best_first(record, data: Path, capsys) -> None:
    other = copy.deepcopy(record)
    other["figures"]["srcc"] = 0.99
    write_record(data / "results" / "two.json", other)
    assert main(["results", "table", str(data / "results"), "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["file"] for row in rows] == ["two.json", "one.json"]
    assert rows[0]["data"] == "Noise, 12 pictures"
    (data / "results" / "two.json").write_text("[]")
    assert main(["results", "table", str(data / "results")]) == 1
    assert "is no JSON object" in capsys.readouterr().err


def test_the_results_of_the_repository_are_good(tmp_path: Path) -> None:
    files = result_files([ROOT / "benchmarks" / "results" / "open"])
    for path in files:
        found = read_record(path)
        assert form_problems(found) == []
        assert inner_problems(found) == []
        assert found["made"]["commit"], path
        write_record(tmp_path / path.name, found)
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), "not as the command writes it"


def test_the_schema_is_one() -> None:
    from jsonschema import Draft202012Validator

    Draft202012Validator.check_schema(schema())
