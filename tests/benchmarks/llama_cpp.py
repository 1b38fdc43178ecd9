#!/usr/bin/env python3
"""Decoding and prompts of one GGUF file, here and by llama.cpp, in turn, with as many threads.

SmolLM2-135M-Instruct as Q4_1 (make smollm2) and as Q8_0, which is made of it; tokens/s of decoding at two contexts and
of prompts of 512 tokens, at batch 1 and 8. The median of all rounds of each, and the median of the rounds' ratios.
llama.cpp is the one compiled in PyPI's xllamacpp, called by its C interface, with its cache in float16 and flash
attention on (without it, it is slower at long contexts; --flash 0 shows that).
Usage: tests/benchmarks/llama_cpp.py [--rounds N] [--threads N] [--program FILE] [--cells TEXT] [--cache CACHE]
Needs a machine where nothing else runs, and PyPI once: packages go to build/llama_cpp.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
HOME = os.path.join(HERE, "..", "..")
sys.path.append(os.path.join(HERE, "..", "peers"))
Q4_1 = "build/models/SmolLM2-135M-Instruct.Q4_1.gguf"
Q8_0 = "build/models/SmolLM2-135M-Instruct.Q8_0.gguf"
# what, batch, context, new tokens
CELLS = [("decode", 1, 128, 64), ("decode", 8, 128, 32), ("decode", 1, 2048, 32), ("decode", 8, 2048, 12),
         ("prompt", 1, 512, 0), ("prompt", 8, 512, 0)]


def python_with_packages():
    folder = os.path.join(HOME, "build/llama_cpp")
    python = os.environ.get("LLAMA_CPP_PYTHON", os.path.join(folder, "bin/python"))
    if not os.path.exists(python):
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "xllamacpp", "gguf", "numpy"], check=True)
    return python


def make_q8_0(source, target):
    """The file with its 4-bit matrices as Q8_0."""
    import gguf
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target + ".part", reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        writer.add_key_value(name, field.contents(), field.types[0], field.types[-1] if len(field.types) > 1 else None)
    kind = gguf.GGMLQuantizationType
    for tensor in reader.tensors:
        data, of = tensor.data, tensor.tensor_type
        if of == kind.Q4_1:
            data, of = gguf.quants.quantize(gguf.quants.dequantize(data, of), kind.Q8_0), kind.Q8_0
        writer.add_tensor(tensor.name, data, raw_dtype=of)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.rename(target + ".part", target)


def by_llama_cpp(file, what, batch, context, new_tokens, threads, flash):
    """Tokens/s of all sequences."""
    from llama_library import LlamaCpp

    llama = LlamaCpp(file)
    llama.start(context + new_tokens + 32, batch, threads=threads, flash=flash)
    ids = [[(7919 * s + 104729 * i) % 49000 for i in range(context)] for s in range(batch)]

    def prompt():
        for begin in range(0, context, 512):
            llama.feed([row[begin:begin + 512] for row in ids], begin)

    seconds = []
    if what == "prompt":
        for run in range(4):
            llama.clear()
            start = time.perf_counter()
            prompt()
            seconds.append(time.perf_counter() - start)
        return batch * context / statistics.median(seconds[1:])
    prompt()
    for step in range(new_tokens):
        start = time.perf_counter()
        llama.feed([[step]] * batch, context + step)
        seconds.append(time.perf_counter() - start)
    return batch / statistics.median(seconds[4:])


def by_mlaforge(program, file, what, batch, context, new_tokens, threads, cache):
    repeats = ["--repeats", "3", "--warm-up", "1"] if what == "prompt" else ["--repeats", "1", "--warm-up", "0"]
    command = [program, "bench", "--model", file, "--weights", "packed", "--batch", str(batch), "--context", str(context),
               "--new-tokens", str(new_tokens or 2), *repeats, "--json"]
    if cache:
        command += ["--cache", cache]
    out = subprocess.run(command, check=True, capture_output=True, text=True, cwd=HOME,
                         env={**os.environ, "OMP_NUM_THREADS": str(threads)}).stdout
    cell = json.loads(out)["cells"][0]
    return batch * context / cell["first_ms"] * 1000 if what == "prompt" else cell["tokens_per_second"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--program", default=os.path.join(HOME, "build/release/mlaforge"))
    parser.add_argument("--cells", default="", help="only those whose line has this text")
    parser.add_argument("--cache", default="", help="of mlaforge's bench; default: float32")
    parser.add_argument("--flash", type=int, default=1, help="llama.cpp's flash attention: 1, 0, or -1 for its default")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        part = json.loads(options.part)
        if part[0] == "make":
            make_q8_0(*part[1:])
        else:
            print(by_llama_cpp(*part[1:]))
        return
    python = python_with_packages()

    def there(*part):
        return subprocess.run([python, __file__, "--part", json.dumps(part)], check=True, capture_output=True, text=True,
                              cwd=HOME).stdout

    if not os.path.exists(os.path.join(HOME, Q4_1)):
        sys.exit(f"{Q4_1} is missing: make smollm2 fetches it")
    if not os.path.exists(os.path.join(HOME, Q8_0)):
        there("make", Q4_1, Q8_0)
    print(f"{options.threads} threads, {options.rounds} rounds; tokens/s")
    print(f"{'file':6} {'cell':24} {'mlaforge':>10} {'llama.cpp':>10} {'ratio':>7}")
    for kind, file in (("Q4_1", Q4_1), ("Q8_0", Q8_0)):
        for what, batch, context, new_tokens in CELLS:
            name = f"{what} b{batch} {context}"
            if options.cells not in f"{kind} {name}":
                continue
            ours, theirs = [], []
            for _ in range(options.rounds):
                ours.append(by_mlaforge(options.program, file, what, batch, context, new_tokens, options.threads,
                                        options.cache))
                theirs.append(float(there("run", file, what, batch, context, new_tokens, options.threads, options.flash)))
            ratio = statistics.median(a / b for a, b in zip(ours, theirs))
            print(f"{kind:6} {name:24} {statistics.median(ours):10.1f} {statistics.median(theirs):10.1f} {ratio:7.2f}",
                  flush=True)


if __name__ == "__main__":
    main()
