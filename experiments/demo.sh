#!/usr/bin/env bash
# The main job from end to end on a model small enough to be trained here: toy stories and tasks, a source model, then a
# grid of conversions, fine-tuned and evaluated, one record per cell, shown as the paper's Table 3.
# What is complete is not made again. Nothing is fetched.
set -euo pipefail
cd "$(dirname "$0")/.."

build=${MLAFORGE_BUILD:-build/release}
folder=results/demo
export TOY_DATA=$folder/data TOY_MODEL=$folder/model
pretrain=configs/toy/pretrain_mha.json

step() { printf '\n== %s\n' "$*"; }

if [[ ! -e $TOY_DATA/tokenizer.json ]]; then
  step "1/4 stories and tasks"
  "$build"/mlaforge toy --output "$TOY_DATA" --stories 6000 --held-out 60 --items 50
fi
# config.json is written last: a folder with one holds a whole model.
if [[ ! $TOY_MODEL/config.json -nt $pretrain || ! $TOY_MODEL/config.json -nt $TOY_DATA/train.txt ]]; then
  step "2/4 a source model, trained from nothing"
  "$build"/mlaforge pretrain $pretrain --set output="$TOY_MODEL" --set tokenizer="$TOY_DATA/tokenizer.json" \
    --set "train.data.files=[\"$TOY_DATA/train.txt\"]" --set train.steps=300
fi
step "3/4 convert, fine-tune, evaluate"
"$build"/mlaforge run configs/demo/ablation.json
step "4/4 partial RoPE and low rank, as in the paper's Table 3"
"$build"/mlaforge-report table $folder/ablation
printf '\nrecords: %s\n' "$folder/ablation/*.h5"
printf 'run again: cells whose record is complete are skipped; rm -r %s starts afresh\n' $folder
printf 'a longer training, seeds and all items: configs/toy/pretrain_mha.json, then configs/paper/toy_table3.json\n'
