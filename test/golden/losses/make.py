"""Writes losses.json: what PyTorch gives for losses and their gradients, in float64.

    python test/golden/losses/make.py

Each case holds the arguments of one call, the result (tensors by their places in a list), the gradients of
sum(result * (1 + i / 4)) over its elements i, and the dtypes that PyTorch gives the result for 16-bit arguments.
Arguments of ctcLoss, nllLoss and klDiv that are logarithms are given as logits, of which the log-softmax is taken first
("logSoftmax"). The focal loss is written out as in torchvision, and the objectives as in their papers.
"""

import json
import math
import os

import torch
import torch.nn.functional as F

torch.manual_seed(20)
cases = []
tensors = []


def number(x):
    if math.isnan(x):
        return "NaN"
    if math.isinf(x):
        return "Infinity" if x > 0 else "-Infinity"
    return float(f"{x:.11g}") if isinstance(x, float) else x


def encoded(t):
    """The place of a tensor in the list of all: most serve several cases."""
    one = {
        "shape": list(t.shape),
        "dtype": "int64" if t.dtype == torch.long else "bool" if t.dtype == torch.bool else "float64",
        "data": [number(float(v) if t.dtype == torch.float64 else int(v)) for v in t.detach().flatten()],
    }
    if one not in tensors:
        tensors.append(one)
    return {"tensor": tensors.index(one)}


def case(op, label, f, args, options=None, grads=(0,), log_softmax=False):
    """`f` takes the tensors of `args`, those of `options` come by name; `args` may hold plain lists, too."""
    options = options or {}

    def run(dtype, record):
        def cast(t, wanted):
            if not torch.is_tensor(t) or t.dtype != torch.float64:
                return t
            return t.detach().to(dtype).requires_grad_(record and wanted)

        xs = [cast(t, i in grads) for i, t in enumerate(args)]
        more = {k: cast(t, False) for k, t in options.items()}
        first = xs[0].log_softmax(-1) if log_softmax else xs[0]
        return xs, f(first, *xs[1:], **more)

    xs, out = run(torch.float64, True)
    weights = 1 + torch.arange(out.numel(), dtype=torch.float64).reshape(out.shape) / 4
    (out * weights).sum().backward()
    dtypes = {}
    for name in ("float16", "bfloat16"):
        try:
            dtypes[name] = str(run(getattr(torch, name), False)[1].dtype).removeprefix("torch.")
        except (NotImplementedError, RuntimeError):
            pass
    camel = lambda k: k.split("_")[0] + "".join(part.title() for part in k.split("_")[1:])
    cases.append(
        {
            "op": op,
            "label": label,
            "logSoftmax": log_softmax,
            "args": [encoded(t) if torch.is_tensor(t) else t for t in args],
            "options": {camel(k): encoded(v) if torch.is_tensor(v) else v for k, v in options.items()},
            "result": encoded(out),
            "grads": {str(i): encoded(xs[i].grad) for i in grads},
            "dtypes": dtypes,
        }
    )


def short(x):
    """Few digits, all of which are written down."""
    return x.round(decimals=4)


def normal(*shape):
    return short(torch.randn(*shape, dtype=torch.float64))


def uniform(*shape):
    return short(torch.rand(*shape, dtype=torch.float64))


def reductions(op, label, f, args, options=None, **more):
    for reduction in ("none", "mean", "sum"):
        case(op, f"{label} {reduction}", f, args, {**(options or {}), "reduction": reduction}, **more)


# Classes
logits, target = normal(5, 4), torch.tensor([0, 3, -100, 2, 2])
weight = uniform(4) + 0.2
soft = short(normal(5, 4).softmax(-1))
for name, options in {
    "plain": {},
    "weight": {"weight": weight},
    "smoothing": {"label_smoothing": 0.2},
    "both": {"weight": weight, "label_smoothing": 0.2},
    "ignore a class": {"weight": weight, "label_smoothing": 0.1, "ignore_index": 2},
}.items():
    those = torch.tensor([0, 3, 1, 2, 2]) if "ignore_index" in options else target
    reductions("crossEntropy", name, F.cross_entropy, [logits, those], options)
    case("crossEntropy", f"probabilities {name}", F.cross_entropy, [logits, soft], {
        k: v for k, v in options.items() if k != "ignore_index"
    }, grads=(0, 1))
