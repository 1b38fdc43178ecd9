#!/bin/bash
# Converts, exports and loads small models in the engines themselves: in an environment of its own, made from PyPI.
# PEERS_PYTHON=/path/to/python uses another one as it is.
set -euo pipefail
cd "$(dirname "$0")/../.."
program=build/release/mlaforge
shared=${MLA_SHARED:-../shared}
work=build/peers
mkdir -p "$work"
python=${PEERS_PYTHON:-$work/venv/bin/python}
if [ -z "${PEERS_PYTHON:-}" ] && [ ! -f "$work/venv/complete" ]; then
  python3 -m venv "$work/venv"
  # Without CUDA's libraries, where that index can be reached.
  "$work/venv/bin/pip" install --quiet torch --index-url https://download.pytorch.org/whl/cpu ||
    "$work/venv/bin/pip" install --quiet torch
  "$work/venv/bin/pip" install --quiet 'transformers>=5,<6' safetensors numpy gguf xllamacpp
  touch "$work/venv/complete"  # one that was left half made is made again
fi

text=data/README.md
# Whose perplexity is counted, where it is there.
corpus=()
if [ -f "$shared/data/corpora/wikitext2/wiki.test.raw" ]; then
  corpus=(--corpus "$shared/data/corpora/wikitext2/wiki.test.raw")
fi
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
# A folder with code of its own: its name, the source, what to calibrate on, and how to convert.
add_coded() {
  local converted=$work/$1 exported=$work/$1.code source=$2 calibration=$3
  shift 3
  rm -rf "$converted" "$exported"
  $program convert --model "$source" --output "$converted" "$@" --calibration "$calibration" \
    --calibration-rows 8 --calibration-length 64 --quiet > /dev/null
  $program export --model "$converted" --format transformers_code --output "$exported" --dtype float32 --quiet > /dev/null
  coded+=("$exported" "$converted")
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
  # Sets of pairs by layer, and mean keys, which no class of the library's holds.
  add_coded "$name.two_norm" "$source" "$text" --rope two_norm --pairs 2 --d-kv $d_kv
  add_coded "$name.mkla" "$source" "$text" --method mkla --cached $cached --set pairs=4 --set refit=false
done
# Linear rotation, with which llama.cpp scales logits of deepseek2, too.
linear=$work/toy_linear
rm -rf "$linear" "$linear.comb"
cp -r data/toy_gqa "$linear"
sed -i 's/^{/{"rope_scaling": {"rope_type": "linear", "factor": 4.0},/' "$linear/config.json"
$program convert --model "$linear" --output "$linear.comb" --rope comb --pairs 2 --d-kv 16 --quiet > /dev/null
add_gguf toy_linear.comb "$linear.comb"
# Ranks and pairs by layer.
add_coded toy_gqa.layers data/toy_gqa "$text" --method mha2mla \
  --set 'rope={"name": "two_norm", "pairs": [1, 2, 3, 2]}' --set 'low_rank={"name": "joint_svd", "d_kv": [8, 12, 16, 6]}'
with_text=("${coded[@]}") coded=()
# Biases and QK-norm, in models without a tokenizer.
families=$shared/data/conformance/families
if [ -d "$families" ]; then
  ids=$work/ids.json
  echo "{\"ids\": [[$(seq -s, 3 5 240)], [$(seq -s, 240 -5 3)]]}" > "$ids"
  add_coded qwen2.two_norm "$families/qwen2-gqa" "$ids" --rope two_norm --pairs 2 --d-kv 8
  add_coded qwen2.mkla "$families/qwen2-gqa" "$ids" --method mkla --cached 24
  add_coded qwen3.two_norm "$families/qwen3-gqa" "$ids" --method partial_rope \
    --set 'rope={"name": "two_norm", "pairs": 2}'
fi
status=0
transformers() { "$python" tests/peers/transformers_export.py $program "$@" || status=1; }
transformers --text "$text" "${corpus[@]}" "${checks[@]}"
transformers --text "$text" "${corpus[@]}" --trust-remote-code "${with_text[@]}"
if [ ${#coded[@]} -gt 0 ]; then transformers --trust-remote-code "${coded[@]}"; fi
"$python" tests/peers/llama_cpp_export.py $program "${corpus[@]}" "${files[@]}" || status=1
exit $status
