#!/usr/bin/env bash
# gpu_check.sh BUNDLE: what a bundle's program (make bundle: a tar, or the folder in it) does on this machine's GPU, as one
# JSON object; in less than eight minutes, and nothing is fetched. Model, texts and tokenizer are made here.
#   LIBTORCH=/path   the LibTorch or torch folder to use, 2.11; default: that of `python3 -c 'import torch'`
#   DEVICE=cuda      cuda:N, or cpu: the same script with itself compared
#   SIZE=large       small: a model of no weight, for a test of this script; the default of DEVICE=cpu
#   THREADS=0        of what is computed on the host
# Exit code 1 where a step failed or a number is not the host's; the JSON says which.
set -euo pipefail
bundle=${1:?usage: gpu_check.sh BUNDLE}
device=${DEVICE:-cuda}
size=${SIZE:-$([[ $device == cpu ]] && echo small || echo large)}
threads=${THREADS:-0}
SECONDS=0
work=$(mktemp -d "${TMPDIR:-/tmp}/mlaforge_check.XXXXXX")
trap 'rm -rf "$work"' EXIT

if [[ -d $bundle ]]; then cp -r "$bundle" "$work/mlaforge"; else tar -xf "$bundle" -C "$work"; fi
program=("$work/mlaforge/bin/mlaforge")
torch=${LIBTORCH:-$(python3 -c 'import importlib.util as u; print(u.find_spec("torch").submodule_search_locations[0])')}
[[ -e $torch/lib/libtorch_cpu.so ]] || torch=$torch/torch
[[ -e $torch/lib/libtorch_cpu.so ]] || { echo "gpu_check: no lib/libtorch_cpu.so in ${LIBTORCH:-PyTorch}" >&2; exit 2; }
ln -sfn "$(realpath "$torch")" "$work/mlaforge/torch"
cd "$work"
# With the bundle's own C library where this machine's is older.
loader=("$work"/mlaforge/lib/glibc/ld-linux*)
if ! "${program[@]}" --version > /dev/null 2>&1; then
  program=("${loader[0]}" --library-path "$work/mlaforge/lib/glibc:$work/mlaforge/lib:$work/mlaforge/torch/lib" "${program[@]}")
  "${program[@]}" --version > /dev/null || { echo "gpu_check: the bundle's program does not start here" >&2; exit 2; }
fi

# Sizes: hidden, layers, heads, KV heads, inner width; rows and tokens of a step, steps; contexts and batches of decoding.
if [[ $size == large ]]; then
  shape=(1024 16 16 4 2816) rows=8 length=1024 steps=30 contexts=512,2048 batches=1,8,64 new=64 healing=20
else
  shape=(64 2 4 2 176) rows=2 length=64 steps=4 contexts=32 batches=1,2 new=4 healing=3
fi
pairs=4 d_kv=16

report='' failed=''
# step NAME COMMAND…: its JSON, and how long it took.
step() {
  local name=$1 begin=$SECONDS
  shift
  if "${program[@]}" "$@" --json --quiet --threads "$threads" > "$name.json" 2> "$name.log"; then
    report+="\"$name\":{\"seconds\":$((SECONDS - begin)),\"report\":$(cat "$name.json")},"
  else
    rm -f "$name.json"
    failed+="${failed:+,}\"$name: $(tail -1 "$name.log" | tr -d '"\\' | tr '\t' ' ')\""
  fi
  echo "gpu_check: $name, $((SECONDS - begin)) s" >&2
}
# The first, or N-th, number of that name in a step's JSON; null where there is none.
number() {
  local found=''
  [[ -e $1.json ]] && found=$(grep -oE "\"$2\": ?-?[0-9][-+.0-9e]*" "$1.json" | sed -n "${3:-1}p" | sed 's/.*: *//')
  echo "${found:-null}"
}
# An expression of numbers, null where one is; names are awk's a, b, c.
compute() { awk -v a="${2:-0}" -v b="${3:-0}" -v c="${4:-0}" "BEGIN { if (a == \"null\" || b == \"null\" || c == \"null\") print \"null\"; else printf \"%.6g\", ($1) }"; }

"${program[@]}" toy --output data --stories 4000 --fine-tune 400 --held-out 40 --items 4 --quiet > /dev/null
vocabulary=$(grep -oE '"id": ?[0-9]+' data/tokenizer.json | grep -oE '[0-9]+' | sort -n | tail -1)
cat > pretrain.json << END
{"output": "model", "tokenizer": "data/tokenizer.json", "device": "$device",
 "config": {"model_type": "llama", "vocab_size": $((vocabulary + 1)), "hidden_size": ${shape[0]}, "num_hidden_layers": ${shape[1]},
            "num_attention_heads": ${shape[2]}, "num_key_value_heads": ${shape[3]}, "intermediate_size": ${shape[4]},
            "max_position_embeddings": 4096},
 "train": {"steps": $steps, "batch_rows": $rows, "sequence_length": $length, "learning_rate": 0.0005,
           "data": {"files": ["data/train.txt"]}}}
END
cat > experiment.json << END
{"model": {"path": "model"}, "results": "results", "device": "$device",
 "compress": [{"name": "mha2mla", "rope": {"name": "high", "pairs": $pairs}, "low_rank": {"name": "joint_svd", "d_kv": $d_kv}}],
 "train": {"steps": $healing, "batch_rows": $rows, "sequence_length": $length, "learning_rate": 0.0003, "loss": {"distillation": 1},
           "data": {"files": ["data/fine_tune.txt"]}},
 "cache": {"codec": {"name": "hqq", "bits": 4}},
 "evaluate": [{"task": "perplexity", "context": $((length / 2)), "data": {"files": ["data/held_out.txt"]}}]}
