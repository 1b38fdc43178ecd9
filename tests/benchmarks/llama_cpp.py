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
import ctypes
import glob
import json
import os
import statistics
import subprocess
import sys
import time

HOME = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
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


class LlamaCpp:
    """As much of llama.h as is needed; places of fields as in the version of xllamacpp that this was written with."""

    class Model(ctypes.Structure):
        _fields_ = [("all", ctypes.c_char * 1024)]

    class Context(ctypes.Structure):
        _fields_ = [("words", ctypes.c_int32 * 256)]

    class Batch(ctypes.Structure):
        _fields_ = [("n_tokens", ctypes.c_int32), ("token", ctypes.POINTER(ctypes.c_int32)), ("embd", ctypes.c_void_p),
                    ("pos", ctypes.POINTER(ctypes.c_int32)), ("n_seq_id", ctypes.POINTER(ctypes.c_int32)),
                    ("seq_id", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
                    ("logits", ctypes.POINTER(ctypes.c_int8))]

    N_CTX, N_BATCH, N_UBATCH, N_SEQ_MAX, THREADS, THREADS_BATCH, FLASH, TYPE_K = 0, 1, 2, 3, 7, 8, 13, 26

    def __init__(self, file, batch, positions, threads, flash):
        import xllamacpp
        place = os.path.dirname(xllamacpp.__file__)
        self.lib = lib = ctypes.CDLL(glob.glob(place + "/*.so")[0], mode=ctypes.RTLD_GLOBAL)
        pointer = ctypes.c_void_p
        lib.llama_model_default_params.restype = self.Model
        lib.llama_context_default_params.restype = self.Context
        lib.llama_model_load_from_file.restype = pointer
        lib.llama_model_load_from_file.argtypes = [ctypes.c_char_p, self.Model]
        lib.llama_init_from_model.restype = pointer
        lib.llama_init_from_model.argtypes = [pointer, self.Context]
        lib.llama_batch_init.restype = self.Batch
        lib.llama_decode.argtypes = [pointer, self.Batch]
        lib.llama_get_memory.restype = pointer
        lib.llama_get_memory.argtypes = [pointer]
        lib.llama_memory_clear.argtypes = [pointer, ctypes.c_bool]
        self.silence = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, pointer)(lambda *_: None)  # kept alive
        lib.llama_log_set(self.silence, None)
        lib.llama_backend_init()
        lib.ggml_backend_load_all()
        self.model = lib.llama_model_load_from_file(file.encode(), lib.llama_model_default_params())
        params = lib.llama_context_default_params()
        words = params.words
        known = [words[i] for i in (self.N_CTX, self.N_BATCH, self.N_UBATCH, self.N_SEQ_MAX, self.FLASH, self.TYPE_K)]
        if known != [512, 2048, 512, 1, -1, 1] or words[self.THREADS] != words[self.THREADS_BATCH]:
            sys.exit(f"llama_context_params of this xllamacpp looks otherwise: {list(words)[:40]}")
        words[self.N_CTX], words[self.N_SEQ_MAX] = batch * positions, batch
        words[self.N_BATCH], words[self.N_UBATCH] = max(2048, batch * 512), 512
        words[self.THREADS] = words[self.THREADS_BATCH] = threads
        words[self.FLASH] = flash
        self.context = lib.llama_init_from_model(self.model, params)
        self.batch = lib.llama_batch_init(max(2048, batch * 512), 0, 1)
        assert self.model and self.context

    def feed(self, rows, first):
        """rows: token ids by sequence, all as long, from position `first` on; logits of the last of each."""
        batch, n = self.batch, 0
        for sequence, row in enumerate(rows):
            for i, token in enumerate(row):
                batch.token[n], batch.pos[n], batch.n_seq_id[n] = token, first + i, 1
                batch.seq_id[n][0], batch.logits[n] = sequence, i + 1 == len(row)
                n += 1
        batch.n_tokens = n
        assert self.lib.llama_decode(self.context, batch) == 0
        self.lib.llama_synchronize(ctypes.c_void_p(self.context))

    def clear(self):
        self.lib.llama_memory_clear(self.lib.llama_get_memory(self.context), True)


def by_llama_cpp(file, what, batch, context, new_tokens, threads, flash):
    """Tokens/s of all sequences."""
    llama = LlamaCpp(file, batch, context + new_tokens + 32, threads, flash)
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
