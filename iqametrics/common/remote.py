"""Files in object stores, by fsspec: s3://, gs://, hf:// and others; extra `remote`, imported when one is asked for."""

import re
from typing import IO, Any, cast

from iqametrics.common.markup import plain
from iqametrics.common.url import MOST_BYTES, fetch_picture, is_url
from iqametrics.errors import InputError, MissingExtraError

_PACKAGES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "hf": "huggingface_hub",
    "az": "adlfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
    "http": "aiohttp",
    "https": "aiohttp",
}
_SCHEME = re.compile(r"([a-z][a-z0-9]*)://", re.IGNORECASE)


def is_remote(text: str) -> bool:
    """Tell whether a text is the address of a file elsewhere: http, https, or a scheme of an object store."""
    found = _SCHEME.match(text)
    return found is not None and found[1].lower() in _PACKAGES


def open_remote(url: str) -> IO[bytes]:
    """Open a file elsewhere, to read any part of it.

    Raises:
        InputError: If it cannot be opened.
        MissingExtraError: If what reads addresses of its kind is not installed.
    """
    try:
        system, path = _system(url)
        return cast(IO[bytes], system.open(path, "rb"))
    except (InputError, MissingExtraError):
        raise
    except Exception as error:  # stores raise errors of their own libraries
        raise _refusal(url, error) from error


def read_remote(url: str, first: int = 0, length: int | None = None) -> bytes:
    """Read a file elsewhere, or a part of it.

    Args:
        url: Its address.
        first: Where the part begins.
        length: Its bytes; None for the whole file, which may have 64 MB.

    Raises:
        InputError: If it cannot be read, or is too large.
        MissingExtraError: If what reads addresses of its kind is not installed.
    """
    if is_url(url) and length is None:
        return fetch_picture(url)
    try:
        system, path = _system(url)
        end = first + (MOST_BYTES + 1 if length is None else length)
        content = bytes(system.cat_file(path, start=first, end=end))
    except (InputError, MissingExtraError):
        raise
    except Exception as error:  # stores raise errors of their own libraries
        raise _refusal(url, error) from error
    if length is None and len(content) > MOST_BYTES:
        raise InputError(f"{url}: is larger than {MOST_BYTES >> 20} MB; fetch it yourself and give the file")
    return content


def remote_stamp(url: str) -> list[Any] | None:
    """Tell a file elsewhere from what it was and will be: its size, and its tag or time of change; None if unknown."""
    try:
        system, path = _system(url)
        known = system.info(path)
    except Exception:  # what is wrong with it is told when it is read
        return None
    named = ("ETag", "etag", "blob_id", "content_md5", "md5Hash", "LastModified", "last_modified", "mtime")
    return [known.get("size"), *(str(known[name]) for name in named if known.get(name))]


def find_remote(url: str, *, recursive: bool) -> list[str]:
    """List the files that an address with `*` means, or that a folder holds, as addresses.

    Raises:
        InputError: If there is none, or they cannot be listed.
        MissingExtraError: If what reads addresses of its kind is not installed.
    """
    try:
        system, path = _system(url)
        found = system.glob(path) if "*" in path else system.find(path, maxdepth=None if recursive else 1)
        addresses = [str(system.unstrip_protocol(each)) for each in found]
    except (InputError, MissingExtraError):
        raise
    except Exception as error:  # stores raise errors of their own libraries
        raise _refusal(url, error) from error
    if not addresses:
        raise InputError(f"{url}: holds no file; check the address")
    return addresses


def _system(url: str) -> tuple[Any, str]:
    scheme = url.partition("://")[0].lower()
    try:
        import fsspec

        system, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise MissingExtraError(
            f"{url}: needs fsspec and {_PACKAGES.get(scheme, 'its package')}; pip install 'iqametrics[remote]'"
        ) from error
    return system, str(path)


def _refusal(url: str, error: Exception) -> InputError:
    # A FileNotFoundError's own text is the path alone.
    told = "there is no such file" if isinstance(error, FileNotFoundError) else plain(str(error) or repr(error))
    return InputError(f"{url}: cannot be read ({told.splitlines()[0]}); check the address and your credentials")