END
echo '{"ids": [[1, 5, 9, 13, 17, 21, 25, 29], [2, 4, 8, 16, 32, 64]], "last": 1, "greedy_tokens": 16}' > ids.json

step train pretrain pretrain.json
step train_bfloat16 pretrain pretrain.json --products bfloat16 --set output=model_bfloat16
convert=(convert --model model --rope two_norm --pairs $pairs --d-kv $d_kv --calibration data/calibration.txt --calibration-rows 64
  --calibration-length 256)
step convert "${convert[@]}" --output converted --device "$device"
step convert_host "${convert[@]}" --output converted_host --device cpu
step distance distance --model converted --source converted_host --text data/held_out.txt --context 256 --max-documents 20 --device "$device"
step evaluate evaluate --model converted --perplexity data/held_out.txt --context 256 --device "$device"
step evaluate_host evaluate --model converted --perplexity data/held_out.txt --context 256 --device cpu
for codec in hqq4 kivi2; do  # token by token: residuals, groups that fill, codes that are read again
  codes=(evaluate --model converted --perplexity data/held_out.txt --context 256 --max-documents 2 --cache $codec)
  step $codec "${codes[@]}" --device "$device"
  step ${codec}_host "${codes[@]}" --device cpu
done
step score score --model converted --ids ids.json --dtype float32 --device "$device"
step score_host score --model converted --ids ids.json --dtype float32 --device cpu
step decode bench --model converted --batch $batches --context $contexts --new-tokens $new --cache plain --device "$device"
step decode_source bench --model model --batch $batches --context $contexts --new-tokens $new --cache plain --device "$device"
step decode_codes bench --model converted --batch 1 --context ${contexts%%,*} --new-tokens 8 --cache hqq4 --device "$device"
step cell run experiment.json

# What a token costs forward and backward, of what the device's largest products do in float32.
train_rate=$(number train tokens_per_second) parameters=$(number train parameters) peak=$(number decode operations_per_second)
nll_gap=$(compute "a > b ? a - b : b - a" "$(number evaluate mean_nll)" "$(number evaluate_host mean_nll)")
greedy() { grep -oE '"greedy": ?\[.*' "$1.json" 2> /dev/null | head -c 400 || true; }
same_greedy=false
[[ -e score.json && -e score_host.json && $(greedy score) == "$(greedy score_host)" ]] && same_greedy=true
codes_gap=$(compute "(a > b ? a - b : b - a)" "$(number hqq4 mean_nll)" "$(number hqq4_host mean_nll)")
few_bits_gap=$(compute "(a > b ? a - b : b - a)" "$(number kivi2 mean_nll)" "$(number kivi2_host mean_nll)")
conversion_gap=$(grep -oE '"kl_mean":\{"value":[-+.0-9e]*' distance.json 2> /dev/null | sed 's/.*://' || true)
conversion_gap=${conversion_gap:-null}
within() { [[ $1 != null ]] && awk -v x="$1" -v most="$2" 'BEGIN { exit !(x <= most) }'; }
within "$nll_gap" 1e-3 || failed+="${failed:+,}\"evaluation: nll differs from the host's by $nll_gap\""
# A sum that rounds otherwise becomes another code here and there.
within "$codes_gap" 1e-2 || failed+="${failed:+,}\"codes of 4 bits: nll differs from the host's by $codes_gap\""
within "$few_bits_gap" 3e-2 || failed+="${failed:+,}\"codes of 2 bits: nll differs from the host's by $few_bits_gap\""
within "$conversion_gap" 1e-4 || failed+="${failed:+,}\"conversion: KL from the host's is $conversion_gap\""
[[ $same_greedy == true ]] || failed+="${failed:+,}\"decoding: other tokens than the host's\""

name=$([[ $device == cuda* ]] && nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2> /dev/null | head -1 || true)
version=$(sed -n "s/^__version__ = '\(.*\)'/\1/p" "$torch/version.py" 2> /dev/null || true)
cat << END
{"device":"$device","size":"$size","gpu":"${name:-none}","libtorch":"${version:-$torch}","seconds":$SECONDS,
"summary":{"parameters":$parameters,"train_tokens_per_second":$train_rate,"train_share_of_peak":$(compute "6 * a * b / c" "$parameters" "$train_rate" "$peak"),
"train_bfloat16_tokens_per_second":$(number train_bfloat16 tokens_per_second),
"float32_operations_per_second":$peak,"bytes_per_second":$(number decode bytes_per_second),
"decode_tokens_per_second":$(number decode tokens_per_second),"decode_bandwidth_share":$(number decode bandwidth_share),
"decode_source_tokens_per_second":$(number decode_source tokens_per_second),"decode_codes_tokens_per_second":$(number decode_codes tokens_per_second),
"nll_gap":$nll_gap,"nll_gap_hqq4":$codes_gap,"nll_gap_kivi2":$few_bits_gap,"conversion_kl":$conversion_gap,"same_greedy_tokens":$same_greedy},
"steps":{${report%,}},
"failed":[$failed]}
END
[[ -z $failed ]]
