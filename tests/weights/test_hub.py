"""Files from the Hub: the real huggingface_hub client against a server on loopback, with each fault it can have."""

import errno
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace

import fakes
import huggingface_hub
import pytest
import torch
from hub_server import TOKEN, HubServer, url_template
from huggingface_hub import HfApi

from iqametrics import WeightsError, create_metric, metric_info
from iqametrics.weights import hub as hub_module
from iqametrics.weights.checkpoint import save_checkpoint
from iqametrics.weights.hub import (
    HubFile,
    cached_path,
    entry_file,
    fetch,
    fetch_checkpoint,
    parse_reference,
    pin_reference,
    remove,
)
from iqametrics.weights.manifest import CheckpointEntry, read_manifest

# What the client itself does when it uploads.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")]

REPO, FILE = "org/name", "model.safetensors"
DATA = bytes(range(256)) * 400
tries_again = pytest.mark.skipif(
    huggingface_hub.__version__.startswith("0."), reason="before version 1 the client leaves the second try to the user"
)


@pytest.fixture
def server():
    with HubServer() as started:
        yield started


@pytest.fixture
def home(tmp_path, server):
    """The client's home, with the client of this process bound to the server."""
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    with server.client(tmp_path / "home", DOWNLOAD_CHUNK_SIZE=8192):
        yield tmp_path / "home"


@pytest.fixture
def file(server):
    revision = server.add(REPO, {FILE: DATA})
    return HubFile(name="thing", repo=REPO, file=FILE, revision=revision, sha256=sha256(DATA))


def sha256(data):
    return hashlib.sha256(data).hexdigest()


class TestFetch:
    def test_bytes_and_cache(self, server, home, file, capsys):
        fetched = fetch(file)
        assert fetched.path.read_bytes() == DATA
        assert (fetched.revision, fetched.sha256, fetched.bytes) == (file.revision, sha256(DATA), len(DATA))
        assert capsys.readouterr().err == "iqametrics: fetching thing, 0.1 MB, from org/name\n"
        before = len(server.requests)
        assert fetch(file) == fetched
        assert len(server.requests) == before  # a cached file needs no network
        assert capsys.readouterr().err == ""

    def test_the_cache_is_huggingface_hubs_own(self, home, file):
        by_us = fetch(file).path
        assert huggingface_hub.hf_hub_download(REPO, FILE, revision=file.revision) == str(by_us)

    def test_a_token_goes_to_the_hub_and_not_to_the_cdn(self, server, home):
        revision = server.add("org/private", {FILE: DATA}, private=True)
        home.mkdir(parents=True, exist_ok=True)
        (home / "token").write_text(TOKEN)
        assert fetch(HubFile(name="p", repo="org/private", file=FILE, revision=revision)).sha256 == sha256(DATA)
        assert all(("authorization" in headers) == ("/cdn/" not in path) for _, path, headers in server.requests)

    def test_a_renamed_repository(self, server, home, file):
        server.move(REPO, "org/renamed")
        assert fetch(file).path.read_bytes() == DATA

    def test_a_branch_is_resolved_once(self, server, home, file):
        fetched = fetch(replace(file, revision="main"))
        assert fetched.revision == file.revision
        assert f"/{file.revision}/" in next(p for m, p, _ in server.requests if m == "HEAD" and "main" not in p)


class TestInterruptions:
    @tries_again
    def test_a_cut_download_is_resumed_where_it_broke(self, server, home, file):
        server.fail("/cdn/", "cut", times=1, after=50_000)
        assert fetch(file).path.read_bytes() == DATA
        ranges = [headers.get("range") for method, path, headers in server.requests if "/cdn/" in path]
        # In pieces of 8192 bytes (`home`), six are whole.
        assert ranges == [None, f"bytes={6 * 8192}-"]

    @tries_again
    def test_two_cuts(self, server, home, file):
        server.fail("/cdn/", "cut", times=2)
        assert fetch(file).path.read_bytes() == DATA

    @tries_again
    def test_no_answer_once(self, server, home, file):
        server.fail("/cdn/", "drop", times=1)
        assert fetch(file).path.read_bytes() == DATA

    def test_a_connection_that_always_breaks(self, server, home, file):
        server.fail("/cdn/", "cut", after=0)
        with pytest.raises(WeightsError, match=r"thing: fetching from org/name was cut short .*try again"):
            fetch(file)
        assert cached_path(file) is None
        server.heal()
        assert fetch(file).path.read_bytes() == DATA

    def test_a_short_answer(self, server, home, file):
        server.fail("/cdn/", "short")
        with pytest.raises(WeightsError, match=r"cut short .*should be of size"):
            fetch(file)

    def test_two_processes_at_once(self, server, file, tmp_path):
        server.fail("/cdn/", "slow", seconds=0.3)  # long enough for the second to come
        code = (
            "import sys; from iqametrics.weights.hub import HubFile, fetch\n"
            f"print(fetch(HubFile(name='x', repo={REPO!r}, file={FILE!r}, revision={file.revision!r}, "
            f"sha256={file.sha256!r})).sha256)"
        )
        env = server.environment(tmp_path / "shared")
        run = [
            subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            for _ in range(2)
        ]
        answers = [process.communicate() for process in run]
        assert [process.returncode for process in run] == [0, 0], answers
        assert [out.decode().strip() for out, _ in answers] == [file.sha256] * 2


