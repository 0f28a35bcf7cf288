"""Times in PyTorch what bench/gpu.mjs times, in the same way and the same units.

    node bench/gpu.mjs --list > cases.json
    python3 bench/peers/torch_gpu.py [--quick] [--filter TEXT] cases.json > torch.jsonl

Standard output gets one JSON object per line: first the device, then {id, variant, milliseconds, rate, unit} of each case
and variant, or {id, variant, error} where a variant refuses the case. Attention names its backend: flash
(FlashAttention-2), cudnn. Inputs are random and rotate among as many sets as the GPU's cache cannot hold.
"""

import argparse
import json
import sys
import time
import warnings

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

DEVICE = "cuda:0"
ROTATED = 256 * 2**20
BACKENDS = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}

parser = argparse.ArgumentParser()
parser.add_argument("cases")
parser.add_argument("--quick", action="store_true")
parser.add_argument("--filter", default="")
options = parser.parse_args()
SAMPLES = 7 if options.quick else 15
SAMPLE_SECONDS = 0.015 if options.quick else 0.04


def dtype_of(case):
    return getattr(torch, case["dtype"])


def normal(shape, dtype):
    return torch.randn(shape, device=DEVICE, dtype=dtype)


def median(values):
    return sorted(values)[len(values) // 2]


def elapsed(call, count):
    start = time.perf_counter()
    for _ in range(count):
        call()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def times_of(call):
    """Seconds of a call, one of each sample: enough calls that the wait at its end does not count."""
    elapsed(call, 2)
    once = elapsed(call, 3) / 3
    count = min(2000, max(1, round(SAMPLE_SECONDS / max(once, 1e-6))))
    return [elapsed(call, count) / count for _ in range(SAMPLES)]


def rotating(make, run):
    """The times of `run` on sets of inputs that take turns."""
    sets = [make()]
    size = sum(x.numel() * x.element_size() for x in sets[0] if isinstance(x, torch.Tensor))
    while len(sets) * size < ROTATED:
        sets.append(make())
    turn = [0]

    def call():
        inputs = sets[turn[0] % len(sets)]
        turn[0] += 1
        run(*inputs)

    return times_of(call)


def backward_of(make, forward):
    """Times of the gradients of a graph that stays."""

    def graph():
        inputs = [x.requires_grad_() for x in make()]
        y = forward(*inputs)
        return [y, torch.randn_like(y), *inputs]

    return rotating(graph, lambda y, dy, *inputs: torch.autograd.grad(y, inputs, dy, retain_graph=True))


# ---- the kinds of cases; each yields (variant, function that gives times)


def large(case):
    return normal((case["rows"], case["width"]), dtype_of(case))


def pointwise(case):
    def make():
        return [large(case) for _ in range(2 if case["op"] == "add" else 1)]

    return make, {"add": torch.add, "gelu": F.gelu}[case["op"]]


def rowwise(case):
    width = case["width"]
    weights = {"layerNorm": 2, "rmsNorm": 1}.get(case["op"], 0)

    def make():
        return [large(case), *(normal((width,), dtype_of(case)) for _ in range(weights))]

    return make, {
        "layerNorm": lambda x, w, b: F.layer_norm(x, (width,), w, b),
        "rmsNorm": lambda x, w: F.rms_norm(x, (width,), w),
        "softmax": lambda x: F.softmax(x, -1),
        "sum": lambda x: x.sum(-1),
    }[case["op"]]


def time_copy(case):
    yield "torch", lambda: rotating(lambda: [large(case)], torch.clone)


def time_elementwise(case):
    yield "torch", lambda: rotating(*pointwise(case))


def time_elementwise_backward(case):
    yield "torch", lambda: backward_of(*pointwise(case))


def time_rows(case):
    yield "torch", lambda: rotating(*rowwise(case))


def time_rows_backward(case):
    yield "torch", lambda: backward_of(*rowwise(case))


def time_matmul(case):
    m, k, n = case["m"], case["k"], case["n"]
    first, second = (side == "T" for side in case["layout"])

    def make():
        shapes = [(k, m) if first else (m, k), (n, k) if second else (k, n)]
        return [normal(shape, dtype_of(case)) for shape in shapes]

    yield "torch", lambda: rotating(make, lambda a, b: torch.matmul(a.t() if first else a, b.t() if second else b))


def heads(case):
    b, h, g, n, m, d = (case[name] for name in "bhgnmd")
    return lambda: [normal(shape, dtype_of(case)) for shape in [(b, h, n, d), (b, g, m, d), (b, g, m, d)]]


def attend(case, backend):
    shared = {"enable_gqa": True} if case["h"] != case["g"] else {}

    def run(q, k, v):
        with sdpa_kernel([BACKENDS[backend]]):
            return F.scaled_dot_product_attention(q, k, v, is_causal=case["causal"], **shared)

    return run


def time_attention(case):
    for backend in BACKENDS:
        yield backend, lambda backend=backend: rotating(heads(case), attend(case, backend))


def time_attention_backward(case):
    for backend in BACKENDS:
        yield backend, lambda backend=backend: backward_of(heads(case), attend(case, backend))


def time_cross_entropy(case):
    def make():
        target = torch.randint(0, case["width"], (case["rows"],), device=DEVICE)
        return [large(case).requires_grad_(), target]

    yield "torch", lambda: rotating(make, lambda x, t: torch.autograd.grad(F.cross_entropy(x, t), [x]))


def time_adamw(case):
    def run():
        parameters = [nn.Parameter(normal(shape, dtype_of(case))) for shape in case["shapes"]]
        for p in parameters:
            p.grad = torch.randn_like(p)
        return times_of(torch.optim.AdamW(parameters, lr=1e-3, fused=True).step)

    yield "torch", run


# ---- GPT-2, as in bench/gpu.mjs: no dropout, the logits' weight tied to the embedding


class Block(nn.Module):
    def __init__(self, width, count):
        super().__init__()
        self.count = count
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.projection = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x, attention):
        b, n, width = x.shape
        qkv = self.qkv(self.ln_1(x)).view(b, n, 3, self.count, width // self.count)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        x = x + self.projection(attention(q, k, v).transpose(1, 2).reshape(b, n, width))
        return x + self.down(F.gelu(self.up(self.ln_2(x)), approximate="tanh"))


class GPT2(nn.Module):
    def __init__(self, case):
        super().__init__()
        width = case["width"]
        self.wte, self.wpe = nn.Embedding(case["vocabulary"], width), nn.Embedding(case["positions"], width)
        self.blocks = nn.ModuleList(Block(width, case["heads"]) for _ in range(case["layers"]))
        self.ln_f = nn.LayerNorm(width)
        for weight in (self.wte.weight, self.wpe.weight):
            nn.init.normal_(weight, std=0.02)

    def forward(self, ids, positions, attentions):
        x = self.wte(ids) + self.wpe(positions)
        for block, attention in zip(self.blocks, attentions):
            x = block(x, attention)
        return self.ln_f(x)

    def logits(self, x):
        return F.linear(x, self.wte.weight)


def make_model(case):
    return GPT2(case).to(DEVICE, dtype_of(case))


def tokens(case, shape):
    return torch.randint(0, case["vocabulary"], shape, device=DEVICE)


def time_train(case):
    def run():
        model = make_model(case)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
        positions = torch.arange(case["length"], device=DEVICE)
        causal = [lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True)] * case["layers"]

        def step(ids):
            logits = model.logits(model(ids, positions, causal))
            target = torch.cat([ids[:, 1:], torch.full_like(ids[:, :1], -100)], 1)
            F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=-100).backward()
            optimizer.step()
            optimizer.zero_grad()

        batches = [tokens(case, (case["batch"], case["length"])) for _ in range(4)]
        turn = [0]

        def call():
            turn[0] += 1
            step(batches[turn[0] % len(batches)])

        return times_of(call)

    yield "eager", run


