"""PyTorch on the CPU as a peer of bench/peers.mjs; the protocol is described in bench/peers/serve.mjs.

Where PyTorch has several ways, all are tried and the fastest is the one that is timed: weights as they are or packed
for oneDNN, attention fused or in separate ops, or compiled for the blocks of a mask. float32 products go to oneDNN instead
of MKL where that is still float32.
"""

import json
import os
import sys
import time

OUT = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what libraries print must not come between the answers


def put(answer):
    print(json.dumps(answer), file=OUT, flush=True)


try:
    import torch
    import torch.nn as nn
    import torch.nn.functional as F
    import torch_attention
    from torch_common import Unsupported, dtype_of, normal, turns
    from torch_models import GPT2, Encoder, causal, composed, later, pack
except ImportError as error:
    put({"missing": str(error)})
    sys.exit(0)

torch.manual_seed(0)
torch.set_num_interop_threads(1)


def use_true_float32():
    """'medium' takes oneDNN instead of MKL, which is faster on some processors, but rounds to bfloat16 on others."""
    torch.set_float32_matmul_precision("medium")
    a, b = torch.randn(256, 256), torch.randn(256, 256)
    exact = a.double() @ b.double()
    if ((a @ b - exact).abs().max() / exact.abs().max()).item() > 1e-5:
        torch.set_float32_matmul_precision("highest")


def packed_linear(x, w, rows):
    packed = torch.ops.mkldnn._reorder_linear_weight(w, rows)
    return x, packed


def run_packed(x, packed):
    return torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")


# ---- the kinds of cases; each yields the ways in which PyTorch can do one call


def elementwise(case):
    name = case["op"]
    if name in ("swiglu", "geglu"):
        yield from gated(case)
        return
    op = getattr(F, name) if name in ("gelu", "silu", "softplus") else getattr(torch, name)
    yield turns(case, lambda: [torch.rand(case["n"], dtype=dtype_of(case)) + 0.5 for _ in range(case["inputs"])], op)


def dropout(case):
    yield turns(case, lambda: [normal(case, case["n"])], lambda x: F.dropout(x, 0.1, True))


def dropout_add(case):
    yield turns(case, lambda: [normal(case, case["n"]) for _ in range(2)], lambda x, r: F.dropout(x, 0.1, True) + r)


def gated(case):
    act = {"swiglu": F.silu, "geglu": F.gelu}[case["op"]]
    yield turns(case, lambda: [normal(case, case["n"]) for _ in range(2)], lambda gate, up: act(gate) * up)


def rows(case):
    width, dim = case["width"], case["dim"]
    run = {
        "softmax": lambda x, w, b: F.softmax(x, dim),
        "logSoftmax": lambda x, w, b: F.log_softmax(x, dim),
        "layerNorm": lambda x, w, b: F.layer_norm(x, (width,), w, b),
        "rmsNorm": lambda x, w, b: F.rms_norm(x, (width,), w),
        "addLayerNorm": lambda x, w, b: F.layer_norm(x + x, (width,), w, b),
        "addRmsNorm": lambda x, w, b: F.rms_norm(x + x, (width,), w),
        "sum": lambda x, w, b: x.sum(dim),
        "mean": lambda x, w, b: x.mean(dim),
        "argmax": lambda x, w, b: x.argmax(dim),
        "transpose": lambda x, w, b: x.t().contiguous(),
    }[case["op"]]
    yield turns(case, lambda: [normal(case, case["rows"], width), normal(case, width), normal(case, width)], run)


