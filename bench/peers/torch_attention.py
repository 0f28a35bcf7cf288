"""The cases of attention of torch_cpu.py: each kind yields the ways in which PyTorch can do one call."""

import os
import sys

import torch
import torch.nn.functional as F
from torch_common import Unsupported, dtype_of, normal, turns
from torch_models import composed, later

COMPOSED_SCORES = 2**24  # with more of them separate ops only wait for memory


def heads(case):
    b, h, g, n, m, d = (case[name] for name in "bhgnmd")
    return lambda: [normal(case, *shape) for shape in [(b, h, n, d), (b, g, m, d), (b, g, m, d)]]


def fused(case):
    options = {"enable_gqa": True} if case["h"] != case["g"] else {}
    return lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=case["causal"], **options)


def separate(case):
    """Attention in separate ops; None where they would only be slower, or heads share keys."""
    if case["b"] * case["h"] * case["n"] * case["m"] > COMPOSED_SCORES or case["h"] != case["g"]:
        return None
    hidden = later(case["n"]) if case["causal"] else None
    return lambda q, k, v: composed(q, k, v, hidden)


def ways(case):
    yield fused(case)
    if separate(case):
        yield separate(case)


def one_query(case):
    """Heads that share a key head are rows of one product."""
    b, h, g, d = (case[name] for name in "bhgd")
    grouped = lambda attend: lambda q, k, v: attend(q.view(b, g, h // g, d), k, v)
    for attend in (F.scaled_dot_product_attention, composed):
        yield turns(case, heads(case), grouped(attend))


def attention(case):
    for attend in ways(case):
        yield turns(case, heads(case), attend)
    if case["n"] == 1 and case["h"] != case["g"]:
        yield from one_query(case)


def gradients(case, attend):
    def make():
        return [x.requires_grad_() for x in heads(case)()] + [normal(case, case["b"], case["h"], case["n"], case["d"])]

    def run(q, k, v, dy):
        with torch.enable_grad():
            return torch.autograd.grad(attend(q, k, v), (q, k, v), dy)

    return turns(case, make, run)


def attention_backward(case):
    for attend in ways(case):
        yield gradients(case, attend)


def composed_backward(case):
    hidden = later(case["n"])
    yield gradients(case, lambda q, k, v: composed(q, k, v, hidden))


# ---- masks


def visible_of(mask):
    """A mask of fovea's JSON as PyTorch takes them: whether query q sees key k, for tensors of both."""
    kind = mask["type"]
    if kind == "slidingWindow":
        left, right = mask["left"], mask["right"]
        return lambda b, h, q, k: (q - k <= left) & (k - q <= right)
    if kind == "prefix":
        length = mask["length"]
        return lambda b, h, q, k: (k < length) & (q >= 0)
    if kind == "globalTokens":
        # Numbers from 0 on, as in these cases, are a comparison instead of a search.
        count = len(mask["indices"])
        if mask["indices"] != list(range(count)):
            raise Unsupported("global tokens that are not the first ones")
        return lambda b, h, q, k: (q < count) | (k < count)
    if kind == "blocks":
        table, size = torch.tensor(mask["table"]), mask["size"]
        return lambda b, h, q, k: table[q // size, k // size]
    if kind == "or":
        first, second = (visible_of(term) for term in mask["terms"])
        return lambda b, h, q, k: first(b, h, q, k) | second(b, h, q, k)
    raise Unsupported(f"nothing is written for masks like {kind}")


def dense_mask(visible, n, m):
    """bool [n, m], made for some rows at a time."""
    keys = torch.arange(m)[None]
    return torch.cat([visible(None, None, rows[:, None], keys) for rows in torch.arange(n).split(1024)])


def flexible(case, visible, seen):
    """flex_attention on the blocks of which something is seen; None where it cannot be compiled."""
    n, m = case["n"], case["m"]
    size = case["mask"].get("size", 128)
    if n % size or m % size:
        return None
    try:
        from torch.nn.attention.flex_attention import BlockMask, flex_attention

        torch.compiler.reset()
        tiles = seen.view(n // size, size, m // size, size)
        full, some = tiles.all(3).all(1), tiles.any(3).any(1)
        ordered = lambda blocks: (
            blocks.sum(-1, dtype=torch.int32)[None, None],
            torch.argsort(blocks.int(), dim=-1, descending=True, stable=True).int()[None, None],
        )
        blocks = BlockMask.from_kv_blocks(*ordered(some & ~full), *ordered(full), BLOCK_SIZE=size, mask_mod=visible)
        compiled = torch.compile(flex_attention, dynamic=False)
        call = turns(case, heads(case), lambda q, k, v: compiled(q, k, v, block_mask=blocks))
        call()
        return call
    except Exception as error:  # without a C++ compiler, say; the other ways are still timed
        print(f"flex_attention: {error}", file=sys.stderr)
        return None


def masked_attention(case):
    """A mask of booleans, of numbers that are added, or of blocks; none where all is seen."""
    n, m = case["n"], case["m"]
    needed, memory = 12 * n * m, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory / 2:
        raise Unsupported(f"masks of {n} x {m} take {needed >> 30} GiB, more than half of this machine's memory")
    visible = visible_of(case["mask"])
    seen = dense_mask(visible, n, m)
    attend = lambda mask: lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    if seen.all():
        yield turns(case, heads(case), attend(None))
        return
    flex = flexible(case, visible, seen)
    if flex:
        yield flex
    yield turns(case, heads(case), attend(seen))
    added = torch.zeros(n, m, dtype=dtype_of(case)).masked_fill_(~seen, float("-inf"))
    yield turns(case, heads(case), attend(added))


KINDS = {
    "attention": attention,
    "attentionBackward": attention_backward,
    "composedBackward": composed_backward,
    "maskedAttention": masked_attention,
}
