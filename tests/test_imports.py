"""The order of the packages: imports point down, nothing unpickles, and `import iqametrics` stays light.

The source is read with `ast`, so an import inside a function or under TYPE_CHECKING counts as well, and so does
`importlib.import_module("iqametrics...")` outside the registry and the package's own lazy `__init__`.
"""

import ast
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "iqametrics"

# Lowest first. A module may import from its own layer and from those below.
LAYERS = [
    {"errors"},
    {"common", "spec", "naming", "plugins", "methods", "fingerprint"},
    {"images", "evaluation", "nn"},
    {"metric", "weights", "datasets", "objective", "ranking", "novelty", "words", "tiles"},
    {"registry", "scoring", "scoring_jobs"},
    {"bpclip", "pfd_iqa", "baselines", "gate", "publishing", "results"},
    {"report"},
    {"training", "benchmark", "compat", "integrations", "pipeline", "typed"},
    {"serve", "fleet", "exporting"},
    {"__init__"},
    {"cli", "__main__"},
]
HEIGHT = {name: height for height, layer in enumerate(LAYERS) for name in layer}
LAZY_BY_NAME = {"registry", "methods", "plugins", "__init__"}  # these hold module paths as text, on purpose
UNPICKLERS = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}


@dataclass(frozen=True)
class Source:
    """One module of the package: its path, dotted name and syntax tree."""

    path: Path
    name: str
    tree: ast.Module

    @property
    def part(self):
        """The first name below the package: `nn` of iqametrics.nn.vit."""
        return [*self.name.split("."), "__init__"][1]


def sources(package):
    for path in sorted(package.rglob("*.py")):
        parts = [package.name, *path.relative_to(package).with_suffix("").parts]
        if parts[-1] == "__init__":
            parts.pop()
        yield Source(path, ".".join(parts), ast.parse(path.read_text(encoding="utf-8")))


