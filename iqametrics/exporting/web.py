"""A page that scores pictures that are dropped on it: ONNX, run by onnxruntime-web, without a network."""

import base64
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from string import Template

import iqametrics.report
from iqametrics.common.files import write_file
from iqametrics.common.markup import html_text
from iqametrics.errors import ExportError
from iqametrics.exporting.export import Export, export_metric
from iqametrics.metric import Metric
from iqametrics.report.page import script_json

PACKAGE = "onnxruntime-web"
PROVEN = "1.30.0"
"""The version of onnxruntime-web with which the page was tested."""

_ASSETS = Path(__file__).parent / "assets"
_HOUSE = Path(iqametrics.report.__file__).parent / "assets" / "house.css"
_SCRIPT, _WASM = "dist/ort.wasm.bundle.min.mjs", "dist/ort-wasm-simd-threaded.wasm"
_MODEL = "model.onnx"
# The files of the proven version, as npm gives them.
_SHA256 = {
    _SCRIPT: "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    _WASM: "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
_LICENCE = """onnxruntime-web, Copyright (c) Microsoft Corporation. MIT License.

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


@dataclass(frozen=True)
class Runtime:
    """The two files of onnxruntime-web that the page needs.

    Attributes:
        script: What the page's worker runs: its module, as a script that is none, and our few lines.
        wasm: Its compiled part.
    """

    script: str
    wasm: bytes


def read_runtime(folder: Path) -> Runtime:
    """Read onnxruntime-web as npm has installed it; nothing is fetched.

    Args:
        folder: The package's folder, `node_modules/onnxruntime-web`.

    Raises:
        ExportError: If it is not there, or not the version that the page was tested with, byte for byte.
    """
    install = f"npm install {PACKAGE}@{PROVEN}, and give --runtime node_modules/{PACKAGE}"
    try:
        contents = {name: (folder / name).read_bytes() for name in _SHA256}
    except OSError as error:
        raise ExportError(f"{folder}: holds no {PACKAGE} ({error.strerror}: {error.filename}); {install}") from error
    for name, expected in _SHA256.items():
        if hashlib.sha256(contents[name]).hexdigest() != expected:
            raise ExportError(f"{folder / name}: is not that of {PACKAGE} {PROVEN}; {install}")
    return Runtime(_without_module(contents[_SCRIPT].decode()) + _asset("worker.js"), contents[_WASM])


def export_page(metric: Metric, folder: Path, runtime: Runtime, *, licence: str | None = None) -> Export:
    """Write a folder with a page that scores pictures; index.html is written last.

    Args:
        metric: The metric, in float32 on the CPU.
        folder: Folder to write into; made where it does not exist.
        runtime: What `read_runtime` gave.
        licence: Terms of the checkpoint, for the page.

    Raises:
        ExportError: If the metric cannot be exported for pictures of any size, or the folder cannot be written.
        MissingExtraError: If the extra `export` is not installed.
    """
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise ExportError(f"{folder}: cannot be made a folder ({error.strerror}); give another") from error
    done = export_metric(metric, folder / _MODEL, licence=licence)
    script = _base64(runtime.script.encode())
    files = {
        "model.js": f'const MODEL = "{_base64(done.path.read_bytes())}";\n',
        "runtime.js": f'const RUNTIME = {{script: "{script}", wasm: "{_base64(runtime.wasm)}"}};\n',
        "LICENSE-onnxruntime.txt": _LICENCE,
        "index.html": _page(metric, done.record),
    }
    for name, content in files.items():
        write_file(folder / name, content, error=ExportError)
    return done


def _page(metric: Metric, record: dict[str, str]) -> str:
    about = {"mode": metric.mode, "range": metric.score_range}
    script = f'"use strict";\n(() => {{\n{_asset("web.js")}}})();\n'
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    low, high = metric.score_range
    direction = "Higher" if metric.higher_is_better else "Lower"
    return Template(_asset("page.html")).substitute(
        title=html_text(metric.full_name),
        styles=f"{_HOUSE.read_text(encoding='utf-8')}\n{_asset('web.css')}",
        mode="Quality of a picture beside its reference" if metric.mode == "fr" else "Quality of a picture",
        better=f"{direction} is better; scores are nominally from {low:g} to {high:g}.",
        fingerprint=html_text(record["fingerprint"]),
        licence=html_text(record["licence"]),
        runtime=PROVEN,
        about=script_json(about),
        allowed=f"'sha256-{digest}'",
        script=script,
    )


def _without_module(text: str) -> str:
    """Turn onnxruntime's module into a script that gives `ort`: browsers load no module from a file of the disk."""
    *_, exports = re.finditer(r"export\{([^{}]*)\};", text)
    names = [part.split(" as ") for part in exports[1].split(",")]
    given = ",".join(f"{outside}:{inside}" for inside, outside in names)
    text = f"{text[: exports.start()]}const ort={{{given}}};\n"
    return text.replace("import.meta.url", "self.location.href")


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")