reductions("crossEntropy", "probabilities", F.cross_entropy, [logits, soft], {"weight": weight}, grads=(0, 1))
reductions("crossEntropy", "images", F.cross_entropy, [normal(2, 3, 2, 2), torch.randint(0, 3, (2, 2, 2))], {
    "weight": weight[:3], "label_smoothing": 0.1
})
reductions("crossEntropy", "one row", F.cross_entropy, [normal(4), torch.tensor(2)], {"weight": weight})
case("crossEntropy", "none counts", F.cross_entropy, [normal(2, 4), torch.tensor([-100, -100])], {"weight": weight})
for name, options in {"plain": {}, "weight": {"weight": weight}, "ignore": {"weight": weight, "ignore_index": 2}}.items():
    those = torch.tensor([0, 3, 1, 2, 2]) if "ignore_index" in options else target
    reductions("nllLoss", name, F.nll_loss, [logits, those], options, log_softmax=True)

# Elements
x, y = 2 * normal(3, 4), normal(3, 4)
both = {"grads": (0, 1)}
reductions("mseLoss", "", F.mse_loss, [x, y], **both)
reductions("l1Loss", "", F.l1_loss, [x, y], **both)
for beta in (1.0, 0.5, 0.0):
    reductions("smoothL1Loss", f"beta {beta}", F.smooth_l1_loss, [x, y], {"beta": beta}, **both)
for delta in (1.0, 0.3, 2.5):
    reductions("huberLoss", f"delta {delta}", F.huber_loss, [x, y], {"delta": delta}, **both)
probabilities = uniform(3, 4)
bce = F.binary_cross_entropy_with_logits
for name, options in {
    "plain": {},
    "posWeight": {"pos_weight": weight},
    "weight": {"weight": weight},
    "both": {"weight": uniform(3, 1), "pos_weight": 3 * weight},
}.items():
    reductions("binaryCrossEntropyWithLogits", name, bce, [4 * x, probabilities], options, **both)
log_target = short(normal(3, 4).log_softmax(-1))
reductions("klDiv", "", F.kl_div, [x, probabilities], log_softmax=True, **both)
reductions("klDiv", "logTarget", F.kl_div, [x, log_target], {"log_target": True}, log_softmax=True, **both)
case("klDiv", "batchmean", F.kl_div, [x, probabilities], {"reduction": "batchmean"}, log_softmax=True, **both)


def sigmoid_focal_loss(x, t, alpha=0.25, gamma=2.0, reduction="none"):
    p = x.sigmoid()
    p_t = p * t + (1 - p) * (1 - t)
    loss = bce(x, t, reduction="none") * (1 - p_t) ** gamma
    if alpha >= 0:
        loss = (alpha * t + (1 - alpha) * (1 - t)) * loss
    return loss.mean() if reduction == "mean" else loss.sum() if reduction == "sum" else loss


hard = (probabilities > 0.5).double()
for name, t, options in (
    ("hard", hard, {}),
    ("soft", probabilities, {"alpha": 0.6, "gamma": 1.5}),
    ("unbalanced", hard, {"alpha": -1, "gamma": 0.5}),
    ("gamma 0", hard, {"gamma": 0}),
):
    reductions("sigmoidFocalLoss", name, sigmoid_focal_loss, [x, t], options)

# Embeddings
a, b, c = normal(4, 6), normal(4, 6), normal(4, 6)
pairs = torch.tensor([1, -1, 1, -1])
reductions("cosineEmbeddingLoss", "", F.cosine_embedding_loss, [a, b, pairs], **both)
reductions("cosineEmbeddingLoss", "margin", F.cosine_embedding_loss, [a, a + 0.5 * b, pairs], {"margin": 0.3}, **both)
reductions("cosineEmbeddingLoss", "one pair", F.cosine_embedding_loss, [a[0], b[0], torch.tensor(-1)], {"margin": -0.9}, **both)
all_three = {"grads": (0, 1, 2)}
for name, options in {
    "plain": {},
    "p 1": {"p": 1.0, "margin": 5.0},
    "p 3": {"p": 3.0, "margin": 2.0, "eps": 1e-3},
    "swap": {"swap": True, "margin": 3.0},
}.items():
    reductions("tripletMarginLoss", name, F.triplet_margin_loss, [a, b, c], options, **all_three)
reductions("tripletMarginLoss", "rank 3", F.triplet_margin_loss, [normal(2, 2, 3), normal(2, 2, 3), normal(2, 2, 3)], **all_three)

