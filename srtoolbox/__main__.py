"""Runs the program ``srtoolbox`` as ``python -m srtoolbox``."""

import sys

from srtoolbox.cli import main

if __name__ == "__main__":
    sys.exit(main())