class TestRefusals:
    @pytest.mark.parametrize(
        ("kind", "line"),
        [
            (401, r"org/name refuses access \(401\); log in"),
            (403, r"org/name refuses access \(403\); log in"),
            (404, r"org/name has no file model.safetensors at revision [0-9a-f]{40} \(404\); check"),
            (429, r"too many requests from here \(429\); try again in 7 s"),
            (500, r"the Hub is in trouble \(500\); try again later"),
            (503, r"the Hub is in trouble \(503\); try again later"),
            (418, r"the Hub answers 418"),
        ],
    )
    @pytest.mark.parametrize("path", ["/resolve/", "/cdn/"])
    def test_status(self, server, home, file, kind, line, path):
        server.fail(path, kind, retry_after=7)
        with pytest.raises(WeightsError, match=f"^thing: .*{line}") as caught:
            fetch(file)
        assert "\n" not in str(caught.value)
        assert not any(path.stat().st_size for path in home.rglob("*.incomplete"))

    def test_names(self, server, home, file):
        for changes, line in (
            ({"repo": "org/absent"}, r"there is no repository org/absent on http.*, or it is private; .*HF_TOKEN"),
            ({"revision": "1" * 40}, r"org/name has no revision 1{40}; check"),
            ({"file": "absent.safetensors"}, r"org/name has no file absent.safetensors at revision"),
        ):
            with pytest.raises(WeightsError, match=line):
                fetch(replace(file, **changes))

    def test_gated(self, server, home):
        revision = server.add("org/gated", {FILE: DATA}, gated=True)
        wanted = HubFile(name="g", repo="org/gated", file=FILE, revision=revision)
        line = r"org/gated is open only to those who accepted its terms; .*http.*/org/gated and log in .*HF_TOKEN"
        with pytest.raises(WeightsError, match=line):
            fetch(wanted)
        home.mkdir(parents=True, exist_ok=True)
        (home / "token").write_text(TOKEN)
        with pytest.raises(WeightsError, match=line):
            fetch(wanted)
        server.accepted.add("org/gated")
        assert fetch(wanted).sha256 == sha256(DATA)

    def test_a_wrong_token(self, server, home, file):
        home.mkdir(parents=True, exist_ok=True)
        (home / "token").write_text("hf_wrong")
        with pytest.raises(WeightsError, match=r"refuses access \(401\)"):
            fetch(file)

    def test_slow(self, server, home, file, monkeypatch):
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_ETAG_TIMEOUT", 0.1)
        server.fail("/resolve/", "slow", seconds=1)
        start = time.perf_counter()
        with pytest.raises(WeightsError, match=r"did not answer in time; try again later"):
            fetch(file)
        assert time.perf_counter() - start < 1

    def test_no_network(self, server, home, file, monkeypatch):
        nowhere = "http://127.0.0.1:9"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", nowhere)
        start = time.perf_counter()
        with (
            url_template(nowhere + "/{repo_id}/resolve/{revision}/{filename}"),
            pytest.raises(WeightsError, match=r"cannot reach http://127.0.0.1:9 .*`iqametrics weights fetch thing`"),
        ):
            fetch(file)
        assert time.perf_counter() - start < 1

    def test_no_hub_at_all(self, server, home, file, monkeypatch):
        known = huggingface_hub.get_hf_file_metadata(huggingface_hub.hf_hub_url(REPO, FILE, revision=file.revision))
        monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda *a, **k: replace(known, commit_hash=None))
        with pytest.raises(WeightsError, match="does not answer as the Hub does; check HF_ENDPOINT"):
            fetch(file)

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
    def test_disk_full(self, home, file, monkeypatch, number):
        def full(*args, **kwargs):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
        with pytest.raises(WeightsError, match=r"thing: no space left below .*home/hub; make room, or set HF_HOME"):
            fetch(file)
        assert cached_path(file) is None


