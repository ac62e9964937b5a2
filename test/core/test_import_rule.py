"""Who may import whom: core <- models, core <- ros, all of these <- nodes and cli."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "redepth_ros"

ALLOWED = {
    "core": {"core"},
    "scenes": {"core", "scenes"},
    "models": {"core", "models"},
    "ros": {"core", "ros"},
    "nodes": {"core", "models", "ros", "nodes"},
    "cli": {"core", "scenes", "models", "ros", "nodes", "cli"},
}


def imported(path: Path) -> set[str]:
    """Full names of all modules that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert all(alias.name != "*" for alias in node.names), f"{path}: star import"
            names.add(node.module)
    return names


def test_every_folder_has_a_rule():
    folders = {path.parent.name for path in PACKAGE.glob("*/*.py")}
    assert folders == set(ALLOWED)


@pytest.mark.parametrize("folder", sorted(ALLOWED))
def test_arrows(folder):
    for path in (PACKAGE / folder).rglob("*.py"):
        ours = {name.split(".")[1] for name in imported(path) if name.startswith("redepth_ros.")}
        assert ours <= ALLOWED[folder], path


def test_core_imports_only_torch_numpy_and_the_standard_library():
    allowed = set(sys.stdlib_module_names) | {"torch", "numpy", "redepth_ros"}
    for path in (PACKAGE / "core").rglob("*.py"):
        assert {name.split(".")[0] for name in imported(path)} <= allowed, path


def test_core_runs_where_the_rest_is_not_installed():
    modules = [f"redepth_ros.core.{path.stem}" for path in (PACKAGE / "core").glob("*.py")]
    blocked = ["rclpy", "sensor_msgs", "transformers", "diffusers", "cv2", "cv_bridge"]
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({blocked!r}))\n"
        f"import importlib; [importlib.import_module(name) for name in {modules!r}]"
    )
    subprocess.run([sys.executable, "-c", program], cwd=PACKAGE.parent, check=True)
