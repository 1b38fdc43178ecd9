"""Requests per second of lm-evaluation-harness's HF backend, and of a plain transformers scorer that batches alike.

usage: huggingface_evaluation.py make FOLDER TOKENIZER_FOLDER ITEMS.jsonl [requests]
       huggingface_evaluation.py harness FOLDER [batch]
       huggingface_evaluation.py score FOLDER [batch]
`make` writes SmolLM-135M's geometry with random weights, and the first (context, choice) requests (400) of a list of
{"context", "choices", "gold"} lines as items for evaluation_benchmark. `harness` (needs PyPI's lm_eval) and `score`
print requests per second and write the log-likelihoods to FOLDER/reference.json. Set OMP_NUM_THREADS for both programs
alike.
"""
import json
import pathlib
import shutil
import sys
import time

import torch
import torch.nn.functional as F
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

GEOMETRY = dict(vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
                num_key_value_heads=3, max_position_embeddings=2048, tie_word_embeddings=True, rms_norm_eps=1e-5)


def make(folder, tokenizer, items, count=400):
    torch.manual_seed(1)
    model = LlamaForCausalLM(LlamaConfig(**GEOMETRY, initializer_range=0.05)).float()
    model.save_pretrained(folder)
    for file in pathlib.Path(tokenizer).glob("*.json"):
        if file.name != "config.json":
            shutil.copy(file, folder)
    written = 0
    with open(folder / "items.jsonl", "w") as out:
        for line in open(items):
            item = json.loads(line)
            choices = [" " + choice for choice in item["choices"]][: int(count) - written]
            if len(choices) < 2:
                break
            answer = min(item["gold"], len(choices) - 1)
            out.write(json.dumps({"context": item["context"], "choices": choices, "answer": answer}) + "\n")
            written += len(choices)
    print(written, "requests")


def requests_of(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for line in open(folder / "items.jsonl"):
        item = json.loads(line)
        context = tokenizer(item["context"], add_special_tokens=False)["input_ids"]
        for choice in item["choices"]:
            whole = tokenizer(item["context"] + choice, add_special_tokens=False)["input_ids"]
            yield context, whole[len(context):]


def report(folder, sums, seconds, batch):
    json.dump(sums, open(folder / "reference.json", "w"))
    print(f"{len(sums) / seconds:.2f} requests/s, {len(sums)} requests, batch {batch}, {torch.get_num_threads()} threads")


def harness(folder, batch=32):
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, bos_token="<|endoftext|>", eos_token="<|endoftext|>")
    scorer = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=int(batch), device="cpu")
    items = [json.loads(line) for line in open(folder / "items.jsonl")]
    requests = [Instance("loglikelihood", {}, (item["context"], choice), i)
                for item in items for i, choice in enumerate(item["choices"])]
    scorer.loglikelihood(requests[:2], disable_tqdm=True)
    start = time.perf_counter()
    results = scorer.loglikelihood(requests, disable_tqdm=True)
    report(folder, [value for value, _ in results], time.perf_counter() - start, batch)


@torch.inference_mode()
def score(folder, batch=32):
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    requests = list(requests_of(folder))
    order = sorted(range(len(requests)), key=lambda i: -sum(map(len, requests[i])))
    sums = [0.0] * len(requests)
    model(torch.zeros(1, 8, dtype=torch.long))
    start = time.perf_counter()
    for begin in range(0, len(order), int(batch)):
        now = order[begin:begin + int(batch)]
        rows = [(requests[i][0] + requests[i][1])[:-1] for i in now]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        logits = F.log_softmax(model(ids).logits, dim=-1)
        for row, i in enumerate(now):
            continuation = torch.tensor(requests[i][1])
            own = logits[row, len(rows[row]) - len(continuation):len(rows[row])]
            own.argmax(-1)  # the harness reports whether the continuation is greedy
            sums[i] = own.gather(1, continuation[:, None]).sum().item()
    report(folder, sums, time.perf_counter() - start, batch)


if __name__ == "__main__":
    command, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    {"make": make, "harness": harness, "score": score}[command](folder, *sys.argv[3:])
