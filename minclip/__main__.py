"""`python -m minclip` is the command `minclip`."""

import sys

from .cli import main

sys.exit(main())
