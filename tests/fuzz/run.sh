#!/bin/bash
# Runs fuzz targets of build/fuzz, each for SECONDS, and prints a table. With RUNS=N in the environment each stops after N
# executions, or after SECONDS if they come first. What was found is kept in build/fuzz/findings/TARGET,
# what leads into the readers in build/fuzz/corpus/TARGET. Fails when anything was found.
# Usage: tests/fuzz/run.sh [SECONDS] [TARGET…]
set -uo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-60}
shift || true
programs=build/fuzz/tests/fuzz
export TMPDIR
TMPDIR=$(mktemp -d "$([[ -d /dev/shm ]] && echo /dev/shm || echo /tmp)/mla_fuzz.XXXXXX")  # inputs become files: in memory
trap 'rm -rf "$TMPDIR"' EXIT
export OMP_NUM_THREADS=1
total=0
printf '%-26s %12s %8s %9s\n' target executions 'per s' findings
for program in fuzz_text fuzz_model; do
  for target in $("$programs/$program" list); do
    [[ $# -eq 0 || " $* " == *" $target "* ]] || continue
    corpus=build/fuzz/corpus/$target findings=build/fuzz/findings/$target log=build/fuzz/$target.log
    mkdir -p "$corpus" "$findings"
    "$programs/$program" "$target" seeds "$corpus"
    known=()
    [[ -d tests/fuzz/findings/$target ]] && known=("tests/fuzz/findings/$target")
    # One finding ends a target's run. Memory and time of one input are bounded.
    "$programs/$program" "$target" -max_total_time="$seconds" -runs="${RUNS:--1}" -timeout=20 -rss_limit_mb=4096 -malloc_limit_mb=1024 \
      -max_len=65536 -print_final_stats=1 -artifact_prefix="$findings/" "$corpus" "${known[@]}" >"$log" 2>&1
    code=$?
    found=$((code != 0))
    total=$((total + found))
    number() { sed -n "s/^stat::$1: *//p" "$log" | tail -1; }
    printf '%-26s %12s %8s %9s\n' "$target" "$(number number_of_executed_units)" "$(number average_exec_per_sec)" "$found"
    [[ $found -eq 0 ]] || echo "  $log, $(ls -t "$findings" | head -1)"
  done
done

# Whole commands, which need all of the program: mutated without libFuzzer's eyes, in the release build, with bounded memory.
tests=build/release/tests/test_end_to_end
if [[ -x $tests ]]; then
  export MLA_FUZZ_SECONDS=$seconds MLA_FUZZ_FOLDER=$PWD/build/fuzz/findings
  for target in $("$tests" --gtest_list_tests --gtest_filter='*Fuzz*' | sed -n 's:.*RefusesOrReads/\([a-z_0-9]*\).*:\1:p'); do
    [[ $# -eq 0 || " $* " == *" $target "* ]] || continue
    log=build/fuzz/$target.log
    (ulimit -v 16000000; timeout $((seconds + 120)) "$tests" --gtest_brief=1 --gtest_filter="*Fuzz*/$target" >"$log" 2>&1) ||
      { total=$((total + 1)); echo "  $log, build/fuzz/findings/$target.input"; }
    grep "^$target " "$log" || printf '%-26s %12s %8s %9s\n' "$target" '' '' 1
  done
fi
[[ $total -eq 0 ]]
