"""Writes stacks.json and training.json: what PyTorch's transformer stacks give in float64, and 20 steps of training.

    python make.py      (PyTorch 2.13; the test makes weights and inputs by the same formula, ../recording.py's)
"""

import sys
from pathlib import Path

import torch
from torch import nn

here = Path(__file__).parent
sys.path.insert(0, str(here.parent))
from recording import fill, gradients, numbers, rounded, write  # noqa: E402

torch.set_default_dtype(torch.float64)
WIDTH, HEADS, INNER, LAYERS = 6, 2, 8, 2
BATCH, TARGETS, SOURCES = 2, 5, 7
TARGET_LENGTHS, SOURCE_LENGTHS = [5, 3], [7, 4]


def hidden(lengths: list[int], size: int) -> torch.Tensor:
    """PyTorch's sense: true where a key is padding."""
    return torch.arange(size)[None, :] >= torch.tensor(lengths)[:, None]


def causal(size: int) -> torch.Tensor:
    return torch.ones(size, size, dtype=torch.bool).triu(1)


def record(name: str, module: nn.Module, inputs: dict, masks: dict) -> dict:
    fill(module)
    leaves = {key: x.requires_grad_() for key, x in inputs.items()}
    output = module(*leaves.values(), **masks)
    (output * numbers(99, output.shape)).sum().backward()
    return {
        "name": name,
        "output": rounded(output),
        "inputs": {key: rounded(x.grad) for key, x in leaves.items()},
        "gradients": gradients(module),
    }


def options(pre: bool, activation: str) -> dict:
    return {
        "d_model": WIDTH,
        "nhead": HEADS,
        "dim_feedforward": INNER,
        "dropout": 0.0,
        "activation": activation,
        "norm_first": pre,
    }


def stacks() -> list[dict]:
    src, tgt = numbers(101, [SOURCES, BATCH, WIDTH]), numbers(102, [TARGETS, BATCH, WIDTH])
    memory = numbers(103, [SOURCES, BATCH, WIDTH])
    source_padding, target_padding = hidden(SOURCE_LENGTHS, SOURCES), hidden(TARGET_LENGTHS, TARGETS)
    # Target i does not see source i + 1.
    memory_mask = torch.eye(TARGETS, SOURCES + 1, dtype=torch.bool)[:, :SOURCES].roll(1, 1)
    found = []
    for pre, activation, padded, masked in [
        (False, "relu", True, False),
        (False, "gelu", False, True),
        (True, "relu", True, True),
        (True, "gelu", False, False),
    ]:
        norm = nn.LayerNorm(WIDTH) if pre else None
        layer = nn.TransformerEncoderLayer(**options(pre, activation))
        encoder = nn.TransformerEncoder(layer, LAYERS, norm, enable_nested_tensor=False)
        name = f"encoder {'pre' if pre else 'post'} {activation}"
        masks = {}
        if padded:
            masks["src_key_padding_mask"] = source_padding
        if masked:
            masks["mask"] = causal(SOURCES)
        found.append(record(name, encoder, {"src": src.clone()}, masks))
    for pre, activation, masks in [
        (False, "relu", {"tgt_mask": causal(TARGETS)}),
        (
            False,
            "gelu",
            {
                "tgt_mask": causal(TARGETS),
                "tgt_key_padding_mask": target_padding,
                "memory_key_padding_mask": source_padding,
            },
        ),
        (True, "relu", {"tgt_mask": causal(TARGETS), "memory_key_padding_mask": source_padding}),
        (True, "gelu", {"tgt_mask": causal(TARGETS), "memory_mask": memory_mask}),
    ]:
        norm = nn.LayerNorm(WIDTH) if pre else None
        decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(**options(pre, activation)), LAYERS, norm)
        name = f"decoder {'pre' if pre else 'post'} {activation}"
        found.append(record(name, decoder, {"tgt": tgt.clone(), "memory": memory.clone()}, masks))
    whole = nn.Transformer(num_encoder_layers=1, num_decoder_layers=1, **options(False, "relu"))
    masks = {
        "tgt_mask": causal(TARGETS),
        "src_key_padding_mask": source_padding,
        "memory_key_padding_mask": source_padding,
    }
    found.append(record("transformer", whole, {"src": src.clone(), "tgt": tgt.clone()}, masks))
    return found


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(**options(True, "gelu"))
        self.encoder = nn.TransformerEncoder(layer, LAYERS, nn.LayerNorm(WIDTH), enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(x))


def training(dtype: torch.dtype) -> dict:
    model = Classifier()
    fill(model)
    model.to(dtype)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    losses, first = [], {}
    for step in range(20):
        x = numbers(200 + step, [SOURCES, BATCH, WIDTH]).to(dtype)
        labels = torch.tensor([(step + 3 * k) % 4 for k in range(SOURCES * BATCH)])
        loss = nn.functional.cross_entropy(model(x).flatten(0, 1), labels)
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            first = {key: x.grad.norm().item() for key, x in model.named_parameters()}
        optimizer.step()
        losses.append(loss.item())
    return {"losses": losses, "firstGradientNorms": first}


write(here / "stacks.json", {"stacks": stacks()})
write(here / "training.json", {"float64": training(torch.float64), "float32": training(torch.float32)})
