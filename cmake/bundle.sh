#!/bin/bash
# bundle.sh BUILD OUTPUT: puts the built programs, and all libraries that they need but LibTorch, into one tar, OUTPUT. It
# runs on another machine of this architecture beside that machine's own LibTorch of the same version
# (tests/devices/gpu_check.sh): bin/, lib/ with what was taken, lib/glibc for machines whose C library is older than this
# one's, and libraries.txt, which says whence.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
build=$1 output=$2
limit=$((60 * 1000 * 1000))
work=$(mktemp -d "$build/bundle.XXXXXX")
trap 'rm -rf "$work"' EXIT
into=$work/mlaforge
mkdir -p "$into/bin" "$into/lib/glibc"
cp "$build/mlaforge" "$build/mlaforge-report" "$into/bin"
cp "$root/tests/devices/gpu_check.sh" "$into"

# Not taken: LibTorch with all that lies beside it.
libraries() {
  ldd "$build/mlaforge" "$build/mlaforge-report" | grep -oE '/[^ ]+\.so[^ ]*' | sort -u |
    grep -vE '/(libtorch[^/]*|libc10[^/]*|libgomp|libcupti|libcudart)[^/]*\.so'
}
while read -r library; do
  name=$(basename "$library")
  case $name in
    libc.so* | libm.so* | libdl.so* | librt.so* | libpthread.so* | libutil.so* | libresolv.so* | ld-linux*)
      cp -L "$library" "$into/lib/glibc" ;;
    *) cp -L "$library" "$into/lib" ;;
  esac
  package=$(dpkg -S "*/$(basename "$(readlink -f "$library")")" 2> /dev/null | head -1 | cut -d: -f1 || true)
  printf '%s\t%s\n' "$name" "${package:-this build}" >> "$into/libraries.txt"
done < <(libraries)
strip --strip-unneeded "$into"/bin/* "$into"/lib/*.so* 2> /dev/null || true
for file in "$into"/bin/*; do patchelf --set-rpath '$ORIGIN/../lib:$ORIGIN/../torch/lib' "$file"; done
for file in "$into"/lib/*.so*; do patchelf --set-rpath '$ORIGIN:$ORIGIN/../torch/lib' "$file"; done

versions() { objdump -T "$into"/bin/* "$into"/lib/*.so* 2> /dev/null | grep -o "$1_[0-9][0-9.]*" | sort -Vu | tail -1; }
echo "needs $(versions GLIBC) or lib/glibc, and LibTorch $(sed -n 's/^version=//p' "$root/cmake/fetch_libtorch.sh")" >> "$into/libraries.txt"
tar -C "$work" -czf "$output" mlaforge
size=$(stat -c %s "$output")
if ((size > limit)); then
  echo "$output: $size bytes, more than the $limit that a bundle may have" >&2
  exit 1
fi
echo "$output: $((size / 1000000)) MB; $(tail -1 "$into/libraries.txt")"
