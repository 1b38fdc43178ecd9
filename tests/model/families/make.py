"""Records what transformers makes of tiny models of each family, for tests/model/family_peers_test.cpp.

    python3 -m venv VENV && VENV/bin/pip install torch transformers numpy safetensors
    VENV/bin/python tests/model/families/make.py             # rewrites the .json files beside this one
    VENV/bin/python tests/model/families/make.py --models F  # writes the models themselves below folder F, too

A file holds the config.json, token ids, the logits behind the last tokens of each row, and what greedy decoding with a
cache appends to the first row. Weights are no random numbers of a library but made of each tensor's name and the place
in it by weight(), which the test repeats, so that no weights are kept. All is computed in float64, also what
transformers computes in float32 whatever the dtype (norms, softmax), but for a part of the rotations.
"""
import argparse
import contextlib
import json
import pathlib

import numpy as np
import torch
import transformers

KEPT = 4  # positions of each row whose logits are recorded
NEW = 8  # tokens that greedy decoding appends


def weight(name: str, shape) -> torch.Tensor:
    """In [-1, 1): splitmix64 of the name's FNV-1a hash plus the element's number, its upper 53 bits."""
    state = 0xCBF29CE484222325
    for byte in name.encode():
        state = (state ^ byte) * 0x100000001B3 % 2**64
    count = int(np.prod(shape))
    with np.errstate(over="ignore"):
        z = np.uint64(state) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    unit = (z >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1.0
    return torch.from_numpy(unit.reshape(shape))


def fill(model, family: str) -> None:
    offset = 0.0 if family.startswith("gemma") else 1.0
    tied = model.config.tie_word_embeddings
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if tied and name == "lm_head.weight":
                continue
            values = weight(name, tuple(parameter.shape))
            is_norm = "norm" in name
            parameter.copy_(offset + 0.3 * values if is_norm else 0.4 * values)


@contextlib.contextmanager
def in_double():
    """transformers casts to float32 in places; here to float64 instead."""
    kept = torch.Tensor.to, torch.Tensor.float, torch.nn.functional.softmax

    def wide(value):
        return torch.float64 if value in (torch.float32,) else value

    def to(self, *args, **named):
        return kept[0](self, *[wide(a) if isinstance(a, torch.dtype) else a for a in args],
                       **{k: wide(v) if isinstance(v, torch.dtype) else v for k, v in named.items()})

    def softmax(x, dim=None, _stacklevel=3, dtype=None):
        return kept[2](x, dim=dim, dtype=wide(dtype) if dtype else None)

    torch.Tensor.to, torch.Tensor.float, torch.nn.functional.softmax = to, torch.Tensor.double, softmax
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.Tensor.to, torch.Tensor.float, torch.nn.functional.softmax = kept
        torch.set_default_dtype(torch.float32)


def exact_frequencies(model) -> None:
    """Rotation frequencies are made in float32 before the model is in float64; longrope's are made anew when used."""
    for name, buffer in model.named_buffers():
        rope = model.config.rope_parameters
        for layers in ("full_attention", "sliding_attention"):
            rope = rope[layers] if layers in name else rope
        if not name.endswith("inv_freq") or rope["rope_type"] == "longrope":
            continue
        exponents = torch.arange(len(buffer), dtype=torch.float64) / len(buffer)
        buffer.copy_(rope["rope_theta"] ** -exponents / rope.get("factor", 1.0))


COMMON = dict(vocab_size=48, hidden_size=32, intermediate_size=40, num_attention_heads=4, num_key_value_heads=2,
              max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=0, attn_implementation="eager")

MODELS = {
    "smollm3": ("smollm3", dict(num_hidden_layers=5, no_rope_layer_interval=2, rope_theta=20000.0)),
    "smollm3_window": ("smollm3", dict(num_hidden_layers=4, no_rope_layers=[1, 0, 1, 0], use_sliding_window=True,
                                       sliding_window=5, tie_word_embeddings=False, attention_bias=True)),
    "olmo2": ("olmo2", dict(num_hidden_layers=3)),
    "olmo2_mha": ("olmo2", dict(num_hidden_layers=2, num_key_value_heads=4, attention_bias=True,
                                tie_word_embeddings=True)),
    "phi3": ("phi3", dict(num_hidden_layers=3)),
    "phi3_longrope": ("phi3", dict(num_hidden_layers=3, sliding_window=9, original_max_position_embeddings=16,
                                   rope_scaling=dict(type="longrope", short_factor=[1.0, 1.125, 1.25, 1.5],
                                                     long_factor=[1.25, 2.0, 3.5, 6.0]))),
    "gemma2": ("gemma2", dict(num_hidden_layers=4, head_dim=16, sliding_window=5, query_pre_attn_scalar=20,
                              attn_logit_softcapping=3.0, final_logit_softcapping=2.5)),
    "gemma3": ("gemma3_text", dict(num_hidden_layers=6, head_dim=8, sliding_window=5, query_pre_attn_scalar=20,
                                   sliding_window_pattern=3,
                                   rope_parameters=dict(
                                       full_attention=dict(rope_type="linear", factor=8.0, rope_theta=100000.0),
                                       sliding_attention=dict(rope_type="default", rope_theta=500.0)))),
}


def rounded(logits):
    return [[[float(f"{x:.12g}") for x in token] for token in row] for row in logits.tolist()]


def record(name: str, folder: pathlib.Path, models: pathlib.Path | None) -> None:
    family, sizes = MODELS[name]
    config = transformers.AutoConfig.for_model(family, **{**COMMON, **sizes})
    with in_double():
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float64).eval()
        fill(model, family)
        exact_frequencies(model)
        rows = [[(7 * i * i + 3 * i + 11 * row + 5) % 45 + 3 for i in range(12)] for row in range(2)]
        long_row = [[(5 * i * i + i + 4) % 45 + 3 for i in range(24)]]
        with torch.no_grad():
            short, long = (model(torch.tensor(ids)).logits[:, -KEPT:] for ids in (rows, long_row))
            written = model.generate(torch.tensor(rows[:1]), max_new_tokens=NEW, do_sample=False, eos_token_id=None,
                                     attention_mask=torch.ones(1, 12, dtype=torch.long))[0, 12:].tolist()
    if models is not None:
        model.float().save_pretrained(models / name)
    saved = json.loads(config.to_json_string(use_diff=True))
    saved["architectures"] = [type(model).__name__]
    parameters = sum(p.numel() for p in model.parameters())
    lines = {"config": saved, "parameters": parameters, "ids": rows, "logits": rounded(short), "long_ids": long_row,
             "long_logits": rounded(long), "greedy": written}
    text = ",\n".join(f'"{key}": {json.dumps(value)}' for key, value in lines.items())
    (folder / f"{name}.json").write_text("{" + text + "}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=pathlib.Path, help="folder for the models themselves, in float32")
    parser.add_argument("names", nargs="*", default=list(MODELS))
    arguments = parser.parse_args()
    for name in arguments.names:
        record(name, pathlib.Path(__file__).parent, arguments.models)


if __name__ == "__main__":
    main()
