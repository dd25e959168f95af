"""Files are there whole or not at all, whatever ends the writing; links and devices are left what they are."""

import errno
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from iqametrics import DataError, WeightsError
from iqametrics.common import files
from iqametrics.common.files import open_atomic, remove_parts, write_file

ROOT = Path(__file__).resolve().parents[2]
posix = pytest.mark.skipif(os.name == "nt", reason="POSIX's modes, links and devices")


def write(path, content="new", **options):
    write_file(path, content, error=DataError, **options)


def names(folder):
    return sorted(os.listdir(folder))


@pytest.mark.parametrize("content", ["Ä\r\n\n", b"\x00\xff", "", bytes(3_000_000)])
def test_what_is_written_is_read_back(tmp_path, content):
    for _ in range(2):  # a new file, and one that is there
        write(tmp_path / "a", content)
        assert (tmp_path / "a").read_bytes() == (content if isinstance(content, bytes) else content.encode())
    assert names(tmp_path) == ["a"]


def test_nothing_is_seen_before_the_end(tmp_path):
    (tmp_path / "a").write_text("old")
    with open_atomic(tmp_path / "a", error=DataError) as stream:
        stream.write(b"new" * 100_000)
        stream.flush()
        assert (tmp_path / "a").read_text() == "old"
        assert Path(stream.name).parent == tmp_path
        assert len(names(tmp_path)) == 2
    assert (tmp_path / "a").read_bytes() == b"new" * 100_000


@pytest.mark.parametrize("kind", [ValueError, OSError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_exception_leaves_the_old_file_alone(tmp_path, kind):
    """An OSError of something else in the block is not told as a failed write."""
    (tmp_path / "a").write_text("old")
    error = kind("elsewhere")

    def breaks():
        with open_atomic(tmp_path / "a", error=DataError) as stream:
            stream.write(b"half")
            raise error

    with pytest.raises(kind) as caught:
        breaks()
    assert caught.value is error
    assert (tmp_path / "a").read_text() == "old"
    assert names(tmp_path) == ["a"]


@posix
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_the_mode_is_that_of_any_new_file(tmp_path, mask):
    before = os.umask(mask)
    try:
        write(tmp_path / "a")
        (tmp_path / "neighbour").touch()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~mask
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "neighbour").stat().st_mode


@posix
class TestLinks:
    def test_a_link_stays_and_its_target_is_replaced(self, tmp_path):
        (tmp_path / "far").mkdir()
        (tmp_path / "far/real").write_text("old")
        (tmp_path / "middle").symlink_to("far/real")
        (tmp_path / "link").symlink_to(tmp_path / "middle")
        write(tmp_path / "link")
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "middle").is_symlink()
        assert not (tmp_path / "far/real").is_symlink()
        assert (tmp_path / "far/real").read_text() == "new"
        assert names(tmp_path / "far") == ["real"]

    def test_the_target_of_a_link_need_not_exist(self, tmp_path):
        (tmp_path / "link").symlink_to("real")
        write(tmp_path / "link")
        assert (tmp_path / "real").read_text() == "new"
        assert (tmp_path / "link").is_symlink()

    def test_a_circle_of_links_is_told(self, tmp_path):
        (tmp_path / "a").symlink_to("b")
        (tmp_path / "b").symlink_to("a")
        with pytest.raises(DataError, match=r"a: cannot be written \(Too many levels of symbolic links\)"):
            write(tmp_path / "a")


