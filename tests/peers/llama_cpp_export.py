"""GGUF files that `mlaforge export` wrote, in llama.cpp itself: logits, greedy text, cached values, tokenizer.

    python tests/peers/llama_cpp_export.py MLAFORGE EXPORT MODEL [EXPORT MODEL ...]

MLAFORGE is the program, EXPORT a file *.gguf (or the folder it is in) that it wrote of MODEL. llama.cpp is the one
compiled in PyPI's xllamacpp, called by its C interface. Held against what the program computes with MODEL in float64 (in
float32 both round, and some tokens magnify that): the logits of a text, at once and token by token, the 64 likeliest
tokens after its start, its ids. The cache is counted as llama.cpp saves it: once in float32 and once in float16, whose
difference is two bytes a value.
Prints one line a file and ends with 1 where one differs; where a package is not installed, it says so in one line and
ends with 0.
"""

import ctypes
import glob
import importlib.util
import json
import os
import subprocess
import sys
import tempfile

# By the type of the weights: the largest difference of logits in their standard deviations, and its root mean square.
# None: shown, not held, as weights of so few bits are others.
TOLERANCE = {"F32": (1e-4, 1e-4), "F16": (None, 2e-3), "BF16": (None, None), "Q8_0": (None, None),
             "Q4_0": (None, None), "Q4_1": (None, None)}
FILE_TYPES = {0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 32: "BF16"}
# Token by token against all at once.
SAME = 1e-4
POSITIONS, START, GREEDY = 40, 12, 64
# Of characters that every vocabulary here has: llama.cpp ends where one is missing and there are no bytes.
TEXT = ("Once upon a time, there was a little girl named Lily. She saw a cat!\nIt's a big, big cat. The cat was in the "
        "garden, and it wanted to play with her ball. Lily was happy.")


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

    N_CTX, N_BATCH, N_UBATCH, N_SEQ_MAX, THREADS, THREADS_BATCH, FLASH, TYPE_K, TYPE_V = 0, 1, 2, 3, 7, 8, 13, 26, 27
    FLOAT32, FLOAT16 = 0, 1

    def __init__(self, file):
        import xllamacpp

        pointer = ctypes.c_void_p
        library = glob.glob(os.path.join(os.path.dirname(xllamacpp.__file__), "*.so"))[0]
        self.lib = lib = ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
        lib.llama_model_default_params.restype = self.Model
        lib.llama_context_default_params.restype = self.Context
        lib.llama_model_load_from_file.restype = pointer
        lib.llama_model_load_from_file.argtypes = [ctypes.c_char_p, self.Model]
        lib.llama_init_from_model.restype = pointer
        lib.llama_init_from_model.argtypes = [pointer, self.Context]
        lib.llama_free.argtypes = lib.llama_model_free.argtypes = [pointer]
        lib.llama_batch_init.restype = self.Batch
        lib.llama_decode.argtypes = [pointer, self.Batch]
        lib.llama_get_memory.restype = pointer
        lib.llama_get_memory.argtypes = [pointer]
        lib.llama_memory_clear.argtypes = [pointer, ctypes.c_bool]
        lib.llama_get_logits_ith.restype = ctypes.POINTER(ctypes.c_float)
        lib.llama_get_logits_ith.argtypes = [pointer, ctypes.c_int32]
        lib.llama_state_seq_get_size.restype = ctypes.c_size_t
        lib.llama_state_seq_get_size.argtypes = [pointer, ctypes.c_int32]
        lib.llama_model_n_layer.argtypes = lib.llama_model_get_vocab.argtypes = [pointer]
        lib.llama_model_get_vocab.restype = pointer
        lib.llama_vocab_n_tokens.argtypes = [pointer]
        lib.llama_tokenize.argtypes = [pointer, ctypes.c_char_p, ctypes.c_int32, ctypes.POINTER(ctypes.c_int32),
                                       ctypes.c_int32, ctypes.c_bool, ctypes.c_bool]
        self.log = []
        self.listen = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, pointer)(
            lambda level, text, _: self.log.append(text.decode(errors="replace").strip()) if level >= 4 else None)
        lib.llama_log_set(self.listen, None)
        lib.llama_backend_init()
        lib.ggml_backend_load_all()
        self.model = lib.llama_model_load_from_file(file.encode(), lib.llama_model_default_params())
        if not self.model:
            raise SystemExit(f"{file}: llama.cpp does not load it: {' '.join(self.log)}")
        self.vocabulary = lib.llama_model_get_vocab(self.model)
        self.tokens = lib.llama_vocab_n_tokens(self.vocabulary)
        self.layers = lib.llama_model_n_layer(self.model)
        self.context = None
        self.batch = lib.llama_batch_init(512, 0, 1)

    def start(self, cache):
        """An empty context whose cache has this type."""
        if self.context:
            self.lib.llama_free(self.context)
        params = self.lib.llama_context_default_params()
        words = params.words
        known = [words[i] for i in (self.N_CTX, self.N_BATCH, self.N_UBATCH, self.N_SEQ_MAX, self.TYPE_K, self.TYPE_V)]
        if known != [512, 2048, 512, 1, 1, 1]:
            raise SystemExit(f"llama_context_params of this xllamacpp looks otherwise: {list(words)[:40]}")
        words[self.N_CTX] = words[self.N_BATCH] = words[self.N_UBATCH] = 512
        words[self.TYPE_K] = words[self.TYPE_V] = cache
        words[self.FLASH] = 0
        words[self.THREADS] = words[self.THREADS_BATCH] = int(os.environ.get("OMP_NUM_THREADS", "1"))
        self.context = self.lib.llama_init_from_model(self.model, params)
        if not self.context:
            raise SystemExit("llama.cpp makes no context: " + " ".join(self.log))

    def feed(self, ids, first):
        """Logits of all of `ids`, which stand from position `first` on."""
        import numpy

        batch = self.batch
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, first + i, 1, 1
            batch.seq_id[i][0] = 0
        batch.n_tokens = len(ids)
        if self.lib.llama_decode(self.context, batch) != 0:
            raise SystemExit("llama_decode fails: " + " ".join(self.log))
        rows = [self.lib.llama_get_logits_ith(self.context, i) for i in range(len(ids))]
        return numpy.stack([numpy.ctypeslib.as_array(row, (self.tokens,)).copy() for row in rows])

    def saved_bytes(self, ids, cache):
        self.start(cache)
        self.feed(ids, 0)
        return self.lib.llama_state_seq_get_size(self.context, 0)

    def cached_values(self, ids):
        """Per token and layer."""
        half, whole = (self.saved_bytes(ids, kind) for kind in (self.FLOAT16, self.FLOAT32))
        return (whole - half) / 2 / len(ids) / self.layers

    def greedy(self, start, count):
        self.start(self.FLOAT32)
        ids, logits = list(start), self.feed(start, 0)[-1]
        for _ in range(count):
            ids.append(int(logits.argmax()))
            logits = self.feed(ids[-1:], len(ids) - 1)[-1]
        return ids[len(start):]

    def encode(self, text):
        ids = (ctypes.c_int32 * 512)()
        data = text.encode()
        count = self.lib.llama_tokenize(self.vocabulary, data, len(data), ids, 512, False, False)
        return list(ids[:count])


