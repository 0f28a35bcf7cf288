"""Layers of vectors: affine maps, tables, norms, feed-forward networks with and without gates, mixtures of experts."""

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from recording import fill, gradients, numbers, rounded

X, DY = 101, 201


def record(name, arguments, options, module: nn.Module, shape: list[int], run: Callable | None = None) -> dict:
    """`run` gives the output, and what is added to the loss beside it by name. Arguments and options are fovea's."""
    fill(module, 2)
    x = numbers(X, shape, 2).requires_grad_()
    output, extra = run(x) if run else (module(x), {})
    ((output * numbers(DY, output.shape, 2)).sum() + sum(extra.values())).backward()
    return {
        "name": name,
        "arguments": arguments,
        "options": options,
        "input": shape,
        "shape": list(output.shape),
        "output": rounded(output),
        "dx": rounded(x.grad),
        "gradients": gradients(module),
        **({"extra": {key: value.item() for key, value in extra.items()}} if extra else {}),
    }


def embedding(options: dict, module: nn.Embedding) -> dict:
    fill(module, 2)
    ids = torch.tensor([[4, 1, 0], [2, 4, 1]])
    output = module(ids)
    (output * numbers(DY, output.shape, 2)).sum().backward()
    return {
        "name": "Embedding",
        "arguments": [5, 3],
        "options": options,
        "ids": ids.tolist(),
        "shape": list(output.shape),
        "output": rounded(output),
        "gradients": gradients(module),
    }


ACTIVATIONS = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "linear": lambda x: x,
}


