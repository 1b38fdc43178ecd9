#!/bin/bash
# Compiles the kernels and what chooses among them for 64-bit ARM, with Debian's cross compiler, as far as the assembler:
# what names an x86 instruction set outside its guard fails. Nothing is linked, for there is no LibTorch of that machine
# here. Argument: more files.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
bash "$root/cmake/install_debian_packages.sh" g++-aarch64-linux-gnu
torch=${LIBTORCH:-$root/build/libtorch}
[[ -d $torch/torch/include ]] && torch=$torch/torch
headers=$(mktemp -d)
trap 'rm -rf "$headers"' EXIT
# Headers alone, which are the same for all machines; /usr/include itself holds those of this one.
ln -s /usr/include/nlohmann "$headers/nlohmann"
ln -s /usr/include/eigen3 "$headers/eigen3"
files=("$root"/core/ops/*.cpp "$@")
failed=0
for file in "${files[@]}"; do
  aarch64-linux-gnu-g++ -std=c++20 -O2 -fopenmp -Wall -Wextra -Wshadow -Wconversion -fsyntax-only -I "$root" \
    -I "$headers" -I "$headers/eigen3" -isystem "$torch/include" -isystem "$torch/include/torch/csrc/api/include" \
    "$file" || { echo "not for aarch64: ${file#"$root"/}" >&2; failed=1; }
done
[[ $failed -eq 0 ]] && echo "${#files[@]} files compile for aarch64"
exit "$failed"
