"""
Adapters that PEFT writes, and what it computes with them, in float32 on the CPU:

  gpt2/            of test/golden/gpt2, on attention and the first layer of the MLP, with rsLoRA
  biases/          of the same, on c_attn alone, with all biases trained
  attention/       of two torch.nn.TransformerEncoderLayer, on self_attn (both projections) and linear2
  base.safetensors the weights of those layers
  expected.safetensors  inputs, outputs with the adapters and merged, and gradients of the mean square of the outputs
  golden.json      versions, and what PEFT counts

    python test/golden/lora/make.py     # needs torch, transformers, peft, safetensors
"""
import json
import shutil
from pathlib import Path

import peft
import torch
import transformers
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file

here = Path(__file__).parent
gpt2_folder = here.parent / "gpt2"
expected, info = {}, {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}


def randomise(model, scale):
    """Terms that change something; PEFT's B is zero."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, tensor in sorted(model.named_parameters()):
            if "lora_" in name or ("bias" in name and tensor.requires_grad):
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * scale)


def record(name, model, run):
    out = run(model)
    expected[f"{name}.output"] = out.detach().clone().contiguous()
    out.square().mean().backward()
    for key, tensor in model.named_parameters():
        if tensor.grad is not None:
            key = key.removeprefix("base_model.model.").replace(".default", "")
            expected[f"{name}.grad.{key}"] = tensor.grad.clone().contiguous()
    trainable, total = model.get_nb_trainable_parameters()
    info[name] = {"trainable": trainable, "all": total}
    model.save_pretrained(here / name)
    (here / name / "README.md").unlink(missing_ok=True)
    with torch.no_grad():
        expected[f"{name}.merged"] = run(model.merge_and_unload()).contiguous()


def gpt2(name, **options):
    base = transformers.GPT2LMHeadModel.from_pretrained(gpt2_folder, attn_implementation="eager")
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **options)).eval()
    randomise(model, 0.1)
    ids = torch.randint(0, 99, (2, 11), generator=torch.Generator().manual_seed(3))
    expected["gpt2.ids"] = ids
    record(name, model, lambda m: m(input_ids=ids).logits)
    config = json.loads((here / name / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "gpt2"
    config["target_modules"] = sorted(config["target_modules"])
    (here / name / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


class Encoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        layer = lambda: torch.nn.TransformerEncoderLayer(16, 4, 24, dropout=0.0, batch_first=True, norm_first=True)
        self.layers = torch.nn.ModuleList([layer(), layer()])

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def attention():
    torch.manual_seed(5)
    base = Encoder()
    save_file({key: tensor.clone() for key, tensor in base.state_dict().items()}, here / "base.safetensors")
    model = get_peft_model(base, LoraConfig(r=3, lora_alpha=5, target_modules=["self_attn", "linear2"])).train()
    randomise(model, 0.2)
    x = torch.randn(2, 7, 16, generator=torch.Generator().manual_seed(11))
    expected["attention.x"] = x
    record("attention", model, lambda m: m(x))
    config = json.loads((here / "attention/adapter_config.json").read_text())
    config["target_modules"] = sorted(config["target_modules"])
    config["auto_mapping"] = None
    (here / "attention/adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


for name in ("gpt2", "biases", "attention"):
    shutil.rmtree(here / name, ignore_errors=True)
gpt2("gpt2", r=4, lora_alpha=6, use_rslora=True, target_modules=["c_attn", "attn.c_proj", "c_fc"])
gpt2("biases", r=2, lora_alpha=3, bias="all", target_modules=["c_attn"])
attention()
save_file(expected, here / "expected.safetensors")
(here / "golden.json").write_text(json.dumps(info, indent=2) + "\n")
