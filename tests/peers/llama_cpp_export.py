"""GGUF files that `mlaforge export` wrote, in llama.cpp itself: logits, greedy text, cached values, tokenizer.

    python tests/peers/llama_cpp_export.py MLAFORGE [--corpus TEXT] EXPORT MODEL [EXPORT MODEL ...]

MLAFORGE is the program, EXPORT a file *.gguf (or the folder it is in) that it wrote of MODEL. llama.cpp is the one
compiled in PyPI's xllamacpp, called by its C interface. Held against what the program computes with MODEL in float64 (in
float32 both round, and some tokens magnify that): the logits of a text, at once and token by token, the 64 likeliest
tokens after its start, its ids, and the perplexity of some windows of a corpus (files in float32). The cache is counted as llama.cpp saves it: once in float32 and once in float16, whose
difference is two bytes a value.
Prints one line a file and ends with 1 where one differs; where a package is not installed, it says so in one line and
ends with 0.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile

from llama_library import LlamaCpp
from reference import SAME_PERPLEXITY, mean_nll, run, score, tokens_of, windows_of

# By the type of the weights: the largest difference of logits in their standard deviations, and its root mean square.
# None: shown, not held, as weights of so few bits are others.
TOLERANCE = {"F32": (1e-4, 1e-4), "F16": (None, 2e-3), "BF16": (None, None), "Q8_0": (None, None),
             "Q4_0": (None, None), "Q4_1": (None, None)}
FILE_TYPES = {0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 32: "BF16"}
# A model may magnify what its weights' rounding to F16 changes, in exact arithmetic, above that bound: llama.cpp, which
# rounds what is multiplied with them to F16, too, may then lose so many times as much.
AS_MUCH_AS_WEIGHTS = 2
# Token by token against all at once.
SAME = 1e-4
POSITIONS, START, GREEDY = 40, 12, 64
# Of characters that every vocabulary here has: llama.cpp ends where one is missing and there are no bytes.
TEXT = ("Once upon a time, there was a little girl named Lily. She saw a cat!\nIt's a big, big cat. The cat was in the "
        "garden, and it wanted to play with her ball. Lily was happy.")


def started(llama, cache):
    llama.start(512, cache=cache, threads=int(os.environ.get("OMP_NUM_THREADS", "1")))
    return llama


def cached_values(llama, ids):
    """Per token and layer."""
    sizes = []
    for kind in (llama.FLOAT16, llama.FLOAT32):
        started(llama, kind).feed([ids], 0)
        sizes.append(llama.state_bytes())
    return (sizes[1] - sizes[0]) / 2 / len(ids) / llama.layers


def greedy_text(llama, start, count):
    started(llama, llama.FLOAT32)
    ids, logits = list(start), llama.logits(start, 0)[-1]
    for _ in range(count):
        ids.append(int(logits.argmax()))
        logits = llama.logits(ids[-1:], len(ids) - 1)[-1]
    return ids[len(start):]


def perplexity_nll(llama, windows):
    """The mean over all tokens that llama.cpp predicts."""
    import numpy

    losses = []
    for window in windows:
        started(llama, llama.FLOAT32)
        logits = llama.logits(window, 0)[:-1].astype(numpy.float64)
        logits -= logits.max(axis=1, keepdims=True)
        chosen = logits[numpy.arange(len(window) - 1), window[1:]]
        losses.append(numpy.log(numpy.exp(logits).sum(axis=1)) - chosen)
    return numpy.concatenate(losses).mean()


def rounding_of_weights(program, file, model, ids):
    """What the numbers in FILE alone change of MODEL's logits, computed here in float64; in their deviations, rms."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "ids.json")
        with open(path, "w", encoding="utf-8") as out:
            json.dump({"ids": [ids]}, out)
        report = run(program, "verify-export", file, "--model", model, "--tokens", path, "--tolerance", "1000", "--json",
                     "--quiet")
        return json.loads(report)["rms_difference"]


def facts_of(file):
    import gguf

    fields = gguf.GGUFReader(file).fields
    architecture = fields["general.architecture"].contents()

    def value(key, otherwise=None):
        field = fields.get(f"{architecture}.{key}")
        return field.contents() if field else otherwise

    latent = value("attention.kv_lora_rank")
    if latent is not None:
        cached = latent + value("rope.dimension_count")
    else:
        cached = value("attention.head_count_kv") * (value("attention.key_length") + value("attention.value_length"))
    has_tokenizer = fields["tokenizer.ggml.model"].contents() != "none"
    return FILE_TYPES[fields["general.file_type"].contents()], value("vocab_size"), cached, has_tokenizer


