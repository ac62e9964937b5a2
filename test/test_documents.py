"""Documents that repeat what the code says must say the same."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

import redepth_ros

ROOT = Path(__file__).parents[1]


def test_parameter_documents_are_up_to_date(load_script):
    tool = load_script("tools/document_parameters.py")
    remedy = "run: ./dev run python tools/document_parameters.py"
    assert (ROOT / "config" / "redepth.yaml").read_text() == tool.write_yaml(), remedy
    assert (ROOT / "docs" / "reference" / "parameters.md").read_text() == tool.write_markdown(), remedy


def test_there_is_one_version():
    for manifest in (ROOT / "package.xml", *ROOT.glob("interfaces/*/package.xml")):
        assert ElementTree.parse(manifest).findtext("version") == redepth_ros.__version__, manifest
    assert f'version="{redepth_ros.__version__}"' in (ROOT / "setup.py").read_text()


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", *sorted(
    str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md"))])  # fmt: skip
def test_links_lead_somewhere(document):
    text = (ROOT / document).read_text()
    for target in re.findall(r"\]\(([^)#]+)", text):
        if "://" not in target:
            assert (ROOT / document).parent.joinpath(target).exists(), target


@pytest.mark.parametrize("module", ["redepth_node", "refined_topics"])
def test_topics_in_the_readme_are_those_of_the_nodes(module):
    source = (ROOT / "redepth_ros" / "nodes" / f"{module}.py").read_text()
    readme = (ROOT / "README.md").read_text()
    topics = set(re.findall(r'"((?:depth|image|refined)/\w+)"', source))
    assert topics
    for topic in topics:
        assert f"`{topic}`" in readme, topic
