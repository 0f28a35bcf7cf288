"""GPT-2 and an encoder of BERT's shape in PyTorch: the models of bench/cases.mjs, with random weights.

The layers can run with weights in oneDNN's own layout (`pack`), as torch.compile has them; bench/peers/torch_cpu.py
tries both ways and takes the faster.
"""

import torch
import torch.nn as nn
import torch.nn.functional as F


class Linear(nn.Linear):
    """nn.Linear that runs on a packed weight, and with the activation fused, once `pack` was called."""

    packed = None

    def forward(self, x, activation=None, approximate="none"):
        if self.packed is None:
            y = F.linear(x, self.weight, self.bias)
            return F.gelu(y, approximate=approximate) if activation else y
        fused = ("gelu", [], approximate) if activation else ("none", [], "")
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, *fused)


def pack(model, rows):
    """Puts the weights of all layers into oneDNN's layout for inputs of `rows` rows."""
    for module in model.modules():
        if isinstance(module, Linear):
            module.packed = torch.ops.mkldnn._reorder_linear_weight(module.weight.detach(), rows)
    return model


class Block(nn.Module):
    """One layer: attention and a network of two products; norms before them, or after the sums."""

    def __init__(self, width, heads, hidden, norm_first, approximate):
        super().__init__()
        self.heads, self.norm_first, self.approximate = heads, norm_first, approximate
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.projection = Linear(width, 3 * width), Linear(width, width)
        self.up, self.down = Linear(width, hidden), Linear(hidden, width)

    def attend(self, x, attention):
        b, n, width = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        return self.projection(attention(q, k, v).transpose(1, 2).reshape(b, n, width))

    def feed(self, x):
        return self.down(self.up(x, "gelu", self.approximate))

    def forward(self, x, attention):
        if self.norm_first:
            x = x + self.attend(self.norm1(x), attention)
            return x + self.feed(self.norm2(x))
        x = self.norm1(x + self.attend(x, attention))
        return self.norm2(x + self.feed(x))


class Encoder(nn.Module):
    """Post-norm layers with gelu."""

    def __init__(self, case):
        super().__init__()
        make = lambda: Block(case["width"], case["heads"], case["hidden"], norm_first=False, approximate="none")
        self.blocks = nn.ModuleList(make() for _ in range(case["layers"]))

    def forward(self, x):
        for block in self.blocks:
            x = block(x, F.scaled_dot_product_attention)
        return x


def causal(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def later(n):
    """bool [n, n]: True for the keys behind a query."""
    return torch.ones(n, n, dtype=torch.bool).triu(1)


def composed(q, k, v, hidden=None):
    """Attention in separate ops, with all scores in memory; `hidden` keys are not seen."""
    scores = torch.matmul(q, k.transpose(-2, -1)) * q.shape[-1] ** -0.5
    if hidden is not None:
        scores = scores.masked_fill(hidden, float("-inf"))
    return torch.matmul(torch.softmax(scores, -1), v)


class GPT2(nn.Module):
    """GPT-2 without dropout; the logits' weight is that of the embedding."""

    def __init__(self, model):
        super().__init__()
        width, heads = model["width"], model["heads"]
        self.model = model
        self.wte, self.wpe = nn.Embedding(model["vocabulary"], width), nn.Embedding(model["positions"], width)
        make = lambda: Block(width, heads, 4 * width, norm_first=True, approximate="tanh")
        self.blocks = nn.ModuleList(make() for _ in range(model["layers"]))
        self.norm = nn.LayerNorm(width)
        self.head = Linear(width, model["vocabulary"], bias=False)
        self.head.weight = self.wte.weight
        for weight in (self.wte.weight, self.wpe.weight):
            nn.init.normal_(weight, std=0.02)

    def hidden(self, ids, start, attentions):
        x = self.wte(ids) + self.wpe(torch.arange(start, start + ids.shape[1]))
        for block, attention in zip(self.blocks, attentions):
            x = block(x, attention)
        return self.norm(x)

    def loss(self, ids, attention=causal):
        logits = self.head(self.hidden(ids, 0, [attention] * len(self.blocks)))
        target = torch.cat([ids[:, 1:], torch.full_like(ids[:, :1], -100)], 1)
        return F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=-100)

    def make_cache(self, capacity):
        width, heads = self.model["width"], self.model["heads"]
        shape = (len(self.blocks), 2, 1, heads, capacity, width // heads)
        return torch.empty(shape, dtype=self.wte.weight.dtype)

    def step(self, ids, cache, start):
        """Logits of the last position of `ids`, whose keys and values are put into the cache."""
        end = start + ids.shape[1]

        def attention_of(layer):
            def attention(q, k, v):
                layer[0][:, :, start:end], layer[1][:, :, start:end] = k, v
                keys, values = layer[0][:, :, :end], layer[1][:, :, :end]
                return F.scaled_dot_product_attention(q, keys, values, is_causal=ids.shape[1] > 1)

            return attention

        return self.head(self.hidden(ids, start, [attention_of(layer) for layer in cache])[:, -1:])
