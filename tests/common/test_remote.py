"""Files in an object store: moto's S3 on loopback, asked by s3fs as it is."""

import sys

import pytest

from iqametrics.common.remote import find_remote, is_remote, open_remote, read_remote, remote_stamp
from iqametrics.errors import InputError, MissingExtraError

CONTENTS = {"a.bin": bytes(range(256)), "sub/b.bin": b"b", "sub/deep/c.bin": b"c"}


@pytest.fixture(scope="module")
def bucket():
    pytest.importorskip("moto", reason="moto, which plays an object store, is not installed")
    pytest.importorskip("s3fs", reason="the extra `remote` is not installed")
    from object_store import object_store

    with pytest.MonkeyPatch.context() as patch, object_store(patch, CONTENTS, "files") as address:
        yield address


@pytest.mark.parametrize(
    ("text", "remote"),
    [
        ("s3://bucket/a.png", True),
        ("S3://bucket/a.png", True),
        ("gs://bucket/a.png", True),
        ("hf://datasets/org/name/a.png", True),
        ("https://example.org/a.png", True),
        ("a.png", False),
        ("/folder/s3://a.png", False),
        ("C:/a.png", False),
        ("file:///etc/passwd", False),
        ("s3:/a.png", False),
    ],
)
def test_addresses_are_known_by_their_scheme(text, remote):
    assert is_remote(text) is remote


def test_a_file_is_read_whole_and_in_parts(bucket):
    assert read_remote(f"{bucket}/a.bin") == CONTENTS["a.bin"]
    assert read_remote(f"{bucket}/a.bin", 10, 5) == bytes(range(10, 15))
    assert read_remote(f"{bucket}/a.bin", 250, 50) == bytes(range(250, 256))
    with open_remote(f"{bucket}/a.bin") as stream:
        stream.seek(100)
        assert stream.read(3) == bytes([100, 101, 102])


def test_a_file_that_is_too_large_is_refused(bucket, monkeypatch):
    monkeypatch.setattr("iqametrics.common.remote.MOST_BYTES", 255)
    with pytest.raises(InputError, match="is larger than"):
        read_remote(f"{bucket}/a.bin")
    monkeypatch.setattr("iqametrics.common.remote.MOST_BYTES", 256)
    assert read_remote(f"{bucket}/a.bin") == CONTENTS["a.bin"]


def test_folders_and_patterns_are_listed(bucket):
    assert find_remote(f"{bucket}/", recursive=False) == [f"{bucket}/a.bin"]
    assert find_remote(bucket, recursive=True) == [f"{bucket}/{name}" for name in CONTENTS]
    assert find_remote(f"{bucket}/sub/*.bin", recursive=False) == [f"{bucket}/sub/b.bin"]
    with pytest.raises(InputError, match="holds no file"):
        find_remote(f"{bucket}/nowhere", recursive=True)


def test_stamps_tell_contents_apart(bucket):
    import boto3

    before = remote_stamp(f"{bucket}/sub/b.bin")
    assert before == remote_stamp(f"{bucket}/sub/b.bin")
    assert before[0] == 1
    boto3.client("s3").put_object(Bucket="files", Key="sub/b.bin", Body=b"x")
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    assert remote_stamp(f"{bucket}/sub/b.bin") != before
    assert remote_stamp(f"{bucket}/nowhere") is None


@pytest.mark.parametrize("name", ["nowhere.bin", "a.bin/nowhere"])
def test_what_is_not_there_is_one_line(bucket, name):
    for read in (read_remote, lambda url: open_remote(url).read()):
        with pytest.raises(InputError, match="cannot be read") as caught:
            read(f"{bucket}/{name}")
        assert str(caught.value).startswith(f"{bucket}/{name}: ")
        assert "\n" not in str(caught.value)


def test_what_is_not_installed_is_one_line_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    told = r"s3://a/b: needs fsspec and s3fs; pip install 'iqametrics\[remote\]'"
    for call in (read_remote, open_remote, lambda url: find_remote(url, recursive=True)):
        with pytest.raises(MissingExtraError, match=told):
            call("s3://a/b")