def imported(source, package_name):
    """Dotted names that the module imports, each with its line."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = absolute(node, source)
            yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Call) and called(node) in {"import_module", "__import__"}:
            yield from dynamic(node, source, package_name)


def absolute(node, source):
    """The module that a `from` import reads, with leading dots resolved."""
    if not node.level:
        return node.module
    # A package's __init__ counts as inside it: one dot is the package itself.
    climb = node.level - (source.path.name == "__init__.py")
    parents = source.name.split(".")
    parents = parents[: len(parents) - climb]
    return ".".join([*parents, node.module] if node.module else parents)


def called(node):
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", None)


def dynamic(node, source, package_name):
    """The target of import_module("..."), with its line; one that is not plain text cannot be read here."""
    if source.part in LAZY_BY_NAME or not node.args:
        return
    argument = node.args[0]
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
        target = argument.value
        if target.startswith("."):  # import_module(".x", __package__): only the registry needs such tricks
            target = f"{package_name}.__unreadable__"
        yield target, node.lineno


def upward_imports(package):
    """One line for each arrow that points up, and for each module that has no place in the order."""
    faults = []
    for source in sources(package):
        if source.part not in HEIGHT:
            faults.append(f"{source.name}: '{source.part}' has no layer; add it to LAYERS in tests/test_imports.py")
            continue
        for target, line in imported(source, package.name):
            names = target.split(".")
            if names[0] != package.name:
                continue
            part = names[1] if len(names) > 1 else "__init__"
            if part not in HEIGHT:
                # A public name of the package (`from iqametrics import create_metric`) comes from its __init__.
                part = "__init__"
            if HEIGHT[part] > HEIGHT[source.part]:
                faults.append(f"{source.path.relative_to(package)}:{line}: {source.part} imports {target}, higher up")
    return faults


def unpickling(package):
    """One line for each import of an unpickler and each use of torch.load or allow_pickle."""
    faults = []
    for source in sources(package):
        torch_names = {"torch"} | {
            alias.asname
            for node in ast.walk(source.tree)
            if isinstance(node, ast.Import)
            for alias in node.names
            if alias.name == "torch" and alias.asname
        }
        lines = [line for name, line in imported(source, package.name) if name.split(".")[0] in UNPICKLERS]
        lines += [line for name, line in imported(source, package.name) if name in {"torch.load", "torch.hub.load"}]
        lines += [getattr(node, "lineno", 0) for node in ast.walk(source.tree) if loads_a_pickle(node, torch_names)]
        faults += [f"{source.path.relative_to(package)}:{line}" for line in sorted(set(lines))]
    return faults


def loads_a_pickle(node, torch_names):
    if isinstance(node, ast.Attribute):
        direct = isinstance(node.value, ast.Name) and node.value.id in torch_names and node.attr == "load"
        return direct or node.attr == "load_state_dict_from_url"
    return isinstance(node, ast.keyword) and node.arg == "allow_pickle" and getattr(node.value, "value", True) is True


# --- the package ----------------------------------------------------------------------------------------------------


def test_imports_point_down():
    assert list(sources(PACKAGE)), f"no module under {PACKAGE}"
    faults = upward_imports(PACKAGE)
    assert not faults, "\n".join(faults)


def test_nothing_unpickles():
    faults = unpickling(PACKAGE)
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("module", ["iqametrics", "iqametrics.errors", "iqametrics.evaluation", "iqametrics.cli"])
def test_import_does_not_load_torch(module):
    code = f"import {module}, sys; print(sorted({{'torch', 'torchvision', 'scipy', 'timm'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


# --- the check itself can fail --------------------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path):
    """Write a package of one module and return its folder."""

    def write(path, text):
        root = tmp_path / "iqametrics"
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return root

    return write


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("errors.py", "import iqametrics.nn"),
        ("nn/vit.py", "from iqametrics.bpclip.model import Bpclip"),
        ("nn/vit.py", "from iqametrics import registry"),
        ("nn/vit.py", "from iqametrics import create_metric"),
        ("nn/vit.py", "from ..training import loop"),
        ("nn/__init__.py", "from ..training import loop"),
        ("nn/deep/er.py", "from ... import cli"),
        ("datasets/csv.py", "def read():\n    from iqametrics.scoring import score"),
        (
            "images/read.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from iqametrics.metric import Metric",
        ),
        ("metric.py", "import importlib\nimportlib.import_module('iqametrics.pfd_iqa')"),
        ("metric.py", "from importlib import import_module\nimport_module('.cli', __package__)"),
        ("training/loop.py", "import iqametrics.cli.train as command"),
        ("helpers.py", "x = 1"),
    ],
)
def test_an_arrow_that_points_up_is_found(package, path, text):
    assert len(upward_imports(package(path, text))) == 1


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("cli/score.py", "from iqametrics import create_metric, registry"),
        ("nn/vit.py", "from .attention import Block\nfrom . import norm\nfrom ..errors import InputError"),
        ("nn/__init__.py", "from .vit import Vit"),
        ("registry.py", "import importlib\nimportlib.import_module('iqametrics.bpclip')"),
        ("__main__.py", "from iqametrics.cli import main"),
        ("bpclip/model.py", "import torch, iqametrics.nn.resnet\nfrom iqametrics.pfd_iqa import model"),
        ("baselines/pyiqa.py", "import importlib\nimportlib.import_module('pyiqa')"),
    ],
)
def test_an_arrow_that_points_down_is_not(package, path, text):
    assert upward_imports(package(path, text)) == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "def read():\n    from pickle import loads",
        "import torch\ntorch.load('x.pth')",
        "import torch as t\nload = t.load",
        "from torch import load",
        "import numpy as np\nnp.load('x.npy', allow_pickle=True)",
        "import torch\ntorch.hub.load_state_dict_from_url('x')",
        "import importlib\nimportlib.import_module('joblib')",
    ],
)
def test_unpickling_is_found(package, text):
    assert len(unpickling(package("weights/hub.py", text))) == 1


def test_safe_reading_is_not_unpickling(package):
    text = "import torch\nfrom safetensors.torch import load_file, load\nimport json\njson.load(open('x'))\n"
    assert unpickling(package("weights/hub.py", text + "np.load('x.npy', allow_pickle=False)")) == []