def rope(case):
    b, h, n, d = (case[name] for name in "bhnd")

    def run(x, cos, sin):
        first, second = x[..., : d // 2], x[..., d // 2 :]
        return x * cos + torch.cat((-second, first), -1) * sin

    yield turns(case, lambda: [normal(case, b, h, n, d), normal(case, n, d), normal(case, n, d)], run)


def embedding(case):
    make = lambda: [torch.randint(case["vocabulary"], (case["rows"],)), normal(case, case["vocabulary"], case["width"])]
    yield turns(case, make, F.embedding)


def topk(case):
    yield turns(case, lambda: [normal(case, case["rows"], case["width"])], lambda x: torch.topk(x, case["k"]))


def matmul(case):
    m, k, n, turned = case["m"], case["k"], case["n"], case["layout"] == "NT"
    weight = (lambda: normal(case, n, k).t()) if turned else (lambda: normal(case, k, n))
    yield turns(case, lambda: [normal(case, m, k), weight()], torch.matmul)
    yield turns(case, lambda: packed_linear(normal(case, m, k), normal(case, n, k), m), run_packed)


def grouped_matmul(case):
    """A product for each group."""
    t, k, n, ends = (case[name] for name in ("t", "k", "n", "ends"))

    def run(x, weights):
        begins = [0] + ends[:-1]
        return torch.cat([x[begin:end] @ w for begin, end, w in zip(begins, ends, weights)])

    yield turns(case, lambda: [normal(case, t, k), normal(case, len(ends), n, k).transpose(1, 2)], run)


def linear(case):
    m, k, n = case["m"], case["k"], case["n"]
    yield turns(case, lambda: [normal(case, m, k), normal(case, n, k)], F.linear)
    yield turns(case, lambda: packed_linear(normal(case, m, k), normal(case, n, k), m), run_packed)


def quantized(case):
    """Its product of integers alone: neither is x quantised nor are sums scaled."""
    if case["type"] != "int8":
        raise Unsupported("weights in blocks come with other packages")
    m, k, n = case["m"], case["k"], case["n"]
    integers = lambda *shape: torch.randint(-127, 128, shape, dtype=torch.int8)
    yield turns(case, lambda: [integers(m, k), integers(k, n)], torch._int_mm)
    yield turns(case, lambda: [integers(m, k), integers(n, k).t()], torch._int_mm)


def conv(case):
    op = getattr(F, case["op"])
    options = case["options"]

    def run(x, weight, dy):
        if not case["backward"]:
            return op(x, weight, None, **options)
        with torch.enable_grad():
            return torch.autograd.grad(op(x, weight, None, **options), (x, weight), dy)

    def make():
        x, weight = (normal(case, *case[name]).requires_grad_(case["backward"]) for name in ("x", "weight"))
        return [x, weight, normal(case, *case["y"])]

    yield turns(case, make, run)


def cross_entropy(case):
    def run(x, target):
        if not case["backward"]:
            return F.cross_entropy(x, target)
        with torch.enable_grad():
            return torch.autograd.grad(F.cross_entropy(x, target), x)

    def make():
        logits = normal(case, case["rows"], case["width"]).requires_grad_(case["backward"])
        return [logits, torch.randint(case["width"], (case["rows"],))]

    yield turns(case, make, run)


def linear_cross_entropy(case):
    def run(hidden, weight, target):
        with torch.enable_grad():
            return torch.autograd.grad(F.cross_entropy(hidden @ weight.t(), target), (hidden, weight))

    def make():
        hidden = normal(case, case["rows"], case["width"]).requires_grad_()
        weight = (normal(case, case["vocabulary"], case["width"]) * 0.02).requires_grad_()
        return [hidden, weight, torch.randint(case["vocabulary"], (case["rows"],))]

    yield turns(case, make, run)


def adamw(case):
    parameters = [nn.Parameter(normal(case, *shape)) for shape in case["shapes"]]
    for p in parameters:
        p.grad = torch.randn_like(p)
    yield torch.optim.AdamW(parameters, lr=1e-3, fused=True).step


def small(case):
    if case["issue"]:
        raise Unsupported("an op has computed when it returns")
    a, b = torch.ones(case["n"]), torch.ones(case["n"])
    w = torch.ones(case["n"], requires_grad=True)

    def backward():
        with torch.enable_grad():
            (w + b).sum().backward()

    yield backward if "backward" in case["op"] else lambda: a + b


# ---- models: packed weights, and plain ones


def both(make, rows):
    yield make()
    yield pack(make(), rows)


def gpt2(case):
    return lambda: GPT2(case["model"]).to(dtype_of(case)).eval()


def prefill(case):
    ids = torch.randint(case["model"]["vocabulary"], (1, case["length"]))
    for model in both(gpt2(case), case["length"]):
        yield lambda model=model: model.step(ids, model.make_cache(case["length"]), 0)


def decode(case):
    """A call is a whole run of `steps` tokens, each read before the next; the prompt is not timed."""
    ids = torch.randint(case["model"]["vocabulary"], (1, case["start"]))
    for model in both(gpt2(case), 1):

        def run(model=model):
            cache = model.make_cache(case["start"] + case["steps"] + 1)
            token = int(model.step(ids, cache, 0).argmax(-1))
            start = time.perf_counter()
            for i in range(case["steps"]):
                token = int(model.step(torch.tensor([[token]]), cache, case["start"] + i).argmax(-1))
            return time.perf_counter() - start

        yield run


def encoder(case):
    x = normal(case, case["b"], case["n"], case["width"])
    for model in both(lambda: Encoder(case).to(dtype_of(case)).eval(), case["b"] * case["n"]):
        yield lambda model=model: model(x)
    layer = nn.TransformerEncoderLayer(
        case["width"], case["heads"], case["hidden"], activation="gelu", batch_first=True, dtype=dtype_of(case)
    )
    stack = nn.TransformerEncoder(layer, case["layers"]).eval()
    yield lambda: stack(x)


def train(case):
    """With `composedTrain`, attention in separate ops."""
    model = GPT2(case["model"])
    hidden = later(case["length"])
    attend = (lambda q, k, v: composed(q, k, v, hidden)) if case["kind"] == "composedTrain" else causal
    mixed = case["dtype"] != "float32"
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    ids = torch.randint(case["model"]["vocabulary"], (case["batch"], case["length"]))

    def step():
        with torch.enable_grad():
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
                loss = model.loss(ids, attend)
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    yield step


def recurrent(case):
    layer = getattr(nn, case["layer"])(case["width"], case["width"])
    x = torch.randn(case["length"], case["batch"], case["width"], requires_grad=case["backward"])

    def both():
        with torch.enable_grad():
            layer(x)[0].sum().backward()
        layer.zero_grad()
        x.grad = None

    yield both if case["backward"] else lambda: layer(x)


KINDS = {
    "elementwise": elementwise,
    "dropout": dropout,
    "dropoutAdd": dropout_add,
    "rows": rows,
    "rope": rope,
    "embedding": embedding,
    "topk": topk,
    "matmul": matmul,
    "groupedMatmul": grouped_matmul,
    "linear": linear,
    "quantized": quantized,
    "conv": conv,
    **torch_attention.KINDS,
    "crossEntropy": cross_entropy,
    "linearCrossEntropy": linear_cross_entropy,
    "adamw": adamw,
    "small": small,
    "prefill": prefill,
    "decode": decode,
    "encoder": encoder,
    "train": train,
    "composedTrain": train,
    "recurrent": recurrent,
}


# ---- timing


def batch(call, count):
    """Seconds of `count` calls."""
    start = time.perf_counter()
    for _ in range(count):
        call()
    return time.perf_counter() - start


class Server:
    def __init__(self):
        self.id = self.call = None

    def change(self, case, seconds):
        self.id = self.call = None  # frees the inputs of the case before
        if case["kind"] not in KINDS:
            raise Unsupported("there is no such op")
        best = None
        for call in KINDS[case["kind"]](case):
            call()
            took = min(batch(call, 1), batch(call, 1)) if case["kind"] != "decode" else call()
            if best is None or took < best:
                best, self.call = took, call
        self.count = min(2000, max(1, round(seconds / max(best, 1e-6))))
        if case["kind"] != "decode":
            batch(self.call, self.count)
        self.id = case["id"]

    def time(self, case):
        if case["kind"] == "decode":
            return self.call() / case["steps"], case["steps"]
        return batch(self.call, self.count) / self.count, self.count

    def answer(self, question):
        case = question["case"]
        torch.set_num_threads(question["threads"])
        try:
            if case["id"] != self.id:
                self.change(case, question["milliseconds"] / 1e3)
            seconds, calls = self.time(case)
            return {"milliseconds": seconds * 1e3, "calls": calls}
        except Unsupported as error:
            return {"unsupported": str(error)}
        except Exception as error:  # whatever it is, the other cases are still timed
            self.id = self.call = None
            return {"error": str(error).split("\n")[0]}


def main():
    use_true_float32()
    put({"name": "PyTorch", "version": torch.__version__})
    server = Server()
    with torch.no_grad():
        for line in sys.stdin:
            put(server.answer(json.loads(line)))


main()
