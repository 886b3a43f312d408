"""The page: three tabs in gradio, and how they are served without any request to other hosts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, get_args
from urllib.parse import quote

import gradio as gr
from gradio.themes import Base
from starlette.middleware import Middleware

from srtoolbox.engine.device import Precision
from srtoolbox.errors import RunError, UserError
from srtoolbox.utils.console import clock_text, duration_text
from srtoolbox.web.queue import Control, Job, Queue, error_line
from srtoolbox.web.requests import OwnPagesOnly
from srtoolbox.web.work import MAX_SIDE, Compared, Restored, Results, Settings, Workplace

_POLL = 0.2  # seconds between two looks at a job
_NO_DENOISING = "off"
_AUTO = "auto"
_TILES = [("auto", _AUTO), ("whole picture", 0), *((str(side), side) for side in (128, 256, 512))]
_CONTAINERS = [("MP4", "mp4"), ("as the input", "auto"), ("Matroska", "mkv")]

_CSS = """
.gradio-container { width: 100%; min-width: 0; max-width: 1180px !important;
  margin: 0 auto !important; }
.gradio-container .html-container { padding: 0 !important; }
.gradio-container .main.app { padding: clamp(.75rem, 2.5vw, 2rem) !important; }
.gradio-container .tab-container button { padding: 0 .7rem !important; }
.head { padding: .5rem 0 0; }
.head h1 { font-size: 1.2rem !important; font-weight: 600; margin: 0 !important; }
.head p { margin: .2rem 0 0 !important; }
.head p, .line .note, .result, .scores small { opacity: .75; }
.line { margin: 0 !important; line-height: 1.45; overflow-wrap: anywhere; }
.line:empty { display: none; }
.line progress { display: block; width: 100%; height: .5rem; margin-top: .4rem;
  accent-color: var(--color-accent); }
