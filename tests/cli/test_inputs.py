"""Which images the arguments mean: names in every spelling, folders that cannot be read, pictures on stdin."""

import io
import os
import sys
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from iqametrics.cli import stdin
from iqametrics.cli.inputs import Inputs, ReferenceFolder
from iqametrics.cli.main import main
from iqametrics.images import list_images, walk_pictures

NFC, NFD = "\u00e9", "e\u0301"
LONG = "x" * 300 + ".png"
posix = pytest.mark.skipif(os.name == "nt", reason="FIFOs, links and rights as on POSIX")


@pytest.fixture
def run(fake_metrics, tmp_path, capsys, monkeypatch):
    """Run `score` in a folder with what comes on stdin as bytes; status, stdout, lines of stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments, stdin=b""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        status = main(["score", *map(str, arguments)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err.splitlines()

    return call


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((9, 9, 3), 99, np.uint8)).save(path, "png")
    return path


def encoded(form):
    stream = io.BytesIO()
    Image.fromarray(np.arange(40 * 40 * 3, dtype=np.uint8).reshape(40, 40, 3)).save(stream, form)
    return stream.getvalue()


class TestSpellings:
    @pytest.mark.parametrize(("image", "reference"), [(NFC, NFD), (NFD, NFC)])
    def test_a_name_is_found_in_the_other_form(self, tmp_path, image, reference):
        wanted = picture(tmp_path / f"r{reference}" / f"{reference}.png")
        folder = ReferenceFolder(str(tmp_path))
        from pathlib import PurePath

        assert folder.partner(PurePath(f"r{image}", f"{image}.png")) == str(wanted)
        assert folder.partner(PurePath(f"r{image}", f"{image}.jpg")) == str(wanted)
        assert list(folder.unused(recursive=True)) == []

    def test_the_exact_name_comes_first(self, tmp_path, run):
        for name in (NFC, NFD):
            picture(tmp_path / "ref" / f"{name}.png")
            picture(tmp_path / "out" / f"{name}.png")
        status, out, err = run("out", "--metric", "fake-fr.lite", "--ref-dir", "ref", "--format", "csv")
        assert (status, err) == (0, [])
        assert f"out/{NFC}.png,ref/{NFC}.png," in out
        assert f"out/{NFD}.png,ref/{NFD}.png," in out

    def test_names_that_look_alike_are_told_apart(self, tmp_path, run):
        picture(tmp_path / f"{NFC}.bmp")
        for name in (NFC, NFD):
            picture(tmp_path / "ref" / f"{name}.png")
        _, _, err = run(f"{NFC}.bmp", "--metric", "fake-fr.lite", "--ref-dir", "ref")
        assert "several partners" in err[0]
        assert r"\xe9.png" in err[0]
        assert r"e\u0301.png" in err[0]


class TestFolders:
    @posix
    def test_whatever_lies_in_a_folder(self, tmp_path, run):
        picture(tmp_path / "in" / "a.png")
        picture(tmp_path / "in" / "sub" / "b.png")
        os.symlink(tmp_path / "in", tmp_path / "in" / "again")
        os.symlink("circle.png", tmp_path / "in" / "circle.png")
        os.symlink("nowhere", tmp_path / "in" / "left.png")
        os.symlink("/dev/zero", tmp_path / "in" / "zero.png")
        os.mkfifo(tmp_path / "in" / "pipe.png")
        (tmp_path / "in" / "folder.png").mkdir()
        status, out, err = run("in", "--recursive", "--metric", "fake-nr", "--format", "csv")
        assert status == 1
        assert [line.split(":")[1].strip() for line in err] == [
            f"in/{n}.png" for n in ("circle", "left", "pipe", "zero")
        ]
        assert out.count("fake-nr.tiny,0.") + out.count("fake-nr.tiny,-0.") == 2

    def test_one_folder_that_cannot_be_read(self, tmp_path, run, monkeypatch):
        """Root may read everything, so the refusal is made."""
        for name in ("a/1.png", "b/2.png", "c/3.png"):
            picture(tmp_path / "in" / name)
        real = os.scandir

        def refusing(path):
            if os.fspath(path).endswith("b"):
                raise PermissionError(13, "Permission denied", path)
            return real(path)

        monkeypatch.setattr(os, "scandir", refusing)
        status, out, err = run("in", "--recursive", "--metric", "fake-nr", "--format", "csv")
        assert (status, err) == (1, ["iqametrics: in/b: cannot be listed (Permission denied); check its rights"])
        assert [line.split(",")[0] for line in out.splitlines()] == ["image", "in/a/1.png", "in/b", "in/c/3.png"]
        assert "unsearched" not in run("in", "--metric", "fake-nr")[1]

    @pytest.mark.parametrize("arguments", [(LONG,), ("a.png", "--ref-dir", LONG), ("a.png", "--output", LONG)])
    def test_names_that_are_too_long(self, tmp_path, run, arguments):
        picture(tmp_path / "a.png")
        metric = "fake-fr.lite" if "--ref-dir" in arguments else "fake-nr"
        status, _, err = run(*arguments, "--metric", metric)
        assert status in (1, 2)
        assert len(err) == 1
        assert LONG in err[0]

    def test_long_names_on_stdin_lose_nothing_else(self, tmp_path, run):
        picture(tmp_path / "a.png")
        status, out, err = run("-", "--metric", "fake-nr", "--format", "csv", stdin=f"{LONG}\na.png\n".encode())
        assert (status, len(err)) == (1, 1)
        assert out.splitlines()[2].startswith("a.png,,fake-nr.tiny,")

    def test_order_is_that_of_the_whole_list(self, tmp_path):
        names = ["b.png", "a10.png", "a2.png", "a2/z.png", "a10/y.png", "B.png", "a02.png", "a2.psd"]
        for name in names:
            picture(tmp_path / name)
        flat = [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path, recursive=True)]
        assert flat == ["a2/z.png", "a02.png", "a2.png", "a10/y.png", "a10.png", "B.png", "b.png"]

    def test_memory_of_many_folders(self, tmp_path):
        """A tree of 3000 pictures is walked with the names of one folder of 30 in memory."""
        for number in range(100):
            (tmp_path / f"{number}").mkdir()
            for picture_number in range(30):
                (tmp_path / f"{number}" / f"{'n' * 80}{picture_number}.png").touch()
        tracemalloc.start()
        assert sum(1 for _ in walk_pictures(tmp_path, recursive=True)) == 3000
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 150_000  # the names alone are 300 kB

    def test_arguments_are_found_as_they_are_needed(self, tmp_path, monkeypatch):
        picture(tmp_path / "a" / "1.png")
        items = iter(Inputs([str(tmp_path / "a"), str(tmp_path / "b")]))
        assert next(items).image.endswith("1.png")
        picture(tmp_path / "b" / "2.png")
        assert next(items).image.endswith("2.png")


class TestStdin:
    @pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "PPM", "TIFF", "WEBP"])
    def test_a_picture_where_paths_belong(self, run, form):
        status, out, err = run("-", "--metric", "fake-nr", "--format", "csv", stdin=encoded(form))
        assert status == 1
        assert len(err) == 1
        assert "--stdin-image" in err[0]
        assert len(out.splitlines()) == 2

    def test_something_without_end(self):
        class Endless(io.RawIOBase):
            def readable(self):
                return True

            def readinto(self, buffer):
                buffer[:] = b"x" * len(buffer)
                return len(buffer)

        stream = SimpleNamespace(buffer=io.BufferedReader(Endless()))
        with pytest.raises(ValueError, match="--stdin-image"):
            next(stdin.read_paths(stream))

    @pytest.mark.parametrize("arguments", [(), ("-",)])
    def test_a_picture_is_scored(self, tmp_path, run, arguments):
        (tmp_path / "a.png").write_bytes(encoded("PNG"))
        wanted = run("a.png", "--metric", "fake-nr", "--format", "csv")[1].replace("a.png", "-")
        found = run(*arguments, "--stdin-image", "--metric", "fake-nr", "--format", "csv", stdin=encoded("PNG"))
        assert found == (0, wanted, [])

    def test_with_a_reference_and_further_pictures(self, tmp_path, run):
        (tmp_path / "a.png").write_bytes(encoded("PNG"))
        options = ("--metric", "fake-fr.lite", "--format", "csv", "--stdin-image")
        status, out, _ = run("a.png", "-", "--ref", "a.png", *options, stdin=encoded("PNG"))
        assert status == 0
        assert [line.split(",")[0] for line in out.splitlines()] == ["image", "a.png", "-"]
        status, _, err = run("--ref-dir", ".", *options, stdin=encoded("PNG"))
        assert (status, len(err)) == (1, 1)
        assert "give --ref" in err[0]

    @pytest.mark.parametrize("content", [b"", b"nothing", encoded("PNG")[:100]])
    def test_no_picture(self, run, content):
        status, _, err = run("--stdin-image", "--metric", "fake-nr", stdin=content)
        assert (status, len(err)) == (1, 1)
        assert "-:" in err[0]

    def test_too_large(self, run, monkeypatch):
        monkeypatch.setattr(stdin, "MOST_BYTES", 2**20)
        status, _, err = run("--stdin-image", "--metric", "fake-nr", stdin=bytes(2**20 + 1))
        assert (status, err) == (
            1,
            ["iqametrics: error: -: more than 1 MB came on stdin; save the picture and give its path"],
        )
