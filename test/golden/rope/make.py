"""Writes frequencies.json: rotary frequencies under each scaling, as the functions of transformers give them.

    python make.py      (transformers 5.18, PyTorch 2.13)

Those functions compute in float32. Here they run with float64 in its place, so that constants show their formulas and
not their rounding.
"""

import sys
from pathlib import Path
from unittest import mock

import torch
import transformers
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

here = Path(__file__).parent
sys.path.insert(0, str(here.parent))
from recording import rounded, write  # noqa: E402

NAMES = {
    "ropeType": "rope_type",
    "originalMaxPositionEmbeddings": "original_max_position_embeddings",
    "lowFreqFactor": "low_freq_factor",
    "highFreqFactor": "high_freq_factor",
    "betaFast": "beta_fast",
    "betaSlow": "beta_slow",
    "attentionFactor": "attention_factor",
    "mscaleAllDim": "mscale_all_dim",
}


def case(name: str, dim: int, base: float, length: int = 1, **scaling) -> dict:
    """`scaling` in the names of fovea; `length`: that of the call, on which dynamic scaling depends."""
    kind = scaling["ropeType"]
    config = LlamaConfig(
        head_dim=dim,
        hidden_size=dim,
        num_attention_heads=1,
        # What dynamic scaling takes for the context of training.
        max_position_embeddings=scaling.get("originalMaxPositionEmbeddings", 2048),
        rope_parameters={"rope_theta": base, **{NAMES.get(key, key): value for key, value in scaling.items()}},
    )
    found = ROPE_INIT_FUNCTIONS.get(kind, LlamaRotaryEmbedding.compute_default_rope_parameters)
    with mock.patch.multiple(torch, float=torch.float64, float32=torch.float64):
        frequencies, attention = found(config, torch.device("cpu"), seq_len=length)
    assert frequencies.dtype == torch.float64, name
    return {
        "name": name,
        "dim": dim,
        "base": base,
        "scaling": scaling,
        "seqLen": length,
        "frequencies": rounded(frequencies, 16),
        "attentionFactor": attention,
    }


def dynamic(dim: int, base: float, factor: float, trained: int, length: int) -> dict:
    scaling = {"ropeType": "dynamic", "factor": factor, "originalMaxPositionEmbeddings": trained}
    return case(f"dynamic {factor}, {length} of {trained}", dim, base, length, **scaling)


def yarn(name: str, dim: int, base: float, factor: float, trained: int, **more) -> dict:
    scaling = {"ropeType": "yarn", "factor": factor, "originalMaxPositionEmbeddings": trained, **more}
    return case(name, dim, base, **scaling)


def llama3(dim: int, base: float, factor: float, low: float, high: float, trained: int) -> dict:
    scaling = {"lowFreqFactor": low, "highFreqFactor": high, "originalMaxPositionEmbeddings": trained}
    return case(f"llama3 {factor} of {trained}", dim, base, ropeType="llama3", factor=factor, **scaling)


cases = [
    case("default 16", 16, 10000.0, ropeType="default"),
    case("default 6", 6, 500000.0, ropeType="default"),
    case("linear 4.0", 16, 10000.0, ropeType="linear", factor=4.0),
    case("linear 2.5", 10, 10000.0, ropeType="linear", factor=2.5),
    dynamic(16, 10000.0, 2.0, 512, 100),
    dynamic(16, 10000.0, 2.0, 512, 513),
    dynamic(16, 10000.0, 4.0, 512, 5000),
    dynamic(4, 10000.0, 1.0, 64, 640),
    yarn("yarn 4", 64, 10000.0, 4.0, 2048),
    yarn("yarn 32, gpt-oss's options", 64, 150000.0, 32.0, 4096, betaFast=32.0, betaSlow=1.0, truncate=False),
    yarn(
        "yarn 40, DeepSeek's options",
        64,
        10000.0,
        40.0,
        4096,
        betaFast=32.0,
        betaSlow=1.0,
        mscale=1.0,
        mscaleAllDim=0.8,
    ),
    yarn("yarn with its own factor", 16, 10000.0, 8.0, 256, betaFast=16.0, betaSlow=2.0, attentionFactor=1.5),
    yarn("yarn over a short context", 16, 10000.0, 8.0, 4),
    yarn("yarn 1", 16, 10000.0, 1.0, 256),
    llama3(128, 500000.0, 8.0, 1.0, 4.0, 8192),
    llama3(64, 500000.0, 32.0, 1.0, 4.0, 8192),
    llama3(16, 10000.0, 4.0, 2.0, 3.0, 256),
]
write(here / "frequencies.json", {"cases": cases}, transformers=transformers.__version__)
