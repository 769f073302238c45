"""``python -m trtd``."""

import sys

from trtd.cli.main import main

sys.exit(main())
