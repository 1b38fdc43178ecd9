#!/bin/bash
# Unpacks the CPU part of LibTorch from the PyPI wheel into build/libtorch, once. Nothing is fetched when it is there,
# or when LIBTORCH names another one. No Python is needed afterwards.
set -euo pipefail
version=2.11.0
root=$(cd "$(dirname "$0")/.." && pwd)
target=$root/build/libtorch
mkdir -p "$root/build"
if [[ -n ${LIBTORCH:-} || -f $target/.complete-$version ]]; then exit 0; fi

echo "LibTorch $version: fetching the wheel (530 MB) into build/libtorch"
machine=$(uname -m)  # x86_64 or aarch64
work=$(mktemp -d "$root/build/fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
fetch() {
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --dest "$work" \
    --python-version 3.11 --implementation cp --abi cp311 --abi none \
    --platform "manylinux_2_28_$machine" --platform "manylinux_2_25_$machine" --platform "manylinux_2_17_$machine" \
    --platform "manylinux2014_$machine" "$@"
}
fetch "torch==$version" "nvidia-cuda-runtime>=13,<14" "nvidia-cuda-cupti>=13,<14" ||
  { echo "LibTorch $version cannot be fetched from PyPI; give one with LIBTORCH=/path (>= 2.6)" >&2; exit 1; }
unzip -q -o "$work"/torch-*.whl 'torch/lib/libtorch_cpu.so' 'torch/lib/libc10.so' 'torch/lib/libgomp*' 'torch/include/*' -d "$work/out"
# On ARM the wheel brings its linear algebra beside it.
unzip -q -o "$work"/torch-*.whl 'torch.libs/*' -d "$work/out" 2>/dev/null || [[ $? -eq 11 ]]
unzip -q -o "$work"/nvidia_cuda_runtime-*.whl '*/lib/libcudart.so*' -d "$work/out"
unzip -q -o "$work"/nvidia_cuda_cupti-*.whl '*/lib/libcupti.so*' -d "$work/out"
touch "$work/out/.complete-$version"
rm -rf "$target"
mv "$work/out" "$target"
