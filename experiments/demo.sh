#!/usr/bin/env bash
# The main job from end to end on the small model that comes with the project: its language and tasks are written anew,
# then a grid of conversions is fine-tuned and evaluated, one record per cell, and shown as the paper's Table 3.
# What is complete is not made again. Nothing is fetched.
set -euo pipefail
cd "$(dirname "$0")/.."

build=${MLAFORGE_BUILD:-build/release}
folder=results/demo
export TOY_DATA=$folder/data

step() { printf '\n== %s\n' "$*"; }

if [[ ! -e $TOY_DATA/tokenizer.json ]]; then
  step "1/3 stories and tasks"
  "$build"/mlaforge toy --output "$TOY_DATA" --stories 100 --fine-tune 400 --held-out 40 --items 40
fi
step "2/3 convert, fine-tune, evaluate"
"$build"/mlaforge run configs/demo/ablation.json
step "3/3 partial RoPE and low rank, as in the paper's Table 3"
"$build"/mlaforge-report table $folder/ablation
"$build"/mlaforge-report html $folder --output $folder/report.html --title "mlaforge demo"
printf '\nrecords: %s\n' "$folder/ablation/*.h5"
printf 'run again: cells whose record is complete are skipped; rm -r %s starts afresh\n' $folder
printf 'with seeds and all items (about an hour): configs/paper/toy_table3.json\n'
