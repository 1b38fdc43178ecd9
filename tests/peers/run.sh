#!/bin/bash
# Converts, exports and loads small models in the engines themselves: in an environment of its own, made from PyPI.
# PEERS_PYTHON=/path/to/python uses another one as it is.
set -euo pipefail
cd "$(dirname "$0")/../.."
program=build/release/mlaforge
shared=${MLA_SHARED:-../shared}
work=build/peers
python=${PEERS_PYTHON:-$work/venv/bin/python}
mkdir -p "$work"
if [ ! -x "$python" ]; then
  python3 -m venv "$work/venv"
  "$work/venv/bin/pip" install --quiet torch --index-url https://download.pytorch.org/whl/cpu ||
    "$work/venv/bin/pip" install --quiet torch
  "$work/venv/bin/pip" install --quiet 'transformers>=5,<6' safetensors gguf xllamacpp
fi

text=data/README.md
sources=(data/toy_mha data/toy_gqa)
if [ -d "$shared/data/weights/tinystories-656k" ]; then sources+=("$shared/data/weights/tinystories-656k"); fi
if [ "${PEERS_SMOLLM2:-1}" = 1 ] && [ -f build/models/SmolLM2-135M-Instruct.Q8_0.gguf ]; then
  sources+=(build/models/SmolLM2-135M-Instruct.Q8_0.gguf)
fi
checks=() coded=() files=()
# A GGUF file in float32, and one in float16.
add_gguf() {
  for type in F32 F16; do
    rm -f "$work/$1.$type.gguf" "$work/$1.$type.md"
    $program export --model "$2" --format gguf --output "$work/$1.$type.gguf" --type $type --quiet > /dev/null
    files+=("$work/$1.$type.gguf" "$2")
  done
}
for source in "${sources[@]}"; do
  name=$(basename "$source" .gguf)
  # Per-head rotated keys on a staggered comb, and one shared rotated key.
  d_kv=16 cached=48
  case $name in SmolLM2*) d_kv=32 cached=160 ;; tinystories*) d_kv=8 cached=24 ;; esac
  add_gguf "$name" "$source"
  for method in comb shared; do
    converted=$work/$name.$method exported=$work/$name.$method.deepseek_v3
    rm -rf "$converted" "$exported"
    if [ $method = comb ]; then
      $program convert --model "$source" --output "$converted" --rope comb --pairs 2 --d-kv $d_kv --quiet
    else
      $program convert --model "$source" --output "$converted" --method transmla --cached $cached \
        --set collapse=2 --set fold=2 --calibration "$text" --calibration-rows 8 --calibration-length 64 --quiet
    fi > /dev/null
    $program export --model "$converted" --format deepseek_v3 --output "$exported" --dtype float32 --quiet > /dev/null
    checks+=("$exported" "$converted")
    add_gguf "$name.$method" "$converted"
  done
  # Sets of pairs by layer, which no class of the library's holds.
  converted=$work/$name.two_norm exported=$work/$name.transformers_code
  rm -rf "$converted" "$exported"
  $program convert --model "$source" --output "$converted" --rope two_norm --pairs 2 --d-kv $d_kv --calibration "$text" \
    --calibration-rows 8 --calibration-length 64 --quiet > /dev/null
  $program export --model "$converted" --format transformers_code --output "$exported" --dtype float32 --quiet > /dev/null
  coded+=("$exported" "$converted")
done
status=0
"$python" tests/peers/transformers_export.py $program --text "$text" "${checks[@]}" || status=1
"$python" tests/peers/transformers_export.py $program --text "$text" --trust-remote-code "${coded[@]}" || status=1
"$python" tests/peers/llama_cpp_export.py $program "${files[@]}" || status=1
exit $status
