"""Several processes train as one does, and end together."""

import csv
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import training_real
from hypothesis import given
from hypothesis import strategies as st
from places import HELPERS, ROOT
from safetensors.torch import load_file
from training_fake import leave_curves_out, write_recipe

from iqametrics.errors import RecipeError, TrainingError
from iqametrics.training import distributed
from iqametrics.training.data import View, portions

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def free_port() -> int:
    with socket.socket() as stream:
        stream.bind(("127.0.0.1", 0))
        return int(stream.getsockname()[1])


LAUNCHER = """
import datetime, json, os, sys
import scipy.stats, torch, torch._dynamo  # once, and not once a process: what torchrun would start has to import anew
import training_fake, training_real
from pathlib import Path
from iqametrics.errors import IqaError
from iqametrics import methods
from iqametrics.training import distributed, loop, run

torch.set_num_threads(1)
distributed.TIMEOUT = datetime.timedelta(seconds=60)
methods.register_method(training_fake.METHOD)
training_fake.leave_curves_out(setattr)
folder = Path(sys.argv[1])

def train_all(rank):
    for tables, name in json.loads((folder / "jobs.json").read_text()):
        training_real.train(folder, tables, name)

def die(rank):
    step, done = loop.Trainer._step, []

    def dies(self, *args):
        step(self, *args)
        done.append(1)
        if len(done) == 2 and rank == 1:
            os._exit(7)

    loop.Trainer._step = dies
    run.train(folder / "tiny.toml", [], folder / "dying")

def go_on(rank):
    run.train(folder / "tiny.toml", [], folder / "dying", resume=True)

def launch(function, port):
    children = []
    for rank in range(2):
        child = os.fork()
        children.append(child)
        if child == 0:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            status = 1
            try:
                function(rank)
                status = 0
            except IqaError as error:
                print(type(error).__name__, error, flush=True)
                status = 3
            finally:
                sys.stderr.flush()
                os._exit(status)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]

first, second, third = map(int, sys.argv[2:])
print(json.dumps([launch(train_all, first), launch(die, second), launch(go_on, third)]))
"""


def losses(folder: Path) -> list[float]:
    with (folder / "history.csv").open() as stream:
        return [float(row[name]) for row in csv.DictReader(stream) for name in row if name.startswith("train_")]


@pytest.fixture(scope="module")
def launched(tmp_path_factory):
    """Run the recipes in one process and in two, and let one process of another run die: folder, statuses, messages."""
    if not (torch.distributed.is_available() and hasattr(os, "fork")):
        pytest.skip("needs torch.distributed and fork")
    folder = tmp_path_factory.mktemp("distributed")
    write_recipe(folder)
    training_real.write_starting_files(folder)
    training_real.write_ranked(folder)
    teacher = {"teacher": "./one-teacher/checkpoint.safetensors"}
    recipes = {
        "nr": training_real.tables("bpclip-nr"),
        "ranked": training_real.ranked_tables(),
        "teacher": training_real.tables("pfd-teacher"),
        "pfd": training_real.tables("pfd-iqa", teacher, accumulate=2, grad_clip=0.1),
    }
    with pytest.MonkeyPatch.context() as patch:
        leave_curves_out(patch.setattr)
        for name, recipe in recipes.items():
            training_real.train(folder, recipe, f"one-{name}")
    (folder / "jobs.json").write_text(json.dumps([(recipe, f"two-{name}") for name, recipe in recipes.items()]))
    process = subprocess.run(
        [sys.executable, "-c", LAUNCHER, folder, *(str(free_port()) for _ in range(3))],
        env={**os.environ, "PYTHONPATH": f"{HELPERS}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    *told, statuses = process.stdout.splitlines()
    return folder, json.loads(statuses), told, process.stderr


def test_two_processes_train_as_one_does(launched):
    folder, (statuses, *_), _, err = launched
    assert statuses == [0, 0], err
    for name in ("nr", "ranked", "teacher", "pfd"):
        one, two = folder / f"one-{name}", folder / f"two-{name}"
        assert losses(two) == pytest.approx(losses(one), rel=1e-5, abs=1e-8), name
        assert_same(load_file(one / "last.safetensors"), load_file(two / "last.safetensors"))
        assert (two / "results.json").exists()
        assert (two / "checkpoint.safetensors").exists()
    # The first process alone tells: four runs, and the run that is resumed in its first epoch.
    assert err.count("epoch 1  lr") == 5


def assert_same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> None:
    """The same gradients within float error, and where there is one, the same weights.

    Adam makes a step of full length of a gradient that is rounding alone: a key's bias, or a bias before a norm.
    """
    assert one.keys() == two.keys()
    moments = [name for name in one if name.endswith("/exp_avg")]
    assert moments
    for name in moments:
        scale = float(one[name].abs().max())
        assert torch.allclose(one[name], two[name], rtol=1e-3, atol=1e-4 * scale + 1e-7), name
        parameter = name.removeprefix("optimizer.").removesuffix("/exp_avg")
        if scale > 1e-4:
            for kind in ("objective", "average"):
                key = f"{kind}.{parameter}"
                assert torch.allclose(one[key], two[key], atol=2e-5), key


def test_a_process_that_dies_does_not_leave_the_others_waiting(launched):
    folder, (_, statuses, resumed), told, err = launched
    assert statuses == [3, 7]
    (message,) = told
    assert "TrainingError process 0 of 2 lost the others" in message
    assert "--resume" in message
    # Both go on from what the first one saved.
    assert resumed == [0, 0], err
    assert len(losses(folder / "dying")) == 6
    sessions = json.loads((folder / "dying" / "environment.json").read_text())["sessions"]
    assert [session["hardware"]["processes"] for session in sessions] == [2, 2]


@given(count=st.integers(1, 60), accumulate=st.integers(1, 9), processes=st.integers(1, 5))
def test_portions_hold_every_view_once_and_no_process_idles(count, accumulate, processes):
    views = [View(index, 0, 0, False, False) for index in range(count)]
    if count < processes:
        with pytest.raises(TrainingError, match="start fewer processes"):
            portions(views, accumulate=accumulate, processes=processes, rank=0)
        return
    by_rank = [portions(views, accumulate=accumulate, processes=processes, rank=rank) for rank in range(processes)]
    assert len({len(parts) for parts in by_rank}) == 1
    together = [view.item for parts in zip(*by_rank, strict=True) for part in parts for view in part.views]
    assert together == list(range(count))
    sizes = [len(part.views) for parts in by_rank for part in parts]
    assert min(sizes) >= 1
    assert len(by_rank[0]) <= accumulate
    for parts in zip(*by_rank, strict=True):
        counts = tuple(len(part.views) for part in parts)
        assert all(part.counts == (counts if processes > 1 else ()) for part in parts)
        assert max(counts) - min(counts) <= 1


def test_nonsense_of_the_launcher_and_devices_are_told(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(TrainingError, match="WORLD_SIZE=two"), distributed.joined("cpu"):
        pass
    with pytest.raises(RecipeError, match="'mps'"):
        distributed.choose_device("mps", local=1)
    assert distributed.choose_device("cpu", local=1) == torch.device("cpu")
