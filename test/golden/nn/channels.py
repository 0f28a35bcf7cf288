"""Writes channels.json: what PyTorch's layers of channels give, in float64, for inputs and weights that channels.test.ts
makes by the same formula. Run with PyTorch installed: python channels.py"""

import json
import pathlib

import torch
from torch import nn

torch.set_default_dtype(torch.float64)


def numbers(shape, seed):
    """The same numbers, exact in float32, as `numbers` of channels.test.ts."""
    count = 1
    for n in shape:
        count *= n
    values = [((i * 37 + seed * 101 + (i * i) % 59) % 127 - 63) / 32 for i in range(count)]
    return torch.tensor(values).reshape(shape)


def flat(tensor):
    return [float(f"{v:.12g}") for v in tensor.detach().reshape(-1).tolist()]


def described(tensors):
    return [[key, list(tensor.shape)] for key, tensor in tensors]


def fill(module):
    for i, parameter in enumerate(module.parameters()):
        parameter.data.copy_(numbers(parameter.shape, i + 1))


def step(module, shape, seed):
    """One forward and backward: the output, the gradients of the input and the parameters."""
    module.zero_grad()
    x = numbers(shape, seed).requires_grad_()
    y = module(x)
    (y * numbers(y.shape, seed + 7)).sum().backward()
    return {
        "shape": list(y.shape),
        "y": flat(y),
        "dx": flat(x.grad),
        "gradients": [flat(p.grad) for p in module.parameters()],
    }


def recorded(name, arguments, options, shape, module):
    fill(module)
    return {
        "name": name,
        "arguments": arguments,
        "options": options,
        "input": shape,
        "state": described(module.state_dict().items()),
        "step": step(module, shape, 3),
    }


def followed(name, arguments, options, shapes, module):
    """Several steps of training with the running statistics behind each, then an evaluation."""
    fill(module)
    steps = []
    for i, shape in enumerate(shapes):
        result = step(module, shape, 3 + i)
        if module.running_mean is not None:
            result["runningMean"] = flat(module.running_mean)
            result["runningVar"] = flat(module.running_var)
            result["tracked"] = int(module.num_batches_tracked)
        steps.append(result)
    module.eval()
    return {
        "name": name,
        "arguments": arguments,
        "options": options,
        "inputs": shapes,
        "state": described(module.state_dict().items()),
        "steps": steps,
        "evaluation": step(module, shapes[0], 19),
    }


layers = [
    recorded("Conv1d", [3, 4, 3], {"stride": 2, "padding": 1}, [2, 3, 9], nn.Conv1d(3, 4, 3, stride=2, padding=1)),
    recorded(
        "Conv1d",
        [4, 4, 4],
        {"padding": "same", "dilation": 2, "groups": 2},
        [1, 4, 11],
        nn.Conv1d(4, 4, 4, padding="same", dilation=2, groups=2),
    ),
    recorded(
        "Conv2d",
        [4, 6, [3, 2]],
        {"stride": [2, 1], "padding": [1, 0], "groups": 2},
        [2, 4, 6, 5],
        nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), groups=2),
    ),
    recorded(
        "Conv2d",
        [3, 6, 3],
        {"groups": 3, "padding": 2, "dilation": 2, "bias": False},
        [1, 3, 5, 6],
        nn.Conv2d(3, 6, 3, groups=3, padding=2, dilation=2, bias=False),
    ),
    recorded("Conv2d", [3, 8, 4], {"stride": 4}, [3, 8, 12], nn.Conv2d(3, 8, 4, stride=4)),
    recorded(
        "ConvTranspose1d",
        [4, 6, 3],
        {"stride": 3, "padding": 1, "outputPadding": 2, "groups": 2},
        [2, 4, 5],
        nn.ConvTranspose1d(4, 6, 3, stride=3, padding=1, output_padding=2, groups=2),
    ),
    recorded(
        "ConvTranspose2d",
        [3, 2, [3, 4]],
        {"stride": 2, "padding": [0, 1], "dilation": [2, 1], "outputPadding": [1, 0]},
        [1, 3, 4, 3],
        nn.ConvTranspose2d(3, 2, (3, 4), stride=2, padding=(0, 1), dilation=(2, 1), output_padding=(1, 0)),
    ),
    recorded("GroupNorm", [2, 6], {}, [2, 6, 3, 4], nn.GroupNorm(2, 6)),
    recorded("GroupNorm", [3, 3], {"affine": False, "eps": 0.01}, [2, 3, 7], nn.GroupNorm(3, 3, eps=0.01, affine=False)),
    recorded(
        "AvgPool1d", [3], {"stride": 2, "padding": 1, "ceilMode": True}, [2, 3, 8],
        nn.AvgPool1d(3, stride=2, padding=1, ceil_mode=True),
    ),
    recorded(
        "AvgPool2d",
        [[3, 2]],
        {"stride": 2, "padding": [1, 0], "ceilMode": True, "countIncludePad": False},
        [1, 2, 6, 7],
        nn.AvgPool2d((3, 2), stride=2, padding=(1, 0), ceil_mode=True, count_include_pad=False),
    ),
    recorded(
        "MaxPool1d", [3], {"stride": 2, "padding": 1, "dilation": 2}, [2, 3, 9],
        nn.MaxPool1d(3, stride=2, padding=1, dilation=2),
    ),
    recorded("MaxPool2d", [3], {"stride": 2, "padding": 1, "ceilMode": True}, [2, 2, 7, 6],
             nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True)),
    recorded("AdaptiveAvgPool1d", [4], None, [2, 3, 7], nn.AdaptiveAvgPool1d(4)),
    recorded("AdaptiveAvgPool2d", [[3, None]], None, [2, 2, 5, 4], nn.AdaptiveAvgPool2d((3, None))),
]
norms = [
    followed("BatchNorm1d", [5], {}, [[4, 5], [3, 5], [6, 5]], nn.BatchNorm1d(5)),
    followed("BatchNorm1d", [3], {"momentum": 0.4, "eps": 0.001}, [[2, 3, 6], [1, 3, 5]],
             nn.BatchNorm1d(3, momentum=0.4, eps=0.001)),
    followed("BatchNorm2d", [4], {"momentum": None}, [[2, 4, 3, 5], [3, 4, 2, 2], [1, 4, 7, 6]],
             nn.BatchNorm2d(4, momentum=None)),
    followed("BatchNorm2d", [2], {"affine": False}, [[2, 2, 3, 3], [2, 2, 3, 3]], nn.BatchNorm2d(2, affine=False)),
    followed("BatchNorm2d", [2], {"trackRunningStats": False}, [[2, 2, 3, 3]],
             nn.BatchNorm2d(2, track_running_stats=False)),
]
path = pathlib.Path(__file__).with_name("channels.json")
path.write_text(json.dumps({"torch": torch.__version__, "layers": layers, "norms": norms}, separators=(",", ":")) + "\n")