.line.error { color: #b42318 !important; } .dark .line.error { color: #f97066 !important; }
.line .note { display: block; }
.result { display: flex; align-items: center; justify-content: center; min-height: 20rem;
  padding: 1rem; text-align: center; color: var(--body-text-color) !important;
  border: 1px dashed var(--border-color-primary); border-radius: var(--block-radius); }
.media { display: block; max-width: 100%; max-height: 70vh; margin: 0 auto !important; }
.pictures { display: grid; gap: .75rem;
  grid-template-columns: repeat(auto-fill, minmax(min(230px, 100%), 1fr)); }
.pictures figure, .pictures img { margin: 0 !important; }
.pictures img { display: block; width: 100%; border-radius: var(--block-radius); }
.pictures figcaption { margin: .3rem 0 0; overflow-wrap: anywhere;
  color: var(--body-text-color) !important; }
.scores { width: 100%; border-collapse: collapse; margin: 1rem 0 0 !important; }
.scores, .scores tr { border: 0 !important; }
.scores th, .scores td { padding: .35rem .5rem !important; text-align: right;
  border: 0 !important; border-bottom: 1px solid var(--border-color-primary) !important;
  color: var(--body-text-color) !important; font-variant-numeric: tabular-nums; }
.scores th, .scores td + td { white-space: nowrap; }
.scores th { font-weight: 600; }
.scores small { display: block; }
.scores th:first-child, .scores td:first-child { text-align: left; overflow-wrap: anywhere; }
@media (max-width: 640px) {
  .result { min-height: 6rem; }
  .scores th, .scores td { padding: .35rem .25rem !important; font-size: .85rem; }
}
"""


def launch(page: gr.Blocks, host: str, port: int, max_bytes: int) -> str:
    """Starts the server of a page in a thread, and returns its address.

    It makes no link for others, sends no statistics, and loads nothing from other hosts.
    """
    theme = Base(
        primary_hue="slate",
        neutral_hue="gray",
        radius_size="sm",
        font=("system-ui", "sans-serif"),
        font_mono=("ui-monospace", "monospace"),
    )
    _, url, _ = page.launch(
        server_name=host,
        server_port=port,
        share=False,
        inbrowser=False,
        prevent_thread_lock=True,
        quiet=True,
        max_file_size=max_bytes,
        allowed_paths=[],
        footer_links=[],
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        theme=theme,
        css=_CSS,
        app_kwargs={"middleware": [Middleware(OwnPagesOnly)]},
    )
    return url


def build(place: Workplace, queue: Queue, results: Results, device: str) -> gr.Blocks:
    """Makes the page.

    Args:
        place: Does the work.
        queue: Runs it.
        results: Removes results that are no longer shown.
        device: For all jobs.
    """
    parts = _Parts(place, queue, results, device)
    with gr.Blocks(title="srtoolbox", analytics_enabled=False, delete_cache=(3600, 86400)) as page:
        gr.HTML(
            '<div class="head"><h1>srtoolbox</h1><p>Enlarges pictures and videos on this computer. '
            "Nothing is sent to other computers.</p></div>"
        )
        with gr.Tabs():
            with gr.Tab("Picture"):
                _picture_tab(parts)
            with gr.Tab("Video and animation"):
                _media_tab(parts)
            with gr.Tab("Compare"):
                _compare_tab(parts)

        def leave(request: gr.Request) -> None:
            for tab in ("picture", "media", "compare", "overview"):
                queue.cancel(_owner(request, tab))
                results.forget(_owner(request, tab))

        page.unload(leave)
    page.queue(default_concurrency_limit=None, api_open=False)
    return page


class _Parts:
    """What all tabs use, and the controls that they have in common."""

    def __init__(self, place: Workplace, queue: Queue, results: Results, device: str) -> None:
        self.place, self.queue, self.results, self.device = place, queue, results, device

    def upload(self, label: str, elem_id: str) -> tuple[gr.File, gr.HTML]:
        """Adds a place for a file, and a line on the file below it."""
        file = gr.File(label=label, type="filepath", height=130, elem_id=elem_id)
        line = gr.HTML(_line(""), elem_id=f"{elem_id}-line")

        def describe(upload: str | None) -> str:
            if upload is None:
                return _line("")
            path = Path(upload)
            try:
                return _line(self.place.describe(path, path.name))
            except (UserError, RunError, OSError) as error:
                return _line(error_line(error), "error")

        file.change(describe, file, line, **_QUIET)
        return file, line

    def settings(self) -> list[gr.Dropdown]:
        """Adds the choice of weights, denoising level, precision and tile."""
        choices = self.place.choices
        labels = [(_label(choices[name]), name) for name in choices.names]
        weights = gr.Dropdown(labels, value=choices.names[0], label="Weights")
        levels = _level_labels(choices[choices.names[0]].levels)
        denoise = gr.Dropdown(levels, value=levels[0][1], label="Denoise", visible=len(levels) > 1)

        def show_levels(name: str) -> Any:
            found = _level_labels(choices[name].levels)
            return gr.update(choices=found, value=found[0][1], visible=len(found) > 1)

        weights.change(show_levels, weights, denoise, **_QUIET)
        with gr.Row():
            precision = gr.Dropdown(
                list(get_args(Precision)), value=_AUTO, label="Precision", min_width=110
            )
            tile = gr.Dropdown(_TILES, value=_AUTO, label="Tile", min_width=110)
        return [weights, denoise, precision, tile]

    def chosen(
        self, weights: str, denoise: Any, precision: str, tile: Any, **more: Any
    ) -> Settings:
        """Returns the settings for the values of ``settings``."""
        options = {"device": self.device, "precision": precision, **more}
        if tile != _AUTO:
            options["tile"] = tile
        level = None if denoise in (None, _NO_DENOISING) else int(denoise)
        return Settings(weights, level, options)


class _Runner:
    """The two buttons of a tab, the line on its job, and what the job shows at its end."""

    def __init__(self, parts: _Parts, tab: str, label: str) -> None:
        self._parts, self._tab = parts, tab
        with gr.Row():
            self.start = gr.Button(label, variant="primary", min_width=140, elem_id=f"{tab}-start")
            self.stop = gr.Button(
                "Cancel", interactive=False, min_width=100, elem_id=f"{tab}-cancel"
            )
        self.line = gr.HTML(_line(""), elem_id=f"{tab}-line")

        def cancel(request: gr.Request) -> None:
            parts.queue.cancel(_owner(request, tab))

        self.stop.click(cancel, None, None, **_QUIET)

    def on_start(
        self, handler: Callable[..., Any], inputs: Sequence[Any], outputs: Sequence[Any]
    ) -> None:
        """Calls an asynchronous generator of updates when the button is pressed."""
        self.start.click(
            handler,
            list(inputs),
            [self.start, self.stop, self.line, *outputs],
            show_progress="hidden",
            concurrency_limit=None,
            api_visibility="private",
        )

    async def follow(
        self,
        request: gr.Request,
        work: Callable[[Control], Any],
        folder_of: Callable[[Any], Path],
        show: Callable[[Any], Mapping[Any, Any]],
        cleared: Mapping[Any, Any],
    ) -> AsyncIterator[dict[Any, Any]]:
        """Submits a job and yields updates of the page until it has ended.

        Args:
            request: Of the user.
            work: As for ``Queue.submit``.
            folder_of: Returns the folder of its result.
            show: Returns the updates that show the result.
            cleared: The updates that clear an earlier result.
        """
        queue, owner = self._parts.queue, _owner(request, self._tab)
        try:
            job = queue.submit(work, owner)
        except UserError as error:
            yield {self.line: _line(str(error), "error")}
            return
        busy = {self.start: gr.update(interactive=False), self.stop: gr.update(interactive=True)}
        idle = {self.start: gr.update(interactive=True), self.stop: gr.update(interactive=False)}
        try:
            yield {**cleared, **busy, self.line: _line("Starting")}
            shown, begin = "", None
            while not job.finished.is_set():
                before = queue.jobs_before(job)
                if not before and begin is None:
                    begin = time.monotonic()
                text = _progress(job, before, begin)
                if text != shown:
                    yield {self.line: text}
                    shown = text
                await asyncio.sleep(_POLL)
        finally:  # the page was closed
            if not job.finished.is_set():
                queue.cancel(owner)
        if job.error is not None:
            yield {**idle, self.line: _line(job.error, "error")}
        elif job.was_cancelled:
            yield {**idle, self.line: _line("Cancelled")}
        else:
            self._parts.results.replace(owner, folder_of(job.result))
            yield {**idle, **show(job.result)}


def _picture_tab(parts: _Parts) -> None:
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            file, _ = parts.upload("Picture", "picture-file")
            settings = parts.settings()
            runner = _Runner(parts, "picture", "Enlarge")
        with gr.Column(scale=5, min_width=320):
            empty = gr.HTML(_empty("The result appears here, beside a bicubic enlargement."))
            slider = gr.ImageSlider(
                visible=False,
                label="Bicubic | network",
                interactive=False,
                buttons=["fullscreen"],
                max_height=620,
                elem_id="picture-result",
            )
            download = gr.DownloadButton("Download", visible=False, elem_id="picture-download")
    outputs = [empty, slider, download]
    cleared = _hidden(empty, slider, download)

    def show(result: Restored) -> dict[Any, Any]:
        shown = (str(result.before), str(result.after))
        return {
            empty: gr.update(visible=False),
            slider: gr.update(value=shown, visible=True),
            download: _download(result),
            runner.line: _result_line(result),
        }

    async def run(
        upload: str | None,
        weights: str,
        denoise: Any,
        precision: str,
        tile: Any,
        request: gr.Request,
    ) -> AsyncIterator[dict[Any, Any]]:
        if upload is None:
            yield {runner.line: _line("Choose a picture first", "error")}
            return
        path, chosen = Path(upload), parts.chosen(weights, denoise, precision, tile)

        def work(control: Control) -> Restored:
            return parts.place.restore_picture(path, path.name, chosen, control)

        async for update in runner.follow(request, work, _folder_of, show, cleared):
            yield update

    runner.on_start(run, [file, *settings], outputs)


def _media_tab(parts: _Parts) -> None:
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            file, _ = parts.upload("Video, GIF, animated PNG or WebP", "media-file")
            settings = parts.settings()
            container = gr.Dropdown(_CONTAINERS, value="mp4", label="Format of a video")
            runner = _Runner(parts, "media", "Enlarge")
        with gr.Column(scale=5, min_width=320):
            result_box = gr.HTML(_empty("The result appears here."), elem_id="media-result")
            download = gr.DownloadButton("Download", visible=False, elem_id="media-download")
    cleared = {
        result_box: _empty("The result appears here."),
        download: gr.update(value=None, visible=False),
    }

    def show(result: Restored) -> dict[Any, Any]:
        url = escape(_url(result.path))
        if result.kind == "video":
            media = f'<video class="media" src="{url}" controls loop></video>'
        else:
            media = f'<img class="media" src="{url}" alt="The enlarged animation">'
        return {
            result_box: media,
            download: _download(result),
            runner.line: _result_line(result),
        }

    async def run(
        upload: str | None,
        weights: str,
        denoise: Any,
        precision: str,
        tile: Any,
        container: str,
        request: gr.Request,
    ) -> AsyncIterator[dict[Any, Any]]:
        if upload is None:
            yield {runner.line: _line("Choose a video or an animation first", "error")}
            return
        path = Path(upload)
        chosen = parts.chosen(weights, denoise, precision, tile, container=container)

        def work(control: Control) -> Restored:
            return parts.place.restore_media(path, path.name, chosen, control)

        async for update in runner.follow(request, work, _folder_of, show, cleared):
            yield update

    runner.on_start(run, [file, *settings, container], [result_box, download])


def _compare_tab(parts: _Parts) -> None:
    variants = parts.place.choices.variants
    labels = [
        (_variant_label(parts.place.choices[name], level), number)
        for number, (name, level) in enumerate(variants)
    ]
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            file, _ = parts.upload("Picture", "compare-file")
            weights = gr.CheckboxGroup(
                labels,
                value=list(range(len(labels)))[:2],
                label="Weights",
                elem_id="compare-weights",
            )
            side = gr.Slider(
                64, MAX_SIDE, value=192, step=32, label="Width of the compared part in pixels"
            )
            overview = gr.Image(
                visible=False,
                interactive=False,
                label="Click on the part to compare",
                buttons=[],
                elem_id="compare-overview",
            )
            runner = _Runner(parts, "compare", "Compare")
        with gr.Column(scale=5, min_width=320):
            result_box = gr.HTML(_empty("The results appear here."), elem_id="compare-result")
    centre = gr.State((0.5, 0.5))
    size = gr.State((1, 1))  # of the overview

    def look(
        upload: str | None, centre: tuple[float, float], side: int, request: gr.Request
    ) -> Any:
        if upload is None:
            return gr.update(value=None, visible=False), (1, 1)
        path = Path(upload)
        try:
            shown, shown_size = parts.place.overview(path, path.name, centre, side)
        except (UserError, RunError, OSError):  # the line below the file states it
            return gr.update(value=None, visible=False), (1, 1)
        parts.results.replace(_owner(request, "overview"), shown.parent)
        return gr.update(value=str(shown), visible=True), shown_size

    def look_at_centre(upload: str | None, side: int, request: gr.Request) -> Any:
        return *look(upload, (0.5, 0.5), side, request), (0.5, 0.5)

    def click(
        upload: str | None,
        size: tuple[int, int],
        side: int,
        event: gr.SelectData,
        request: gr.Request,
    ) -> Any:
        place = event.index[0] / size[0], event.index[1] / size[1]
        return *look(upload, place, side, request), place

    file.change(look_at_centre, [file, side], [overview, size, centre], **_QUIET)
    side.release(look, [file, centre, side], [overview, size], **_QUIET)
    overview.select(click, [file, size, side], [overview, size, centre], **_QUIET)

    def show(found: list[Compared]) -> dict[Any, Any]:
        text = f"{len(found) - 1} networks and bicubic, the same part of the picture"
        return {result_box: _comparison(found), runner.line: _line(text)}

    async def run(
        upload: str | None,
        weights: list[int],
        centre: tuple[float, float],
        side: int,
        request: gr.Request,
    ) -> AsyncIterator[dict[Any, Any]]:
        if upload is None:
            yield {runner.line: _line("Choose a picture first", "error")}
            return
        path = Path(upload)

        def work(control: Control) -> list[Compared]:
            chosen = [variants[number] for number in weights]
            options = {"device": parts.device}
            return parts.place.compare(path, path.name, chosen, centre, side, options, control)

        def folder_of(found: list[Compared]) -> Path:
            return found[0].image.parent

        cleared = {result_box: _empty("The results appear here.")}
        async for update in runner.follow(request, work, folder_of, show, cleared):
            yield update

    runner.on_start(run, [file, weights, centre, side], [result_box])


_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}


def _owner(request: gr.Request, tab: str) -> str:
    return f"{request.session_hash}/{tab}"


def _folder_of(result: Restored) -> Path:
    return result.path.parent


def _label(choice: Any) -> str:
    scale = f"×{choice.scale}"
    return choice.name if scale in choice.name else f"{choice.name} ({choice.network} {scale})"


def _variant_label(choice: Any, level: int | None) -> str:
    return _label(choice) if level is None else f"{_label(choice)}, denoise {level}"


def _level_labels(levels: Sequence[int | None]) -> list[tuple[str, str]]:
    return [
        ("off", _NO_DENOISING) if level is None else (f"level {level}", str(level))
        for level in levels
    ]


def _line(text: str, kind: str = "") -> str:
    role = ' role="alert"' if kind == "error" else ' role="status"'
    return f'<p class="line {kind}"{role}>{escape(text)}</p>'


def _result_line(result: Restored) -> str:
    notes = "".join(f'<span class="note">{escape(note)}</span>' for note in result.notes)
    return f'<p class="line" role="status">{escape(result.text)}{notes}</p>'


def _progress(job: Job, before: int, begin: float | None) -> str:
    """Returns the line on a job that waits or runs."""
    if before:
        jobs = "1 job runs" if before == 1 else f"{before} jobs run"
        return _line(f"Waiting: {jobs} first")
    control = job.control
    if control.is_cancelled:
        return _line("Stopping")
    seconds = clock_text(0 if begin is None else time.monotonic() - begin)
    if control.total > 1:
        return (
            f'<div class="line">{control.done} of {control.total}, {seconds}'
            f'<progress max="{control.total}" value="{control.done}"></progress></div>'
        )
    return f'<div class="line">Working, {seconds}<progress></progress></div>'


def _empty(text: str) -> str:
    return f'<div class="result">{escape(text)}</div>'


def _hidden(empty: Any, *shown: Any) -> dict[Any, Any]:
    """Returns the updates that hide components, and show the empty place instead."""
    hidden = {component: gr.update(value=None, visible=False) for component in shown}
    return {empty: gr.update(visible=True), **hidden}


def _download(result: Restored) -> Any:
    return gr.update(value=str(result.path), visible=True, label=f"Download {result.path.name}")


def _url(path: Path) -> str:
    return f"/gradio_api/file={quote(path.as_posix())}"


def _comparison(found: Sequence[Compared]) -> str:
    """Returns pictures side by side and a table as HTML."""
    figures = "".join(
        f'<figure><a href="{escape(_url(part.image))}" target="_blank">'
        f'<img src="{escape(_url(part.image))}" alt="{escape(part.name)}"></a>'
        f"<figcaption>{escape(part.name)}</figcaption></figure>"
        for part in found
    )
    rows = "".join(
        f"<tr><td>{escape(part.name)}<small>{escape(part.network)}</small></td>"
        f"<td>{'–' if part.params is None else f'{part.params:,}'}</td>"
        f"<td>{escape(duration_text(part.seconds))}</td></tr>"
        for part in found
    )
    head = "<tr><th>Weights</th><th>Parameters</th><th>Time</th></tr>"
    return f'<div class="pictures">{figures}</div><table class="scores">{head}{rows}</table>'
