"""`iqametrics weights`: list, fetch, verify, path, clean and pin, against the loopback server."""

import hashlib
import json
import logging
import subprocess
import sys
from pathlib import Path

import fakes
import pytest
from hub_server import HubServer

from iqametrics import WeightsError
from iqametrics.cli import weights as command
from iqametrics.cli.main import main
from iqametrics.weights import starting
from iqametrics.weights.checkpoint import save_checkpoint
from iqametrics.weights.manifest import read_manifest

FILE = "model.safetensors"
START = b"starting weight" * 50


@pytest.fixture
def server(tmp_path):
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    with HubServer() as hub, hub.client(tmp_path / "home"):
        yield hub


@pytest.fixture
def folder(server, fake_metrics, tmp_path, monkeypatch):
    """A weights folder with bundled checkpoints, one on the Hub, "fake-nr.far", and a starting weight, "start"."""
    save_checkpoint(
        tmp_path / FILE,
        fakes.seeded_model(seed=9).state_dict(),
        fakes.metadata("fake-nr", tag="far", licence="x " * 40),
    )
    content = (tmp_path / FILE).read_bytes()
    entry = {
        "metric": "fake-nr",
        "tag": "far",
        "default": False,
        "source": "hub",
        "file": FILE,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "licence": "x " * 40,
        "repo": "org/far",
        "revision": server.add("org/far", {FILE: content}),
        "training_data": ["none"],
        "config": {"channels": 4},
        "results": {},
    }
    manifest = json.loads((fake_metrics / "manifest.json").read_text())
    manifest["checkpoints"].append(entry)
    (fake_metrics / "manifest.json").write_text(json.dumps(manifest))
    read_manifest.cache_clear()
    server.add("org/start", {FILE: START})
    start = {"name": "start", "kind": "clip", "repo": "org/start", "file": FILE, "bytes": None, "licence": "mit"}
    table = {"format": 1, "starting": [{**start, "revision": None, "sha256": None}]}
    (fake_metrics / "starting.json").write_text(json.dumps(table))
    monkeypatch.setattr(command, "WEIGHTS_FOLDER", fake_metrics)
    monkeypatch.setattr(starting, "TABLE", fake_metrics / "starting.json")
    yield fake_metrics
    starting._read_table.cache_clear()


@pytest.fixture
def run(capsys):
    """Run a command; give its status and the lines of stdout and stderr."""

    def call(*args):
        capsys.readouterr()
        status = main(["weights", *args])
        captured = capsys.readouterr()
        return status, captured.out.splitlines(), captured.err.splitlines()

    return call


def listed(run):
    return {row["name"]: row for row in json.loads("\n".join(run("list", "--format", "json")[1]))}


class TestList:
    def test_states(self, folder, run, server):
        rows = listed(run)
        assert list(rows) == ["fake-nr.lite", "fake-nr.tiny", "fake-fr.lite", "fake-nr.far", "start"]
        assert (rows["fake-nr.far"]["source"], rows["fake-nr.far"]["state"]) == ("hub", "not fetched")
        assert rows["fake-nr.far"]["revision"] == server.repos["org/far"].commits[0][0]
        assert (rows["fake-nr.lite"]["source"], rows["fake-nr.lite"]["state"]) == ("bundled", "bundled")
        assert (rows["start"]["what"], rows["start"]["pinned"]) == ("starting", "no")
        assert server.requests == []
        run("fetch", "fake-nr.far")
        assert listed(run)["fake-nr.far"]["state"] == "cached"
        (folder / "fake-nr.lite.safetensors").unlink()
        assert listed(run)["fake-nr.lite"]["state"] == "missing"

    def test_table(self, folder, run):
        status, out, err = run("list")
        assert (status, err) == (0, [])
        assert out[0].split() == ["name", "what", "source", "state", "pinned", "mb", "licence"]
        assert max(map(len, out)) < 120

    def test_the_packages_own(self, server, run):
        rows = listed(run)
        assert {"bpclip-fr.lite", "efficientnet_lite0", "resnet50_tv_in1k"} <= set(rows)
        assert (rows["resnet50_tv_in1k"]["pinned"], rows["resnet50_tv_in1k"]["mb"]) == ("yes", 102.5)


