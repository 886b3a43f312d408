"""The command line: arguments in, one call, an exit code out.

Exit codes: 0 done, 1 failed, 2 the input must be put right, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from srtoolbox import __version__
from srtoolbox.cli import commands as calls
from srtoolbox.errors import RunError, UserError
from srtoolbox.utils.console import set_up_logging


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    for i, argument in enumerate(arguments[:-1]):
        if argument == "--resume" and arguments[i + 1] == "auto":  # as other toolboxes have it
            del arguments[i + 1]
            break
    parsed = _parser().parse_args(arguments)
    set_up_logging()
    try:
        parsed.call(parsed)
    except UserError as error:
        print(f"srtoolbox: {error}", file=sys.stderr)
        return 2
    except RunError as error:
        print(f"srtoolbox: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        print(f"srtoolbox: {name}{error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        how = (
            "--resume goes on"
            if getattr(parsed, "resume", None) is False
            else "the same command goes on"
        )
        print(f"srtoolbox: interrupted; {how} from here", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="srtoolbox", description="Train, test and fairly compare super-resolution methods."
    )
    parser.add_argument("--version", action="version", version=f"srtoolbox {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    command = _add(commands, "compare", calls.compare, "train and score the methods of a study")
    _add_options(command)
    command.add_argument(
        "--only", action="append", default=[], metavar="METHOD",
        help="run this method; of the others show what is done (may be repeated)",
    )  # fmt: skip
    command.add_argument(
        "--dry-run", action="store_true", help="show what is done and left, with time and disk"
    )

    command = _add(commands, "merge", calls.merge, "put parts of a study together")
    command.add_argument("parts", nargs="+", type=Path, metavar="FOLDER", help="folder of a part")
    command.add_argument(
        "--into", type=Path, required=True, metavar="FOLDER",
        help="folder of the whole; made, or added to",
    )  # fmt: skip

    command = _add(commands, "train", calls.train_run, "train one network by an option file")
    _add_options(command)
    command.add_argument(
        "--resume",
        action="store_true",
        help="go on from the last checkpoint, or start if there is none",
    )
    command.add_argument("--dry-run", action="store_true", help="check everything, as doctor does")

    command = _add(
        commands, "test", calls.test_run, "score one network by an option file or its weights"
    )
    _add_options(command, needed=False)
    command.add_argument(
        "--weights", type=Path, help="weight file to score; the option file may leave out network_g"
    )
    command.add_argument("--key", help="its entry to take (default params_ema, then params)")
    command.add_argument(
        "--data", nargs=2, type=Path, metavar=("LR_DIR", "GT_DIR"), help="images to score it on"
    )

    command = _add(commands, "metrics", calls.metrics, "score images that any program has made")
    command.add_argument("sr", type=Path, metavar="SR_DIR", help="images, or folders of clips")
    command.add_argument(
        "gt", type=Path, metavar="GT_DIR", help="the ground truth; DIR/{clip}/GT if it lies deeper"
    )
    command.add_argument("--protocol", required=True, help="how to score, e.g. basicsr-y")
    command.add_argument(
        "--metrics", nargs="+", default=["psnr", "ssim"], metavar="NAME",
        help="e.g. psnr lpips:net=vgg (default psnr ssim)",
    )  # fmt: skip
    command.add_argument("--scale", type=int, default=4, help="of the results (default 4)")
    command.add_argument(
        "--template", default="{}", help="names of results by those of GT, e.g. {}_x4"
    )
    command.add_argument("--subset", action="store_true", help="GT may be without a result")
    for side in ("below", "above"):
        command.add_argument(
            f"--fail-{side}", metavar="NAME=VALUE", action="append", default=[],
            help=f"exit with 1 if a mean is {side} this (may be repeated)",
        )  # fmt: skip
    command.add_argument("--csv", type=Path, metavar="FILE", help="write a line for each image")
    command.add_argument("--json", type=Path, metavar="FILE", help="write everything")
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    _add_plugins(command)

    command = _add(
        commands, "convert", calls.convert_weights, "write weights so that they say their arch"
    )
    command.add_argument("source", metavar="IN", type=Path, help="weight file")
    command.add_argument("target", metavar="OUT", type=Path, help="OUT.safetensors or OUT.pth")
    command.add_argument("--arch", metavar="NAME", help="arch, if IN does not say it")
    _add_overrides(command, "option of the arch, e.g. num_feat=64 (may be repeated)")
    command.add_argument("--key", help="entry of IN to take (default params_ema, then params)")
    _add_plugins(command)

    command = _add(commands, "report", calls.report, "make a study's tables and figures again")
    command.add_argument("folder", type=Path, help="folder of the study")
    command.add_argument(
        "--to", default=None, metavar="FORMATS",
        help="md, csv, latex, html, figures, with commas between (default: all)",
    )  # fmt: skip
    command.add_argument(
        "--baseline", metavar="METHOD", help="compare the others with it (default: the best)"
    )
    command.add_argument(
        "--region", metavar="KEY=Y,X,SIDE", action="append", default=[],
        help="pixels of image KEY to zoom into (default: where the methods differ most)",
    )  # fmt: skip

    command = _add(commands, "bench", calls.bench, "measure speed and memory, also of training")
    _add_options(command)

    command = _add(commands, "prepare", calls.prepare, "check a dataset and make what it lacks")
    command.add_argument("name", nargs="?", metavar="LAYOUT", help="how its files lie")
    command.add_argument("--list", action="store_true", help="show all layouts")
    command.add_argument("--source", type=Path, metavar="DIR", help="folder of its files")
    command.add_argument(
        "--out", type=Path, metavar="DIR", help="for files made here (default: beside the others)"
    )
    command.add_argument("--scale", type=int, default=4, help="of the LR files (default 4)")
    command.add_argument(
        "--split", action="append", default=[], help="part to prepare (may be repeated)"
    )
    command.add_argument("--make-lr", action="store_true", help="write LR files")
    command.add_argument(
        "--cache", type=Path, metavar="DIR", default=Path("datasets", ".cache"),
        help="for decoded images (default datasets/.cache)",
    )  # fmt: skip
    command.add_argument("--no-cache", action="store_true", help="keep no decoded images")

    command = _add(commands, "sample", calls.sample, "draw a training batch as a picture")
    command.add_argument("name", metavar="NAME", help="option file, or layout with --source")
    command.add_argument("--out", type=Path, required=True, metavar="PNG", help="picture to write")
    command.add_argument("--source", type=Path, metavar="DIR", help="folder of a layout's files")
    command.add_argument("--step", type=int, default=0, help="of the training (default 0)")
    _add_overrides(command, "override an option, e.g. manual_seed=1 (may be repeated)")

    command = _add(commands, "doctor", calls.doctor, "try out everything that an option file says")
    _add_options(command)

    command = _add(commands, "list", calls.list_kind, "list what is registered")
    command.add_argument("kind", choices=list(calls.KINDS))
    _add_plugins(command)

    command = _add(commands, "show", calls.show, "show one component and its options")
    command.add_argument("kind", choices=list(calls.KINDS.values()))
    command.add_argument("name")
    _add_plugins(command)

    command = _add(commands, "options", calls.schema, "write the JSON Schema of option files")
    command.add_argument("what", choices=["schema"])
    command.add_argument("--of", choices=["run", "study"], default="run", help="kind of file")
    return parser


def _add(commands, name: str, call, text: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text.capitalize() + ".")
    command.set_defaults(call=call)
    return command


def _add_options(command: argparse.ArgumentParser, needed: bool = True) -> None:
    command.add_argument(
        "options", type=Path, nargs=None if needed else "?", help="option file (YAML)"
    )
    _add_overrides(command, "override an option, e.g. train.total_iter=1000 (may be repeated)")
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")


def _add_overrides(command: argparse.ArgumentParser, text: str) -> None:
    command.add_argument(
        "--set", dest="overrides", metavar="KEY=VALUE", action="append", default=[], help=text
    )


def _add_plugins(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--plugin", action="append", default=[], help="file or module with components of your own"
    )


if __name__ == "__main__":
    sys.exit(main())
