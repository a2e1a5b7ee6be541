"""``python -m fedumm``: the same as the console command ``fedumm``."""

import sys

from fedumm.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
