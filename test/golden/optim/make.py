"""What PyTorch gives for schedules of the learning rate and for trajectories of optimizers, in float64.

Lion and Sophia, which PyTorch does not have, are written here on its tensors from their papers.

    python make.py    # writes schedules.json and trajectories.json beside itself; PyTorch 2.13, transformers 5.18

Options carry the library's names; here they are turned into PyTorch's.
"""

import json
import math
import re
from pathlib import Path

import torch
import transformers
from torch.optim import _muon, lr_scheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

torch.set_default_dtype(torch.float64)
HERE = Path(__file__).parent
PYTORCH_NAMES = {"tMax": "T_max", "t0": "T_0", "tMult": "T_mult"}


def snake(options):
    return {PYTORCH_NAMES.get(k) or re.sub(r"([A-Z])", lambda m: "_" + m[1].lower(), k): v for k, v in options.items()}


def write(name, value):
    text = json.dumps({"torch": torch.__version__, "transformers": transformers.__version__, **value}, indent=None)
    (HERE / name).write_text(text.replace("}, {", "},\n{").replace(": [{", ":\n[{") + "\n")


# ---- schedules: rates of two groups at steps 0, 1, ...

BASE = [0.5, 0.02]
STEPS = 34
SINGLE = [
    ("ConstantLR", {}),
    ("ConstantLR", {"factor": 0.25, "totalIters": 7}),
    ("LinearLR", {}),
    ("LinearLR", {"startFactor": 1.0, "endFactor": 0.0, "totalIters": 9}),
    ("LinearLR", {"startFactor": 0.01, "endFactor": 0.7, "totalIters": 11}),
    ("StepLR", {"stepSize": 4}),
    ("StepLR", {"stepSize": 7, "gamma": 0.5}),
    ("MultiStepLR", {"milestones": [12, 3, 12, 20]}),
    ("MultiStepLR", {"milestones": [1, 2], "gamma": 0.3}),
    ("ExponentialLR", {"gamma": 0.9}),
    ("PolynomialLR", {}),
    ("PolynomialLR", {"totalIters": 13, "power": 2.5}),
    ("CosineAnnealingLR", {"tMax": 10}),
    ("CosineAnnealingLR", {"tMax": 7, "etaMin": 0.003}),
    ("CosineAnnealingWarmRestarts", {"t0": 5}),
    ("CosineAnnealingWarmRestarts", {"t0": 3, "tMult": 2, "etaMin": 0.001}),
]
SEQUENTIAL = [
    ([("ConstantLR", {"factor": 0.1, "totalIters": 20}), ("ExponentialLR", {"gamma": 0.9})], [20]),
    ([("LinearLR", {"startFactor": 0.01, "totalIters": 5}), ("CosineAnnealingLR", {"tMax": 12, "etaMin": 0.001})], [5]),
    (
        [
            ("LinearLR", {"startFactor": 0.1, "totalIters": 4}),
            ("StepLR", {"stepSize": 3, "gamma": 0.5}),
            ("CosineAnnealingWarmRestarts", {"t0": 4, "tMult": 2}),
        ],
        [4, 15],
    ),
]
CHAINED = [
    [("ConstantLR", {"factor": 0.1, "totalIters": 20}), ("ExponentialLR", {"gamma": 0.9})],
    [("LinearLR", {"startFactor": 0.2, "totalIters": 6}), ("CosineAnnealingLR", {"tMax": 50})],
    [("MultiStepLR", {"milestones": [5, 9], "gamma": 0.5}), ("PolynomialLR", {"totalIters": 40, "power": 2.0})],
]


def optimizer():
    return torch.optim.SGD([{"params": [torch.zeros(1, requires_grad=True)], "lr": lr} for lr in BASE], lr=1.0)


def rates(made, schedule):
    rows = []
    for _ in range(STEPS):
        rows.append([group["lr"] for group in made.param_groups])
        made.step()
        schedule.step()
    return rows


def single(made, name, options):
    return getattr(lr_scheduler, name)(made, **snake(options))


def schedules():
    out = {"base": BASE, "single": [], "sequential": [], "chained": [], "factors": []}
    for name, options in SINGLE:
        made = optimizer()
        out["single"].append({"name": name, "options": options, "rates": rates(made, single(made, name, options))})
    for members, milestones in SEQUENTIAL:
        made = optimizer()
        parts = [single(made, *member) for member in members]
        schedule = lr_scheduler.SequentialLR(made, parts, milestones)
        out["sequential"].append({"members": members, "milestones": milestones, "rates": rates(made, schedule)})
    for members in CHAINED:
        made = optimizer()
        schedule = lr_scheduler.ChainedScheduler([single(made, *member) for member in members])
        out["chained"].append({"members": members, "rates": rates(made, schedule)})
    return out