class TestThisMachine:
    def test_a_file_where_the_cache_should_be(self, server, tmp_path):
        revision = server.add(REPO, {FILE: DATA})
        (tmp_path / "home").write_text("in the way")
        with (
            server.client(tmp_path / "home"),
            pytest.raises(WeightsError, match=r"home.* cannot be used \(.*\); set HF_HOME to a folder") as caught,
        ):
            fetch(HubFile(name="thing", repo=REPO, file=FILE, revision=revision))
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("reason", [PermissionError(errno.EACCES, "no", "/a/b"), OSError(errno.EROFS, "no")])
    def test_a_cache_that_cannot_be_written(self, home, file, monkeypatch, reason):
        def refuse(*args, **kwargs):
            raise reason

        monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
        with pytest.raises(WeightsError, match=r"^thing: .* cannot be used \(no\); set HF_HOME"):
            fetch(file)

    def test_what_cannot_be_removed(self, home, file, monkeypatch):
        def refuse(self, missing_ok=False):
            raise PermissionError(errno.EACCES, "Permission denied", str(self))

        path = fetch(file).path
        monkeypatch.setattr(type(path), "unlink", refuse)
        with pytest.raises(WeightsError, match=r"cannot be removed \(Permission denied\)"):
            remove(path)

    def test_no_address(self, home, file):
        with (
            url_template("nonsense/{repo_id}/{revision}/{filename}"),
            pytest.raises(WeightsError, match=r"is no address; set HF_ENDPOINT to https://"),
        ):
            fetch(file)


class TestOffline:
    def test_nothing_cached(self, server, home, file, monkeypatch):
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        line = (
            r"^thing: HF_HUB_OFFLINE is set and it is not cached; on a machine with network run `iqametrics weights "
            r"fetch thing` and copy its Hub cache to .*home/hub here, or set HF_ENDPOINT to a mirror$"
        )
        with pytest.raises(WeightsError, match=line):
            fetch(file)
        assert server.requests == []

    def test_within_a_second(self, server, tmp_path):
        # The processor's time: nothing here waits, and the clock would also measure what else runs.
        code = (
            "import time; start = time.process_time(); from iqametrics.weights.starting import starting_file\n"
            "try: starting_file('resnet50_tv_in1k')\n"
            "except Exception as error: print(type(error).__name__, time.process_time() - start)"
        )
        env = server.environment(tmp_path, HF_HUB_OFFLINE=1)
        name, seconds = subprocess.check_output([sys.executable, "-c", code], env=env, text=True).split()
        assert name == "WeightsError"
        assert float(seconds) < 1
        assert server.requests == []

    def test_a_copied_cache(self, server, home, file, tmp_path, monkeypatch):
        fetch(file)
        shutil.copytree(home / "hub", tmp_path / "usb", symlinks=True)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "usb"))
        fetched = fetch(file)
        assert fetched.path.read_bytes() == DATA
        assert (tmp_path / "usb") in fetched.path.parents

    def test_force(self, server, home, file, monkeypatch):
        fetch(file)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(WeightsError, match="HF_HUB_OFFLINE is set; on a machine with network"):
            fetch(file, force=True)


