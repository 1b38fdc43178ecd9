#!/bin/bash
# bundle.sh BUILD OUTPUT: puts the built programs, and all libraries that they need but LibTorch and the C library, into
# one tar, OUTPUT. It runs on another machine of this architecture beside that machine's own LibTorch of the same version
# (tests/devices/gpu_check.sh): bin/, lib/ with what was taken, and libraries.txt, which says whence.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
build=$1 output=$2
limit=$((60 * 1000 * 1000))
work=$(mktemp -d "$build/bundle.XXXXXX")
trap 'rm -rf "$work"' EXIT
into=$work/mlaforge
mkdir -p "$into/bin" "$into/lib"
cp "$build/mlaforge" "$build/mlaforge-report" "$into/bin"
cp "$root/tests/devices/gpu_check.sh" "$into"

# Not taken: the C library, which goes with the machine's loader and kernel and is newer where programs of this one run;
# and LibTorch with all that lies beside it.
libraries() {
  ldd "$build/mlaforge" "$build/mlaforge-report" | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | sort -u |
    grep -vE '/(libc|libm|libdl|librt|libpthread|libutil|libresolv|ld-linux[^/]*)\.so' |
    grep -vE '/(libtorch[^/]*|libc10[^/]*|libgomp|libcupti|libcudart)[^/]*\.so'
}
while read -r library; do
  cp -L "$library" "$into/lib"
  package=$(dpkg -S "$(readlink -f "$library")" 2> /dev/null | cut -d: -f1 || true)
  printf '%s\t%s\n' "$(basename "$library")" "${package:-this build}" >> "$into/libraries.txt"
done < <(libraries)
strip --strip-unneeded "$into"/bin/* "$into"/lib/*.so* 2> /dev/null || true
for file in "$into"/bin/*; do patchelf --set-rpath '$ORIGIN/../lib:$ORIGIN/../torch/lib' "$file"; done
for file in "$into"/lib/*.so*; do patchelf --set-rpath '$ORIGIN:$ORIGIN/../torch/lib' "$file"; done

versions() { objdump -T "$into"/bin/* "$into"/lib/*.so* 2> /dev/null | grep -o "$1_[0-9][0-9.]*" | sort -Vu | tail -1; }
{ echo "needs $(versions GLIBC) and LibTorch $(sed -n 's/^version=//p' "$root/cmake/fetch_libtorch.sh")"; } >> "$into/libraries.txt"
tar -C "$work" -czf "$output" mlaforge
size=$(stat -c %s "$output")
if ((size > limit)); then
  echo "$output: $size bytes, more than the $limit that a bundle may have" >&2
  exit 1
fi
echo "$output: $((size / 1000000)) MB; $(tail -1 "$into/libraries.txt")"