class Decoder:
    """GPT-2 with keys and values in place; `position` is a tensor, so that one captured graph serves every step."""

    def __init__(self, case):
        self.case, self.model = case, make_model(case).eval()
        width = case["width"] // case["heads"]
        shape = (case["layers"], 2, 1, case["heads"], case["positions"], width)
        self.cache = normal(shape, dtype_of(case))
        self.position = torch.tensor([case["start"]], device=DEVICE)
        self.token = tokens(case, (1, 1))
        self.places = torch.arange(case["positions"], device=DEVICE)

    def step(self, length=None):
        """One token; with `length` attention reads only that many positions, else all of them behind a mask."""
        mask = None if length else (self.places <= self.position).view(1, 1, 1, -1)

        def attention_of(cache):
            def attention(q, k, v):
                cache[0].index_copy_(2, self.position, k)
                cache[1].index_copy_(2, self.position, v)
                keys, values = (cache[0][:, :, :length], cache[1][:, :, :length]) if length else cache
                return F.scaled_dot_product_attention(q, keys, values, attn_mask=mask)

            return attention

        x = self.model(self.token, self.position, [attention_of(cache) for cache in self.cache])
        self.token.copy_(self.model.logits(x[:, -1:]).argmax(-1))
        self.position.add_(1)

    def rewind(self):
        self.position.fill_(self.case["start"])


