"""What a rising weight of FLOPS does to a lexicon's terms and ranking, as a picture; see effects/splade.py.

python tests/benchmarks/splade_plot.py docs/images/splade-flops.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from effects.splade import curve, draw

if __name__ == "__main__":
    torch.set_num_threads(1)
    draw(curve(), Path(sys.argv[1]))