def factors():
    """Of transformers' schedules, whose warm-up begins at 0: with n steps taken, their factor is that of step n - 1."""
    made = optimizer()
    warmup, total = 5, 26
    wsd = {"num_warmup_steps": warmup, "num_stable_steps": 10, "num_decay_steps": 11}
    of = {
        "cosine": transformers.get_cosine_schedule_with_warmup(made, warmup, total),
        "linear": transformers.get_linear_schedule_with_warmup(made, warmup, total),
        "inverseSqrt": transformers.get_inverse_sqrt_schedule(made, warmup),
        **{
            f"wsd {kind}": transformers.get_wsd_schedule(made, **wsd, decay_type=kind, min_lr_ratio=0.1)
            for kind in ("linear", "cosine", "1-sqrt")
        },
    }
    table = {name: [s.lr_lambdas[0](n) for n in range(total + 1)] for name, s in of.items()}
    table["noam"] = [64**-0.5 * min(n**-0.5, n * warmup**-1.5) for n in range(1, total + 1)]
    return table


# ---- trajectories: parameters after some steps on sum(p * noise(step)) + sum(p^4) / 4

KEPT = [1, 7, 20]
SHAPES, MATRICES = [[3, 5], [7], [2, 3, 2], []], [[3, 7], [9, 4]]
CASES = [
    ("SGD", {}),
    ("SGD", {"lr": 0.05, "momentum": 0.9}),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
    ("SGD", {"lr": 0.05, "momentum": 0.8, "dampening": 0.3, "weightDecay": 0.1}),
    ("SGD", {"lr": 0.01, "momentum": 0.5, "maximize": True}),
    ("Adam", {}),
    ("Adam", {"lr": 0.05, "amsgrad": True, "betas": [0.7, 0.9]}),
    ("Adam", {"lr": 0.05, "weightDecay": 0.2, "eps": 1e-4}),
    ("Adam", {"maximize": True, "amsgrad": True, "weightDecay": 0.1}),
    ("AdamW", {}),
    ("AdamW", {"lr": 0.05, "weightDecay": 0.3, "betas": [0.8, 0.95]}),
    ("AdamW", {"lr": 0.05, "amsgrad": True, "maximize": True}),
    ("NAdam", {}),
    ("NAdam", {"lr": 0.05, "weightDecay": 0.2, "momentumDecay": 0.05}),
    ("NAdam", {"lr": 0.05, "weightDecay": 0.2, "decoupledWeightDecay": True, "maximize": True}),
    ("RAdam", {"lr": 0.05}),
    ("RAdam", {"lr": 0.05, "weightDecay": 0.2, "betas": [0.8, 0.95]}),
    ("RAdam", {"lr": 0.05, "weightDecay": 0.2, "decoupledWeightDecay": True}),
    ("RAdam", {"maximize": True}),
    ("RMSprop", {}),
    ("RMSprop", {"centered": True}),
    ("RMSprop", {"lr": 0.005, "momentum": 0.9, "alpha": 0.9}),
    ("RMSprop", {"centered": True, "momentum": 0.5, "weightDecay": 0.1, "maximize": True, "lr": 0.002}),
    ("Adagrad", {}),
    ("Adagrad", {"lr": 0.1, "lrDecay": 0.1, "weightDecay": 0.1, "initialAccumulatorValue": 0.5}),
    ("Adagrad", {"maximize": True, "eps": 1e-3}),
    ("Adafactor", {}),
    ("Adafactor", {"lr": 0.1, "weightDecay": 0.1, "beta2Decay": -0.5, "d": 1.5}),
    ("Adafactor", {"eps": [1e-3, 0.1], "maximize": True}),
    ("Lion", {}),
    ("Lion", {"lr": 0.05, "betas": [0.8, 0.95], "weightDecay": 0.3}),
    ("Lion", {"lr": 0.01, "maximize": True, "weightDecay": 0.1}),
    ("Sophia", {}),
    ("Sophia", {"lr": 0.05, "betas": [0.8, 0.6], "gamma": 0.5, "eps": 0.05, "weightDecay": 0.3}),
    ("Sophia", {"lr": 0.02, "gamma": 0.01, "eps": 1e-3, "weightDecay": 0}),
    ("Muon", {}),
    ("Muon", {"lr": 0.05, "weightDecay": 0.3, "momentum": 0.8, "nesterov": False}),
    ("Muon", {"lr": 0.02, "adjustLrFn": "match_rms_adamw", "nsSteps": 3, "nsCoefficients": [2.0, -1.5, 0.5]}),
]


def parameter(k, shape):
    count = math.prod(shape)
    return torch.tensor([(i * 6271 + k * 331) % 100 / 50 - 1 for i in range(count)]).reshape(shape).requires_grad_()


def noise(k, step, shape):
    count = math.prod(shape)
    values = [(i * 7919 + step * 104729 + k * 1299709) % 1000 / 500 - 1 for i in range(count)]
    return torch.tensor(values).reshape(shape)


