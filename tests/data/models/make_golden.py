"""Makes the toy checkpoints of this folder that CASES lists: what the other folders, made the same way, do not show.

Each is a random model of two or three layers in bfloat16 with golden.safetensors: `input_ids` and the float32 `logits`
of transformers 5.17 (torch 2.11, CPU). Usage: python3 make_golden.py [NAME...]
"""

import json
import math
import pathlib
import sys

import torch
import transformers
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent
COMMON = dict(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
              num_key_value_heads=2, max_position_embeddings=128, bos_token_id=0, eos_token_id=1, pad_token_id=None,
              tie_word_embeddings=False)
LONGROPE = dict(rope_type="longrope", rope_theta=10000.0, short_factor=[1.0, 1.05, 1.1], long_factor=[1.1, 2.0, 4.5],
                original_max_position_embeddings=16)


def older_keys(config):
    """The key style of transformers 4."""
    parameters = config.pop("rope_parameters")
    config["torch_dtype"] = config.pop("dtype")
    config["rope_theta"] = parameters.pop("rope_theta")
    config["transformers_version"] = "4.40.0"
    parameters["type"] = parameters.pop("rope_type")
    config["rope_scaling"] = None if parameters["type"] == "default" else parameters


def neox_keys(config):
    older_keys(config)
    config["rotary_emb_base"] = config.pop("rope_theta")
    config["rotary_pct"] = 0.5
    config["rope_scaling"] = None


def phi3_keys(config):
    older_keys(config)
    config["partial_rotary_factor"] = config["rope_scaling"].pop("partial_rotary_factor")
    config["rope_scaling"].pop("original_max_position_embeddings")


def drop(*keys):
    return lambda config: [config.pop(key, None) for key in keys]


def experts_key(config):
    config["num_experts"] = config.pop("num_local_experts")


def bare_gpt2(tensors):
    """Names without prefix, with the mask buffers of the original checkpoint."""
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items() if name != "lm_head.weight"}
    for layer in range(2):
        tensors[f"h.{layer}.attn.bias"] = torch.tril(torch.ones(1, 1, 8, 8, dtype=torch.uint8))
        tensors[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    return tensors


# name: (class, config settings, change to config.json)
CASES = {
    "gpt-neox-serial": ("GPTNeoX", dict(use_parallel_residual=False, rope_parameters=dict(
        rope_type="default", rope_theta=5000.0, partial_rotary_factor=0.5), num_key_value_heads=None), neox_keys),
    "phi3-longrope": ("Phi3", dict(rope_parameters=dict(LONGROPE, partial_rotary_factor=0.75),
                                   original_max_position_embeddings=16, sliding_window=24), phi3_keys),
    "qwen2-sliding": ("Qwen2", dict(use_sliding_window=True, sliding_window=8, max_window_layers=1,
                                    num_hidden_layers=3), drop("layer_types")),
    "llama-linear": ("Llama", dict(rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=4.0)), older_keys),
    "llama-yarn": ("Llama", dict(head_dim=16, rope_parameters=dict(
        rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=32)), None),
    "mixtral-fused": ("Mixtral", dict(num_local_experts=4, sliding_window=8), None),
    "qwen3-moe-mixed": ("Qwen3Moe", dict(num_local_experts=4, num_experts_per_tok=2, moe_intermediate_size=16, head_dim=8,
                                         mlp_only_layers=[0], num_hidden_layers=3, norm_topk_prob=False), experts_key),
    "gemma2-tied": ("Gemma2", dict(hidden_size=40, head_dim=16, query_pre_attn_scalar=24, sliding_window=8,
                                   tie_word_embeddings=True, num_hidden_layers=3), drop("layer_types", "tie_word_embeddings")),
    "gemma3-nested": ("Gemma3", dict(head_dim=16, query_pre_attn_scalar=24, sliding_window=8, tie_word_embeddings=True,
                                     layer_types=["sliding_attention", "full_attention"], final_logit_softcapping=5.0,
                                     rope_parameters=dict(
        full_attention=dict(rope_type="linear", rope_theta=100000.0, factor=8.0),
        sliding_attention=dict(rope_type="default", rope_theta=10000.0))), None),
    "gpt2-bare": ("GPT2", dict(n_embd=32, n_head=4, n_layer=2, n_positions=64, n_inner=96, vocab_size=64,
                               scale_attn_by_inverse_layer_idx=True), None),
}
CLASSES = {"GPT2": ("GPT2Config", "GPT2LMHeadModel"), "Gemma3": ("Gemma3TextConfig", "Gemma3ForCausalLM")}


def draw(config, model_class, seed):
    """A random model and the ids to run it with."""
    family = model_class.removesuffix("ForCausalLM")
    torch.manual_seed(seed)
    model = getattr(transformers, model_class)(config).eval()
    for parameter_name, parameter in model.named_parameters():
        spread = 0.3 if parameter.dim() == 1 else 1.2 / math.sqrt(parameter.shape[-1])
        mean = 1.0 if "norm" in parameter_name and parameter_name.endswith("weight") and family[:5] != "Gemma" else 0.0
        noise = torch.randn(parameter.shape) * spread + mean
        parameter.data = noise.to(torch.bfloat16).to(torch.float32)  # parameters alone: buffers stay float32
    return model, torch.randint(2, 64, (40,))


@torch.no_grad()
def closest_choice(model, config, ids):
    """The least difference between the probability of an expert that is taken and that of one that is not."""
    logits = model(ids[None], output_router_logits=True).router_logits
    ordered = torch.cat([layer.float().softmax(-1) for layer in logits]).sort(descending=True).values
    return (ordered[:, config.num_experts_per_tok - 1] - ordered[:, config.num_experts_per_tok]).min().item()


def make(name):
    family, settings, change = CASES[name]
    config_class, model_class = CLASSES.get(family, (family + "Config", family + "ForCausalLM"))
    sizes = {} if family == "GPT2" else COMMON
    config = getattr(transformers, config_class)(**{**sizes, **settings})
    config._attn_implementation = "eager"
    seed = sum(map(ord, name))
    model, ids = draw(config, model_class, seed)
    # Where experts are nearly tied, rounding to bfloat16 decides, and another expert is another answer.
    while "num_local_experts" in settings and closest_choice(model, config, ids) < 0.005:
        seed += 1
        model, ids = draw(config, model_class, seed)
    golden = {"input_ids": ids}
    with torch.no_grad():
        golden["logits"] = model(ids[None]).logits[0].contiguous()
        if name == "phi3-longrope":
            golden["short_logits"] = model(ids[None, :16]).logits[0].contiguous()

    folder = HERE / name
    folder.mkdir(exist_ok=True)
    if name in ("mixtral-fused", "gpt2-bare"):  # save_pretrained would write other names
        tensors = {key: value.to(torch.bfloat16).contiguous() for key, value in model.state_dict().items()}
        save_file(bare_gpt2(tensors) if family == "GPT2" else tensors, folder / "model.safetensors")
        config.dtype, config.architectures = "bfloat16", [model_class]
        config.save_pretrained(folder)
    else:
        model.to(torch.bfloat16).save_pretrained(folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
    text = json.loads((folder / "config.json").read_text())
    if change:
        change(text)
    (folder / "config.json").write_text(json.dumps(text, indent=2, sort_keys=True) + "\n")
    save_file(golden, folder / "golden.safetensors")


if __name__ == "__main__":
    for case in sys.argv[1:] or CASES:
        make(case)
        print(case)
