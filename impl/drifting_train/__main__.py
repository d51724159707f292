"""``python -m drifting_train``, for torchrun."""

import sys

from drifting_train.cli import main

sys.exit(main())
