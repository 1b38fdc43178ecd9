#!/bin/bash
# How much of a busy machine the program makes use of: whole commands alone, and beside a program that keeps one core
# busy, in turn. On C cores the fair share is C - 1/2 of them; the last column is the busy rate over that of the fair share.
# Usage: tests/benchmarks/busy_machine.sh [PAIRS] [PROGRAM]; needs a machine where nothing else runs, and MLA_SHARED.
set -euo pipefail
cd "$(dirname "$0")/../.."
pairs=${1:-3} program=${2:-build/release/mlaforge} shared=${MLA_SHARED:-../shared}
[ -d "$shared" ] || { echo "$shared: no such folder; MLA_SHARED names it" >&2; exit 3; }
work=$(mktemp -d)
hog=
quiet() { [ -z "$hog" ] || { kill "$hog" 2>/dev/null || true; wait "$hog" 2>/dev/null || true; hog=; }; }
trap 'quiet; rm -rf "$work"' EXIT
busy() { (while :; do :; done) & hog=$!; }

cat > "$work/pretrain.json" <<EOF
{
  "output": "$work/model",
  "config": {
    "model_type": "llama", "vocab_size": 2048, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 12,
    "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 64, "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5, "rope_theta": 10000, "tie_word_embeddings": true
  },
  "tokenizer": "$shared/data/weights/tinystories-656k",
  "train": {
    "steps": 6, "batch_rows": 2, "sequence_length": 256, "learning_rate": 1e-3,
    "data": {
      "files": ["$shared/data/corpora/tinystories/decoded_val.txt"],
      "documents": {"separator": "<|endoftext|>", "normalize_whitespace": true}
    }
  }
}
EOF
text="$shared/data/corpora/tinystories/decoded_test.txt"
"$program" pretrain "$work/pretrain.json" --set train.steps=1 > /dev/null 2>&1
"$program" bench --model "$work/model" --help > /dev/null

declare -A command=(
  [decode]="bench --model $work/model --context 128 --new-tokens 192 --repeats 1 --warm-up 1"
  [prompt]="bench --model $work/model --context 1024 --new-tokens 2 --repeats 4 --warm-up 1"
  [training]="pretrain $work/pretrain.json --set output=$work/trained"
  [evaluation]="evaluate --model $work/model --perplexity $text --separator <|endoftext|> --context 256 --max-documents 40"
  [calibration]="convert --model $work/model --output $work/converted --calibration $shared/data/corpora/tinystories/decoded_val.txt --calibration-length 256 --calibration-rows 64 --rope two_norm --d-kv 16"
)
seconds() { # NAME
  rm -rf "$work/trained" "$work/converted"
  local start end
  start=$(date +%s.%N)
  # shellcheck disable=SC2086
  "$program" ${command[$1]} > "$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
  end=$(date +%s.%N)
  awk "BEGIN {printf \"%.3f\", $end - $start}"
}
median() { sort -n | awk '{v[NR] = $1} END {print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2}'; }

cores=$(nproc)
printf '%-12s %10s %10s %14s\n' what 'quiet s' 'busy s' 'of fair share'
for name in decode prompt training evaluation calibration; do
  : > "$work/quiet"; : > "$work/busy"
  for _ in $(seq "$pairs"); do
    seconds "$name" >> "$work/quiet"; echo >> "$work/quiet"
    busy; seconds "$name" >> "$work/busy"; echo >> "$work/busy"; quiet
  done
  awk -v what="$name" -v q="$(grep . "$work/quiet" | median)" -v b="$(grep . "$work/busy" | median)" -v c="$cores" \
    'BEGIN {printf "%-12s %10.2f %10.2f %14.2f\n", what, q, b, (q / b) / ((c - 0.5) / c)}'
done
