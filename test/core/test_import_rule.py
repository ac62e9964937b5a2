"""Which folder may import which: core <- viz, models, ros <- nodes <- cli; training <- none."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "redepth_ros"

ALLOWED = {
    "core": {"core"},
    "viz": {"core", "viz"},
    "models": {"core", "models"},
    "data": {"core", "data"},
    "recordings": {"core", "data", "recordings"},
    "exports": {"core", "viz", "exports"},
    "ros": {"core", "data", "recordings", "ros"},
    "nodes": {"core", "viz", "models", "recordings", "ros", "nodes"},
    "cli": {"core", "viz", "models", "data", "recordings", "exports", "ros", "nodes", "cli"},
}
"""Folders of the package that the modules of a folder may import."""

TRAINING = {"core", "data", "models"}

BLOCKED = ["rclpy", "sensor_msgs", "redepth_interfaces", "transformers", "diffusers", "cv2", "cv_bridge"]


def imported(path: Path) -> set[str]:
    """Return the full names of all modules that a file imports, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert all(alias.name != "*" for alias in node.names), f"{path}: star import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def folders_imported(path: Path) -> set[str]:
    """Return the folders of the package that a file imports."""
    ours = [name.split(".") for name in imported(path)]
    return {parts[1] for parts in ours if parts[0] == "redepth_ros" and (PACKAGE / parts[1]).is_dir()}


def test_every_folder_of_the_package_has_a_rule():
    folders = {path.relative_to(PACKAGE).parts[0] for path in PACKAGE.glob("*/**/*.py")}
    assert folders <= set(ALLOWED)


@pytest.mark.parametrize("folder", sorted(ALLOWED))
def test_folders_import_only_those_below_them(folder):
    for path in (PACKAGE / folder).rglob("*.py"):
        assert folders_imported(path) <= ALLOWED[folder], path


def test_no_folder_imports_training():
    for path in PACKAGE.rglob("*.py"):
        assert not any(name.split(".")[0] == "training" for name in imported(path)), path


def test_training_imports_core_data_and_models_only():
    paths = list((ROOT / "training").rglob("*.py"))
    assert paths
    for path in paths:
        assert folders_imported(path) <= TRAINING, path


def test_core_imports_only_torch_numpy_and_the_standard_library():
    allowed = set(sys.stdlib_module_names) | {"torch", "numpy", "redepth_ros"}
    for path in (PACKAGE / "core").rglob("*.py"):
        assert {name.split(".")[0] for name in imported(path)} <= allowed, path


def test_core_runs_where_nothing_else_is_installed():
    paths = [path for path in (PACKAGE / "core").rglob("*.py") if path.name != "__init__.py"]
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]
    assert "redepth_ros.core.refine.run" in modules
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({BLOCKED!r}))\n"
        f"import importlib; [importlib.import_module(name) for name in {modules!r}]"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
