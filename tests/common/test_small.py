"""Names suggested, files digested and locked, points of Halton's sequence, devices found."""

import hashlib
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import qmc

from iqametrics import DataError, InputError, RecipeError, WeightsError, create_metric
from iqametrics.common import devices
from iqametrics.common.devices import as_float64, best_device, find_device
from iqametrics.common.digest import file_sha256
from iqametrics.common.halton import halton
from iqametrics.common.locks import locked
from iqametrics.common.suggest import did_you_mean
from iqametrics.training.distributed import choose_device

ROOT = Path(__file__).resolve().parents[2]


class TestSuggest:
    KNOWN = ("bpclip-fr", "bpclip-nr", "PFD-IQA", "epochs")

    @pytest.mark.parametrize(
        ("name", "options", "question"),
        [
            ("pfd-iqa", {}, "did you mean 'PFD-IQA'?"),
            ("EPOCH", {}, "did you mean 'epochs'?"),
            ("epoch", {"show": str, "end": " "}, "did you mean epochs? "),
            ("bpclip-ff", {"most": 2}, "did you mean 'bpclip-fr' or 'bpclip-nr'?"),
            ("colour", {"end": " "}, ""),
            ("", {}, ""),
        ],
    )
    def test_the_closest_names(self, name, options, question):
        assert did_you_mean(name, self.KNOWN, **options) == question


class TestDigest:
    @pytest.mark.parametrize("size", [0, 1, 2**20, 2**20 + 1, 3 * 2**20 + 7])
    def test_it_is_hashlib_s_of_the_whole(self, tmp_path, size):
        content = np.random.default_rng(0).bytes(size)
        (tmp_path / "a").write_bytes(content)
        assert file_sha256(tmp_path / "a", error=DataError) == hashlib.sha256(content).hexdigest()

    def test_a_file_that_is_not_there(self, tmp_path):
        with pytest.raises(WeightsError) as caught:
            file_sha256(tmp_path / "a", error=WeightsError, remedy="fetch it")
        assert str(caught.value) == f"{tmp_path / 'a'}: cannot be read (No such file or directory); fetch it"


def test_halton_is_scipy_s():
    theirs = qmc.Halton(2, scramble=False).random(40)[1:]
    np.testing.assert_allclose([(halton(k, 2), halton(k, 3)) for k in range(1, 40)], theirs, rtol=1e-12)


class TestLocks:
    def hold(self, path, *, then=""):
        """Start a process that holds the lock until its stdin is closed."""
        code = (
            "import sys; from iqametrics import DataError; from iqametrics.common.locks import locked\n"
            "with locked(sys.argv[1], error=DataError): print('held', flush=True); sys.stdin.read()\n"
        )
        holder = subprocess.Popen(
            [sys.executable, "-c", code, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        assert holder.stdout.readline() == b"held\n"
        return holder

    @pytest.mark.parametrize("end", ["leaves", "is killed"])
    def test_between_processes(self, tmp_path, end):
        with self.hold(tmp_path / "lock") as holder:
            with locked(tmp_path / "lock", wait=False, error=DataError) as held:
                assert held is False
            if end == "is killed":
                holder.kill()
            holder.stdin.close()
            with locked(tmp_path / "lock", error=DataError) as held:
                assert held is True

    def test_between_threads(self, tmp_path):
        inside, most = [], []

        def work():
            for _ in range(20):
                with locked(tmp_path / "lock", error=DataError):
                    inside.append(1)
                    most.append(len(inside))
                    inside.pop()

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert most == [1] * 60

    def test_an_exception_lets_go(self, tmp_path):
        with pytest.raises(KeyboardInterrupt), locked(tmp_path / "lock", error=DataError):
            raise KeyboardInterrupt
        with locked(tmp_path / "lock", wait=False, error=DataError) as held:
            assert held

    def test_a_lock_that_cannot_be_made_is_one_line(self, tmp_path):
        (tmp_path / "file").touch()
        with (
            pytest.raises(DataError, match=r"lock: cannot be locked \(.+\); choose a folder on another disk$"),
            locked(tmp_path / "file" / "lock", error=DataError),
        ):
            pytest.fail("it was locked")


class TestDevices:
    @pytest.mark.parametrize(
        ("cuda", "mps", "best"),
        [(0, False, "cpu"), (0, True, "mps"), (1, False, "cuda"), (1, True, "cuda")],
    )
    def test_one_rule_of_auto_for_scoring_and_training(self, monkeypatch, cuda, mps, best):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(cuda))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        assert best_device() == best
        assert find_device("auto", error=InputError).type == best
        assert choose_device("auto").type == best

    @pytest.mark.parametrize("name", ["cuda:99", "mps:3", "quantum", "meta:x", ""])
    def test_what_is_not_there_is_one_line_everywhere(self, monkeypatch, name):
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        line = rf"{name!r} cannot be used here \(.+\); use 'cpu' or 'auto'$"
        with pytest.raises(InputError, match=rf"^device {line}"):
            create_metric("bpclip-nr.lite", device=name)
        with pytest.raises(RecipeError, match=rf"^train\.device = {line}"):
            choose_device(name)

    def test_of_several_gpus_only_those_that_are_there(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        assert find_device("cuda:1", error=InputError) == torch.device("cuda", 1)
        with pytest.raises(InputError, match="'cuda:2' cannot be used here"):
            find_device("cuda:2", error=InputError)

    def test_no_float64_on_mps(self):
        """A stand-in for a tensor of a Mac, which refuses what MPS refuses."""

        class OnMps:
            device = torch.device("mps")

            def double(self):
                raise TypeError("Cannot convert a MPS Tensor to float64 dtype")

            def cpu(self):
                return torch.tensor([1.5])

        assert torch.equal(as_float64(OnMps()), torch.tensor([1.5], dtype=torch.float64))
        assert as_float64(torch.tensor([1.5])).dtype is torch.float64

    def test_what_the_command_line_offers_is_found(self):
        assert devices.DEVICES[0] == devices.AUTO
        assert find_device("cpu", error=InputError) == torch.device("cpu")
