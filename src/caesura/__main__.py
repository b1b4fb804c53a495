"""``python -m caesura``: the command line."""

import sys

from caesura.adapters.cli import main

if __name__ == "__main__":
    sys.exit(main())
