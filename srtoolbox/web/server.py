"""Serves the page on this computer only."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from srtoolbox.errors import UserError
from srtoolbox.web.choices import Choices
from srtoolbox.web.queue import Queue
from srtoolbox.web.requests import OWN_HOSTS
from srtoolbox.web.work import Limits, Results, Workplace

HOST = "127.0.0.1"
_FIRST_PORT, _PORTS = 7860, 100


def check_gradio() -> None:
    """Checks that gradio is installed.

    Raises:
        UserError: tells how to install it.
    """
    if find_spec("gradio") is None:
        raise UserError('web: needs gradio; pip install "srtoolbox[web]"')


def serve(
    weights: Sequence[str],
    device: str,
    port: int | None,
    limits: Limits,
    open_browser: bool,
    ready: Callable[[str], None],
) -> None:
    """Serves the page until the process is interrupted; then removes all uploads and results.

    Args:
        weights: As for ``Choices``.
        device: As for ``UpscaleOptions``.
        port: Port; None: the first free one from 7860 on.
        limits: What may be uploaded.
        open_browser: Whether to open the page in the browser.
        ready: Called with the address of the page.

    Raises:
        UserError: if gradio is not installed, weights cannot be loaded, the device is absent, or
            the port is not free.
    """
    check_gradio()
    from srtoolbox.engine.device.precision import pick_device

    pick_device(device)
    port = free_port(port)
    choices = Choices(weights)
    root = Path(tempfile.mkdtemp(prefix="srtoolbox-web-"))
    queue = Queue()
    try:
        _set_up_gradio(root)
        from srtoolbox.web.page import build, launch

        page = build(Workplace(choices, limits, root / "results"), queue, Results(), device)
        url = launch(page, HOST, port, limits.bytes)
        ready(url)
        if open_browser:
            import webbrowser

            webbrowser.open(url)
        try:
            threading.Event().wait()
        finally:
            queue.close()
            page.close(verbose=False)
    finally:
        queue.close()
        shutil.rmtree(root, ignore_errors=True)


def free_port(port: int | None) -> int:
    """Returns ``port``, or the first free one from 7860 on.

    Raises:
        UserError: if it is not free.
    """
    wanted = range(_FIRST_PORT, _FIRST_PORT + _PORTS) if port is None else (port,)
    for number in wanted:
        with socket.socket() as test:
            if os.name == "posix":  # a port that was just in use may be used again
                test.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                test.bind((HOST, number))
            except OSError as error:
                if port is not None:
                    reason = error.strerror or error
                    raise UserError(
                        f"--port {port}: cannot be used ({reason}); give another"
                    ) from error
                continue
            return number
    raise UserError(f"no port from {_FIRST_PORT} to {wanted[-1]} is free; give another --port")


def _set_up_gradio(root: Path) -> None:
    """Sets what gradio reads from the environment at its import: folder, no statistics."""
    os.environ["GRADIO_TEMP_DIR"] = str(root)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    # gradio asks its own server whether it is there; a proxy cannot answer that.
    for name in ("no_proxy", "NO_PROXY"):
        known = [part for part in os.environ.get(name, "").split(",") if part]
        os.environ[name] = ",".join([*known, *OWN_HOSTS])
