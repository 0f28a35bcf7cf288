"""What the kinds of cases in torch_cpu.py and torch_attention.py share."""

import torch


class Unsupported(Exception):
    """A case that PyTorch does not have; the message says why."""


def dtype_of(case):
    return getattr(torch, case["dtype"])


def normal(case, *shape):
    return torch.randn(shape, dtype=dtype_of(case))


def turns(case, make, run):
    """`run` on sets of inputs that take turns."""
    sets = [make() for _ in range(case.get("sets", 1))]
    turn = [0]

    def call():
        turn[0] += 1
        return run(*sets[turn[0] % len(sets)])

    return call
