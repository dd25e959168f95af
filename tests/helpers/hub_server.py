"""A small server on loopback that speaks the Hub's protocol, as far as the huggingface_hub client uses it.

Downloads (HEAD and GET of /resolve/, ranges, the redirect of large files to another origin as the Hub does with its
CDN), model information, and uploads (whoami, create, preupload, LFS batch and PUT, commit as lines of JSON).
Repositories live in memory: a list of commits, each a dict of paths to bytes. Faults are injected by `HubServer.fail`.

    with HubServer() as hub:
        revision = hub.add("org/name", {"model.safetensors": b"..."})
        with hub.client(cache_folder):                  # the client in this process talks to it
            hf_hub_download("org/name", "model.safetensors", revision=revision)
        subprocess.run(..., env=hub.environment(cache_folder))  # and one in another

It does not speak Xet, the Hub's other transfer; `client` and `environment` switch it off in the client.
"""

import base64
import hashlib
import json
import os
import re
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from unittest import mock
from urllib.parse import unquote, urlsplit

TOKEN = "hf_of_the_test"
USER = "tester"


@dataclass
class Repo:
    """One model repository; `commits` has (revision, files), the newest last, and "main" is the newest."""

    commits: list = field(default_factory=list)
    private: bool = False
    gated: bool = False

    def files(self, revision):
        """The files of a revision or branch; None where there is no such revision."""
        if revision == "main":
            return self.commits[-1][1] if self.commits else {}
        return next((files for oid, files in self.commits if oid == revision), None)

    def oid(self, revision):
        """The 40 digits of a revision or branch."""
        return (self.commits[-1][0] if self.commits else "0" * 40) if revision == "main" else revision


@dataclass
class Fault:
    """What goes wrong with requests whose path contains `path`; see `HubServer.fail`."""

    path: str
    kind: object
    method: str | None
    times: int | None
    after: int | None
    seconds: float
    retry_after: int | None
    hits: int = 0

    def meets(self, method, path):
        return self.path in path and self.method in (None, method) and (self.times is None or self.hits < self.times)


class HubServer:
    """The server; use it as a context manager.

    Attributes:
        repos: Repositories by "org/name".
        requests: (method, path, headers) of every request, in order; the headers' names are lower-case.
        accepted: Repositories that `TOKEN` may read though they are gated.
    """

    def __init__(self):
        self.repos = {}
        self.blobs = {}
        self.moved = {}
        self.faults = []
        self.requests = []
        self.accepted = set()
        self.lock = threading.Lock()
        handler = type("BoundHandler", (_Handler,), {"hub": self})
        self._servers = [_Server(("127.0.0.1", 0), handler) for _ in range(2)]
        self.endpoint, self.cdn = (f"http://127.0.0.1:{server.server_port}" for server in self._servers)

    def __enter__(self):
        for server in self._servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_):
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def add(self, repo, files, *, private=False, gated=False):
        """Make a repository, or a commit of one, with these files beside the former ones; return its revision."""
        made = self.repos.setdefault(repo, Repo(private=private, gated=gated))
        made.private, made.gated = private or made.private, gated or made.gated
        return self.commit(repo, {**made.files("main"), **files})

    def commit(self, repo, files):
        """Add a commit that holds exactly these files; return its revision."""
        commits = self.repos[repo].commits
        seed = json.dumps([repo, len(commits), sorted((path, _sha256(data)) for path, data in files.items())])
        revision = hashlib.sha1(seed.encode()).hexdigest()
        commits.append((revision, dict(files)))
        self.blobs.update({_sha256(data): data for data in files.values()})
        return revision

    def move(self, old, new):
        """Rename a repository; requests for the old name are redirected, as the Hub does."""
        self.repos[new] = self.repos.pop(old)
        self.moved[old] = new

    def files(self, repo, revision="main"):
        """The files of a revision."""
        return self.repos[repo].files(revision)

    def fail(self, path, kind, *, method=None, times=None, after=None, seconds=30.0, retry_after=None):
        """Let requests whose path contains `path` fail.

        Args:
            path: Part of the path; files on the "CDN" are under /cdn/ with their name at the end.
            kind: A status (401, 403, 404, 429, 500, ...), "cut" (the connection ends after `after` bytes of the body,
                half of it by default), "wrong" (other bytes of the same length), "short" (a whole answer that is half
                as long as announced before), "slow" (nothing for `seconds`), "drop" (no answer at all), "half"
                (the server leaves when it has read half of the request's body).
            method: "GET", "HEAD", ...; None for all.
            times: How often; None for always.
            after: For "cut".
            seconds: For "slow".
            retry_after: Seconds of the header Retry-After, for a status.
        """
        fault = Fault(path, kind, method, times, after, seconds, retry_after)
        self.faults.append(fault)
        return fault

    def heal(self):
        """Take back all faults."""
        self.faults.clear()

    def count(self, method, path):
        """How many requests of a method had `path` in their path."""
        return sum(m == method and path in p for m, p, _ in self.requests)

    def environment(self, home, **changes):
        """Environment of a process whose client talks to this server and caches below `home`."""
        env = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        env |= {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }
        return env | {name: str(value) for name, value in changes.items()}

    @contextmanager
    def client(self, home, **constants):
        """Within it the client of this process talks to this server and caches below `home`.

        Args:
            home: What HF_HOME would be.
            constants: Further names of huggingface_hub.constants, such as HF_HUB_OFFLINE=True.
        """
        import huggingface_hub.hf_api
        from huggingface_hub.utils import _http

        values = {
            "ENDPOINT": self.endpoint,
            "HF_HOME": str(home),
            "HF_HUB_CACHE": str(home / "hub"),
            "HF_TOKEN_PATH": str(home / "token"),
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_DISABLE_TELEMETRY": True,
            **constants,
        }
        with ExitStack() as stack:
            stack.enter_context(mock.patch.dict(os.environ, {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}))
            for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
                os.environ.pop(name, None)
            for name, value in values.items():
                # Older clients do not know every constant, and do without it.
                stack.enter_context(mock.patch.object(huggingface_hub.constants, name, value, create=True))
            # The client's waits between tries are seconds long.
            stack.enter_context(mock.patch("time.sleep", lambda seconds, sleep=time.sleep: sleep(min(seconds, 0.01))))
            # These two were computed from the constants when the client was imported.
            stack.enter_context(mock.patch.object(huggingface_hub.hf_api.api, "endpoint", self.endpoint))
            if hasattr(_http, "_HUB_ORIGINS"):  # since huggingface_hub 1
                origins = frozenset({_http._url_origin(self.endpoint)})
                stack.enter_context(mock.patch.object(_http, "_HUB_ORIGINS", origins))
            stack.enter_context(url_template(f"{self.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"))
            close = getattr(_http, "close_session" if hasattr(_http, "close_session") else "reset_sessions")
            stack.callback(close)
            close()
            yield


