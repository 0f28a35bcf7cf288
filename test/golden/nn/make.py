"""Writes channels.json, pools.json, layers.json, attention.json and training.json: what PyTorch's layers give in
float64, and 20 steps of training.

    python make.py      (PyTorch 2.13, and transformers 5.18 for T5's attention)

The tests make weights and inputs by the same formula, which is in ../recording.py and in test/golden.ts.
"""

import sys
from pathlib import Path

import torch
import transformers

here = Path(__file__).parent
sys.path[:0] = [str(here), str(here.parent)]
torch.set_default_dtype(torch.float64)
import attention  # noqa: E402
import channels  # noqa: E402
import layers  # noqa: E402
import training  # noqa: E402
from recording import write  # noqa: E402

write(here / "channels.json", {"layers": channels.layers(), "norms": channels.norms()})
write(here / "pools.json", {"layers": channels.pools()})
write(here / "layers.json", {"cases": layers.cases()})
write(here / "attention.json", attention.cases(), transformers=transformers.__version__)
write(here / "training.json", {"runs": training.runs()})
