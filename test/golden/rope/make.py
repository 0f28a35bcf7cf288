"""Writes frequencies.json: rotary frequencies under each scaling, in float64, by the formulas of the papers and models.

    python make.py      (no packages needed)
"""

import json
import math
import pathlib


def plain(dim: int, base: float) -> list[float]:
    return [1.0 / base ** (2 * i / dim) for i in range(dim // 2)]


def linear(dim: int, base: float, factor: float) -> list[float]:
    return [f / factor for f in plain(dim, base)]


def dynamic(dim: int, base: float, factor: float, trained: int, length: int) -> list[float]:
    longest = max(length, trained)
    return plain(dim, base * (factor * longest / trained - (factor - 1)) ** (dim / (dim - 2)))


def yarn(dim, base, factor, trained, fast=32.0, slow=1.0, truncate=True):
    """Peng et al. 2023, section 3.2: r_i = trained / wavelength_i turns; the ramp is over i, as published code has it."""

    def dimension(turns: float) -> float:
        return dim * math.log(trained / (2 * math.pi * turns)) / (2 * math.log(base))

    low, high = dimension(fast), dimension(slow)
    if truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    if low == high:
        high += 0.001
    found = []
    for i, f in enumerate(plain(dim, base)):
        kept = 1 - min(1.0, max(0.0, (i - low) / (high - low)))
        found.append((1 - kept) * f / factor + kept * f)
    return found


def magnitude(factor: float, m: float = 1.0) -> float:
    return 1.0 if factor <= 1 else 0.1 * m * math.log(factor) + 1.0


def llama3(dim, base, factor, low, high, trained):
    found = []
    for f in plain(dim, base):
        wavelength = 2 * math.pi / f
        if wavelength < trained / high:
            found.append(f)
        elif wavelength > trained / low:
            found.append(f / factor)
        else:
            smooth = (trained / wavelength - low) / (high - low)
            found.append((1 - smooth) * f / factor + smooth * f)
    return found


def case(name, dim, base, scaling, length, frequencies, attention=1.0):
    return {
        "name": name,
        "dim": dim,
        "base": base,
        "scaling": scaling,
        "seqLen": length,
        "frequencies": frequencies,
        "attentionFactor": attention,
    }


def linear_case(dim: int, base: float, factor: float) -> dict:
    scaling = {"ropeType": "linear", "factor": factor}
    return case(f"linear {factor}", dim, base, scaling, 1, linear(dim, base, factor))


def dynamic_case(dim: int, base: float, factor: float, trained: int, length: int) -> dict:
    scaling = {"ropeType": "dynamic", "factor": factor, "originalMaxPositionEmbeddings": trained}
    name = f"dynamic {factor}, {length} of {trained}"
    return case(name, dim, base, scaling, length, dynamic(dim, base, factor, trained, length))


def yarn_case(name, dim, base, factor, trained, attention, fast=None, slow=None, truncate=None, **more):
    given = {"betaFast": fast, "betaSlow": slow, "truncate": truncate, **more}
    scaling = {"ropeType": "yarn", "factor": factor, "originalMaxPositionEmbeddings": trained}
    scaling |= {key: value for key, value in given.items() if value is not None}
    found = yarn(dim, base, factor, trained, fast or 32, slow or 1, truncate is not False)
    return case(name, dim, base, scaling, 1, found, attention)


def llama3_case(dim, base, factor, low, high, trained):
    scaling = {
        "ropeType": "llama3",
        "factor": factor,
        "lowFreqFactor": low,
        "highFreqFactor": high,
        "originalMaxPositionEmbeddings": trained,
    }
    name = f"llama3 {factor} of {trained}"
    return case(name, dim, base, scaling, 1, llama3(dim, base, factor, low, high, trained))


cases = [
    case("default 16", 16, 10000.0, {"ropeType": "default"}, 1, plain(16, 10000.0)),
    case("default 6", 6, 500000.0, {"ropeType": "default"}, 1, plain(6, 500000.0)),
    linear_case(16, 10000.0, 4.0),
    linear_case(10, 10000.0, 2.5),
    dynamic_case(16, 10000.0, 2.0, 512, 100),
    dynamic_case(16, 10000.0, 2.0, 512, 513),
    dynamic_case(16, 10000.0, 4.0, 512, 5000),
    dynamic_case(4, 10000.0, 1.0, 64, 640),
    yarn_case("yarn 4", 64, 10000.0, 4.0, 2048, magnitude(4.0)),
    yarn_case("yarn 32, gpt-oss's options", 64, 150000.0, 32.0, 4096, magnitude(32.0), 32.0, 1.0, False),
    yarn_case(
        "yarn 40, DeepSeek's options",
        64,
        10000.0,
        40.0,
        4096,
        magnitude(40.0, 1.0) / magnitude(40.0, 0.8),
        32.0,
        1.0,
        None,
        mscale=1.0,
        mscaleAllDim=0.8,
    ),
    yarn_case("yarn with its own factor", 16, 10000.0, 8.0, 256, 1.5, 16.0, 2.0, None, attentionFactor=1.5),
    yarn_case("yarn over a short context", 16, 10000.0, 8.0, 4, magnitude(8.0)),
    yarn_case("yarn 1", 16, 10000.0, 1.0, 256, 1.0),
    llama3_case(128, 500000.0, 8.0, 1.0, 4.0, 8192),
    llama3_case(64, 500000.0, 32.0, 1.0, 4.0, 8192),
    llama3_case(16, 10000.0, 4.0, 2.0, 3.0, 256),
]
target = pathlib.Path(__file__).parent / "frequencies.json"
target.write_text(json.dumps(cases, separators=(",", ":")) + "\n")
