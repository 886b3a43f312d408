"""The command web: a page in the browser for own pictures and videos."""

from __future__ import annotations

import sys
from argparse import Namespace

from srtoolbox.cli.arguments import (
    Commands,
    add_command,
    add_device,
    add_plugins,
    at_least,
    load_all_plugins,
)


def add_web(commands: Commands) -> None:
    command = add_command(
        commands, "web", web, "open a page in the browser to enlarge and compare own pictures"
    )
    command.add_argument(
        "--weights",
        action="append",
        default=[],
        metavar="W",
        help="weights to choose from on the page, as for upscale (may be repeated); default: the "
        "package's own networks",
    )
    command.add_argument(
        "--port", type=at_least(1), help="port on 127.0.0.1 (default: a free one from 7860 on)"
    )
    add_device(command)
    command.add_argument(
        "--max-upload",
        type=at_least(1),
        default=200,
        metavar="MB",
        help="largest file that can be uploaded (default 200)",
    )
    command.add_argument(
        "--max-pixels",
        type=at_least(1),
        default=16_000_000,
        metavar="N",
        help="most pixels of an uploaded picture or frame (default 16000000)",
    )
    command.add_argument(
        "--max-seconds",
        type=at_least(1),
        default=300,
        metavar="S",
        help="longest video or animation that can be uploaded (default 300)",
    )
    browser = command.add_mutually_exclusive_group()
    browser.add_argument(
        "--open", action="store_true", default=None, help="open the page (default: on a terminal)"
    )
    browser.add_argument(
        "--no-browser", dest="open", action="store_false", help="only print the address"
    )
    add_plugins(command)


def web(arguments: Namespace) -> int:
    from srtoolbox.web.server import check_gradio, serve
    from srtoolbox.web.work import Limits

    check_gradio()
    load_all_plugins(arguments.plugin)
    limits = Limits(arguments.max_upload * 2**20, arguments.max_pixels, arguments.max_seconds)
    opens = sys.stdout.isatty() if arguments.open is None else arguments.open

    def ready(url: str) -> None:
        print(url, flush=True)
        print("Ctrl+C ends the page; uploads and results are then removed", file=sys.stderr)

    try:
        serve(arguments.weights, arguments.device, arguments.port, limits, opens, ready)
    except KeyboardInterrupt:  # the usual way to end it
        return 0
    return 0
