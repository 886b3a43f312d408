"""Refuses requests that do not come from the page on this computer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

OWN_HOSTS = ("127.0.0.1", "localhost")

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Callable[..., Awaitable[Any]], Callable[..., Awaitable[Any]]], Awaitable]


class OwnPagesOnly:
    """Refuses requests that this page does not send.

    Other web pages in the same browser can reach servers on this computer, by its address or by a
    name that they let point to it. Requests must name this computer as the host, and come from its
    own page. Paths that make gradio fetch addresses for others are refused, too.

    Args:
        app: The ASGI program behind it.
    """

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket") or is_own_request(scope):
            await self.app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = [(b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": 403, "headers": headers})
        await send({"type": "http.response.body", "body": b"only for the page of this computer"})


def is_own_request(scope: Scope) -> bool:
    """Returns whether a request names this computer, comes from its page, and fetches nothing."""
    headers = {name.lower(): value.decode("latin-1") for name, value in scope.get("headers", ())}
    if _host(headers.get(b"host", "")) not in OWN_HOSTS:
        return False
    origin = headers.get(b"origin")
    if origin is not None and origin != f"http://{headers[b'host']}":
        return False
    path = scope.get("path", "").lower()
    return "/file=http" not in path and "/proxy=" not in path


def _host(text: str) -> str:
    return text.rsplit(":", 1)[0].lower()
