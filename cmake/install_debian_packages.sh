#!/bin/bash
# Installs the Debian packages that the build, the tests and the program need; does nothing when all are there. More
# packages may be named as arguments.
set -euo pipefail
packages=(
  g++ cmake ninja-build make pkg-config ca-certificates
  libhdf5-dev libboost-program-options-dev nlohmann-json3-dev libeigen3-dev libfmt-dev libspdlog-dev libyaml-cpp-dev
  libboost-dev  # Boost.Math's distributions
  libonig-dev libicu-dev libsentencepiece-dev libxxhash-dev libgtest-dev libgmock-dev libbenchmark-dev
  libopenmpi-dev openmpi-bin  # training by several processes
  zlib1g-dev libzstd-dev liblzma-dev  # texts may be compressed
  python3-jieba  # its dictionary cuts Chinese texts into words
  python3-h5py  # one test reads a record with it
  python3-pandas python3-xarray python3-matplotlib  # the Python package (python/) and its example
  slurm-wlm munge  # one test submits a job array
  gnuplot-nox fonts-dejavu-core  # figures
)
# Only to unpack LibTorch's wheel, when no other LibTorch is given.
[[ -n ${LIBTORCH:-} ]] || packages+=(python3 python3-pip unzip)
packages+=("$@")

missing=()
for package in "${packages[@]}"; do
  [[ $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
done
[[ ${#missing[@]} -eq 0 ]] && exit 0

if [[ $(id -u) -eq 0 ]]; then
  as_root=()
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
  as_root=(sudo)
else
  echo "missing Debian packages (install them as root): ${missing[*]}" >&2
  exit 1
fi
echo "installing Debian packages: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
