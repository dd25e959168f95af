"""The maintainers' scripts of `weights/` and `benchmarks/` as modules: they are in no package."""

import importlib.util
from types import ModuleType

from places import ROOT


def load_tool(path: str) -> ModuleType:
    """Run the script at `path` below the repository, "weights/bundle.py", and give it as a module of its own."""
    spec = importlib.util.spec_from_file_location(path.rpartition("/")[2].removesuffix(".py"), ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
