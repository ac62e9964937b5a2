"""Package metadata: what is installed, and what it depends on."""

import ast
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "redepth_ros"
SETUP = (ROOT / "setup.py").read_text()

DISTRIBUTIONS = {
    "PIL": "pillow",
    "yaml": "pyyaml",
    "cv2": "opencv-python-headless",
    "skimage": "scikit-image",
}
"""Names on PyPI of modules that have another name."""

KEYS = {"cv2": "python3-opencv", "skimage": "python3-skimage", "tf2_ros": "tf2_ros_py", "PIL": "python3-pil"}
"""rosdep keys of modules that are not named python3-MODULE."""


def imported(*folders):
    """Top-level names of all modules that are imported from Python files of some folders."""
    names = set()
    for folder in folders:
        for path in (PACKAGE / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    names |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - {"redepth_ros"}


@pytest.fixture(scope="module")
def declared():
    """Keyword arguments of setup(), as they are evaluated."""
    arguments = {}
    program = SETUP.replace(
        "from setuptools import find_packages, setup", "from setuptools import find_packages"
    )
    exec(compile(program, "setup.py", "exec"), {"setup": lambda **given: arguments.update(given)})
    return arguments


@pytest.fixture(autouse=True)
def in_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def requirement_name(text):
    return re.split(r"[ <>=!;\[]", text)[0]


def test_every_folder_with_modules_is_a_package():
    for folder in {path.parent for path in PACKAGE.rglob("*.py")}:
        assert (folder / "__init__.py").is_file(), folder


def test_every_data_file_is_installed(declared):
    installed = set(declared["package_data"]["redepth_ros"])
    files = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*") if path.is_file()}
    data = {path for path in files if not path.endswith((".py", ".pyc"))}
    assert data == installed


def test_launch_and_config_files_are_installed(declared):
    installed = {file for _, files in declared["data_files"] for file in files}
    for folder in ("launch", "config"):
        for path in (ROOT / folder).iterdir():
            if path.is_file():
                assert str(path.relative_to(ROOT)) in installed


def test_pip_installs_what_refine_and_evaluate_import(declared):
    optional = [text for name in ("openvino", "onnxruntime") for text in declared["extras_require"][name]]
    names = {requirement_name(text) for text in (*declared["install_requires"], *optional)}
    needed = imported("core", "models", "viz") | {"cv2", "jinja2", "rich"}
    assert {DISTRIBUTIONS.get(name, name) for name in needed} <= names


def test_requirements_are_within_the_declared_ranges(declared):
    from packaging.requirements import Requirement

    ranges = {one.name: one.specifier for one in map(Requirement, declared["install_requires"])}
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        text = line.partition("#")[0].strip()
        if text:
            pinned = Requirement(text)
            for version in pinned.specifier:
                if version.operator == "==" and pinned.name in ranges:
                    assert ranges[pinned.name].contains(version.version), text


def test_colcon_finds_pytest(declared):
    assert "pytest" in {requirement_name(text) for text in declared["extras_require"]["test"]}


def test_package_xml_names_every_ros_package_that_is_imported():
    manifest = ElementTree.parse(ROOT / "package.xml")
    keys = {element.text for element in manifest.iter() if element.tag.endswith("depend")}
    modules = imported("nodes", "ros", "cli")
    from_pypi = {"torch", "transformers", "diffusers", "huggingface_hub", "safetensors", "rosbags"}
    from_pypi |= {"h5py", "ray"}  # extras
    for module in modules - from_pypi:
        candidates = {module, f"python3-{module}", KEYS.get(module, module)}
        assert candidates & keys, module
    assert {"cv_bridge", "sensor_msgs_py"} <= keys


def test_every_executable_has_its_entry_point(declared):
    from redepth_ros import entry_points

    names = [line.partition(" = ")[0] for line in declared["entry_points"]["console_scripts"]]
    assert names == entry_points.__all__
    for line in declared["entry_points"]["console_scripts"]:
        name, _, target = line.partition(" = ")
        assert target == f"redepth_ros.entry_points:{name}"


def test_changelogs_have_a_heading_for_the_version(declared):
    for path in (ROOT / "CHANGELOG.rst", *ROOT.glob("interfaces/*/CHANGELOG.rst")):
        assert re.search(
            rf"^{re.escape(declared['version'])} \(\d{{4}}-\d\d-\d\d\)\n-+$", path.read_text(), re.M
        ), path
    assert len(list(ROOT.glob("interfaces/*/CHANGELOG.rst"))) == len(
        list(ROOT.glob("interfaces/*/package.xml"))
    )
