"""What benches take from each other."""

import ast
from importlib import import_module
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

BENCHES = sorted((Path(__file__).parents[2] / "bench").rglob("*.py"))


@pytest.mark.parametrize("path", BENCHES, ids=lambda path: path.stem)
def test_a_bench_imports_what_others_define(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bench."):
            module = import_module(node.module)
            missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
            assert not missing, f"{path.name}: {node.module} has no {missing}"
