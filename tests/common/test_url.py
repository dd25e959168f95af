"""Pictures at addresses, against a server with every fault; and `score --allow-urls`."""

import io
import json
import time
import urllib.request

import numpy as np
import pytest
from picture_server import PictureServer
from PIL import Image

from iqametrics import create_metric
from iqametrics.cli.main import main
from iqametrics.common import url as module
from iqametrics.common.url import fetch_picture, is_url
from iqametrics.errors import ImageReadError


@pytest.fixture(scope="module")
def server():
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(stream, "PNG")
    server = PictureServer(stream.getvalue())
    yield server
    server.close()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def run(fake_metrics, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(*words):
        status = main(["score", *words])
        return status, *capsys.readouterr()

    return call


def test_the_bytes_as_they_are(server):
    assert fetch_picture(f"{server.url}/a.png") == server.picture
    assert server.requests[-1][1]["Accept-Encoding"] == "identity"
    assert fetch_picture(f"{server.url}/to//to//a.png") == server.picture


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("gone.png", "the server answers 404 Not Found; check the address"),
        ("large.png", "is larger than 0.00195312 MB"),
        ("endless.png", "is larger than 0.00195312 MB"),
        ("slow.png", "took longer than 0.6 s"),
        ("slow-head.png", "took longer than 0.6 s"),
        ("silent.png", "took longer than 0.6 s"),
        ("cut.png", "cannot be fetched"),
        ("to/file|///etc/passwd", "redirects without end, or to something other than http"),
        ("to/ftp|//127.0.0.1/a.png", "redirects without end, or to something other than http"),
        ("to/data|image/png,x", "redirects without end, or to something other than http"),
    ],
)
def test_faults_are_one_line_in_time(server, path, said):
    begun = time.monotonic()
    with pytest.raises(ImageReadError) as caught:
        fetch_picture(f"{server.url}/{path}", most_bytes=2048, seconds=0.6)
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"{server.url}/{path}: ")
    assert "\n" not in str(caught.value)
    assert time.monotonic() - begun < 10


def test_redirects_in_a_circle_end(server):
    assert fetch_picture(f"{server.url}/to/{server.url.replace(':', '|')}/x.png") == server.picture
    server.answer, usual = lambda handler: server.head(handler, 302, {"Location": handler.path}), server.answer
    try:
        with pytest.raises(ImageReadError, match="redirect"):
            fetch_picture(f"{server.url}/a.png")
    finally:
        server.answer = usual


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://127.0.0.1/a", "data:image/png,x", "a.png"])
def test_other_schemes_are_no_addresses(address):
    assert not is_url(address)
    with pytest.raises(ImageReadError, match="no http or https address"):
        fetch_picture(address)


def test_nobody_there(server):
    with pytest.raises(ImageReadError, match="cannot be fetched"):
        fetch_picture("http://127.0.0.1:9/a.png", seconds=5)
    with pytest.raises(ImageReadError, match="cannot be fetched"):
        fetch_picture("http://127.0.0.1:port/a.png", seconds=5)


def test_the_opener_knows_http_alone():
    watch = module._Watch(1)
    names = set(vars(module._opener(watch))["handle_open"])
    assert names <= {"http", "https", "unknown"}, names
    assert "file" in vars(urllib.request.build_opener())["handle_open"]  # what would be wrong


class TestScore:
    def test_rows_are_those_of_the_file(self, server, run, tmp_path):
        (tmp_path / "a.png").write_bytes(server.picture)
        status, out, err = run(
            *(
                "a.png",
                f"{server.url}/a.png?size=1",
                f"{server.url}/gone.png",
                f"{server.url}/page.png",
                "--allow-urls",
            ),
            *("--metric", "fake-nr", "--format", "json"),
        )
        assert status == 1
        here, there, gone, page = json.loads(out)
        assert there["image"] == f"{server.url}/a.png?size=1"
        assert there["score"] == here["score"] == pytest.approx(create_metric("fake-nr")("a.png").item())
        assert "404" in gone["error"]
        assert page["error"].startswith(f"{server.url}/page.png: ")
        assert len(err.splitlines()) == 2

    def test_the_reference_is_found_by_the_name(self, server, run, tmp_path):
        (tmp_path / "ref").mkdir()
        (tmp_path / "ref/a.png").write_bytes(server.picture)
        status, out, _ = run(
            *(f"{server.url}/deep/a.png?x=/b.png", "--allow-urls", "--ref-dir", "ref"),
            *("--metric", "fake-fr", "--format", "json"),
        )
        assert status == 0
        assert json.loads(out)[0]["reference"] == "ref/a.png"

    def test_nothing_is_fetched_unless_it_is_allowed(self, server, run, tmp_path, monkeypatch):
        before = len(server.requests)
        status, _, err = run(f"{server.url}/a.png", "--metric", "fake-nr")
        assert (status, err.count("\n")) == (2, 1)
        assert "give --allow-urls" in err
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{server.url}/a.png\n"))
        status, _, err = run("-", "--metric", "fake-nr")
        assert status == 1
        assert "--allow-urls" in err
        status, _, err = run("a.png", "--ref", f"{server.url}/a.png", "--allow-urls", "--metric", "fake-fr")
        assert status == 2
        assert "give the file" in err
        assert len(server.requests) == before
