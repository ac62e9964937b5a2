"""A node whose hub accepts the connection and sends nothing: it answers meanwhile, and ends."""

import os
import socket

import pytest

pytest.importorskip("rclpy")


def test_a_node_answers_and_ends_while_its_hub_does_not_answer(start, make_probe, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        process = start(
            "redepth_node",
            {"model": "someone/depth", "device": "cpu"},
            "/hanging",
            os.environ | {"HF_ENDPOINT": endpoint, "HF_HUB_CACHE": str(tmp_path)},
        )
        probe = make_probe("/hanging")
        progress = "downloading someone/depth: asking the hub for the list of files"
        probe.diagnostics(message=f"loading model 'someone/depth' for [0-9]+ s: {progress}")
        assert probe.state() == "configuring"
        assert progress in process.output()
        process.signal()
        assert process.wait() == 0
