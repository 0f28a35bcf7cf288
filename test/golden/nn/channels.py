"""Layers of channels: convolutions, norms of channels with their running statistics, pooling."""

from torch import nn

from recording import fill, numbers, rounded

X, DY = 101, 201


def described(module):
    return [[key, list(tensor.shape)] for key, tensor in module.state_dict().items()]


def step(module, shape, seed):
    """One forward and backward: the output, the gradients of the input and the parameters, and where maxima were."""
    module.zero_grad()
    x = numbers(X + seed, shape, 2).requires_grad_()
    found = module(x)
    y, indices = found if isinstance(found, tuple) else (found, None)
    (y * numbers(DY + seed, y.shape, 2)).sum().backward()
    return {
        "shape": list(y.shape),
        "y": rounded(y),
        "dx": rounded(x.grad),
        "gradients": [rounded(p.grad) for p in module.parameters()],
        **({} if indices is None else {"indices": indices.flatten().tolist()}),
    }


def recorded(name, arguments, options, shape, module):
    fill(module, 2)
    return {
        "name": name,
        "arguments": arguments,
        "options": options,
        "input": shape,
        "state": described(module),
        "step": step(module, shape, 0),
    }


def followed(name, arguments, options, shapes, module):
    """Several steps of training with the running statistics behind each, then an evaluation."""
    fill(module, 2)
    steps = []
    for i, shape in enumerate(shapes):
        result = step(module, shape, i)
        if module.running_mean is not None:
            result["runningMean"] = rounded(module.running_mean)
            result["runningVar"] = rounded(module.running_var)
            result["tracked"] = int(module.num_batches_tracked)
        steps.append(result)
    module.eval()
    return {
        "name": name,
        "arguments": arguments,
        "options": options,
        "inputs": shapes,
        "state": described(module),
        "steps": steps,
        "evaluation": step(module, shapes[0], 9),
    }


def layers():
    return [
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
            [1, 4, 5, 4],
            nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), groups=2),
        ),
        recorded(
            "Conv2d",
            [3, 6, 3],
            {"groups": 3, "padding": 2, "dilation": 2, "bias": False},
            [1, 3, 5, 6],
            nn.Conv2d(3, 6, 3, groups=3, padding=2, dilation=2, bias=False),
        ),
        recorded("Conv2d", [3, 4, 4], {"stride": 4}, [3, 4, 8], nn.Conv2d(3, 4, 4, stride=4)),
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
        recorded("Conv1d", [4, 8, 3], {"groups": 4, "padding": 1}, [2, 4, 6], nn.Conv1d(4, 8, 3, groups=4, padding=1)),
        recorded("Conv1d", [3, 2, 2], {"stride": 2}, [3, 7], nn.Conv1d(3, 2, 2, stride=2)),
        recorded("Conv2d", [2, 3, 3], {"padding": 1}, [2, 4, 5], nn.Conv2d(2, 3, 3, padding=1)),
        recorded(
            "ConvTranspose1d",
            [3, 4, 3],
            {"stride": 2, "dilation": 3, "padding": 1},
            [2, 3, 4],
            nn.ConvTranspose1d(3, 4, 3, stride=2, dilation=3, padding=1),
        ),
        recorded("ConvTranspose1d", [2, 3, 4], {"stride": 2}, [2, 5], nn.ConvTranspose1d(2, 3, 4, stride=2)),
        recorded(
            "ConvTranspose2d",
            [4, 6, [2, 3]],
            {"stride": [1, 2], "groups": 2},
            [1, 4, 3, 2],
            nn.ConvTranspose2d(4, 6, (2, 3), stride=(1, 2), groups=2),
        ),
        recorded(
            "ConvTranspose2d",
            [3, 3, 2],
            {"groups": 3, "bias": False},
            [3, 4, 3],
            nn.ConvTranspose2d(3, 3, 2, groups=3, bias=False),
        ),
        recorded("GroupNorm", [2, 6], {}, [2, 6, 3, 4], nn.GroupNorm(2, 6)),
        recorded(
            "GroupNorm",
            [3, 3],
            {"affine": False, "eps": 0.01},
            [2, 3, 7],
            nn.GroupNorm(3, 3, eps=0.01, affine=False),
        ),
    ]


def pools():
    return [
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
        recorded("AvgPool1d", [2], {}, [3, 7], nn.AvgPool1d(2)),
        recorded("AvgPool2d", [3], {"stride": 1, "padding": 1}, [2, 4, 3], nn.AvgPool2d(3, stride=1, padding=1)),
        recorded("MaxPool1d", [2], {}, [3, 7], nn.MaxPool1d(2)),
        recorded("MaxPool2d", [2], {"stride": 1}, [2, 4, 5], nn.MaxPool2d(2, stride=1)),
        recorded(
            "MaxPool1d",
            [3],
            {"stride": 2, "padding": 1, "returnIndices": True},
            [2, 3, 8],
            nn.MaxPool1d(3, stride=2, padding=1, return_indices=True),
        ),
        recorded(
            "MaxPool2d",
            [[2, 3]],
            {"dilation": [2, 1], "ceilMode": True, "returnIndices": True},
            [2, 2, 7, 8],
            nn.MaxPool2d((2, 3), dilation=(2, 1), ceil_mode=True, return_indices=True),
        ),
        recorded("MaxPool2d", [2], {"returnIndices": True}, [3, 5, 4], nn.MaxPool2d(2, return_indices=True)),
        recorded("AdaptiveAvgPool1d", [3], None, [2, 5], nn.AdaptiveAvgPool1d(3)),
        recorded("AdaptiveAvgPool2d", [2], None, [2, 5, 3], nn.AdaptiveAvgPool2d(2)),
        recorded("AdaptiveMaxPool1d", [4], {}, [2, 3, 7], nn.AdaptiveMaxPool1d(4)),
        recorded("AdaptiveMaxPool1d", [3], {"returnIndices": True}, [2, 8], nn.AdaptiveMaxPool1d(3, True)),
        recorded("AdaptiveMaxPool2d", [[3, None]], {}, [2, 2, 5, 4], nn.AdaptiveMaxPool2d((3, None))),
        recorded(
            "AdaptiveMaxPool2d", [2], {"returnIndices": True}, [2, 2, 5, 3], nn.AdaptiveMaxPool2d(2, return_indices=True)
        ),
        recorded("AdaptiveMaxPool2d", [[1, 3]], {}, [3, 4, 7], nn.AdaptiveMaxPool2d((1, 3))),
    ]


def norms():
    return [
        followed("BatchNorm1d", [5], {}, [[4, 5], [3, 5], [6, 5]], nn.BatchNorm1d(5)),
        followed("BatchNorm1d", [3], {"momentum": 0.4, "eps": 0.001}, [[2, 3, 6], [1, 3, 5]],
                 nn.BatchNorm1d(3, momentum=0.4, eps=0.001)),
        followed("BatchNorm2d", [3], {"momentum": None}, [[2, 3, 3, 2], [3, 3, 2, 2], [1, 3, 4, 5]],
                 nn.BatchNorm2d(3, momentum=None)),
        followed("BatchNorm2d", [2], {"affine": False}, [[2, 2, 3, 3], [2, 2, 3, 3]], nn.BatchNorm2d(2, affine=False)),
        followed("BatchNorm2d", [2], {"trackRunningStats": False}, [[2, 2, 3, 3]],
                 nn.BatchNorm2d(2, track_running_stats=False)),
    ]