def run(program, *arguments):
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def reference(program, model, ids):
    """What the program computes with MODEL in float64: logits of all positions, and the likeliest tokens after the start."""
    import numpy

    with tempfile.TemporaryDirectory() as folder:
        def score(name, question):
            path = os.path.join(folder, name)
            with open(path, "w", encoding="utf-8") as file:
                json.dump(question, file)
            run(program, "score", "--model", model, "--ids", path, "--dtype", "float64", "--output", path + ".out", "-q")
            with open(path + ".out", encoding="utf-8") as file:
                return json.load(file)

        logits = score("all", {"ids": [ids], "last": len(ids)})["last_logits"][0]
        greedy = score("greedy", {"ids": [ids[:START]], "greedy_tokens": GREEDY})["greedy"][0]
        return numpy.array(logits, dtype=numpy.float64), greedy


def tokens_of(program, model):
    """The ids of TEXT; None where MODEL has no tokenizer."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "texts.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"texts": [TEXT]}, file)
        done = subprocess.run([program, "tokenize", "--tokenizer", model, "--input", path, "--json", "-q"],
                              capture_output=True, text=True, check=False)
        return json.loads(done.stdout)["ids"][0] if done.returncode == 0 else None


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


def check(program, export, model):
    """Prints one line; whether all is as it should be."""
    import numpy

    file = os.path.join(export, "model.gguf") if os.path.isdir(export) else export
    kind, vocabulary, cached, has_tokenizer = facts_of(file)
    spelt = tokens_of(program, model) if has_tokenizer else None
    ids = spelt[:POSITIONS] if spelt else [(7919 * i + 104729) % vocabulary for i in range(POSITIONS)]
    wanted, greedy = reference(program, model, ids)
    deviation = wanted.std()
    llama = LlamaCpp(file)
    llama.start(llama.FLOAT32)
    whole = llama.feed(ids, 0)
    llama.start(llama.FLOAT32)
    steps = numpy.concatenate([llama.feed([token], i) for i, token in enumerate(ids)])
    largest = numpy.abs(whole - wanted).max() / deviation
    by_position = numpy.sqrt(numpy.square(whole - wanted).mean(axis=1)) / deviation
    mean, median = numpy.sqrt(numpy.square(by_position).mean()), numpy.median(by_position)
    stepwise = numpy.abs(steps - whole).max() / deviation
    values = llama.cached_values(ids)
    text = llama.greedy(ids[:START], GREEDY)
    problems = []
    bound, mean_bound = TOLERANCE[kind]
    if bound is not None and not largest <= bound:
        problems.append(f"logits differ by more than {bound}")
    if mean_bound is not None and not mean <= mean_bound:
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
    print(f"{file}: {kind}, logits {largest:.1e} (rms {mean:.1e}, median {median:.1e}), token by token {stepwise:.1e}, "
          f"{values:g} cached values, {same} of {GREEDY} greedy tokens"
          + (f", {len(spelt)} ids of a text" if spelt is not None else "")
          + (": " + "; ".join(problems) if problems else ""), flush=True)
    return not problems


def main():
    missing = [name for name in ("xllamacpp", "gguf", "numpy") if importlib.util.find_spec(name) is None]
    if missing:
        print(f"llama_cpp_export: skipped: no Python package {', '.join(missing)}")
        return 0
    if len(sys.argv) < 4 or len(sys.argv) % 2 != 0:
        print(__doc__, file=sys.stderr)
        return 2
    program, pairs = sys.argv[1], sys.argv[2:]
    # Each in a process of its own: llama.cpp ends the process where it fails.
    if len(pairs) > 2:
        results = [subprocess.run([sys.executable, __file__, program, *pairs[i:i + 2]], check=False).returncode
                   for i in range(0, len(pairs), 2)]
        return 1 if any(results) else 0
    return 0 if check(program, *pairs) else 1


if __name__ == "__main__":
    sys.exit(main())