class FeedForward(nn.Module):
    def __init__(self, activation: str, bias: bool = True) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.linear1, self.linear2 = nn.Linear(4, 7, bias=bias), nn.Linear(7, 4, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear2(self.activation(self.linear1(x)))


class GatedFeedForward(nn.Module):
    def __init__(self, activation: str, bias: bool = False) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.gate_proj, self.up_proj = nn.Linear(4, 5, bias=bias), nn.Linear(4, 5, bias=bias)
        self.down_proj = nn.Linear(5, 4, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(self.activation(self.gate_proj(x)) * self.up_proj(x))


class Experts(nn.Module):
    """A mixture of experts, token by token; parameters in the order of their keys there."""

    def __init__(self, experts: int, asked: int, activation: str, gated=False, norm=True, capacity=None) -> None:
        super().__init__()
        self.asked, self.norm, self.capacity = asked, norm, capacity
        self.activation = ACTIVATIONS[activation]
        if gated:
            self.gate_proj = nn.Parameter(torch.empty(experts, 5, 4))
        self.up_proj = nn.Parameter(torch.empty(experts, 5, 4))
        self.down_proj = nn.Parameter(torch.empty(experts, 4, 5))
        self.router = nn.Linear(4, experts, bias=False)

    def expert(self, e: int, x: torch.Tensor) -> torch.Tensor:
        up = self.up_proj[e] @ x
        hidden = self.activation(self.gate_proj[e] @ x) * up if hasattr(self, "gate_proj") else self.activation(up)
        return self.down_proj[e] @ hidden

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        rows = x.reshape(-1, 4)
        logits = self.router(rows)
        count, experts = logits.shape
        p = logits.softmax(-1)
        values, chosen = p.topk(self.asked, -1)
        room = math.inf if self.capacity is None else math.ceil(self.capacity * self.asked * count / experts)
        load, outputs = [0] * experts, [torch.zeros(4) for _ in range(count)]
        for choice in range(self.asked):
            for t in range(count):
                e = int(chosen[t, choice])
                load[e] += 1
                if load[e] <= room:
                    weight = values[t, choice] / (values[t].sum() if self.norm else 1)
                    outputs[t] = outputs[t] + weight * self.expert(e, rows[t])
        share = torch.tensor(load) / (self.asked * count)
        z = torch.stack([row.logsumexp(0) ** 2 for row in logits]).mean()
        return torch.stack(outputs).reshape(x.shape), experts * (share * p.mean(0)).sum(), z


def experts(options: dict, module: Experts) -> dict:
    def run(x: torch.Tensor) -> tuple[torch.Tensor, dict]:
        output, balance, z = module(x)
        return output, {"balanceLoss": balance, "zLoss": z}

    return record("MixtureOfExperts", [4, 5], options, module, [3, 3, 4], run)


def sinusoidal(width: int, base: float) -> dict:
    """In the way of PyTorch's tutorials; an odd width ends with a sine."""

    def run(x: torch.Tensor) -> tuple[torch.Tensor, dict]:
        position = torch.arange(len(x)).unsqueeze(1)
        frequencies = torch.exp(torch.arange(0, width, 2) * (-math.log(base) / width))
        table = torch.zeros(len(x), width)
        table[:, 0::2] = torch.sin(position * frequencies)
        table[:, 1::2] = torch.cos(position * frequencies)[:, : width // 2]
        return x + table.unsqueeze(1), {}

    return record("SinusoidalPositionalEncoding", [width], {"base": base}, nn.Identity(), [9, 2, width], run)


def feed_forward(activation: str, bias: bool = True) -> dict:
    options = {"activation": activation, "bias": bias}
    return record("FeedForward", [4, 7], options, FeedForward(activation, bias), [2, 3, 4])


def gated(activation: str, bias: bool = False) -> dict:
    options = {"activation": activation, "bias": bias}
    return record("GatedFeedForward", [4, 5], options, GatedFeedForward(activation, bias), [2, 3, 4])


def cases() -> list[dict]:
    plain = {"elementwiseAffine": False}
    return [
        record("Linear", [5, 3], {}, nn.Linear(5, 3), [2, 3, 5]),
        record("Linear", [4, 6], {"bias": False}, nn.Linear(4, 6, bias=False), [3, 4]),
        record("Linear", [7, 2], {}, nn.Linear(7, 2), [7]),
        embedding({}, nn.Embedding(5, 3)),
        embedding({"paddingIdx": 1}, nn.Embedding(5, 3, padding_idx=1)),
        record("LayerNorm", [7], {}, nn.LayerNorm(7), [2, 3, 7]),
        record("LayerNorm", [[3, 4]], {"eps": 1e-3}, nn.LayerNorm([3, 4], eps=1e-3), [2, 3, 4]),
        record("LayerNorm", [5], {"bias": False}, nn.LayerNorm(5, bias=False), [4, 5]),
        record("LayerNorm", [5], plain, nn.LayerNorm(5, elementwise_affine=False), [4, 5]),
        # Its default depends on the dtype, too little to be seen in either.
        record("RMSNorm", [7], {}, nn.RMSNorm(7), [2, 3, 7]),
        record("RMSNorm", [[3, 4]], {"eps": 1e-2}, nn.RMSNorm([3, 4], eps=1e-2), [2, 3, 4]),
        record("RMSNorm", [5], plain, nn.RMSNorm(5, elementwise_affine=False), [4, 5]),
        *(feed_forward(activation) for activation in ("relu", "gelu", "gelu_new", "tanh")),
        feed_forward("silu", bias=False),
        record("GLU", [], None, nn.GLU(), [2, 3, 8]),
        record("GLU", [1], None, nn.GLU(1), [2, 6, 3]),
        *(gated(activation) for activation in ("sigmoid", "linear", "relu", "gelu", "silu")),
        gated("gelu_new", bias=True),
        experts({"numExperts": 4}, Experts(4, 2, "relu")),
        experts({"numExperts": 3, "topK": 1, "activation": "gelu"}, Experts(3, 1, "gelu", norm=False)),
        experts(
            {"numExperts": 4, "topK": 3, "activation": "silu", "gated": True, "normTopkProb": False},
            Experts(4, 3, "silu", gated=True, norm=False),
        ),
        experts(
            {"numExperts": 3, "activation": "silu", "gated": True, "capacityFactor": 0.5},
            Experts(3, 2, "silu", gated=True, capacity=0.5),
        ),
        sinusoidal(6, 10000),
        sinusoidal(7, 500),
    ]