def decode_times(case, step, rewind):
    """Times of one step each: like bench/gpu.mjs, samples of `steps` tokens from `start` on, the first left out."""
    times = []
    rewind()
    for at in range(case["start"], case["positions"] - case["steps"], case["steps"]):
        lengths = iter(range(at + 1, at + 1 + case["steps"]))
        times.append(elapsed(lambda: step(next(lengths)), case["steps"]) / case["steps"])
    return times[1:]


def time_decode(case):
    def eager():
        decoder = Decoder(case)
        return decode_times(case, decoder.step, decoder.rewind)

    def captured():
        decoder = Decoder(case)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                decoder.step()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            decoder.step()
        return decode_times(case, lambda _: graph.replay(), decoder.rewind)

    yield "eager", torch.no_grad()(eager)
    yield "graph", torch.no_grad()(captured)


KINDS = {
    "copy": time_copy,
    "elementwise": time_elementwise,
    "elementwiseBackward": time_elementwise_backward,
    "rows": time_rows,
    "rowsBackward": time_rows_backward,
    "matmul": time_matmul,
    "attention": time_attention,
    "attentionBackward": time_attention_backward,
    "crossEntropy": time_cross_entropy,
    "adamw": time_adamw,
    "train": time_train,
    "decode": time_decode,
}


def rate_of(case, seconds):
    if case["unit"] == "ms":
        return seconds * 1e3
    rate = case["work"] / seconds
    return rate if case["unit"] == "tokens/s" else rate / 1e12


def put(row):
    print(json.dumps(row), flush=True)


def measure(case, variant, run):
    row = {"id": case["id"], "variant": variant}
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            times = run()
        seconds = median(times)
        row |= {"milliseconds": seconds * 1e3, "rate": rate_of(case, seconds), "unit": case["unit"]}
        row["spread"] = (max(times) - min(times)) / seconds
        text = f"{row['rate']:12.4g} {case['unit']}"
    except Exception as error:  # a backend that refuses, too little memory: the others are still timed
        # SDPA says why a backend refuses in warnings, and raises only "no available kernel".
        reasons = [str(w.message).split("(Triggered")[0].strip() for w in told] if told else []
        row["error"] = "; ".join([str(error).split("\n")[0], *reasons])[:400]
        text = f"skipped: {row['error']}"
    put(row)
    print(f"{case['id']:<64} {variant:<6} {text}", file=sys.stderr, flush=True)
    torch.cuda.empty_cache()
    return "error" not in row


def main():
    if not torch.cuda.is_available():
        print("bench: PyTorch sees no GPU here", file=sys.stderr)
        return 1
    with open(options.cases, encoding="utf8") as file:
        cases = [case for case in json.load(file) if options.filter.lower() in case["id"].lower()]
    put({"library": f"PyTorch {torch.__version__}", "device": torch.cuda.get_device_name(0)})
    results = [
        measure(case, variant, run)
        for case in cases
        if case["kind"] in KINDS
        for variant, run in KINDS[case["kind"]](case)
    ]
    print(f"{sum(results)} timed, {len(results) - sum(results)} refused", file=sys.stderr)
    return 0 if any(results) else 1


if __name__ == "__main__":
    sys.exit(main())