@contextmanager
def url_template(template):
    """Within it the client of this process finds files by another address, which some clients hold in two places."""
    from huggingface_hub import constants, file_download

    with ExitStack() as stack:
        for module in (constants, file_download):
            if hasattr(module, "HUGGINGFACE_CO_URL_TEMPLATE"):
                stack.enter_context(mock.patch.object(module, "HUGGINGFACE_CO_URL_TEMPLATE", template))
        yield


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request, client_address):
        """A client that leaves early is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    """One connection. Faults are looked up first, then the route."""

    protocol_version = "HTTP/1.1"
    hub: "HubServer"

    def log_message(self, *_):
        """Silence."""

    def handle_any(self):
        self.path_only = unquote(urlsplit(self.path).path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        half = next((f for f in self.hub.faults if f.kind == "half" and f.meets(self.command, self.path_only)), None)
        if half is not None:
            half.hits += 1
            self.rfile.read(int(self.headers.get("Content-Length") or 2) // 2)
            self.close_connection = True
            return
        body = self.read_body()
        with self.hub.lock:
            self.hub.requests.append((self.command, self.path_only, headers))
            fault = next((f for f in self.hub.faults if f.meets(self.command, self.path_only)), None)
            if fault is not None:
                fault.hits += 1
        self.fault = fault
        if fault is not None and fault.kind == "drop":
            self.close_connection = True
            return
        if fault is not None and fault.kind == "slow":
            threading.Event().wait(fault.seconds)  # `HubServer.client` shortens time.sleep
        if fault is not None and isinstance(fault.kind, int):
            extra = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
            self.refuse(fault.kind, "injected fault", extra)
            return
        for method, pattern, name in _ROUTES:
            match = re.fullmatch(pattern, self.path_only)
            if method == self.command and match:
                getattr(self, name)(*match.groups(), body=body)
                return
        self.refuse(404, "no such route")

    do_GET = do_HEAD = do_POST = do_PUT = handle_any

    # --- downloads --------------------------------------------------------------------------------------------------

    def resolve(self, repo_name, revision, path, body):
        if repo_name in self.hub.moved:
            target = f"/{self.hub.moved[repo_name]}/resolve/{revision}/{path}"
            self.answer(307, b"", {"Location": target})
            return
        repo = self.readable(repo_name)
        if repo is None:
            return
        files = repo.files(revision)
        if files is None:
            self.refuse(404, "Invalid rev id", {"X-Error-Code": "RevisionNotFound"})
            return
        oid = repo.oid(revision)
        if path not in files:
            self.refuse(404, "Entry not found", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": oid})
            return
        data = files[path]
        headers = {"X-Repo-Commit": oid, "ETag": f'"{_etag(path, data)}"', "Accept-Ranges": "bytes"}
        if not _is_large(path):
            self.send_data(data, headers)
            return
        headers |= {
            "X-Linked-Size": str(len(data)),
            "X-Linked-ETag": f'"{_sha256(data)}"',
            "Location": f"{self.hub.cdn}/cdn/{_sha256(data)}/{path.rpartition('/')[2]}",
        }
        self.answer(302, b"", headers)

    def content(self, digest, name, body):
        if "authorization" in {header.lower() for header in self.headers}:
            self.refuse(400, "a token was sent to the CDN")
            return
        self.send_data(self.hub.blobs[digest], {"ETag": f'"{digest}"', "Accept-Ranges": "bytes"})

    def send_data(self, data, headers):
        """Send a file, or the range of it that is asked for, with the fault that is due."""
        status, begin = 200, 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked:
            begin = int(asked[1])
            if begin >= len(data):
                self.refuse(416, "range beyond the end", {"Content-Range": f"bytes */{len(data)}"})
                return
            status = 206
            headers = {**headers, "Content-Range": f"bytes {begin}-{len(data) - 1}/{len(data)}"}
        data = data[begin:]
        kind = self.fault.kind if self.fault is not None else None
        if kind == "wrong":
            data = bytes(byte ^ 1 for byte in data[:1]) + data[1:]
        if kind == "short":
            data = data[: len(data) // 2]
        self.answer(status, data, headers, cut=kind == "cut")

    def model(self, repo_name, revision="main", body=b""):
        repo = self.readable(repo_name)
        if repo is None:
            return
        files = repo.files(revision)
        if files is None:
            self.refuse(404, "Invalid rev id", {"X-Error-Code": "RevisionNotFound"})
            return
        siblings = [
            {"rfilename": path, "size": len(data), "blobId": _etag(path, data)}
            | ({"lfs": {"sha256": _sha256(data), "size": len(data), "pointerSize": 130}} if _is_large(path) else {})
            for path, data in sorted(files.items())
        ]
        self.answer_json(
            {
                "_id": "1",
                "id": repo_name,
                "modelId": repo_name,
                "sha": repo.oid(revision),
                "private": repo.private,
                "gated": "manual" if repo.gated else False,
                "downloads": 0,
                "likes": 0,
                "tags": [],
                "siblings": siblings,
            }
        )

    # --- uploads ----------------------------------------------------------------------------------------------------

    def whoami(self, body):
        if self.has_token():
            self.answer_json({"type": "user", "name": USER, "orgs": [{"name": "org"}], "auth": {}})
        else:
            self.refuse(401, "Invalid credentials in Authorization header")

    def create(self, body):
        if not self.has_token():
            self.refuse(401, "Invalid username or password.")
            return
        asked = json.loads(body)
        namespace = asked.get("organization") or USER
        name = f"{namespace}/{asked['name']}"
        if namespace not in (USER, "org"):
            self.refuse(403, f'You don\'t have the rights to create a model under the namespace "{namespace}"')
        elif name in self.hub.repos:
            self.answer_json({"error": "You already created this model repo", "url": self.url(name)}, 409)
        else:
            private = asked.get("visibility") == "private" or asked.get("private") is True
            self.hub.repos[name] = Repo(private=private)
            self.answer_json({"url": self.url(name), "name": name, "id": "1"})

    def validate_yaml(self, body):
        self.answer_json({"errors": [], "warnings": []})

    def preupload(self, repo_name, revision, body):
        repo = self.writable(repo_name)
        if repo is None:
            return
        present = repo.files(revision) or {}
        self.answer_json(
            {
                "files": [
                    {
                        "path": item["path"],
                        "uploadMode": "lfs" if _is_large(item["path"]) else "regular",
                        "shouldIgnore": False,
                        "oid": _etag(item["path"], present[item["path"]]) if item["path"] in present else None,
                    }
                    for item in json.loads(body)["files"]
                ]
            }
        )

    def lfs_batch(self, repo_name, body):
        if self.writable(repo_name) is None:
            return
        answers = []
        for item in json.loads(body)["objects"]:
            known = item["oid"] in self.hub.blobs
            upload = {"upload": {"href": f"{self.hub.cdn}/lfs/{item['oid']}"}}
            answers.append({"oid": item["oid"], "size": item["size"], **({} if known else {"actions": upload})})
        self.answer_json({"transfer": "basic", "objects": answers})

    def lfs_put(self, digest, body):
        if _sha256(body) != digest:
            self.refuse(400, "the content is not that of the SHA-256")
            return
        self.hub.blobs[digest] = body
        self.answer(200, b"", {"ETag": f'"{digest}"'})

    def push(self, repo_name, revision, body):
        repo = self.writable(repo_name)
        if repo is None:
            return
        files = dict(repo.files(revision) or {})
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                if value["oid"] not in self.hub.blobs:
                    self.refuse(400, f"LFS object {value['oid']} was not uploaded")
                    return
                files[value["path"]] = self.hub.blobs[value["oid"]]
            elif item["key"] == "deletedFile":
                del files[value["path"]]
        oid = self.hub.commit(repo_name, files)
        self.answer_json({"success": True, "commitOid": oid, "commitUrl": f"{self.url(repo_name)}/commit/{oid}"})

    # --- who may what -----------------------------------------------------------------------------------------------

    def has_token(self):
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def readable(self, repo_name):
        """The repository; None after having refused it in the words of the Hub."""
        repo = self.hub.repos.get(repo_name)
        token = self.headers.get("Authorization")
        if token is not None and not self.has_token():
            self.refuse(401, "Invalid credentials in Authorization header")
        elif repo is None or (repo.private and not self.has_token()):
            # The Hub says 401 to the nameless, so as not to tell whether there is a private repository.
            self.refuse(404 if token else 401, "Repository not found", {"X-Error-Code": "RepoNotFound"})
        elif repo.gated and repo_name not in self.hub.accepted:
            self.refuse(403 if token else 401, f"Access to {repo_name} is restricted", {"X-Error-Code": "GatedRepo"})
        else:
            return repo
        return None

    def writable(self, repo_name):
        if not self.has_token():
            self.refuse(401, "Invalid username or password.")
            return None
        if repo_name.partition("/")[0] not in (USER, "org"):
            self.refuse(403, "You don't have the rights to write to this repository")
            return None
        return self.readable(repo_name)

    def url(self, repo_name):
        return f"{self.hub.endpoint}/{repo_name}"

    # --- bytes ------------------------------------------------------------------------------------------------------

    def read_body(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self, status, data, headers, *, cut=False):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if cut:
            self.wfile.write(data[: len(data) // 2 if self.fault.after is None else self.fault.after])
            self.close_connection = True
        else:
            self.wfile.write(data)

    def answer_json(self, value, status=200):
        self.answer(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def refuse(self, status, message, headers=None):
        text = json.dumps({"error": message}).encode()
        self.answer(status, text, {"Content-Type": "application/json", "X-Error-Message": message, **(headers or {})})


_REPO = r"([^/]+/[^/]+)"
_ROUTES = (
    ("HEAD", rf"/{_REPO}/resolve/([^/]+)/(.+)", "resolve"),
    ("GET", rf"/{_REPO}/resolve/([^/]+)/(.+)", "resolve"),
    ("HEAD", r"/cdn/([0-9a-f]{64})/([^/]+)", "content"),
    ("GET", r"/cdn/([0-9a-f]{64})/([^/]+)", "content"),
    ("GET", r"/api/whoami-v2", "whoami"),
    ("POST", r"/api/repos/create", "create"),
    ("POST", r"/api/validate-yaml", "validate_yaml"),
    ("GET", rf"/api/models/{_REPO}", "model"),
    ("GET", rf"/api/models/{_REPO}/revision/([^/]+)", "model"),
    ("POST", rf"/api/models/{_REPO}/preupload/([^/]+)", "preupload"),
    ("POST", rf"/api/models/{_REPO}/commit/([^/]+)", "push"),
    ("POST", r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", "lfs_batch"),
    ("PUT", r"/lfs/([0-9a-f]{64})", "lfs_put"),
)


def _sha256(data):
    return hashlib.sha256(data).hexdigest()


def _is_large(path):
    """Whether the Hub keeps the file in LFS."""
    return path.endswith((".safetensors", ".bin", ".pth"))


def _etag(path, data):
    """SHA-256 of a file in LFS, else the digest that git gives it."""
    return _sha256(data) if _is_large(path) else hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