class TestFetch:
    def test_a_checkpoint(self, folder, run):
        status, out, err = run("fetch", "fake-nr.far")
        assert status == 0
        assert Path(out[0]).read_bytes()[8:9] == b"{"
        assert err == ["iqametrics: fetching fake-nr.far, 0.0 MB, from org/far"]
        assert run("fetch", "fake-nr.far") == (0, out, [])
        assert run("path", "fake-nr.far") == (0, out, [])

    def test_a_starting_weight_is_noted_once(self, folder, run):
        status, out, err = run("fetch", "start")
        assert status == 0
        assert Path(out[0]).read_bytes() == START
        assert err[1].startswith("iqametrics: note: start: is not pinned")
        assert run("fetch", "start") == (0, out, [])
        assert listed(run)["start"]["pinned"] == "recorded"

    def test_a_reference(self, folder, run, server):
        name = f"hub:org/start@{server.repos['org/start'].commits[0][0]}"
        status, out, _ = run("fetch", name)
        assert status == 0
        assert run("path", name) == (0, out, [])
        assert run("verify", name)[0] == 0

    def test_bundled(self, folder, run):
        status, out, err = run("fetch", "fake-fr.lite")
        assert (status, out) == (0, [str(folder / "fake-fr.lite.safetensors")])
        assert err == ["iqametrics: fake-fr.lite is bundled with the package; there is nothing to fetch"]

    @pytest.mark.parametrize("action", ["fetch", "verify", "path", "clean"])
    def test_unknown(self, folder, run, action):
        status, out, err = run(action, "far")
        assert (status, out) == (2, [])
        assert err == [
            "iqametrics: error: unknown weight file 'far'; known: fake-nr.lite, fake-nr.tiny, fake-fr.lite, "
            "fake-nr.far, start, or hub:ORG/NAME@REVISION"
        ]

    def test_failures_are_one_line(self, folder, run, server):
        server.fail("/resolve/", 500)
        status, out, err = run("fetch", "fake-nr.far")
        assert (status, out) == (1, [])
        assert err == ["iqametrics: error: fake-nr.far: the Hub is in trouble (500); try again later"]
        assert run("path", "fake-nr.far") == (
            1,
            [],
            ["iqametrics: error: fake-nr.far is not here; run `iqametrics weights fetch fake-nr.far`"],
        )


class TestVerify:
    def test_good(self, folder, run):
        run("fetch", "fake-nr.far")
        status, out, err = run("verify", "--format", "csv")
        assert (status, err) == (0, [])
        states = [line.split(",")[:2] for line in out[1:]]
        assert states == [
            ["fake-nr.lite", "ok"],
            ["fake-nr.tiny", "ok"],
            ["fake-fr.lite", "ok"],
            ["fake-nr.far", "ok"],
            ["start", "not fetched"],
        ]
        assert run("verify", "start")[0] == 1  # asked for by name, it should be here

    def test_damage(self, folder, run):
        run("fetch", "fake-nr.far")
        run("fetch", "start")
        for name in ("fake-nr.far", "start"):
            path = Path(run("path", name)[1][0]).resolve()
            path.write_bytes(path.read_bytes()[:-1] + b"\x00")
        (folder / "fake-fr.lite.safetensors").write_bytes(b"")
        status, out, err = run("verify", "--format", "csv")
        assert status == 1
        assert [line.split(",")[1] for line in out[1:]] == ["ok", "ok", "damaged", "damaged", "damaged"]
        assert err[0].endswith("fake-fr.lite is not here whole; reinstall iqametrics")
        assert err[1].endswith("fake-nr.far is not here whole; `iqametrics weights fetch fake-nr.far --force`")
        status, _, err = run("fetch", "fake-nr.far")
        assert status == 1
        assert "is damaged" in err[0]
        assert run("fetch", "fake-nr.far", "--force")[0] == 0
        assert run("verify", "fake-nr.far")[0] == 0

    def test_one_bad_record_costs_one_row(self, folder, run):
        starting.pin_path("start").parent.mkdir(parents=True)
        starting.pin_path("start").write_text("{")
        status, out, err = run("list", "--format", "json")
        assert status == 0
        rows = {row["name"]: row for row in json.loads("\n".join(out))}
        assert rows["start"]["state"] == "bad record"
        assert rows["fake-nr.lite"]["state"] == "bundled"
        assert "is not a readable pin" in err[0]
        status, out, err = run("verify")
        assert status == 1
        assert len(out) == 1 + len(rows)
        assert len(err) == 1
        for arguments in (["fetch", "start"], ["path", "start"], ["pin"]):
            status, _, err = run(*arguments)
            assert (status, len(err)) == (1, 1)
            assert "remove it and fetch start again" in err[0]

    def test_one_unreadable_file_costs_one_row(self, folder, run, monkeypatch):
        def refuse(path, **_):
            raise WeightsError(f"{path}: cannot be read")

        run("fetch", "fake-nr.far")
        monkeypatch.setattr("iqametrics.cli.weights.file_sha256", refuse)
        status, out, _ = run("verify", "--format", "json")
        assert status == 1
        rows = {row["name"]: row["state"] for row in json.loads("\n".join(out))}
        assert rows["fake-nr.far"] == "unreadable"
        assert rows["start"] == "not fetched"


