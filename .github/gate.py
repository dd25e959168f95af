"""The step of action.yml that scores: which pictures, what they got, what the pull request shows of it.

Inputs come as environment variables, so that no text of a pull request is ever part of a command.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from iqametrics.cli.gate_output import GithubWriter
from iqametrics.common.markup import markdown
from iqametrics.images.files import IMAGE_SUFFIXES

OPTIONS = {
    "METRIC": "--metric",
    "REFERENCES": "--ref-dir",
    "FAIL_BELOW": "--fail-below",
    "FAIL_ABOVE": "--fail-above",
    "BASELINE": "--baseline",
    "FAIL_DROP": "--fail-drop",
}
MOST_ROWS = 100
"""Rows of the summary, whose size is limited."""


def main() -> int:
    """Run the step; its exit status is that of `iqametrics score`."""
    images = lines("IMAGES")
    if not images:
        if not os.environ.get("BASE"):
            print("::error::image quality gate: this is no pull request; give the input images")
            return 2
        images = changed_pictures(os.environ["BASE"])
    if not images:
        print("No pictures were added or changed.")
        say(status=0)
        return 0
    folder = Path(os.environ["RUNNER_TEMP"], "iqametrics")
    folder.mkdir(parents=True, exist_ok=True)
    scores = folder / "scores.jsonl"
    options = [f"{option}={line}" for variable, option in OPTIONS.items() for line in lines(variable)]
    written = ["--format=jsonl", f"--output={scores}", f"--html={folder / 'report.html'}", "--quiet"]
    command = [sys.executable, "-m", "iqametrics", "score", *options, *written, "--", *images]
    status = subprocess.run(command, check=False).returncode
    if scores.exists():
        rows = [json.loads(line) for line in scores.read_text(encoding="utf-8").splitlines()]
        mark(rows)
        summarise(rows)
        say(scores=scores)
    say(status=status)
    return status


def lines(variable: str) -> list[str]:
    """Return the lines of an input that say something."""
    return [line.strip() for line in os.environ.get(variable, "").splitlines() if line.strip()]


def changed_pictures(base: str) -> list[str]:
    """Return the pictures that differ from a commit and are still there."""
    known = subprocess.run(["git", "cat-file", "-e", f"{base}^{{commit}}"], capture_output=True, check=False)
    if known.returncode:
        subprocess.run(["git", "fetch", "--quiet", "--depth=1", "origin", base], check=True)
    command = ["git", "diff", "--name-only", "--diff-filter=d", "--no-renames", "-z", base, "HEAD"]
    names = subprocess.run(command, capture_output=True, check=True).stdout.split(b"\0")
    return [name for name in map(os.fsdecode, names) if Path(name).suffix.lower() in IMAGE_SUFFIXES]


def mark(rows: list[dict[str, Any]]) -> None:
    """Print the workflow commands that mark pictures in the pull request."""
    writer = GithubWriter(sys.stdout, ())
    for row in rows:
        writer.write(row)
    writer.finish()


def summarise(rows: list[dict[str, Any]]) -> None:
    """Write a table of the rows, those that fail first, where the page of the run shows it."""
    rows = sorted(rows, key=lambda row: not (row.get("error") or row.get("fails")))
    table = ["| picture | metric | score | |", "|---|---|---|---|"]
    for row in rows[:MOST_ROWS]:
        score = "" if row["score"] is None else f"{row['score']:.4f}"
        cells = (row["image"], row["metric"], score, row.get("error") or row.get("fails") or "")
        table.append("| " + " | ".join(markdown(cell, 300) for cell in cells) + " |")
    if len(rows) > MOST_ROWS:
        table.append(f"\n{len(rows) - MOST_ROWS} more are in the report.")
    append("GITHUB_STEP_SUMMARY", "\n".join(table))


def say(**outputs: object) -> None:
    """Set outputs of the step."""
    for name, value in outputs.items():
        append("GITHUB_OUTPUT", f"{name}={value}")


def append(variable: str, text: str) -> None:
    """Add a line to the file that a variable names."""
    with open(os.environ[variable], "a", encoding="utf-8") as stream:
        stream.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