class TestTrust:
    @pytest.mark.parametrize("known", [True, False])
    def test_wrong_bytes_are_refused_and_removed(self, server, home, file, known):
        file = file if known else replace(file, sha256=None)
        server.fail("/cdn/", "wrong", times=1)
        with pytest.raises(WeightsError, match=r"bytes that came from org/name are not those expected .*removed"):
            fetch(file)
        assert cached_path(file) is None
        assert fetch(file).sha256 == sha256(DATA)

    def test_another_commit_than_was_asked_for_is_refused(self, server, home, file, monkeypatch):
        other = server.add(REPO, {"README.md": b"later"})
        asked = type(server.repos[REPO]).oid
        monkeypatch.setattr(type(server.repos[REPO]), "oid", lambda repo, revision: asked(repo, "main"))
        with pytest.raises(WeightsError, match=f"answers with commit {other} instead of {file.revision}"):
            fetch(replace(file, sha256=None))
        assert cached_path(file) is None

    def test_another_file_is_not_even_fetched(self, server, home, file):
        with pytest.raises(WeightsError, match=r"offers another file .*which was not fetched"):
            fetch(replace(file, sha256="0" * 64))
        assert server.count("GET", "/cdn/") == 0

    @pytest.mark.parametrize("known", [True, False])
    @pytest.mark.parametrize("content", [DATA[:-1] + b"!", DATA[:-1], b""])
    def test_a_tampered_cache_is_refused_and_refetched(self, home, file, known, content):
        file = file if known else replace(file, sha256=None)
        fetch(file).path.resolve().write_bytes(content)
        with pytest.raises(WeightsError, match=r"is damaged, .*`iqametrics weights fetch thing --force`"):
            fetch(file)
        assert fetch(file, force=True).path.read_bytes() == DATA
        assert fetch(file).path.read_bytes() == DATA

    def test_remove_leaves_all_else_alone(self, server, home, file):
        second = server.add(REPO, {FILE: DATA, "other.safetensors": b"other"})
        fetch(file)
        newer = fetch(replace(file, revision=second))
        other = fetch(HubFile(name="o", repo=REPO, file="other.safetensors", revision=second))
        assert remove(cached_path(file)) == 0  # the newer revision has the same content
        assert cached_path(file) is None
        assert newer.path.read_bytes() == DATA
        assert remove(newer.path) == len(DATA)
        assert other.path.read_bytes() == b"other"
        assert remove(other.path) == 5
        assert [path.name for path in (home / "hub" / "models--org--name").rglob("*") if path.is_file()] == []


class TestReferences:
    def test_parts(self):
        file = parse_reference(f"hub:org/name@{'a' * 40}")
        assert (file.repo, file.revision, file.file) == ("org/name", "a" * 40, "model.safetensors")
        assert parse_reference(f"hub:org/name@{'a' * 40}:b.safetensors").file == "b.safetensors"

    @pytest.mark.parametrize(
        "text",
        [
            "hub:",
            "hub:name",
            "hub:org/name/more@" + "a" * 40,
            "hub:../name@" + "a" * 40,
            "hub:org/..@" + "a" * 40,
            f"hub:org/name@{'a' * 40}:../x.safetensors",
            f"hub:org/name@{'a' * 40}:x.pth",
            f"hub:org/name@{'a' * 40}:",
            f"hub:org/na me@{'a' * 40}",
        ],
    )
    def test_what_is_none(self, text):
        with pytest.raises(WeightsError, match="is not of the form hub:ORG/NAME@REVISION"):
            parse_reference(text)

    @pytest.mark.parametrize("text", ["hub:org/name", "hub:org/name@main", "hub:org/name@abc123"])
    def test_a_branch_is_refused_and_can_be_pinned(self, server, home, file, text):
        with pytest.raises(
            WeightsError, match=r"give the 40 digits of a commit, which `iqametrics weights pin hub:org"
        ):
            parse_reference(text)
        if not text.endswith("abc123"):
            assert pin_reference(text) == f"hub:org/name@{file.revision}"
        else:
            with pytest.raises(WeightsError, match="has no revision abc123"):
                pin_reference(text)

    def test_pin_offline(self, server, home, file, monkeypatch):
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(WeightsError, match=r"is set; run `iqametrics weights pin hub:org/name` on a machine with"):
            pin_reference("hub:org/name")

    @pytest.mark.parametrize("text", ["hub:org/name\n@main", "hub:org/name@ma\nin", "hub:\norg/name"])
    def test_messages_are_one_line(self, text):
        for read in (parse_reference, pin_reference):
            with pytest.raises(WeightsError) as caught:
                read(text)
            assert "\n" not in str(caught.value)

    def test_pin_keeps_the_file(self, server, home, file):
        server.add(REPO, {"b.safetensors": b"b"})
        pinned = pin_reference("hub:org/name:b.safetensors")
        assert fetch(parse_reference(pinned)).path.read_bytes() == b"b"


