"""llama.cpp by its C interface: the library that is compiled into PyPI's xllamacpp, called by ctypes."""

import ctypes
import glob
import os


class LlamaCpp:
    """A loaded file. As much of llama.h as is needed; places of fields as in the version of xllamacpp that this was
    written with, which start() checks."""

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
        lib.llama_free.argtypes = lib.llama_synchronize.argtypes = [pointer]
        lib.llama_batch_init.restype = self.Batch
        lib.llama_batch_free.argtypes = [self.Batch]
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
        self.context = self.batch = None

    def start(self, positions, sequences=1, cache=FLOAT16, threads=1, flash=0):
        """An empty context for so many sequences of so many positions, whose cache has this type."""
        if self.context:
            self.lib.llama_free(self.context)
            self.lib.llama_batch_free(self.batch)
        params = self.lib.llama_context_default_params()
        words = params.words
        places = (self.N_CTX, self.N_BATCH, self.N_UBATCH, self.N_SEQ_MAX, self.FLASH, self.TYPE_K, self.TYPE_V)
        if [words[i] for i in places] != [512, 2048, 512, 1, -1, 1, 1] or words[self.THREADS] != words[self.THREADS_BATCH]:
            raise SystemExit(f"llama_context_params of this xllamacpp looks otherwise: {list(words)[:40]}")
        most = max(2048, sequences * 512)
        words[self.N_CTX], words[self.N_SEQ_MAX] = sequences * positions, sequences
        words[self.N_BATCH], words[self.N_UBATCH] = most, 512
        words[self.TYPE_K] = words[self.TYPE_V] = cache
        words[self.FLASH] = flash
        words[self.THREADS] = words[self.THREADS_BATCH] = threads
        self.context = self.lib.llama_init_from_model(self.model, params)
        if not self.context:
            raise SystemExit("llama.cpp makes no context: " + " ".join(self.log))
        self.batch = self.lib.llama_batch_init(most, 0, 1)

    def feed(self, rows, first, all_logits=False):
        """Ids of the sequences, all as many, which stand from position `first` on. Logits are kept of the last of each,
        or of all; waits until they are there."""
        batch, count = self.batch, 0
        for sequence, row in enumerate(rows):
            for i, token in enumerate(row):
                batch.token[count], batch.pos[count], batch.n_seq_id[count] = token, first + i, 1
                batch.seq_id[count][0], batch.logits[count] = sequence, all_logits or i + 1 == len(row)
                count += 1
        batch.n_tokens = count
        if self.lib.llama_decode(self.context, batch) != 0:
            raise SystemExit("llama_decode fails: " + " ".join(self.log))
        self.lib.llama_synchronize(self.context)

    def logits(self, ids, first):
        """Logits of all of `ids`, one sequence from position `first` on: [ids, vocabulary]."""
        import numpy

        self.feed([ids], first, True)
        rows = [self.lib.llama_get_logits_ith(self.context, i) for i in range(len(ids))]
        return numpy.stack([numpy.ctypeslib.as_array(row, (self.tokens,)).copy() for row in rows])

    def clear(self):
        self.lib.llama_memory_clear(self.lib.llama_get_memory(self.context), True)

    def state_bytes(self):
        """Of the first sequence, as it would be saved."""
        return self.lib.llama_state_seq_get_size(self.context, 0)

    def encode(self, text):
        ids = (ctypes.c_int32 * 512)()
        data = text.encode()
        count = self.lib.llama_tokenize(self.vocabulary, data, len(data), ids, 512, False, False)
        return list(ids[:count])