# Connectionist temporal classification
inputs = normal(8, 4, 5)
labels = torch.tensor([[1, 2, 2, 4], [3, 3, 3, 0], [1, 0, 0, 0], [4, 1, 2, 3]])
ctc = lambda x, t, i, u, **options: F.ctc_loss(x, t, torch.tensor(i), torch.tensor(u), **options)
reductions("ctcLoss", "", ctc, [inputs, labels, [8, 7, 8, 5], [4, 3, 1, 4]], log_softmax=True)
reductions("ctcLoss", "empty target", ctc, [inputs, labels, [8, 7, 1, 5], [0, 3, 0, 2]], log_softmax=True)
reductions("ctcLoss", "too short", ctc, [inputs, labels, [8, 4, 8, 3], [4, 3, 1, 4]], {"zero_infinity": True}, log_softmax=True)
case("ctcLoss", "too short, infinite", ctc, [inputs, labels, [8, 4, 8, 3], [4, 3, 1, 4]], {"reduction": "none"}, log_softmax=True)
case("ctcLoss", "blank 2", ctc, [inputs, torch.tensor([1, 3, 0, 0, 4]), [8, 7, 6, 5], [2, 2, 0, 1]], {"blank": 2}, log_softmax=True)
reductions("ctcLoss", "one sequence", ctc, [inputs[:, 0], labels[0], 7, 4], log_softmax=True)
case("ctcLoss", "long", ctc, [normal(40, 2, 3), torch.randint(1, 3, (2, 12)), [40, 33], [12, 9]], {"reduction": "sum"}, log_softmax=True)


# Objectives
def clip_loss(images, texts, scale, reduction="mean"):
    images, texts = F.normalize(images, dim=-1), F.normalize(texts, dim=-1)
    logits = scale * images @ texts.T
    own = torch.arange(len(images))
    one = F.cross_entropy(logits, own, reduction="none")
    other = F.cross_entropy(logits.T, own, reduction="none")
    loss = (one + other) / 2
    return loss.mean() if reduction == "mean" else loss.sum() if reduction == "sum" else loss


reductions("clipLoss", "", clip_loss, [a, b, torch.tensor(3.5, dtype=torch.float64)], **all_three)


def info_nce(query, positive, negatives, temperature=0.1, reduction="mean"):
    q, p = F.normalize(query, dim=-1), F.normalize(positive, dim=-1)
    if negatives is None:
        return F.cross_entropy(q @ p.T / temperature, torch.arange(len(q)), reduction=reduction)
    n = F.normalize(negatives, dim=-1)
    apart = q @ n.T if n.ndim == 2 else torch.einsum("nd,nmd->nm", q, n)
    logits = torch.cat([(q * p).sum(-1, keepdim=True), apart], 1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long), reduction=reduction)


reductions("infoNCE", "in the batch", info_nce, [a, b, None], **both)
reductions("infoNCE", "shared", info_nce, [a, b, normal(3, 6)], {"temperature": 0.5}, **all_three)
reductions("infoNCE", "own", info_nce, [a, b, normal(4, 2, 6)], {"temperature": 0.5}, **all_three)


def distillation(student, teacher, temperature=2.0, labels=None, alpha=0.5, reduction="mean"):
    kl = F.kl_div((student / temperature).log_softmax(-1), (teacher / temperature).softmax(-1), reduction="none")
    loss = kl.sum(-1) * temperature**2
    count = torch.ones(loss.shape, dtype=torch.bool)
    if labels is not None:
        hard = F.cross_entropy(student.flatten(0, -2), labels.flatten(), reduction="none").view(labels.shape)
        count = labels != -100
        loss = torch.where(count, alpha * loss + (1 - alpha) * hard, 0)
    return loss.sum() / count.sum() if reduction == "mean" else loss.sum() if reduction == "sum" else loss


tokens = torch.tensor([[1, -100, 0], [3, 2, -100]])
student, teacher = normal(2, 3, 4), normal(2, 3, 4)
reductions("distillationLoss", "teacher alone", distillation, [student, teacher], {"temperature": 3.0})
reductions("distillationLoss", "labels", distillation, [student, teacher], {"labels": tokens, "alpha": 0.7})


def z_loss(logits, weight=1e-4, target=None, reduction="mean"):
    loss = weight * logits.logsumexp(-1) ** 2
    count = torch.ones(loss.shape, dtype=torch.bool) if target is None else target != -100
    loss = torch.where(count, loss, 0)
    return loss.sum() / count.sum() if reduction == "mean" else loss.sum() if reduction == "sum" else loss


reductions("zLoss", "", z_loss, [student], {"weight": 0.01})
reductions("zLoss", "target", z_loss, [student], {"weight": 0.1, "target": tokens})

path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "losses.json")
with open(path, "w") as file:
    lines = lambda rows: "[\n" + ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows) + "\n]"
    file.write(f'{{"torch":{json.dumps(torch.__version__)},\n"tensors":{lines(tensors)},\n"cases":{lines(cases)}}}\n')
print(len(cases), "cases,", os.path.getsize(path), "bytes")