@pytest.fixture
def published(server, home, tmp_path, fake_metrics):
    """A tiny checkpoint, uploaded by the client itself, and the manifest entry of it."""
    folder = tmp_path / "upload"
    folder.mkdir()
    save_checkpoint(folder / FILE, fakes.seeded_model(seed=9).state_dict(), fakes.metadata("fake-nr", tag="far"))
    api = HfApi(token=TOKEN)
    api.create_repo("org/far")
    commit = api.upload_folder(repo_id="org/far", folder_path=folder)
    content = (folder / FILE).read_bytes()
    entry = {
        "metric": "fake-nr",
        "tag": "far",
        "default": False,
        "source": "hub",
        "file": FILE,
        "sha256": sha256(content),
        "bytes": len(content),
        "licence": "CC0",
        "repo": "org/far",
        "revision": commit.oid,
        "training_data": ["none"],
        "config": {"channels": 4},
        "results": {"srcc": 0.5},
    }
    write_entry(fake_metrics, entry)
    return entry


def write_entry(folder, entry):
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["checkpoints"] = [item for item in manifest["checkpoints"] if item["tag"] != entry["tag"]] + [entry]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    read_manifest.cache_clear()


class TestCreateMetric:
    @pytest.fixture
    def picture(self):
        return torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0))

    def test_from_the_manifest_bit_for_bit(self, server, published, picture, tmp_path):
        from_hub = create_metric("fake-nr.far")
        from_file = create_metric("fake-nr", weights=tmp_path / "upload" / FILE)
        assert from_hub.full_name == "fake-nr.far"
        assert torch.equal(from_hub(picture), from_file(picture))
        before = len(server.requests)
        assert torch.equal(create_metric("fake-nr", weights="far")(picture), from_hub(picture))
        assert len(server.requests) == before

    def test_by_reference(self, server, published, picture, tmp_path):
        metric = create_metric("fake-nr", weights=f"hub:org/far@{published['revision']}")
        from_file = create_metric("fake-nr", weights=tmp_path / "upload" / FILE)
        assert torch.equal(metric(picture), from_file(picture))

    def test_of_another_metric(self, published):
        with pytest.raises(WeightsError, match="of fake-nr, not of fake-fr"):
            create_metric("fake-fr", weights=f"hub:org/far@{published['revision']}")

    def test_info_fetches_nothing(self, server, published):
        before = len(server.requests)
        info = metric_info("fake-nr.far")
        assert info.tag == "far"
        assert info.checkpoint.repo == "org/far"
        assert info.metadata == {
            "config": {"channels": 4},
            "training": {"data": ["none"]},
            "licence": "CC0",
            "results": {"srcc": 0.5},
        }
        assert len(server.requests) == before

    @pytest.mark.parametrize("changes", [{"config": {"channels": 5}}, {"tag": "near"}])
    def test_metadata_that_differ_from_the_manifest(self, fake_metrics, published, changes):
        entry = CheckpointEntry(**{**published, **changes})
        with pytest.raises(WeightsError, match=f"file's own {next(iter(changes))} is .*update iqametrics"):
            fetch_checkpoint(entry)

    def test_no_checkpoint(self, server, home, fake_metrics, file):
        with pytest.raises(WeightsError, match=r"model\.safetensors: is cut short or no safetensors file"):
            create_metric("fake-nr", weights=f"hub:{REPO}@{file.revision}")

    def test_strict_load(self, server, home, fake_metrics, tmp_path):
        tensors = fakes.seeded_model().state_dict()
        del tensors["head.bias"]
        save_checkpoint(tmp_path / "x.safetensors", tensors, fakes.metadata("fake-nr"))
        revision = server.add("org/odd", {FILE: (tmp_path / "x.safetensors").read_bytes()})
        with pytest.raises(WeightsError, match=r"missing head\.bias"):
            create_metric("fake-nr", weights=f"hub:org/odd@{revision}")


def test_nothing_heavy_is_imported():
    code = "import sys, iqametrics.cli.main, iqametrics.weights.hub, iqametrics.weights.starting\n" + (
        "print([m for m in ('torch', 'huggingface_hub') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_progress_bars_are_for_terminals(home, file, capsys, monkeypatch):
    fetch(file)
    assert "%" not in capsys.readouterr().err
    monkeypatch.setattr(hub_module.sys.stderr, "isatty", lambda: True, raising=False)
    fetch(file, force=True)
    assert "%" in capsys.readouterr().err


def test_entry_file(published):
    file = entry_file(CheckpointEntry(**published))
    assert (file.name, file.repo, file.sha256) == ("fake-nr.far", "org/far", published["sha256"])
