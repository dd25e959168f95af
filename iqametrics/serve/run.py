"""A server on a socket of this machine."""

import socket

import uvicorn

from iqametrics.pipeline import BatchScorer
from iqametrics.serve.app import make_app
from iqametrics.serve.requests import Limits


def open_socket(host: str, port: int) -> socket.socket:
    """Open the socket, so that a port that is taken is told before a model is made.

    Args:
        host: Name or address to listen at.
        port: The port; 0 for one that is free.

    Raises:
        OSError: If it cannot be opened.
    """
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    return socket.create_server((host, port), family=family, backlog=1024)


def make_server(scorer: BatchScorer, limits: Limits, *, most_at_once: int, most_waiting: int) -> uvicorn.Server:
    """Make the server, its model included; `run(sockets=[...])` serves until a signal comes."""
    app = make_app(scorer, limits, most_at_once=most_at_once, most_waiting=most_waiting)
    config = uvicorn.Config(app, log_level="warning", access_log=False, ws="none", loop="asyncio", http="h11")
    return uvicorn.Server(config)
