"""Files on the Hub: fetched by huggingface_hub into its own cache, and verified.

The client's settings apply: HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_HUB_OFFLINE, HF_TOKEN. It is imported only
when a file is looked for; nothing here imports torch.
"""

import errno
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from iqametrics.common.digest import file_sha256
from iqametrics.errors import WeightsError
from iqametrics.naming import HUB
from iqametrics.weights.manifest import CheckpointEntry, is_file_name, is_repo, is_revision, is_sha256
from iqametrics.weights.untrusted import one_line, read_metadata

DEFAULT_FILE = "model.safetensors"
_REFERENCE = re.compile(r"hub:(?P<repo>[^@:\s]+)(@(?P<revision>[^@:\s]+))?(:(?P<file>[^@:\s]+))?")


@dataclass(frozen=True, kw_only=True)
class HubFile:
    """A file on the Hub.

    Attributes:
        name: Its name for `iqametrics weights fetch`.
        repo: "ORG/NAME".
        file: Its name in the repository, without a folder.
        revision: A commit of 40 digits, or a branch.
        sha256: Its digest; None where it is not recorded.
    """

    name: str
    repo: str
    file: str
    revision: str
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """A verified file in the cache: its path, commit and digest."""

    path: Path
    revision: str
    sha256: str
    bytes: int


def parse_reference(text: str) -> HubFile:
    """Read "hub:ORG/NAME@REVISION" or "hub:ORG/NAME@REVISION:FILE"; the file is "model.safetensors" by default.

    Raises:
        WeightsError: If the text is not of that form, or the revision is a branch, which could move.
    """
    match = _REFERENCE.fullmatch(text)
    if match is None or not is_repo(match["repo"]) or not is_file_name(match["file"] or DEFAULT_FILE):
        raise WeightsError(
            f"{one_line(text)}: is not of the form hub:ORG/NAME@REVISION or hub:ORG/NAME@REVISION:FILE.safetensors"
        )
    if not is_revision(match["revision"] or ""):
        raise WeightsError(
            f"{text}: {match['revision'] or 'no revision'} can change what is loaded; give the 40 digits of a commit, "
            f"which `iqametrics weights pin {text}` looks up"
        )
    return HubFile(name=text, repo=match["repo"], file=match["file"] or DEFAULT_FILE, revision=match["revision"])


def pin_reference(text: str) -> str:
    """Look up the commit that a reference to a branch, or without a revision ("main"), means now.

    Args:
        text: "hub:ORG/NAME", "hub:ORG/NAME@BRANCH", each with or without ":FILE".

    Returns:
        The same reference with the 40 digits of the commit.

    Raises:
        WeightsError: If the text is no such reference, or the Hub cannot be reached.
    """
    match = _REFERENCE.fullmatch(text)
    if match is None or not is_repo(match["repo"]):
        raise WeightsError(f"{one_line(text)}: is not of the form hub:ORG/NAME@BRANCH")
    file = match["file"] or DEFAULT_FILE
    wanted = HubFile(name=text, repo=match["repo"], file=file, revision=match["revision"] or "main")
    commit = _ask(wanted).commit_hash
    return f"{HUB}{wanted.repo}@{commit}" + (f":{match['file']}" if match["file"] else "")


def entry_file(entry: CheckpointEntry) -> HubFile:
    """Return the file of a manifest entry whose source is the Hub."""
    assert entry.repo is not None
    assert entry.revision is not None
    return HubFile(
        name=entry.full_name,
        repo=entry.repo,
        file=entry.file,
        revision=entry.revision,
        sha256=entry.sha256,
    )


def fetch_checkpoint(entry: CheckpointEntry, *, force: bool = False) -> Path:
    """Fetch the checkpoint of a manifest entry unless the cache has it, and verify its digest and its metadata.

    Args:
        entry: An entry whose source is "hub".
        force: Fetch it anew even if it is cached.

    Raises:
        WeightsError: If it cannot be fetched, or is not what the manifest says.
    """
    path = fetch(entry_file(entry), force=force).path
    metadata = read_metadata(path)
    for field in ("metric", "tag", "config"):
        if metadata[field] != getattr(entry, field):
            raise WeightsError(
                f"{entry.full_name}: the file's own {field} is {str(metadata[field])[:80]!r}, which is not that of the "
                "manifest; update iqametrics"
            )
    return path


def fetch(file: HubFile, *, force: bool = False) -> Fetched:
    """Fetch a file unless the cache has it, and verify it.

    Its digest must be `file.sha256`; where that is None, the digest that the Hub states for it.

    Args:
        file: What to fetch.
        force: Fetch it anew even if it is cached.

    Raises:
        WeightsError: If it cannot be fetched, or is not what it should be.
    """
    path = None if force else cached_path(file)
    if path is not None:
        fetched = _identify(path)
        if fetched.sha256 != (file.sha256 or _stored_digest(path) or fetched.sha256):
            raise WeightsError(
                f"{file.name}: {path} is damaged, its SHA-256 is not the one expected; `iqametrics weights fetch "
                f"{file.name} --force` fetches it anew"
            )
        return fetched
    path, promised = _download(file, force)
    fetched = _identify(path)
    if fetched.sha256 != (file.sha256 or promised or fetched.sha256):
        remove(path)
        raise WeightsError(
            f"{file.name}: the bytes that came from {file.repo} are not those expected (SHA-256 {fetched.sha256[:12]} "
            f"instead of {(file.sha256 or promised or '')[:12]}), so they were removed; try again or ask who published "
            "them"
        )
    return fetched


