"""Other web pages in the browser cannot use the server."""

from __future__ import annotations

import asyncio

import pytest

from srtoolbox.web.requests import OwnPagesOnly, is_own_request


def scope(path: str = "/", **headers: str) -> dict:
    sent = {"host": "127.0.0.1:7860", **headers}
    encoded = [(name.encode(), value.encode()) for name, value in sent.items()]
    return {"type": "http", "path": path, "headers": encoded}


@pytest.mark.parametrize(
    "request_",
    [
        scope(),
        scope("/gradio_api/file=/tmp/a.png"),
        scope(host="localhost:7860", origin="http://localhost:7860"),
    ],
)
def test_the_own_page_is_answered(request_: dict) -> None:
    assert is_own_request(request_)


@pytest.mark.parametrize(
    "request_",
    [
        scope(host="example.com"),
        scope(host="example.com:7860", origin="http://example.com:7860"),
        scope(origin="http://example.com"),
        scope(origin="http://127.0.0.1:8000"),
        scope(origin="null"),
        scope("/gradio_api/file=http://example.com/a.png"),
        scope("/gradio_api/file=HTTPS://example.com/a.png"),
        scope("/gradio_api/proxy=http://example.com"),
        {"type": "http", "path": "/", "headers": []},
    ],
)
def test_all_others_are_refused(request_: dict) -> None:
    sent = []

    async def send(message: dict) -> None:
        sent.append(message)

    async def app(*_: object) -> None:
        raise AssertionError("the program was reached")

    asyncio.run(OwnPagesOnly(app)(request_, None, send))
    assert sent[0]["status"] == 403
