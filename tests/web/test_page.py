"""The page in a real browser: upload, run, look, download, without a request to other hosts."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from support.images import picture, save

from srtoolbox.upscaling.networks import load_networks
from srtoolbox.upscaling.options import UpscaleOptions
from srtoolbox.upscaling.pictures import upscale_picture
from srtoolbox.upscaling.upscaler import Upscaler

WAIT = 60_000  # milliseconds until a test gives up
BROWSER_LIMIT = 300  # seconds until the browser is killed; the tests take 20

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("gradio") is None,
        reason='needs gradio: pip install "srtoolbox[web]"',
    ),
]


@pytest.fixture(scope="module")
def server(weights: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Address and folder of a server; at its end it must have removed its temporary files."""
    folder = tmp_path_factory.mktemp("server")
    temporary = folder / "tmp"
    temporary.mkdir()
    given = [part for file in weights for part in ("--weights", file)]
    command = [sys.executable, "-m", "srtoolbox", "web", "--no-browser", "--device", "cpu", *given]
    with (folder / "errors.txt").open("w") as errors:
        process = subprocess.Popen(
            [*command, "--max-upload", "1", "--max-pixels", "100000"],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "TMPDIR": str(temporary)},
        )
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    try:
        assert url.startswith("http://127.0.0.1:"), (folder / "errors.txt").read_text()
        yield url
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()
    assert process.returncode == 0
    assert "Traceback" not in (folder / "errors.txt").read_text()
    assert not list(temporary.glob("srtoolbox-web-*"))


@pytest.fixture(scope="module")
def window(server: str) -> Iterator[Any]:
    """A window of a browser, for all tests.

    Chromium was twice seen to stand still while one of several windows was closed. A browser that
    stands still is killed, and its test fails.
    """
    api = pytest.importorskip(
        "playwright.sync_api", reason='needs Playwright: pip install "srtoolbox[browser]"'
    )
    found = shutil.which("chromium") or shutil.which("google-chrome")
    with api.sync_playwright() as playwright:
        if found is None and not Path(playwright.chromium.executable_path).exists():
            pytest.skip("needs a browser: install chromium, or run `playwright install chromium`")
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        processes = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")
        (number,) = (p["id"] for p in processes["processInfo"] if p["type"] == "browser")
        limit = threading.Timer(BROWSER_LIMIT, os.kill, (number, signal.SIGKILL))
        limit.start()
        try:
            opened = browser.new_page(
                viewport={"width": 1280, "height": 800}, accept_downloads=True
            )
            opened.set_default_timeout(WAIT)
            yield opened
            browser.close()
        finally:
            limit.cancel()


@pytest.fixture
def page(window: Any, server: str) -> Iterator[Any]:
    """The page; at the end no console error and no request to another host may have happened."""
    requests, errors = [], []
    listeners = {
        "request": lambda request: requests.append(request.url),
        "pageerror": lambda error: errors.append(str(error)),
        "console": lambda message: message.type == "error" and errors.append(message.text),
    }
    for event, listener in listeners.items():
        window.on(event, listener)
    window.goto(server)
    window.wait_for_selector("#picture-start")
    yield window
    for event, listener in listeners.items():
        window.remove_listener(event, listener)
    hosts = {urlsplit(url).hostname for url in requests if url.startswith(("http", "ws"))}
    assert hosts == {"127.0.0.1"}
    assert errors == []


def upload(page: Any, tab: str, path: Path) -> str:
    """Uploads a file and returns the line on it."""
    page.set_input_files(f"#{tab}-file input[type=file]", str(path))
    page.wait_for_selector(f"#{tab}-file-line .line:not(:empty)")
    return page.inner_text(f"#{tab}-file-line .line").strip()


def test_a_picture_is_enlarged_shown_and_downloaded(
    page: Any, weights: list[str], tmp_path: Path
) -> None:
    source = save(tmp_path / "a photo.png", picture(40, 30))
    assert upload(page, "picture", source) == "picture, 30×40"
    page.click("#picture-start")
    page.wait_for_selector("#picture-result img")
    with page.expect_download() as started:
        page.click("#picture-download")
    download = started.value
    assert download.suggested_filename == "a photo_x2.png"
    options = UpscaleOptions(device="cpu")
    upscaler = Upscaler(load_networks(weights[:1]), options)
    upscale_picture(upscaler, source, tmp_path / "expected.png", options)
    assert Path(download.path()).read_bytes() == (tmp_path / "expected.png").read_bytes()
    assert "30×40 → 60×80; EDSR ×2" in page.inner_text("#picture-line")
    shown = page.eval_on_selector_all(
        "#picture-result img", "images => images.map(i => [i.naturalWidth, i.naturalHeight])"
    )
    assert shown == [[60, 80], [60, 80]]


def test_what_cannot_be_used_gets_one_line(page: Any, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_text("no picture")
    line = "bad.png: no picture, or damaged; replace or remove it"
    assert upload(page, "picture", bad) == line
    page.click("#picture-start")
    page.wait_for_selector("#picture-line .error")
    assert page.inner_text("#picture-line .error") == line
    page.get_by_role("tab", name="Video and animation").click()
    page.click("#media-start")
    page.wait_for_selector("#media-line .error")
    assert page.inner_text("#media-line .error") == "Choose a video or an animation first"
    large = save(tmp_path / "large.png", np.zeros((400, 400), np.uint8))
    assert "0.2 megapixels; this page takes at most 0.1" in upload(page, "media", large)
    assert "Traceback" not in page.content()


def test_networks_are_compared(page: Any, tmp_path: Path) -> None:
    page.get_by_role("tab", name="Compare").click()
    upload(page, "compare", save(tmp_path / "a.png", picture(80, 90)))
    page.wait_for_selector("#compare-overview img")
    page.click("#compare-start")
    page.wait_for_selector("#compare-result .scores")
    table = page.inner_text("#compare-result .scores")
    assert all(name in table for name in ("Bicubic", "tiny2", "tiny3", "EDSR ×2", "EDSR ×3"))
    page.wait_for_function(
        "[...document.querySelectorAll('#compare-result img')].every(i => i.naturalWidth == 270)"
    )
    assert page.locator("#compare-result img").count() == 3


def test_the_server_gives_no_other_files(page: Any, server: str) -> None:
    for path in ("/etc/hostname", str(Path(__file__).resolve())):
        reply = page.request.get(f"{server}gradio_api/file={path}")
        assert reply.status == 403
    for headers in ({"Origin": "http://example.com"}, {"Host": "example.com"}):
        assert page.request.get(server, headers=headers).status == 403