class Lion(torch.optim.Optimizer):
    """Chen et al. 2023, algorithm 2: interpolate, step by the sign with decoupled decay, then move the average."""

    def __init__(self, params, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0, maximize=False):
        super().__init__(params, {"lr": lr})
        self.lr, self.betas, self.decay, self.sign = lr, betas, weight_decay, -1 if maximize else 1

    @torch.no_grad()
    def step(self):
        beta1, beta2 = self.betas
        for p in self.param_groups[0]["params"]:
            g, m = self.sign * p.grad, self.state[p].get("m", torch.zeros_like(p))
            c = beta1 * m + (1 - beta1) * g
            p.copy_(p - self.lr * (torch.sign(c) + self.decay * p))
            self.state[p]["m"] = beta2 * m + (1 - beta2) * g


class Sophia(torch.optim.Optimizer):
    """Liu et al. 2023, algorithm 3; the estimates of the Hessian come from outside."""

    def __init__(self, params, lr=1e-4, betas=(0.965, 0.99), gamma=0.05, eps=1e-12, weight_decay=0.1):
        super().__init__(params, {"lr": lr})
        self.lr, self.betas, self.gamma, self.eps, self.decay = lr, betas, gamma, eps, weight_decay

    @torch.no_grad()
    def update_hessian(self, estimates):
        beta2 = self.betas[1]
        for p, estimate in zip(self.param_groups[0]["params"], estimates):
            h = self.state[p].get("h", torch.zeros_like(p))
            self.state[p]["h"] = beta2 * h + (1 - beta2) * estimate

    @torch.no_grad()
    def step(self):
        beta1 = self.betas[0]
        for p in self.param_groups[0]["params"]:
            m = beta1 * self.state[p].get("m", torch.zeros_like(p)) + (1 - beta1) * p.grad
            p.mul_(1 - self.lr * self.decay)
            p.sub_(self.lr * torch.clamp(m / torch.clamp(self.gamma * self.state[p]["h"], min=self.eps), -1, 1))
            self.state[p]["m"] = m


OWN = {"Lion": Lion, "Sophia": Sophia}
ESTIMATED = range(1, 21, 5)


def estimates_of(loss, params, step):
    """Of the Hessian's diagonal, by u * (H u) with signs u that follow from the step, and noise, so that some are negative."""
    signs = [torch.where(noise(k + 9, step, p.shape) < 0, -1.0, 1.0) for k, p in enumerate(params)]
    gradients = torch.autograd.grad(loss, params, create_graph=True)
    products = torch.autograd.grad(gradients, params, grad_outputs=signs)
    return [u * hu + noise(k + 5, step, u.shape) for k, (u, hu) in enumerate(zip(signs, products))]


def in_float64(rounds):
    """Muon iterates in bfloat16, which no other implementation follows to 1e-5: here its rounding is left out."""

    class Exact(torch.Tensor):
        def bfloat16(self):
            return self.clone()

    return lambda update, *args: rounds(update.as_subclass(Exact), *args).as_subclass(torch.Tensor)


def trajectory(name, options):
    """The parameters after the steps of KEPT, and the estimates of the Hessian that went in, by step."""
    params = [parameter(k, shape) for k, shape in enumerate(MATRICES if name == "Muon" else SHAPES)]
    optimizer = (OWN.get(name) or getattr(torch.optim, name))(params, **snake(options))
    kept, estimates = [], {}
    for step in range(1, max(KEPT) + 1):
        optimizer.zero_grad()
        loss = sum((p * noise(k, step, p.shape)).sum() + p.pow(4).sum() / 4 for k, p in enumerate(params))
        if name == "Sophia" and step in ESTIMATED:
            # Rounded before they are taken: what is recorded is what went in.
            made = [(e.detach() * 2**20).round() / 2**20 for e in estimates_of(loss, params, step)]
            estimates[step] = [e.flatten().tolist() for e in made]
            optimizer.update_hessian(made)
        loss.backward()
        optimizer.step()
        if step in KEPT:
            kept.append([round(x, 13) for p in params for x in p.detach().flatten().tolist()])
    return {"kept": kept, **({"estimates": estimates} if estimates else {})}


def averages():
    """Of weights that move by noise: the first update copies, as PyTorch has it."""
    model = torch.nn.Linear(3, 2)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    kept = []
    for step in range(1, 13):
        with torch.no_grad():
            for k, p in enumerate(model.parameters()):
                p.copy_(noise(k, step, p.shape))
        average.update_parameters(model)
        kept.append([x for p in average.module.parameters() for x in p.detach().flatten().tolist()])
    return {"decay": 0.9, "shapes": [list(p.shape) for p in model.parameters()], "kept": kept}


write("schedules.json", {**schedules(), "factors": factors()})
rounded = [trajectory(name, options)["kept"][-1] for name, options in CASES if name == "Muon"]
_muon._zeropower_via_newtonschulz = in_float64(_muon._zeropower_via_newtonschulz)
runs = [{"name": name, "options": options, **trajectory(name, options)} for name, options in CASES]
write(
    "trajectories.json",
    {"steps": KEPT, "shapes": SHAPES, "matrices": MATRICES, "runs": runs, "muonInBfloat16": rounded, "average": averages()},
)