class TestClean:
    def test_all_and_nothing_else(self, folder, run, tmp_path):
        run("fetch", "fake-nr.far")
        run("fetch", "start")
        foreign = tmp_path / "home" / "hub" / "models--other--thing" / "blobs" / "x"
        foreign.parent.mkdir(parents=True)
        foreign.write_bytes(b"theirs")
        status, out, err = run("clean")
        assert (status, out) == (0, ["freed 0.0 MB"])
        assert [line.split(",")[0] for line in err] == ["iqametrics: removed fake-nr.far", "iqametrics: removed start"]
        assert foreign.read_bytes() == b"theirs"
        assert listed(run)["fake-nr.far"]["state"] == "not fetched"
        assert (folder / "fake-nr.lite.safetensors").exists()

    def test_one(self, folder, run):
        run("fetch", "fake-nr.far")
        run("fetch", "start")
        run("clean", "start")
        assert {name: row["state"] for name, row in listed(run).items() if row["source"] == "hub"} == {
            "fake-nr.far": "cached",
            "start": "not fetched",
        }

    def test_bundled(self, folder, run):
        assert run("clean", "fake-nr.lite")[0] == 2


class TestPin:
    def test_by_you(self, folder, run):
        status, out, err = run("pin", "start")
        assert status == 0
        assert out == [f"start {listed(run)['start']['revision']} {hashlib.sha256(START).hexdigest()}"]
        assert err[-1].startswith("iqametrics: start is now pinned in ")
        assert listed(run)["start"]["pinned"] == "by you"
        assert run("fetch", "start")[2] == []

    def test_in_the_package(self, folder, run):
        assert run("pin", "--write-package")[0] == 0
        assert json.loads((folder / "starting.json").read_text())["starting"][0]["sha256"] is not None
        assert listed(run)["start"]["pinned"] == "yes"
        assert run("pin", "start")[2] == ["iqametrics: start is pinned already in the package"]

    def test_a_reference(self, folder, run, server):
        revision = server.repos["org/far"].commits[0][0]
        assert run("pin", "hub:org/far") == (0, [f"hub:org/far@{revision}"], [])

    def test_no_starting_weight(self, folder, run):
        assert run("pin", "fake-nr.far")[0] == 2


def test_no_torch():
    code = (
        "import sys; from iqametrics.cli.main import main\n"
        "for args in (['--help'], ['list'], ['verify', 'bpclip-fr.lite']): main(['weights', *args])\n"
        "print('torch' in sys.modules)"
    )
    out = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert out.splitlines()[-1] == "False"


def test_info_of_one_on_the_hub(folder, server, capsys):
    assert main(["info", "fake-nr.far"]) == 0
    out = capsys.readouterr().out
    assert f"org/far@{server.repos['org/far'].commits[0][0]}" in out
    assert server.requests == []
