"""Writes expected.safetensors and golden.json: what transformers' GPT-2 computes, in float32 on the CPU with eager
attention.

    python make.py            (PyTorch 2.13, transformers 5.18)
    python make.py check      only says how far that is from what the files hold

`config.json`, `model.safetensors` and `inputs.safetensors` are given: they are those of gpt2 in a corpus of small models
that were made with the same versions. Their weights were drawn once and no seed is known: normal, those of matrices with
a deviation of 1/sqrt(rows), of biases 0.1, of embeddings 0.5, of norms 0.1 around 1. Everything else follows from them.
"""

import copy
import json
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file

here = Path(__file__).parent
inputs = load_file(here / "inputs.safetensors")
ids, labels = inputs["input_ids"], inputs["train.labels"]
model = transformers.GPT2LMHeadModel.from_pretrained(here, dtype=torch.float32, attn_implementation="eager").eval()
# What ends generation in the cases of which some do end so.
END = 46


@torch.no_grad()
def outputs(dtype: torch.dtype) -> dict[str, torch.Tensor]:
    found = copy.deepcopy(model).to(dtype)(input_ids=ids, output_hidden_states=True)
    return {"logits": found.logits, **{f"hidden_states.{i}": x for i, x in enumerate(found.hidden_states)}}


def errors(dtype: torch.dtype) -> dict[str, list[float]]:
    """By output the largest error against float64, and the largest value."""
    exact, found = outputs(torch.float64), outputs(dtype)
    return {key: [(found[key].double() - x).abs().max().item(), x.abs().max().item()] for key, x in exact.items()}


def generated() -> dict[str, torch.Tensor]:
    prompt, attention = ids[:, :12].clone(), torch.ones(2, 12, dtype=torch.int64)
    prompt[1, :3], attention[1, :3] = 0, 0
    given = {"input_ids": prompt, "attention_mask": attention, "do_sample": False, "pad_token_id": 0}
    beam = model.generate(
        **given,
        max_new_tokens=7,
        num_beams=3,
        num_return_sequences=2,
        length_penalty=1.0,
        early_stopping=False,
        eos_token_id=END,
        return_dict_in_generate=True,
        output_scores=True,
    )
    return {
        "gen.input_ids": prompt,
        "gen.attention_mask": attention,
        "greedy.ids": model.generate(**given, max_new_tokens=10, eos_token_id=None),
        "greedy_eos.ids": model.generate(**given, max_new_tokens=10, eos_token_id=END),
        "beam.ids": beam.sequences,
        "beam.scores": beam.sequences_scores,
    }


def trained() -> tuple[dict[str, torch.Tensor], list[str]]:
    """The loss before each of five steps of AdamW and behind the last, without dropout; gradients of the first."""
    fresh = copy.deepcopy(model)
    parameters = dict(sorted(fresh.named_parameters()))
    optimizer = torch.optim.AdamW(fresh.parameters(), lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
    losses, gradients = [], []
    for step in range(6):
        optimizer.zero_grad()
        loss = fresh(input_ids=ids, labels=labels).loss
        loss.backward()
        losses.append(loss.item())
        if step == 0:
            gradients = [x.grad.clone() for x in parameters.values()]
        if step < 5:
            optimizer.step()
    found = {
        "train.loss0": torch.tensor(losses[:1]),
        "train.grad_norms": torch.stack([x.norm() for x in gradients]),
        "train.grad_abs_sums": torch.stack([x.sum() for x in gradients]),
        "train.adamw_losses": torch.tensor(losses),
    }
    return found, list(parameters)


training, order = trained()
expected = {**outputs(torch.float32), **generated(), **training}
kinds = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
info = {
    "torch": torch.__version__,
    "transformers": transformers.__version__,
    "generation": {"eos_case_token": END},
    "reference_error": {f"{name}_vs_fp64": errors(dtype) for name, dtype in kinds.items()},
    "train_param_order": order,
}
if sys.argv[1:] == ["check"]:
    held, written = load_file(here / "expected.safetensors"), json.loads((here / "golden.json").read_text())
    assert held.keys() == expected.keys(), held.keys() ^ expected.keys()
    for key, x in expected.items():
        assert x.shape == held[key].shape and x.dtype == held[key].dtype, key
        print(key, (x.double() - held[key].double()).abs().max().item())
    for key, x in info.items():
        same = x.items() <= written[key].items() if key == "generation" else x == written[key]
        print(key, "the same" if same else f"{x} instead of {written[key]}")
else:
    save_file({key: x.contiguous() for key, x in expected.items()}, here / "expected.safetensors")
    (here / "golden.json").write_text(json.dumps(info, separators=(",", ":")) + "\n")
