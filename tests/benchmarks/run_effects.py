"""Measures what methods of training do on the small harnesses; see effects/run.py."""

from __future__ import annotations

import sys

from effects.run import main

if __name__ == "__main__":
    sys.exit(main())