def check(program, export, model, corpus):
    """Prints one line; whether all is as it should be."""
    import numpy

    file = os.path.join(export, "model.gguf") if os.path.isdir(export) else export
    kind, vocabulary, cached, has_tokenizer = facts_of(file)
    spelt = tokens_of(program, model, TEXT) if has_tokenizer else None
    ids = spelt[:POSITIONS] if spelt else [(7919 * i + 104729) % vocabulary for i in range(POSITIONS)]
    wanted = numpy.array(score(program, model, {"ids": [ids], "last": len(ids)})["last_logits"][0])
    greedy = score(program, model, {"ids": [ids[:START]], "greedy_tokens": GREEDY})["greedy"][0]
    deviation = wanted.std()
    llama = LlamaCpp(file)
    whole = started(llama, llama.FLOAT32).logits(ids, 0)
    started(llama, llama.FLOAT32)
    steps = numpy.concatenate([llama.logits([token], i) for i, token in enumerate(ids)])
    largest = numpy.abs(whole - wanted).max() / deviation
    by_position = numpy.sqrt(numpy.square(whole - wanted).mean(axis=1)) / deviation
    mean, median = numpy.sqrt(numpy.square(by_position).mean()), numpy.median(by_position)
    stepwise = numpy.abs(steps - whole).max() / deviation
    values = cached_values(llama, ids)
    text = greedy_text(llama, ids[:START], GREEDY)
    problems = []
    bound, mean_bound = TOLERANCE[kind]
    if bound is not None and not largest <= bound:
        problems.append(f"logits differ by more than {bound}")
    told = ""
    if mean_bound is not None and not mean <= mean_bound:
        alone = rounding_of_weights(program, file, model, ids)
        told = f", of which its weights' rounding alone makes {alone:.1e}"
        if kind == "F32" or not mean <= AS_MUCH_AS_WEIGHTS * alone:
            problems.append(f"logits differ by more than {mean_bound} in the root mean square")
    if kind == "F32" and not stepwise <= SAME:
        problems.append("token by token is not all at once")
    if values != cached:
        problems.append(f"{cached} cached values were said")
    same = next((i for i, (a, b) in enumerate(zip(text, greedy)) if a != b), len(greedy))
    if kind == "F32" and same < GREEDY:
        problems.append(f"other text from token {same} on")
    if spelt is not None and llama.encode(TEXT) != spelt:
        problems.append(f"other ids of a text: {llama.encode(TEXT)}, here {spelt}")
    windows = windows_of(program, model, corpus) if corpus and spelt and kind == "F32" else None
    if windows:
        here, there = mean_nll(program, model, windows), perplexity_nll(llama, windows)
        told += f", perplexity {numpy.exp(there):.5g} (here {numpy.exp(here):.5g})"
        if not abs(there - here) <= SAME_PERPLEXITY:
            problems.append("another perplexity")
    print(f"{file}: {kind}, logits {largest:.1e} (rms {mean:.1e}, median {median:.1e}){told}, token by token {stepwise:.1e}, "
          f"{values:g} cached values, {same} of {GREEDY} greedy tokens"
          + (f", {len(spelt)} ids of a text" if spelt is not None else "")
          + (": " + "; ".join(problems) if problems else ""), flush=True)
    return not problems


def main():
    missing = [name for name in ("xllamacpp", "gguf", "numpy") if importlib.util.find_spec(name) is None]
    if missing:
        print(f"llama_cpp_export: skipped: no Python package {', '.join(missing)}")
        return 0
    words, corpus = sys.argv[1:], None
    if "--corpus" in words:
        place = words.index("--corpus")
        corpus = words[place + 1]
        del words[place:place + 2]
    if len(words) < 3 or len(words) % 2 == 0:
        print(__doc__, file=sys.stderr)
        return 2
    program, pairs = words[0], words[1:]
    # Each in a process of its own: llama.cpp ends the process where it fails.
    if len(pairs) > 2:
        option = ["--corpus", corpus] if corpus else []
        results = [subprocess.run([sys.executable, __file__, program, *option, *pairs[i:i + 2]], check=False).returncode
                   for i in range(0, len(pairs), 2)]
        return 1 if any(results) else 0
    return 0 if check(program, *pairs, corpus) else 1


if __name__ == "__main__":
    sys.exit(main())
