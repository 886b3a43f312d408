"""The program ``srtoolbox``: parses arguments, runs a command and returns an exit code.

Exit codes: 0 success, 1 failure, 2 invalid input (options, files), 3 some inputs of ``upscale``
failed, 130 interrupted.
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
import traceback
from collections.abc import Sequence

from srtoolbox import __version__
from srtoolbox.cli import bench, data, info, run, study, upscale, web, weights
from srtoolbox.errors import RunError, UserError
from srtoolbox.utils.console import printable, set_up_logging
from srtoolbox.utils.files import interrupt_on
from srtoolbox.utils.own_code import DEBUG


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    parsed = _parser().parse_args(arguments)
    set_up_logging()
    code = None
    try:
        with interrupt_on(signal.SIGTERM):
            code = parsed.run(parsed)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, for example `head`, needs no more lines
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except UserError as error:
        _print_traceback()
        print(printable(f"srtoolbox: {error}"), file=sys.stderr)
        return 2
    except RunError as error:
        _print_traceback()
        print(printable(f"srtoolbox: {error}"), file=sys.stderr)
        return 1
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        print(printable(f"srtoolbox: {name}{error.strerror or error}"), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        needs_resume = parsed.run is run.train and not parsed.resume
        how = "with --resume" if needs_resume else "with the same command"
        print(f"srtoolbox: interrupted; continue {how}", file=sys.stderr)
        return 130
    if arguments is None:  # Python ends, and would first search all objects for cycles, twice
        gc.freeze()
    return code or 0


def _print_traceback() -> None:
    """Prints the traceback of the current error if the user asks for it."""
    if os.environ.get(DEBUG, "0") not in ("", "0"):
        traceback.print_exc()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="srtoolbox", description="Train, test and fairly compare super-resolution methods."
    )
    parser.add_argument("--version", action="version", version=f"srtoolbox {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in (
        study.add_compare,
        study.add_score,
        study.add_merge,
        run.add_train,
        run.add_test,
        run.add_metrics,
        upscale.add_upscale,
        web.add_web,
        weights.add_convert,
        weights.add_export,
        weights.add_fetch,
        study.add_report,
        study.add_card,
        bench.add_bench,
        data.add_prepare,
        data.add_sample,
        run.add_doctor,
        info.add_list,
        info.add_show,
        info.add_options,
    ):
        add(commands)
    return parser
