"""Parameter files, and parameters of any type and value."""

import pytest

pytest.importorskip("rclpy")

import yaml
from hypothesis import given
from hypothesis import strategies as st

from fuzz.harness import FLOATS, TEXTS, bytes_like, decode
from fuzz.test_files import tokens, values
from redepth_ros.core.refine.settings import RefineSettings
from redepth_ros.nodes.player_settings import PlayerSettings
from redepth_ros.nodes.settings import DepthSettings, ServerSettings
from redepth_ros.ros.node.parameter_files import broken_file

VALID = yaml.safe_dump({"/**": {"ros__parameters": {"max_depth": 20.0, "model": "tiny"}}})


@given(
    bytes_like(VALID.encode())
    | tokens.map(lambda text: (VALID + text).encode())
    | values.map(lambda content: yaml.safe_dump(content).encode())
    | st.sampled_from([10, 1500]).map(lambda depth: b"[" * depth)
)
def test_parameter_files(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "parameters.yaml"
    path.write_bytes(data)
    assert isinstance(decode(broken_file, ["--params-file", str(path)]), str)


@given(st.sampled_from([RefineSettings, DepthSettings, ServerSettings, PlayerSettings]), st.data())
def test_settings(kind, data):
    names = [one.name for one, _ in kind.declared()]
    given_values = data.draw(
        st.dictionaries(st.sampled_from(names), st.booleans() | st.integers() | FLOATS | TEXTS, max_size=3)
    )
    decode(lambda: kind(**given_values))