def cached_path(file: HubFile) -> Path | None:
    """Return where a file is in the cache, not verified; None where it is not. Needs no network."""
    found = _client().try_to_load_from_cache(file.repo, file.file, revision=file.revision)
    return Path(found) if isinstance(found, str) else None


def remove(path: Path) -> int:
    """Remove one file from the cache, and nothing else.

    Args:
        path: As `cached_path` returns it: a link below snapshots/ to the content below blobs/, or the content itself.

    Returns:
        Number of bytes that became free; 0 where another revision has the same content.

    Raises:
        WeightsError: If it cannot be removed.
    """
    try:
        return _remove(path)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be removed ({error.strerror}); check who may write there") from error


def _remove(path: Path) -> int:
    content = path.resolve()
    snapshots = next((parent for parent in path.parents if parent.name == "snapshots"), path.parent)
    size = content.stat().st_size if content.is_file() else 0
    path.unlink(missing_ok=True)
    if content != path and content.is_file():
        if any(other.resolve() == content for other in snapshots.rglob("*") if other.is_symlink()):
            return 0
        content.unlink()
    # Folders that are empty now; the client creates them when it needs them.
    for folder in (*path.parents, content.parent):
        if folder == snapshots.parent:
            break
        with suppress(OSError):
            folder.rmdir()
    return size


def _client() -> ModuleType:
    import huggingface_hub
    import huggingface_hub.constants

    return huggingface_hub


def _identify(path: Path) -> Fetched:
    # .../snapshots/COMMIT/FILE
    digest = file_sha256(path, error=WeightsError, remedy="check the cache folder")
    return Fetched(path=path, revision=path.parent.name, sha256=digest, bytes=path.stat().st_size)


def _stored_digest(path: Path) -> str | None:
    """Return the digest by which the cache names a large file; None for a small one or a cache without links."""
    name = path.resolve().name
    return name if is_sha256(name) else None


def _download(file: HubFile, force: bool) -> tuple[Path, str | None]:
    """Download a file; return its path and the SHA-256 that the Hub states for it, if it states one."""
    hub = _client()
    if hub.constants.HF_HUB_OFFLINE:
        raise WeightsError(
            f"{file.name}: HF_HUB_OFFLINE is set{'' if force else ' and it is not cached'}; {_elsewhere(file)}"
        )
    known = _ask(file)
    promised = known.etag if is_sha256(known.etag or "") else None
    if file.sha256 is not None and promised not in (None, file.sha256):
        raise WeightsError(
            f"{file.name}: {file.repo} offers another file (SHA-256 {str(promised)[:12]} instead of "
            f"{file.sha256[:12]}), which was not fetched; check HF_ENDPOINT or ask who published it"
        )
    size = f", {known.size / 1e6:.1f} MB," if known.size else ""
    print(f"iqametrics: fetching {file.name}{size} from {file.repo}", file=sys.stderr)
    try:
        with quiet(hub):
            # By the commit that was looked up, so that a branch cannot move in between.
            path = hub.hf_hub_download(
                file.repo, file.file, revision=known.commit_hash, force_download=force, library_name="iqametrics"
            )
    except Exception as error:  # the client has changed its HTTP library twice, and with it the classes of its errors
        raise _explained(error, file) from error
    return Path(path), promised


def _ask(file: HubFile) -> Any:
    """Ask the Hub for commit, size and digest of a file, once: without a retry, a refusal comes at once."""
    hub = _client()
    url = hub.hf_hub_url(file.repo, file.file, revision=file.revision)
    try:
        known = hub.get_hf_file_metadata(url, timeout=hub.constants.HF_HUB_ETAG_TIMEOUT)
    except Exception as error:
        raise _explained(error, file) from error
    if not known.commit_hash or not known.etag:
        raise WeightsError(
            f"{file.name}: {hub.constants.ENDPOINT} does not answer as the Hub does; check HF_ENDPOINT and the proxy"
        )
    if is_revision(file.revision) and known.commit_hash != file.revision:
        raise WeightsError(
            f"{file.name}: {hub.constants.ENDPOINT} answers with commit {one_line(known.commit_hash, 40)} instead of "
            f"{file.revision}; check HF_ENDPOINT"
        )
    return known


@contextmanager
def quiet(hub: ModuleType) -> Iterator[None]:
    """Hide progress bars where stderr is not a terminal, unless the user has decided."""
    decided = hub.constants.HF_HUB_DISABLE_PROGRESS_BARS is not None or hub.utils.are_progress_bars_disabled()
    if decided or sys.stderr.isatty():
        yield
        return
    hub.utils.disable_progress_bars()
    try:
        yield
    finally:
        hub.utils.enable_progress_bars()


