"""The PyTorch side of bench/loss-curves.mjs: trains from given weights on given batches, and prints its losses.

    torch_train.py <tensors.safetensors>  with what to run as JSON on standard input

The models are written with torch.nn alone, with Hugging Face's keys (GPT-2) and those of nn.Transformer.
"""

import json
import math
import struct
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

DTYPES = {"F32": torch.float32, "I64": torch.int64}


def read_safetensors(path):
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = bytearray(file.read())
    header.pop("__metadata__", None)
    parts = {name: (data[slice(*entry["data_offsets"])], entry) for name, entry in header.items()}
    return {
        name: torch.frombuffer(part, dtype=DTYPES[entry["dtype"]]).reshape(entry["shape"])
        for name, (part, entry) in parts.items()
    }


class Conv1D(nn.Module):
    """A linear layer with its weight transposed, as GPT-2's checkpoints have it."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.empty(inputs, outputs)), nn.Parameter(torch.empty(outputs))

    def forward(self, x):
        return x @ self.weight + self.bias


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn, self.mlp = nn.Module(), nn.Module()
        self.attn.c_attn, self.attn.c_proj = Conv1D(width, 3 * width), Conv1D(width, width)
        self.mlp.c_fc, self.mlp.c_proj = Conv1D(width, 4 * width), Conv1D(4 * width, width)

    def forward(self, x):
        b, n, width = x.shape
        q, k, v = self.attn.c_attn(self.ln_1(x)).view(b, n, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn.c_proj(attended.transpose(1, 2).reshape(b, n, width))
        return x + self.mlp.c_proj(F.gelu(self.mlp.c_fc(self.ln_2(x)), approximate="tanh"))


class GPT2(nn.Module):
    def __init__(self, vocab, context, width, layers, heads):
        super().__init__()
        self.transformer = nn.Module()
        self.transformer.wte, self.transformer.wpe = nn.Embedding(vocab, width), nn.Embedding(context, width)
        self.transformer.h = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.transformer.ln_f = nn.LayerNorm(width)

    def loss(self, ids):
        x = self.transformer.wte(ids) + self.transformer.wpe.weight[: ids.shape[1]]
        for block in self.transformer.h:
            x = block(x)
        logits = F.linear(self.transformer.ln_f(x), self.transformer.wte.weight)
        return F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


class Seq2Seq(nn.Module):
    """Encoder and decoder of Vaswani et al. 2017: one table for sources, targets and logits, smoothed labels."""

    def __init__(self, vocab, width, layers, heads, hidden, smoothing):
        super().__init__()
        self.smoothing = smoothing
        self.shared = nn.Embedding(vocab, width)
        self.transformer = nn.Transformer(width, heads, layers, layers, hidden, dropout=0.0, batch_first=True)

    def embed(self, ids):
        n, width = ids.shape[1], self.shared.embedding_dim
        angles = torch.arange(n)[:, None] / 10000 ** (torch.arange(0, width, 2) / width)
        positions = torch.stack([angles.sin(), angles.cos()], -1).flatten(1)
        return self.shared(ids) * math.sqrt(width) + positions

    def loss(self, source, given, labels):
        later = nn.Transformer.generate_square_subsequent_mask(given.shape[1])
        hidden = self.transformer(self.embed(source), self.embed(given), tgt_mask=later, tgt_is_causal=True)
        logits = F.linear(hidden, self.shared.weight)
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), label_smoothing=self.smoothing)


def train(asked):
    torch.set_num_threads(asked["threads"])
    tensors = read_safetensors(sys.argv[1])
    batches = [tensors.pop(f"batch.{i}") for i in range(asked["inputs"])]
    model = {"gpt2": GPT2, "seq2seq": Seq2Seq}[asked["model"]](**asked["sizes"])
    model.load_state_dict(tensors)
    optimizer = getattr(torch.optim, asked["optimizer"])(model.parameters(), **asked["options"])
    losses = []
    for step, rate in enumerate(asked["rates"]):
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = model.loss(*(batch[step] for batch in batches))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), asked["maxNorm"])
        optimizer.step()
        losses.append(loss.item())
    print(json.dumps({"version": torch.__version__, "losses": losses}))


train(json.load(sys.stdin))
