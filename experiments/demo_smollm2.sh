#!/usr/bin/env bash
# The main job on a real language model: SmolLM2-135M-Instruct (build/models; `make smollm2`) is converted, healed for about
# two minutes on mixed text, and asked 100 items of two tasks before, between and after. Text and items come from the folder
# that MLA_SHARED names. What is complete is not made again.
set -euo pipefail
cd "$(dirname "$0")/.."

build=${MLAFORGE_BUILD:-build/release}
folder=results/demo_smollm2

step() { printf '\n== %s\n' "$*"; }

if [[ ! -d ${MLA_SHARED:-../shared}/data/corpora ]]; then
  echo "demo-smollm2: MLA_SHARED=${MLA_SHARED:-../shared} holds no data/corpora: text and items for this demo lie there" >&2
  exit 2
fi
step "1/2 convert, heal, evaluate"
"$build"/mlaforge run configs/demo/smollm2.json "$@"
step "2/2 source, converted, healed"
"$build"/mlaforge-report table $folder/smollm2 --stage all --row stage --row saved_percent \
  --metric bytes_per_token --metric wikitext2/perplexity --metric arc_easy/accuracy_normalized --metric piqa/accuracy_normalized
printf '\nrecord: %s\n' "$folder/smollm2/*.h5"
printf 'run again: what is complete is skipped; rm -r %s starts afresh\n' $folder
printf 'the paper'\''s tables on this model (hours): configs/smollm2/*.json\n'
