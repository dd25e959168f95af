"""A metric as a server: `POST /score`, `GET /health`, `GET /metrics`; extra `serve` (starlette, uvicorn).

batching.py    requests that wait together are scored together, by one thread
counters.py    what `GET /metrics` tells
requests.py    from the body of a request to pictures
app.py         the routes
run.py         the socket, and uvicorn on it
"""
