"""Rows for the programs that show what a gate found: JUnit's XML and GitHub's workflow commands."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, TextIO
from xml.etree import ElementTree

# XML 1.0 has no place for these characters, not even escaped.
_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class JunitWriter:
    """One test suite a metric, one test case a picture: a limit that is broken is a failure, a bad file an error."""

    def __init__(self, stream: TextIO, columns: Sequence[str]) -> None:
        self.stream = stream
        self.suites: dict[str, ElementTree.Element] = {}

    def write(self, row: Mapping[str, Any]) -> None:
        """Take a row."""
        metric = _xml_text(row["metric"])
        suite = self.suites.setdefault(metric, ElementTree.Element("testsuite", name=metric))
        case = ElementTree.SubElement(suite, "testcase", classname=metric, name=_xml_text(row["image"]))
        if row.get("error") is not None:
            ElementTree.SubElement(case, "error", message=_xml_text(row["error"]))
        elif row.get("fails") is not None:
            message = f"{row['score']:.6g}, {row['fails']}"
            ElementTree.SubElement(case, "failure", message=_xml_text(message))
        if row.get("score") is not None:
            ElementTree.SubElement(case, "system-out").text = f"{row['score']:.6g}"

    def finish(self) -> None:
        """Write the document."""
        root = ElementTree.Element("testsuites")
        for suite in self.suites.values():
            for name, tag in (("tests", "testcase"), ("failures", "testcase/failure"), ("errors", "testcase/error")):
                suite.set(name, str(len(suite.findall(tag))))
            root.append(suite)
        ElementTree.indent(root)
        self.stream.write('<?xml version="1.0" encoding="UTF-8"?>\n')
        self.stream.write(ElementTree.tostring(root, encoding="unicode") + "\n")


class GithubWriter:
    """One workflow command for each picture that fails or cannot be scored; GitHub marks it in the pull request."""

    def __init__(self, stream: TextIO, columns: Sequence[str]) -> None:
        self.stream = stream

    def write(self, row: Mapping[str, Any]) -> None:
        """Write a row, if there is something to say about it."""
        reason = row.get("error")
        if reason is None and row.get("fails") is not None:
            reason = f"{row['score']:.6g}, {row['fails']}"
        if reason is not None:
            place = f"file={_property(row['image'])},title={_property(row['metric'])}"
            self.stream.write(f"::error {place}::{_data(reason)}\n")
            self.stream.flush()

    def finish(self) -> None:
        """Do nothing: each command was printed with its row."""


def _xml_text(text: object) -> str:
    return _NOT_IN_XML.sub("\N{REPLACEMENT CHARACTER}", str(text))


def _data(text: object) -> str:
    return str(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: object) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
