"""Twenty steps of training on fixed data: convolutions with norms of batches and of groups, post-norm stacks, an RNN."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from recording import fill, numbers

X, TARGET, Y = 101, 102, 201
OPTIONS = {"dim_feedforward": 8, "dropout": 0.0, "batch_first": True}


class Images(nn.Module):
    """A convolution with a norm behind it, and pooling."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 4, 3, padding=1, bias=False), norm
        self.pool, self.head = nn.MaxPool2d(2), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.pool(F.relu(self.norm(self.conv(x)))).mean((2, 3)))


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(6, 2, **OPTIONS)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(x).mean(1))


class Translator(nn.Module):
    """Post-norm encoder and decoder with relu, as nn.Transformer is by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Transformer(6, 2, num_encoder_layers=1, num_decoder_layers=1, **OPTIONS)
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        target = numbers(TARGET, [len(x), 4, 6], 2).to(x.dtype)
        causal = torch.ones(4, 4, dtype=torch.bool).triu(1)
        return self.head(self.model(x, target, tgt_mask=causal)).flatten(0, 1)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.RNN(6, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(x)[0][:, -1])


def run(name: str, model: nn.Module, shape: list[int], optimizer: Callable) -> dict:
    """Classes 0, 1, 2 in turn are learned."""
    fill(model, 1)
    made = optimizer(model.parameters())
    x, losses, norms = numbers(X, shape, 2), [], {}
    for step in range(20):
        logits = model(x)
        loss = F.cross_entropy(logits, torch.arange(len(logits)) % 3)
        made.zero_grad()
        loss.backward()
        if step == 0:
            norms = {key: p.grad.norm().item() for key, p in model.named_parameters()}
        made.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0], (name, losses)
    return {"name": name, "input": shape, "losses": losses, "firstGradientNorms": norms}


def runs() -> list[dict]:
    sgd = lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True)  # noqa: E731
    adam = lambda parameters: torch.optim.Adam(parameters, lr=0.02)  # noqa: E731
    return [
        run("convolution and BatchNorm2d", Images(nn.BatchNorm2d(4)), [6, 2, 6, 5], sgd),
        run("convolution and GroupNorm", Images(nn.GroupNorm(2, 4)), [6, 2, 6, 5], adam),
        run("post-norm encoder", Encoder(), [6, 5, 6], adam),
        run("encoder and decoder", Translator(), [3, 5, 6], adam),
        run("RNN", Recurrent(), [6, 5, 6], sgd),
    ]
