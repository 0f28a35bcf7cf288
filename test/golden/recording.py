"""What the make.py of these folders share: numbers that any language makes alike, weights made of them, short JSON."""

import json
from pathlib import Path

import torch
from torch import nn


def numbers(seed: int, shape: list[int], scale: float = 1) -> torch.Tensor:
    """Numbers of [-scale/2, scale/2) in float64; `numbers` of test/golden.ts makes the same."""
    count = torch.Size(shape).numel()
    values = [((seed * 7919 + k * 104729) % 2003 / 2003 - 0.5) * scale for k in range(count)]
    return torch.tensor(values, dtype=torch.float64).reshape(shape)


def fill(module: nn.Module, scale: float = 1) -> nn.Module:
    """Gives each parameter numbers of its own; those of norms within a larger module lie around 1."""
    with torch.no_grad():
        for seed, (name, x) in enumerate(module.named_parameters()):
            values = numbers(seed + 1, x.shape, scale)
            x.copy_(1 + 0.4 * values if "norm" in name and name.endswith("weight") else values)
    return module


def rounded(x: torch.Tensor, digits: int = 10) -> list[float]:
    return [float(f"{value:.{digits}g}") for value in x.detach().flatten().tolist()]


def gradients(module: nn.Module) -> dict[str, list[float]]:
    return {name: rounded(x.grad) for name, x in module.named_parameters()}


def write(path: Path, value: dict, **versions: str) -> None:
    """The versions that gave it, then a line for each record of the lists."""
    lines = {}
    for key, part in {"torch": torch.__version__, **versions, **value}.items():
        records = isinstance(part, list) and all(isinstance(one, dict) for one in part)
        rows = [json.dumps(one, separators=(",", ":")) for one in (part if records else [part])]
        lines[key] = "[\n" + ",\n".join(rows) + "\n]" if records else rows[0]
    path.write_text("{" + ",\n".join(f'"{key}":{line}' for key, line in lines.items()) + "}\n")
    print(path.name, path.stat().st_size, "bytes")
