"""Training steps and calibration of PyTorch with transformers' LlamaForCausalLM, as training_benchmark measures ours.

usage: huggingface_training.py [train|calibrate]/[smollm_135m|small_3m]/[4x512|1x2048|2x2048] [iterations]
Prints tokens per second, share of the rate of a large float32 product, and peak memory. Set OMP_NUM_THREADS for both
programs alike; on a busy machine compare the processor seconds of the fastest steps instead of tokens per second.
"""
import resource
import sys
import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM

SHAPES = {
    "smollm_135m": dict(vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
                        num_attention_heads=9, num_key_value_heads=3),
    "small_3m": dict(vocab_size=4096, hidden_size=192, intermediate_size=512, num_hidden_layers=6,
                     num_attention_heads=6, num_key_value_heads=6),
}


def product_rate():
    a, b = torch.rand(2048, 2048), torch.rand(2048, 2048)
    c = a @ b
    best = 1e9
    for _ in range(6):
        start = time.perf_counter()
        torch.mm(a, b, out=c)
        best = min(best, time.perf_counter() - start)
    return 2 * 2048**3 / best


def training_step(model, ids):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.01, fused=True)
    inputs, targets = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = model(input_ids=inputs, labels=inputs, shift_labels=targets, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def calibration(model, ids):
    """The pair norms of queries and keys, collected by forward hooks on q_proj and k_proj in the model's whole forward
    pass, logits included, as the official implementation of MHA2MLA collects them."""
    sums = {}

    def hook(name):
        def collect(_module, _inputs, output):
            heads = output.unflatten(-1, (-1, model.config.head_dim))
            half = model.config.head_dim // 2
            norms = torch.sqrt(heads[..., :half] ** 2 + heads[..., half:] ** 2)
            sums[name] = sums.get(name, 0) + norms.sum(dim=(0, 1), dtype=torch.float64)
        return collect

    for name, module in model.named_modules():
        if name.endswith(("q_proj", "k_proj")):
            module.register_forward_hook(hook(name))

    @torch.no_grad()
    def step():
        model(input_ids=ids[:, :-1], use_cache=False)

    return step


def main():
    kind, name, size = sys.argv[1].split("/")
    iterations = int(sys.argv[2]) if len(sys.argv) > 2 else 2
    rows, length = map(int, size.split("x"))
    torch.manual_seed(1)
    shape = SHAPES[name]
    config = LlamaConfig(**shape, max_position_embeddings=2048, rms_norm_eps=1e-5, tie_word_embeddings=True,
                         attn_implementation="sdpa")
    model = LlamaForCausalLM(config)
    rate = product_rate()
    ids = torch.randint(shape["vocab_size"], (rows, length + 1))
    step = (training_step if kind == "train" else calibration)(model, ids)
    step()
    start, processor = time.perf_counter(), 1e9
    for _ in range(iterations):
        before = time.process_time()
        step()
        processor = min(processor, time.process_time() - before)
    speed = rows * length * iterations / (time.perf_counter() - start)
    parameters = sum(p.numel() for p in model.parameters())
    attention = 2 * config.num_hidden_layers * config.hidden_size * length
    operations = 6 * parameters + 3 * attention
    if kind == "calibrate":
        operations = 2 * parameters + attention
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"{sys.argv[1]}: {speed:.1f} tokens/s, {speed * operations / rate:.3f} of {rate / 1e9:.0f} GFLOP/s, "
          f"fastest step {processor:.3f} s of processor, peak {peak / 1e9:.2f} GB", flush=True)


main()
