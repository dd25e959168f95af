"""How the command line starts: torch's threads, what is imported, and no garbage looked for meanwhile."""

import subprocess
import sys

import pytest

CODE = """
import os, sys
from iqametrics.cli.main import let_threads_sleep
{before}
let_threads_sleep()
print(os.environ.get("OMP_WAIT_POLICY"))
"""


@pytest.mark.parametrize(
    ("before", "policy"),
    [
        ("", "passive"),
        ("os.environ['OMP_WAIT_POLICY'] = 'active'", "active"),
        ("sys.modules['torch'] = None", "None"),
    ],
    ids=["by default", "what the environment says", "too late"],
)
def test_threads_wait_asleep(before: str, policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    code = [sys.executable, "-c", CODE.format(before=before)]
    done = subprocess.run(code, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == policy


def test_every_command_does_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    code = "import os; from iqametrics.cli.main import main; main(['list']); print(os.environ['OMP_WAIT_POLICY'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "passive"


def run_code(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("before", ["", "import torch", "gc.disable()"], ids=["fresh", "torch is there", "off already"])
def test_only_a_process_of_ours_keeps_what_it_imported(before: str) -> None:
    code = f"""
import gc
{before}
was = gc.isenabled()
from iqametrics.cli.common import import_torch
import_torch()
import sys
assert gc.isenabled() == was
print(gc.get_freeze_count() > 0)
"""
    assert run_code(code) == str(not before)


def test_a_command_imports_no_other() -> None:
    code = """
import sys
from iqametrics.cli.main import COMMANDS, main
main(["info", "bpclip-nr"])
print([name for name in COMMANDS if f"iqametrics.cli.{name}" in sys.modules])
"""
    assert run_code(code).splitlines()[-1] == "['info']"


def test_a_command_that_is_not_known_is_told_all() -> None:
    done = subprocess.run([sys.executable, "-m", "iqametrics", "scroe"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "'score'" in done.stderr
    assert "'fleet'" in done.stderr
