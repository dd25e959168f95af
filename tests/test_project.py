"""What is written down twice about the project says the same twice."""

import configparser
import re

import yaml
from places import ROOT

import iqametrics
from iqametrics import list_metrics, metric_info


def setup():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def test_the_oldest_job_has_the_oldest_versions():
    """A floor names as many parts of a version as matter: >=0.19 is pinned by ==0.19.0."""
    lines = setup()["options"]["install_requires"].split("\n")
    floors = dict(line.split(">=") for line in lines if line and ";" not in line)
    pins = dict(re.findall(r"^(\w+)==(\S+)$", (ROOT / "tests" / "oldest.txt").read_text(encoding="utf-8"), re.M))
    assert pins.keys() == floors.keys()
    for name, floor in floors.items():
        assert f"{pins[name]}.".startswith(f"{floor}."), name


def test_the_workflow_tries_every_python_that_is_promised():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    tried = workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    promised = re.findall(r"Python :: (3\.\d+)", setup()["metadata"]["classifiers"])
    assert tried == promised
    assert setup()["options"]["python_requires"] == f">={tried[0]}"
    assert f'target-version = "py{tried[0].replace(".", "")}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_the_citation_names_this_version_and_the_papers():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == setup()["metadata"]["version"] == iqametrics.__version__
    ours = [name for name in list_metrics() if metric_info(name).checkpoint is not None]
    assert {metric_info(name).paper_url for name in ours} == {paper["url"] for paper in citation["references"]}
