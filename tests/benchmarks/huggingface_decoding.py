"""Prefill and greedy decoding of transformers' LlamaForCausalLM (SmolLM-135M's geometry, random weights, float32), as
`mlaforge bench configs/bench/smollm_135m.json` measures ours.

usage: huggingface_decoding.py [CONTEXTxBATCH ...] [--new-tokens N] [--repeats N]
Prints, for each cell, the milliseconds of the prompt and the median, fastest and slowest step. Set OMP_NUM_THREADS for
both programs alike and run one after the other: machines differ from minute to minute.
"""
import argparse
import statistics
import time

import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM


@torch.inference_mode()
def decode(model, batch, context, new_tokens):
    ids = torch.randint(model.config.vocab_size, (batch, context))
    cache = DynamicCache()
    start = time.perf_counter()
    logits = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
    token = logits[:, -1].argmax(-1, keepdim=True)
    first = time.perf_counter() - start
    steps = []
    for _ in range(new_tokens - 1):
        start = time.perf_counter()
        logits = model(input_ids=token, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        token = logits[:, -1].argmax(-1, keepdim=True)
        steps.append(time.perf_counter() - start)
    return first, steps


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("cells", nargs="*", default=["128x1", "1024x1", "128x8"])
    parser.add_argument("--new-tokens", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    torch.manual_seed(1)
    config = LlamaConfig(vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
                         num_attention_heads=9, num_key_value_heads=3, max_position_embeddings=8192, rms_norm_eps=1e-5,
                         tie_word_embeddings=True, attn_implementation="sdpa")
    model = LlamaForCausalLM(config).eval()
    for cell in options.cells:
        context, batch = map(int, cell.split("x"))
        decode(model, batch, context, 4)
        runs = [decode(model, batch, context, options.new_tokens) for _ in range(options.repeats)]
        steps = [1e3 * step for _, run in runs for step in run]
        first = 1e3 * statistics.median(first for first, _ in runs)
        print(f"{cell}: first {first:.0f} ms, step {statistics.median(steps):.1f} ms "
              f"({min(steps):.1f} to {max(steps):.1f})", flush=True)


main()
