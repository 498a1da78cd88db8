"""What all tests share: the folder of the tests on the path, for the builders beside them."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
