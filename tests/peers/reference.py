"""What the program says of a model: what engines are held against."""

import json
import os
import subprocess
import tempfile


def run(program, *arguments):
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, arguments))}: {done.stderr.strip()}")
    return done.stdout


def score(program, model, question, dtype="float64"):
    """What `mlaforge score` answers: nll, last_logits and greedy of rows of ids."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "question.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(question, file)
        run(program, "score", "--model", model, "--ids", path, "--dtype", dtype, "--output", path + ".out", "-q")
        with open(path + ".out", encoding="utf-8") as file:
            return json.load(file)


def tokens_of(program, model, text):
    """The ids of a text; None where MODEL has no tokenizer."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "texts.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"texts": [text]}, file)
        done = subprocess.run([program, "tokenize", "--tokenizer", model, "--input", path, "--json", "-q"],
                              capture_output=True, text=True, check=False)
        return json.loads(done.stdout)["ids"][0] if done.returncode == 0 else None


# Perplexity is that of some windows of a text, all of whose tokens but the first are predicted.
WINDOW, WINDOWS = 128, 4
SAME_PERPLEXITY = 1e-3


def windows_of(program, model, path):
    """The first windows of a text; None where MODEL has no tokenizer."""
    with open(path, encoding="utf-8") as file:
        ids = tokens_of(program, model, file.read(16 * WINDOW * WINDOWS))
    if ids is None or len(ids) < WINDOW * WINDOWS:
        return None
    return [ids[i * WINDOW:(i + 1) * WINDOW] for i in range(WINDOWS)]


def mean_nll(program, model, windows):
    """In float64."""
    losses = [loss for row in score(program, model, {"ids": windows})["nll"] for loss in row]
    return sum(losses) / len(losses)
