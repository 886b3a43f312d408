"""Ports, missing packages and wrong weights end the command with one line."""

from __future__ import annotations

import importlib.util
import socket

import pytest

from srtoolbox.cli import main
from srtoolbox.errors import UserError
from srtoolbox.web import server


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind((server.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"--port {port}: cannot be used .*give another"):
            server.free_port(port)
    assert server.free_port(None) >= 7860


def test_without_gradio_the_extra_is_named(monkeypatch, capsys) -> None:
    monkeypatch.setattr(server, "find_spec", lambda name: None)
    assert main(["web"]) == 2
    assert 'pip install "srtoolbox[web]"' in capsys.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="needs gradio")
def test_wrong_weights_and_devices_are_named(capsys) -> None:
    assert main(["web", "--weights", "nowhere.pth", "--no-browser"]) == 2
    assert "nowhere.pth" in capsys.readouterr().err
    assert main(["web", "--device", "cuda:77", "--no-browser"]) == 2
    assert "cuda:77" in capsys.readouterr().err
