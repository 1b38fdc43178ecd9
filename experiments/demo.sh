#!/usr/bin/env bash
# The main job from end to end on a model small enough to be trained here: toy stories, a source model, then its
# conversion, fine-tuning and evaluation over a grid, one record per cell. What is complete is not made again.
set -euo pipefail
cd "$(dirname "$0")/.."

mlaforge=${MLAFORGE:-build/release/mlaforge}
folder=results/demo
pretrain=configs/demo/pretrain.json

step() { printf '\n== %s\n' "$*"; }

if [[ ! -e $folder/data/tokenizer.json ]]; then
  step "1/3 stories and a tokenizer"
  "$mlaforge" toy --output $folder/data --stories 8000 --held-out 200
fi
# config.json is written last: a folder with one holds a whole model.
if [[ ! $folder/model/config.json -nt $pretrain || ! $folder/model/config.json -nt $folder/data/train.txt ]]; then
  step "2/3 a source model, trained from nothing"
  "$mlaforge" pretrain $pretrain
fi
step "3/3 convert, fine-tune, evaluate"
"$mlaforge" run configs/demo/mha2mla.json
printf '\nrecords: %s\n' "$folder/mha2mla/*.h5"
printf 'run again: cells whose record is complete are skipped; rm -r %s starts afresh\n' $folder
