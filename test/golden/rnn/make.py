"""What PyTorch's recurrent layers give in float64: outputs, last states, gradients of parameters, inputs and states.

    python make.py    # writes layers.json and training.json beside itself; PyTorch 2.13

Parameters, inputs and the weights of the loss come from `numbers` of ../recording.py, which test/golden.ts has, too.
"""

import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import recording  # noqa: E402
from recording import gradients, rounded, write  # noqa: E402

torch.set_default_dtype(torch.float64)
INPUT, HIDDEN, BATCH, LENGTH = 3, 4, 3, 5
# By how much seeds of inputs, states and loss weights lie above those of parameters.
X, H, C, DY, DH, DC = 101, 102, 103, 104, 105, 106


def numbers(seed, shape):
    return recording.numbers(seed, shape, 2)


def fill(module):
    return recording.fill(module, 2)


def layer(kind, lengths=None, states=True, batch=True, **options):
    torch_options = {
        {"numLayers": "num_layers", "batchFirst": "batch_first"}.get(k, k): v for k, v in options.items()
    }
    module = fill(getattr(nn, kind)(INPUT, HIDDEN, **torch_options))
    first = options.get("batchFirst", False) and batch
    shape = ([BATCH, LENGTH] if first else [LENGTH, BATCH]) if batch else [LENGTH]
    x = numbers(X, [*shape, INPUT]).requires_grad_()
    layers = options.get("numLayers", 1) * (2 if options.get("bidirectional") else 1)
    state_shape = [layers, BATCH, HIDDEN] if batch else [layers, HIDDEN]
    h0, c0 = (numbers(seed, state_shape).requires_grad_() for seed in (H, C))
    state = ((h0, c0) if kind == "LSTM" else h0) if states else None
    given = pack_padded_sequence(x, lengths, first, enforce_sorted=False) if lengths else x
    output, last = module(given, state)
    if lengths:
        output, _ = pad_packed_sequence(output, first, total_length=LENGTH)
    h, c = last if kind == "LSTM" else (last, None)
    loss = (output * numbers(DY, output.shape)).sum() + (h * numbers(DH, h.shape)).sum()
    if c is not None:
        loss = loss + (c * numbers(DC, c.shape)).sum()
    loss.backward()
    result = {"output": rounded(output), "h": rounded(h), "dx": rounded(x.grad)}
    if c is not None:
        result["c"] = rounded(c)
    if states:
        result["dh0"] = rounded(h0.grad)
        if c is not None:
            result["dc0"] = rounded(c0.grad)
    return {
        "kind": kind,
        "options": options,
        "lengths": lengths,
        "states": states,
        "batch": batch,
        "shape": list(output.shape),
        **result,
        "parameters": gradients(module),
    }


def cell(kind, **options):
    module = fill(getattr(nn, kind)(INPUT, HIDDEN, **options))
    x = numbers(X, [BATCH, INPUT]).requires_grad_()
    h0, c0 = (numbers(seed, [BATCH, HIDDEN]).requires_grad_() for seed in (H, C))
    last = module(x, (h0, c0) if kind == "LSTMCell" else h0)
    h, c = last if kind == "LSTMCell" else (last, None)
    loss = (h * numbers(DH, h.shape)).sum()
    if c is not None:
        loss = loss + (c * numbers(DC, c.shape)).sum()
    loss.backward()
    result = {"h": rounded(h), "dx": rounded(x.grad), "dh0": rounded(h0.grad)}
    if c is not None:
        result.update({"c": rounded(c), "dc0": rounded(c0.grad)})
    return {"kind": kind, "options": options, **result, "parameters": gradients(module)}


def training(kind, steps=20):
    """Steps of AdamW on the mean square error of the last outputs."""
    module = fill(nn.ModuleDict({"rnn": getattr(nn, kind)(INPUT, 6, batch_first=True), "head": nn.Linear(6, 2)}))
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.02)
    x, y = numbers(X, [8, LENGTH, INPUT]), numbers(DY, [8, 2])
    losses, norms = [], {}
    for step in range(steps):
        optimizer.zero_grad()
        output, _ = module["rnn"](x)
        loss = nn.functional.mse_loss(module["head"](output[:, -1]), y)
        loss.backward()
        if step == 0:
            norms = {name: float(p.grad.norm()) for name, p in module.named_parameters()}
        optimizer.step()
        losses.append(loss.item())
    return {"kind": kind, "losses": losses, "firstGradientNorms": norms}


UNEQUAL = [2, 5, 3]
LAYERS = [
    layer("LSTM"),
    layer("LSTM", states=False, batchFirst=True, bias=False),
    layer("LSTM", numLayers=2, bidirectional=True),
    layer("LSTM", UNEQUAL, numLayers=2, bidirectional=True, batchFirst=True),
    layer("LSTM", [5, 5, 1]),
    layer("LSTM", batch=False, bidirectional=True),
    layer("GRU"),
    layer("GRU", states=False, numLayers=2, batchFirst=True),
    layer("GRU", UNEQUAL, numLayers=2, bidirectional=True),
    layer("GRU", [1, 4, 4], batchFirst=True, bidirectional=True, bias=False),
    layer("GRU", batch=False),
    layer("RNN", numLayers=2),
    layer("RNN", UNEQUAL, bidirectional=True, batchFirst=True),
    layer("RNN", nonlinearity="relu", bias=False),
    layer("RNN", UNEQUAL, nonlinearity="relu", bidirectional=True),
]
CELLS = [
    cell("LSTMCell"),
    cell("LSTMCell", bias=False),
    cell("GRUCell"),
    cell("GRUCell", bias=False),
    cell("RNNCell"),
    cell("RNNCell", nonlinearity="relu"),
]

write(HERE / "layers.json", {"layers": LAYERS, "cells": CELLS})
write(HERE / "training.json", {"runs": [training("LSTM"), training("GRU")]})
