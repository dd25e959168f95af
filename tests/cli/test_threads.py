"""How the command line has torch's threads wait."""

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
