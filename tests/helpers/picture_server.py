"""A server on the loopback that has one picture, and every fault that a server can have."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class PictureServer:
    """Serves `picture` at /a.png; the other paths are faults.

    Args:
        picture: Bytes of the picture.
    """

    def __init__(self, picture: bytes) -> None:
        self.picture, self.done = picture, threading.Event()
        self.requests: list[tuple[str, dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append((self.path, dict(self.headers)))
                outer.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        path = handler.path.partition("?")[0]
        length = {"Content-Length": str(len(self.picture))}
        bodies = {"/page.png": b"<html>sign in first</html>", "/empty.png": b"", "/large.png": b"\0" * 5000}
        # Headers, what comes again and again, and the pause between.
        drips: dict[str, tuple[dict[str, str], bytes, float]] = {
            "/endless.png": ({}, b"\0" * 4000, 0),
            "/slow.png": (length, b"\0", 0.05),
        }
        if path.startswith("/to/"):
            self.head(handler, 302, {"Location": path.removeprefix("/to/").replace("|", ":")})
        elif path == "/gone.png":
            handler.send_error(404)
        elif path in drips:
            headers, part, pause = drips[path]
            self.head(handler, 200, headers)
            self.drip(handler, part, pause)
        elif path == "/silent.png":
            self.done.wait(20)
        elif path == "/slow-head.png":
            self.drip(handler, b"H", 0.05)
        elif path == "/cut.png":
            self.head(handler, 200, length)
            handler.wfile.write(self.picture[: len(self.picture) // 2])
        else:
            self.body(handler, bodies.get(path, self.picture))

    def body(self, handler: BaseHTTPRequestHandler, content: bytes) -> None:
        self.head(handler, 200, {"Content-Length": str(len(content))})
        handler.wfile.write(content)

    def head(self, handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str]) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()

    def drip(self, handler: BaseHTTPRequestHandler, part: bytes, pause: float) -> None:
        try:
            while not self.done.is_set():
                handler.wfile.write(part)
                time.sleep(pause)
        except OSError:
            pass

    def close(self) -> None:
        self.done.set()
        self.server.shutdown()
        self.server.server_close()