@posix
class TestDevices:
    """What is no file of a disk is written to and stays what it is."""

    @pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
    @pytest.mark.parametrize("path", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
    @pytest.mark.parametrize("into", ["file", "pipe"])
    def test_stdout_is_written_not_replaced(self, tmp_path, path, into):
        code = (
            "import sys; from iqametrics import DataError; from iqametrics.common.files import write_file\n"
            f"print('before', flush=True); write_file({path!r}, 'new', error=DataError)"
        )
        before = os.readlink("/dev/stdout")
        with (tmp_path / "out").open("ab") as out:
            done = subprocess.run(
                [sys.executable, "-c", code],
                stdout=out if into == "file" else subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=ROOT,
                check=False,
            )
            assert done.stderr == b""
            inode = os.fstat(out.fileno()).st_ino
        assert (tmp_path / "out").stat().st_ino == inode
        assert ((tmp_path / "out").read_bytes() if into == "file" else done.stdout) == b"before\nnew"
        assert os.readlink("/dev/stdout") == before
        assert names(tmp_path) == ["out"]

    def test_a_named_pipe(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        found = []
        reader = threading.Thread(target=lambda: found.append((tmp_path / "pipe").read_text()), daemon=True)
        reader.start()
        write(tmp_path / "pipe")
        reader.join(10)
        assert found == ["new"]
        assert (tmp_path / "pipe").is_fifo()

    def test_nowhere(self):
        write("/dev/null")
        assert stat.S_ISCHR(os.stat("/dev/null").st_mode)

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
    def test_a_full_device_is_told_and_stays(self):
        with pytest.raises(WeightsError, match=r"^/dev/full: cannot be written \(No space left on device\); do$"):
            write_file("/dev/full", bytes(100_000), error=WeightsError, remedy="do")
        assert stat.S_ISCHR(os.stat("/dev/full").st_mode)

    def test_a_reader_that_has_left_is_no_failed_write(self):
        """The command line ends without a word where its output's reader has left."""
        read, end = os.pipe()
        os.close(read)
        with pytest.raises(BrokenPipeError):
            write(f"/dev/fd/{end}")
        os.close(end)


class TestNames:
    @pytest.mark.parametrize("name", ["n" * 249, "n" * 255, "ä" * 127, "🦆" * 63, "a b\n;'", ".part"])
    def test_every_legal_name_will_do(self, tmp_path, name):
        if os.name == "nt":
            pytest.skip("other names are legal on Windows")
        write(tmp_path / name)
        assert names(tmp_path) == [name]

    def test_a_name_too_long_is_told_before_anything_is_done(self, tmp_path):
        with (
            pytest.raises(DataError, match=r"cannot be written \(File name too long\); choose another place$"),
            open_atomic(tmp_path / ("n" * 256), error=DataError),
        ):
            pytest.fail("it was opened")
        assert names(tmp_path) == []


class TestRefusals:
    """One line: which file, why, what to do; in the caller's class of error."""

    def test_no_folder(self, tmp_path):
        path = tmp_path / "absent" / "a"
        with pytest.raises(DataError) as caught:
            write(path, remedy="give another --output")
        assert str(caught.value) == f"{path}: cannot be written (its folder does not exist); give another --output"

    def test_a_file_for_a_folder(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(DataError, match=r"file.a: cannot be written \(Not a directory\); choose another place$"):
            write(tmp_path / "file" / "a")

    def test_a_folder_in_the_way(self, tmp_path):
        with pytest.raises(DataError, match=r"cannot be written \(Is a directory\); choose another place$"):
            write(tmp_path)

    @pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
    def test_a_folder_that_nobody_may_write_in(self, tmp_path, monkeypatch, code):
        # Tests may run as root, who may write everywhere.
        def refuses(*_):
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(files, "_Raw", refuses)
        with pytest.raises(DataError, match=rf"a: cannot be written \({os.strerror(code)}\)"):
            write(tmp_path / "a")

    @pytest.mark.parametrize("call", ["fsync", "replace"])
    def test_a_full_disk_leaves_the_old_file(self, tmp_path, monkeypatch, call):
        (tmp_path / "a").write_text("old")

        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, call, full)
        with pytest.raises(DataError, match=r"a: cannot be written \(No space left on device\)"):
            write(tmp_path / "a")
        assert (tmp_path / "a").read_text() == "old"
        assert names(tmp_path) == ["a"]

    def test_a_disk_that_fills_while_it_is_written(self, tmp_path):
        """A real one, by a limit on the size of files; what is left in the buffer must not raise a second time."""
        resource = pytest.importorskip("resource")
        code = (
            "import resource, signal, sys; from iqametrics import DataError\n"
            "from iqametrics.common.files import open_atomic\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
            "try:\n"
            "    with open_atomic(sys.argv[1], error=DataError) as stream:\n"
            "        [stream.write(bytes(700)) for _ in range(100)]\n"
            "except DataError as error: print(error)"
        )
        assert resource.RLIMIT_FSIZE is not None
        (tmp_path / "a").write_text("old")
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "a")], capture_output=True, text=True, cwd=ROOT, check=False
        )
        assert done.stdout == f"{tmp_path / 'a'}: cannot be written (File too large); choose another place\n"
        assert done.stderr == ""
        assert (tmp_path / "a").read_text() == "old"
        assert names(tmp_path) == ["a"]


def test_the_content_is_on_the_disk_before_it_takes_its_place(tmp_path, monkeypatch):
    calls, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (calls.append("fsync"), fsync(descriptor)))
    monkeypatch.setattr(os, "replace", lambda *paths: (calls.append("replace"), replace(*paths)))
    write(tmp_path / "a")
    assert calls[:2] == ["fsync", "replace"]


def test_what_killed_processes_left_is_removed(tmp_path):
    for name in (".a.part", ".model.safetensors.00ff.part", "mine.part", ".hidden", "a"):
        (tmp_path / name).touch()
    remove_parts(tmp_path)
    assert names(tmp_path) == [".hidden", "a", "mine.part"]


def test_threads_that_write_one_file_do_not_meet(tmp_path):
    threads = [threading.Thread(target=write, args=(tmp_path / "a", str(k) * 100_000)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set((tmp_path / "a").read_text())) == 1
    assert names(tmp_path) == ["a"]