def _elsewhere(file: HubFile) -> str:
    """Return what to do without the network."""
    cache = _client().constants.HF_HUB_CACHE
    if file.name.startswith(HUB) and not is_revision(file.revision):  # only the commit is looked up; nothing is fetched
        return f"run `iqametrics weights pin {file.name}` on a machine with network, or set HF_ENDPOINT to a mirror"
    return (
        f"on a machine with network run `iqametrics weights fetch {file.name}` and copy its Hub cache to {cache} "
        "here, or set HF_ENDPOINT to a mirror"
    )


def _explained(error: Exception, file: HubFile) -> WeightsError:
    """Turn an error of the client into one line with the remedy."""
    chain = list(_chain(error))
    names = {kind.__name__ for link in chain for kind in type(link).__mro__}
    response = next((r for link in chain if (r := getattr(link, "response", None)) is not None), None)
    if isinstance(error, WeightsError):
        return error
    if own := next(filter(None, map(_of_this_machine, chain)), None):
        return WeightsError(f"{file.name}: {own}")
    for name, text in _REFUSALS:
        if name in names:
            return WeightsError(f"{file.name}: {text.format(**_words(file))}")
    if response is not None:
        return WeightsError(f"{file.name}: {_status(response, file)}")
    reason = (str(chain[-1]) or type(chain[-1]).__name__).splitlines()[0][:120]
    if "OfflineModeIsEnabled" in names:
        return WeightsError(f"{file.name}: HF_HUB_OFFLINE is set; {_elsewhere(file)}")
    if names & _NO_ADDRESS:
        return WeightsError(f"{file.name}: {_words(file)['endpoint']} is no address; set HF_ENDPOINT to https://...")
    if names & _UNREACHABLE:
        return WeightsError(f"{file.name}: cannot reach {_words(file)['endpoint']} ({reason}); {_elsewhere(file)}")
    if any("Timeout" in name for name in names):
        return WeightsError(f"{file.name}: {_words(file)['endpoint']} did not answer in time; try again later")
    return WeightsError(f"{file.name}: fetching from {file.repo} was cut short ({reason}); try again")


def _of_this_machine(error: BaseException) -> str | None:
    """Say what is wrong with the disk or the cache folder; None where the error has another cause."""
    if not isinstance(error, OSError):
        return None
    constants = _client().constants
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"no space left below {constants.HF_HUB_CACHE}; make room, or set HF_HOME to another disk"
    # A connection's error names no file.
    if isinstance(error.filename, str | bytes) or error.errno == errno.EROFS:
        place = f"{os.fsdecode(error.filename or constants.HF_HUB_CACHE)}"
        return f"{one_line(place)} cannot be used ({error.strerror}); set HF_HOME to a folder that can be written"
    return None


# By name: of httpx and of requests.
_NO_ADDRESS = {"UnsupportedProtocol", "InvalidURL", "MissingSchema", "InvalidSchema"}
# By name: of httpx, of requests and urllib3, and of Python.
_UNREACHABLE = {
    "ConnectError",
    "ConnectTimeout",
    "ProxyError",
    "SSLError",
    "NewConnectionError",
    "ConnectionRefusedError",
    "gaierror",
}
# The most special first: the client derives the first from the second.
_REFUSALS = (
    (
        "GatedRepoError",
        "{repo} is open only to those who accepted its terms; accept them on {endpoint}/{repo} and log in with "
        "`hf auth login` or HF_TOKEN",
    ),
    ("RevisionNotFoundError", "{repo} has no revision {revision}; check it on {endpoint}/{repo}/commits/main"),
    (
        "RepositoryNotFoundError",
        "there is no repository {repo} on {endpoint}, or it is private; check the name, or log in with `hf auth login` "
        "or HF_TOKEN",
    ),
    ("RemoteEntryNotFoundError", "{repo} has no file {file} at revision {revision}; check the name"),
)


def _words(file: HubFile) -> dict[str, str]:
    endpoint = _client().constants.ENDPOINT
    return {"repo": file.repo, "file": file.file, "revision": file.revision, "endpoint": endpoint}


def _status(response: Any, file: HubFile) -> str:
    status = response.status_code
    if status in (401, 403):
        return f"{file.repo} refuses access ({status}); log in with `hf auth login`, or set HF_TOKEN to another token"
    if status == 404:
        return f"{file.repo} has no file {file.file} at revision {file.revision} (404); check the name"
    if status == 429:
        wait = response.headers.get("Retry-After")
        after = f"in {wait} s" if wait and wait.isdigit() else "later"
        return f"the Hub has had too many requests from here (429); try again {after}, or log in with `hf auth login`"
    if status >= 500:
        return f"the Hub is in trouble ({status}); try again later"
    return f"the Hub answers {status}; check the name and HF_ENDPOINT"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Return the error and what it came from."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__
