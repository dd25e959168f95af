"""The server: the command line's scores, every refusal one line, fifty clients at once."""

import contextlib
import http.client
import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import fakes
import numpy as np
import pytest
from picture_server import PictureServer
from PIL import Image

pytest.importorskip("starlette", reason="the extra `serve` is not installed")
pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")

from iqametrics.cli import main as cli_main
from iqametrics.pipeline import BatchScorer
from iqametrics.serve.requests import Limits
from iqametrics.serve.run import make_server, open_socket

LIMITS = Limits(100_000, 20, allow_urls=False)


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Return a function that starts a server and returns its port; all are stopped at the end."""
    fakes.install(tmp_path, monkeypatch)
    running = []

    def begin(metric="fake-nr.tiny", limits=LIMITS, most_at_once=8, most_waiting=256):
        server = make_server(
            BatchScorer(metric, device="cpu"), limits, most_at_once=most_at_once, most_waiting=most_waiting
        )
        listening = open_socket("127.0.0.1", 0)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        running.append((server, thread, listening))
        return listening.getsockname()[1]

    yield begin
    for server, thread, listening in running:
        server.should_exit = True
        thread.join()
        listening.close()


def png(seed=0):
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def ask(port, body=b"", kind="application/octet-stream", path="/score", method="POST"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body, {"Content-Type": kind})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def form(**parts):
    body = b"".join(
        b'--edge\r\nContent-Disposition: form-data; name="%s"; filename="a.png"\r\n\r\n%s\r\n'
        % (name.encode(), content)
        for name, content in parts.items()
    )
    return body + b"--edge--\r\n", "multipart/form-data; boundary=edge"


def test_the_score_is_that_of_the_command_line_bit_for_bit(start, tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(png())
    (tmp_path / "b.png").write_bytes(png(1))
    port, full = start(), start("fake-fr.lite")
    asked = {"fake-nr.tiny": ask(port, png()), "fake-fr.lite": ask(full, *form(image=png(), reference=png(1)))}
    for metric, (status, text) in asked.items():
        reference = ["--ref", str(tmp_path / "b.png")] if "fr" in metric else []
        picture = str(tmp_path / "a.png")
        cli_main.main(["score", picture, *reference, "--metric", metric, "--device", "cpu", "--format", "jsonl"])
        wanted = json.loads(capsys.readouterr().out)
        assert status == 200
        assert json.loads(text) == {name: wanted[name] for name in ("metric", "score", "fingerprint")}


def test_fifty_clients_each_get_their_own_score(start):
    port = start()
    pictures = [png(seed) for seed in range(50)]
    wanted = [row.score for row in BatchScorer("fake-nr.tiny", device="cpu")(pictures)]
    with ThreadPoolExecutor(50) as clients:
        answers = list(clients.map(lambda picture: ask(port, picture), pictures * 2))
    assert [status for status, _ in answers] == [200] * 100
    assert [json.loads(text)["score"] for _, text in answers] == wanted * 2
    status, text = ask(port, path="/metrics", method="GET")
    assert status == 200
    assert 'iqametrics_requests_total{status="200"} 100' in text
    assert "iqametrics_batch_size_sum 100.0" in text
    assert json.loads(ask(port, path="/health", method="GET")[1])["status"] == "ok"


@pytest.mark.parametrize(
    ("body", "kind", "status", "words"),
    [
        (b"no picture", "image/png", 422, "image"),
        (b"", "image/png", 400, "empty"),
        (bytes(100_001), "image/png", 413, "100000 bytes"),
        (b'{"url": "http://127.0.0.1/a.png"}', "application/json", 403, "--allow-urls"),
        (*form(image=png(), reference=png()), 400, "takes no reference"),
        (*form(picture=png()), 400, "'picture' is not expected"),
        (*form(), 400, "no part image"),
        (b"x", "multipart/form-data; boundary=edge", 400, "multipart"),
        (b"x", "multipart/form-data", 400, "multipart"),
    ],
)
def test_what_cannot_be_scored_is_refused_in_one_line(start, body, kind, status, words):
    got, text = ask(start(), body, kind)
    assert got == status
    error = json.loads(text)["error"]
    assert words in error
    assert "\n" not in error


def test_a_damaged_picture_costs_its_own_request_only(start):
    port = start()
    bodies = [png(1), b"bad", png(2), png(3)[:200]] * 5
    with ThreadPoolExecutor(20) as clients:
        answers = list(clients.map(lambda body: ask(port, body)[0], bodies))
    assert answers == [200, 422, 200, 422] * 5


def test_a_reference_is_asked_for(start):
    status, text = ask(start("fake-fr.lite"), png())
    assert (status, "image and reference" in text) == (400, True)


def test_addresses_are_fetched_when_allowed(start):
    with contextlib.closing(PictureServer(png(4))) as elsewhere:
        port = start(limits=Limits(100_000, 20, allow_urls=True))
        good = ask(port, json.dumps({"url": f"{elsewhere.url}/a.png"}).encode(), "application/json")
        assert (good[0], json.loads(good[1])["score"]) == (200, json.loads(ask(port, png(4))[1])["score"])
        gone = ask(port, json.dumps({"url": f"{elsewhere.url}/gone.png"}).encode(), "application/json")
        assert gone[0] == 422
        for wrong in (b"[]", b"{", b'{"url": 3}', b'{"file": "a"}'):
            assert ask(port, wrong, "application/json")[0] == 400


def test_who_waits_too_long_or_in_too_long_a_line_is_told(start, monkeypatch):
    held = threading.Event()
    usual = BatchScorer.__call__

    def slow(self, *args, **keywords):
        held.wait(20)
        return usual(self, *args, **keywords)

    monkeypatch.setattr(BatchScorer, "__call__", slow)
    port = start(limits=Limits(100_000, 0.5, allow_urls=False), most_at_once=1, most_waiting=1)
    with ThreadPoolExecutor(6) as clients:
        answers = list(clients.map(lambda _: ask(port, png())[0], range(6)))
    held.set()
    assert set(answers) == {503, 504}
    # Whoever gave up stands in the line until the thread comes to it.
    assert 200 in (ask(port, png())[0] for _ in range(50))


def test_a_port_that_is_taken_is_told_in_one_line(capsys):
    with open_socket("127.0.0.1", 0) as taken:
        port = str(taken.getsockname()[1])
        assert cli_main.main(["serve", "--metric", "bpclip-nr.lite", "--port", port]) == 2
    assert "give another --port" in capsys.readouterr().err
