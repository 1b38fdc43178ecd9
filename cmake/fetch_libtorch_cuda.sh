#!/bin/bash
# Puts LibTorch's CUDA libraries, and NVIDIA's that they need, beside the CPU part in build/libtorch: 2.5 GB to fetch, 6 GB
# on disk, once. The program that is built already finds them there when it is asked for --device cuda; nothing is
# compiled again. A GPU and its driver are not needed here, but where it runs.
set -euo pipefail
version=2.11.0
root=$(cd "$(dirname "$0")/.." && pwd)
target=$root/build/libtorch
if [[ -n ${LIBTORCH:-} ]]; then
  echo "LIBTORCH=$LIBTORCH is in use: its own CUDA libraries are taken, where it has some" >&2
  exit 0
fi
if [[ ! -f $target/.complete-$version ]]; then bash "$root/cmake/fetch_libtorch.sh"; fi
if [[ -f $target/.cuda-$version ]]; then exit 0; fi

echo "LibTorch $version: fetching its CUDA libraries (2.5 GB) into build/libtorch"
machine=$(uname -m)
work=$(mktemp -d "$root/build/fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
# With what it depends on; of that the Python packages are left in the folder that is removed.
python3 -m pip download --quiet --disable-pip-version-check --only-binary=:all: --dest "$work" \
  --python-version 3.11 --implementation cp --abi cp311 --abi abi3 --abi none \
  --platform "manylinux_2_28_$machine" --platform "manylinux_2_27_$machine" --platform "manylinux_2_25_$machine" \
  --platform "manylinux_2_17_$machine" --platform "manylinux2014_$machine" "torch==$version" ||
  { echo "LibTorch $version and NVIDIA's libraries cannot be fetched from PyPI" >&2; exit 1; }
mkdir "$work/out"
unzip -q -o "$work"/torch-*.whl 'torch/lib/*.so*' -d "$work/out"
for wheel in "$work"/nvidia_*.whl; do
  unzip -q -o "$wheel" '*/lib/*.so*' -d "$work/out" || [[ $? -eq 11 ]]  # 11: it holds none
done
if [[ ! -f $work/out/torch/lib/libtorch_cuda.so ]]; then
  echo "this machine's wheel of torch $version ($machine) is without CUDA; name another LibTorch with LIBTORCH=/path" >&2
  exit 1
fi
# What is in use stays: it is the same file.
rm -f "$work"/out/torch/lib/{libtorch_cpu.so,libc10.so,libtorch_python.so}
cp -r "$work"/out/. "$target"
touch "$target/.cuda-$version"
