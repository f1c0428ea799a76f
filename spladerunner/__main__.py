"""Runs the command line: python -m spladerunner."""

import sys

from spladerunner.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
