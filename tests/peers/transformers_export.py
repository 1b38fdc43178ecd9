"""Exported folders in transformers itself: logits, greedy text, cached values, token by token.

    python tests/peers/transformers_export.py MLAFORGE [--text FILE] [--corpus TEXT] [--trust-remote-code] EXPORT MODEL […]

MLAFORGE is the program, EXPORT a folder that `mlaforge export --format deepseek_v3` (or transformers_code) wrote of
MODEL. Each is loaded without any flag and compared with what the program computes with MODEL in float64, on a text, and
on some windows of a corpus for their perplexity. Prints one line a folder and ends with 1 where one differs; where transformers is not installed, it says so in one line and ends with 0.
"""

import inspect
import json
import math
import os
import sys
import tempfile

from reference import SAME_PERPLEXITY, mean_nll, run, score, windows_of

# Largest differences of logits, in their standard deviations, by the type of the weights: the whole row at once, and
# token by token through transformers' own cache. In float32 a model may magnify rounding beyond that; what is then
# allowed is what float32 makes of it in the program, on the same text.
TOLERANCE = {"float32": 5e-5, "float16": 5e-2, "bfloat16": 0.5}


def reference(program, export, model, text):
    """What the program says of MODEL: ids, logits, a start and the 64 likeliest tokens after it."""
    from safetensors.torch import load_file

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "reference.safetensors")
        options = ["--text", text] if text else []
        report = run(program, "verify-export", export, "--model", model, "--logits", path, "--json", "--quiet", *options)
        return load_file(path), json.loads(report)


def own_rounding(program, model, expected):
    """The largest difference that float32 makes in the program itself, in deviations of the logits."""
    import torch

    ids, wanted = expected["ids"], expected["logits"]
    answer = score(program, model, {"ids": ids.tolist(), "last": ids.shape[1]}, "float32")
    return ((torch.tensor(answer["last_logits"]) - wanted).abs().max() / wanted.std()).item()


def cached_shapes(cache):
    """Values per token of each layer, as the cache holds them."""
    widths = []
    for layer in cache.layers:
        keys, values = layer.keys, layer.values
        widths.append(keys.shape[1] * keys.shape[3] + values.shape[1] * values.shape[3])
    return widths


def check(program, export, model, trusted, text, corpus):
    import torch
    import transformers

    expected, said = reference(program, export, model, text)
    with open(os.path.join(export, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    loaded, report = transformers.AutoModelForCausalLM.from_pretrained(
        export, dtype="auto", output_loading_info=True, trust_remote_code=trusted
    )
    loaded = loaded.eval()
    ids, wanted = expected["ids"], expected["logits"]
    deviation = wanted.std()
    with torch.no_grad():
        whole = loaded(ids, use_cache=True)
        difference = ((whole.logits.float() - wanted).abs().max() / deviation).item()
        cache, steps = None, []
        # Its name from 5.24 on.
        name = "cache" if "cache" in inspect.signature(type(loaded).forward).parameters else "past_key_values"
        for i in range(ids.shape[1]):
            out = loaded(ids[:, i : i + 1], use_cache=True, **({} if cache is None else {name: cache}))
            cache = out.past_key_values
            steps.append(out.logits[:, -1])
        stepwise = ((torch.stack(steps, 1).float() - wanted).abs().max() / deviation).item()
        start, greedy = expected["start"].unsqueeze(0), expected["greedy"]
        # Without a mask, generate() would leave out what has the padding's id.
        options = dict(max_new_tokens=greedy.numel(), do_sample=False, eos_token_id=None, pad_token_id=0,
                       attention_mask=torch.ones_like(start))
        written = loaded.generate(start, **options)[0, start.shape[1] :]
        without = loaded.generate(start, use_cache=False, **options)[0, start.shape[1] :]
    widths, predicted = cached_shapes(whole.past_key_values), said["cached_values_per_token"]
    exact = config["dtype"] == "float32"
    problems = []
    if any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")):
        problems.append("tensors missing or unexpected")
    bound, told = TOLERANCE[config["dtype"]], ""
    if exact and not max(difference, stepwise) <= bound:
        own = own_rounding(program, model, expected)
        told, bound = f" (float32 here {own:.2e})", max(own, bound)
    if not difference <= bound:
        problems.append("logits")
    if exact and not stepwise <= bound:
        problems.append("token by token")
    windows = windows_of(program, model, corpus) if corpus and exact else None
    if windows:
        with torch.no_grad():
            there = loaded(torch.tensor(windows), labels=torch.tensor(windows)).loss.item()
        here = mean_nll(program, model, windows)
        told += f", perplexity {math.exp(there):.5g} (here {math.exp(here):.5g})"
        if not abs(there - here) <= SAME_PERPLEXITY:
            problems.append("perplexity")
    if sum(widths) != predicted:
        problems.append(f"cached values, predicted {predicted}")
    if exact and not torch.equal(written, greedy):
        problems.append("greedy tokens")
    if exact and not torch.equal(written, without):
        problems.append("generate with and without cache")
    same = int((written == greedy).sum())
    print(
        f"{os.path.basename(os.path.normpath(export))}: {type(loaded).__name__}, {config['dtype']}: logits "
        f"{difference:.2e} of their deviation, token by token {stepwise:.2e}{told}, cached values per token {sum(widths)}, "
        f"greedy tokens {same}/{greedy.numel()}: {'differs: ' + ', '.join(problems) if problems else 'as predicted'}"
    )
    return not problems


def main(arguments):
    trusted = "--trust-remote-code" in arguments
    arguments = [word for word in arguments if word != "--trust-remote-code"]
    files = {"--text": None, "--corpus": None}
    for option in files:
        if option in arguments:
            place = arguments.index(option)
            files[option] = arguments[place + 1]
            del arguments[place : place + 2]
    if len(arguments) < 3 or len(arguments) % 2 == 0:
        raise SystemExit(__doc__)
    try:
        import torch  # noqa: F401
        import transformers
    except ImportError as error:
        print(f"skipped: {error.name} is not installed (make test-peers installs it)")
        return 0
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    pairs = list(zip(arguments[1::2], arguments[2::2]))
    return 0 if all([check(arguments[0], export, model, trusted, *files.values()) for export, model in pairs]) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
