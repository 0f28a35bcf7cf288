"""Attention by itself: PyTorch's MultiheadAttention, relative biases, T5's attention as transformers has it."""

import torch
from torch import nn
from torch.nn import functional as F
from transformers import T5Config
from transformers.models.t5.modeling_t5 import T5Attention

from recording import fill, gradients, numbers, rounded

Q, K, V, DY, DW = 101, 102, 103, 201, 202
EMBED, HEADS, BATCH, TARGETS, SOURCES = 6, 2, 2, 3, 5
# PyTorch's sense: true where a key is hidden. Every query sees a key of both sequences.
PADDING = torch.tensor([[False] * 5, [False, False, True, False, True]])
HIDDEN = torch.tensor([[(i * 2 + j) % 3 == 1 for j in range(SOURCES)] for i in range(TARGETS)])


def multihead(name: str, inputs: list[list[int]], masks: dict, average=None, **options) -> dict:
    """`average`: whether weights are averaged over the heads; None: there are none."""
    module = fill(nn.MultiheadAttention(EMBED, HEADS, **options), 2)
    given = [numbers(Q + i, shape, 2).requires_grad_() for i, shape in enumerate(inputs)]
    query, key, value = given if len(given) == 3 else given * 3
    asked = {} if average is None else {"average_attn_weights": average}
    output, weights = module(query, key, value, need_weights=average is not None, **asked, **masks)
    loss = (output * numbers(DY, output.shape, 2)).sum()
    if weights is not None:
        loss = loss + (weights * numbers(DW, weights.shape, 2)).sum()
    loss.backward()
    return {
        "name": name,
        "inputs": inputs,
        "output": rounded(output),
        "weights": None if weights is None else rounded(weights),
        "weightsShape": None if weights is None else list(weights.shape),
        "dinputs": [rounded(x.grad) for x in given],
        "gradients": gradients(module),
    }


def relative(heads: int, far: int, targets: int, sources: int) -> dict:
    """A table of biases by distance, the last for all beyond, added to the scores. Queries are the last of the keys."""
    table = numbers(1, [heads, 2 * far + 1], 2).requires_grad_()
    q, k, v = (numbers(Q + i, [2, heads, n, 4], 2).requires_grad_() for i, n in enumerate([targets, sources, sources]))
    distance = torch.arange(sources)[None, :] - torch.arange(targets)[:, None] - (sources - targets)
    bias = table[:, distance.clamp(-far, far) + far]
    output = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    (output * numbers(DY, output.shape, 2)).sum().backward()
    found = {"q": q, "k": k, "v": v, "weight": table}
    return {
        "heads": heads,
        "maxDistance": far,
        "lengths": [targets, sources],
        "output": rounded(output),
        "gradients": {key: rounded(x.grad) for key, x in found.items()},
    }


def t5(length: int, buckets: int, far: int, bidirectional: bool) -> dict:
    """Self-attention of T5 with its biases, which neither scales scores nor, here, hides what comes later."""
    config = T5Config(
        d_model=EMBED,
        d_kv=4,
        num_heads=HEADS,
        relative_attention_num_buckets=buckets,
        relative_attention_max_distance=far,
        dropout_rate=0.0,
        is_decoder=not bidirectional,
    )
    config._attn_implementation = "eager"
    module = T5Attention(config, has_relative_attention_bias=True, layer_idx=0)
    fill(module.to(torch.float64), 2)
    x = numbers(Q, [1, length, EMBED], 2).requires_grad_()
    output = module(x)[0]
    (output * numbers(DY, output.shape, 2)).sum().backward()
    return {
        "length": length,
        "numBuckets": buckets,
        "maxDistance": far,
        "bidirectional": bidirectional,
        "output": rounded(output),
        "dx": rounded(x.grad),
        "gradients": gradients(module),
    }


def buckets(count: int, far: int, bidirectional: bool) -> dict:
    """The bucket of each distance."""
    distances = torch.arange(-far - 2, far + 3)
    found = T5Attention._relative_position_bucket(distances, bidirectional, count, far)
    return {"numBuckets": count, "maxDistance": far, "bidirectional": bidirectional, "buckets": found.tolist()}


def cases() -> dict:
    self_shape, first = [BATCH, SOURCES, EMBED], {"batch_first": True}
    cross = [[BATCH, TARGETS, EMBED], [BATCH, SOURCES, EMBED], [BATCH, SOURCES, EMBED]]
    causal = torch.ones(SOURCES, SOURCES, dtype=torch.bool).triu(1)
    added = numbers(301, [TARGETS, SOURCES], 2)
    by_head = torch.stack([HIDDEN.roll(i, 1) for i in range(BATCH * HEADS)])
    return {
        "multihead": [
            multihead("self", [self_shape], {}, False, **first),
            multihead("self, length first, causal", [[SOURCES, BATCH, EMBED]], {"attn_mask": causal, "is_causal": True}),
            multihead("self, averaged", [self_shape], {"key_padding_mask": PADDING}, True, **first),
            multihead("cross", cross, {"attn_mask": HIDDEN, "key_padding_mask": PADDING}, True, **first),
            multihead("cross, numbers added", cross, {"attn_mask": added}, False, bias=False, **first),
            multihead("cross, a mask for each head", cross, {"attn_mask": by_head}, None, **first),
            multihead(
                "kdim and vdim",
                [[TARGETS, BATCH, EMBED], [SOURCES, BATCH, 4], [SOURCES, BATCH, 3]],
                {"key_padding_mask": PADDING},
                True,
                kdim=4,
                vdim=3,
            ),
        ],
        "relative": [relative(2, 2, 4, 5), relative(1, 1, 3, 3), relative(2, 6, 5, 3)],
        "t5": [t5(11, 8, 6, True), t5(11, 6, 9, False)],
        "buckets": [buckets(32, 128, True), buckets(32, 128, False), buckets(8, 20, True), buckets(10, 37, False)],
    }
