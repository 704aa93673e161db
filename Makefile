# `make` lists what there is to make. Needs a Rust toolchain (rustup); tests and benches also
# need python3 with pip. Everything that is fetched goes into .quern/, everything built into target/.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Workspaces that are compiled to WebAssembly.
WASM := functions tests/guests
# The guest library's tests run here rather than in a sandbox.
HOST = $$(rustc -vV | sed -n 's/^host: //p')
# Both packages each time: what they depend on is then built once, with the features of both.
MEASURED := -p quern -p quern-host-gpu

.PHONY: help demo test test-all check-cuda cuda-kernels gpu-suite test-openapi test-conformance conformance clients check format lint documentation rules alerts bench bench-control bench-device bench-inference fuzz peers ort guests javascript wasm-target

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: wasm-target ## Deploy the digit reader on a temporary server, and send it 360 images
	@echo "== building the functions"
	cd functions && cargo build --release
	@echo "== building the server (minutes, the first time) and running the demo"
	cargo run --release -- demo

test: guests ort ## Run all tests, the end-to-end ones against the real binary
	@if cargo nextest --version >/dev/null 2>&1; then \
	    echo "== testing with cargo nextest"; cargo nextest run --workspace; \
	else \
	    echo "== testing with cargo test (cargo-nextest is not installed)"; cargo test --workspace; \
	fi
	@echo "== testing the guest library"
	cd functions && cargo test -p quern-sdk --target $(HOST)

test-all: export QUERN_LONG_TESTS = 1
test-all: javascript test test-openapi alerts ## Run all tests, with those that take minutes

test-openapi: clients guests ort ## Try a server with whatever its OpenAPI document allows, and what it does not
	cargo build
	@echo "== letting schemathesis try the server"
	cd tests/conformance && PYTHONDONTWRITEBYTECODE=1 ../../.quern/conformance/bin/pytest openapi

alerts: ## Check and test the alert rules with promtool
	@echo "== checking the alert rules"
	@tools/promtool.sh

test-conformance: clients guests ort ## Test with official clients and ONNX's cases (KSERVE=1, PERF_ANALYZER=1: more clients)
	$(if $(PERF_ANALYZER),@tests/conformance/perf_analyzer/install.sh)
	cargo build
	@echo "== letting official clients talk to the server"
	cd tests/conformance && PYTHONDONTWRITEBYTECODE=1 ../../.quern/conformance/bin/pytest
	$(if $(KSERVE),cd tests/conformance && PYTHONDONTWRITEBYTECODE=1 ../../.quern/conformance/bin/pytest kserve_client)
	@echo "== running the cases of ONNX on each engine"
	cd tests/conformance && PYTHONDONTWRITEBYTECODE=1 ../../.quern/conformance/bin/python -m nodes

conformance: clients ort ## Run ONNX's cases on each engine, and write docs/conformance.md
	cargo build
	cd tests/conformance && PYTHONDONTWRITEBYTECODE=1 ../../.quern/conformance/bin/python -m nodes --write

check: format lint documentation rules ## Check format, lints, documentation, licences and architecture
	@echo "== all checks passed"

check-cuda: ## Compile the kernels for GPUs, and run them without one under the address sanitizer
	@echo "== compiling the kernels for every architecture"
	@read -r library ptxas < <(tools/nvrtc.sh) && \
	    LD_LIBRARY_PATH="$$library" cargo run -p quern-cuda --example compile_kernels -- "$$ptxas" --check
	@echo "== running them on the processor, also under the address sanitizer"
	QUERN_LONG_TESTS=1 cargo test -p quern-cuda

bench: guests javascript ort peers ## Measure against peers, and write docs/benchmarks.md
	@echo "== measuring functions beside wasmtime serve"
	cargo bench $(MEASURED) --bench http -- --write
	@echo "== measuring what limits cost"
	cargo bench $(MEASURED) --bench limits -- --write
	@echo "== measuring functions that reuse their instances"
	cargo bench $(MEASURED) --bench reuse -- --write
	@echo "== measuring a function beside hostile ones"
	cargo bench $(MEASURED) --bench isolation -- --write
	@echo "== measuring a node with 10,000 functions"
	cargo bench $(MEASURED) --bench capacity -- --write
	@$(MAKE) bench-inference
	@$(MAKE) bench-control
	@$(MAKE) bench-device

bench-inference: guests ort peers ## Measure models beside FastAPI, Triton, LitServe and MLServer (ONLY=small: one part)
	@echo "== building the server for measuring"
	cargo build --release $(MEASURED) --example mlp
	@echo "== measuring models beside their peers"
	cargo bench $(MEASURED) --bench inference -- --write $(if $(ONLY),--only $(ONLY))

bench-control: guests ort peers ## Measure what surrounds calls, beside RQ and Celery where there are peers (ONLY=later: one part)
	@echo "== building the server for measuring"
	cargo build --release $(MEASURED) --example mlp
	@echo "== measuring what surrounds calls"
	cargo bench $(MEASURED) --bench control -- --write $(if $(ONLY),--only $(ONLY))

bench-device: ## Measure operators on device tensors beside PyTorch on the CPU (fetches 4 GB, once)
	@benches/peers/install.sh torch
	@echo "== measuring operators beside PyTorch"
	cargo bench -p quern-kernels --bench device -- --write

fuzz: SECONDS := 60
fuzz: ## Fuzz the parsers of what strangers send, each for SECONDS (60)
	@command -v cargo-fuzz >/dev/null || \
	    { echo "== installing cargo-fuzz"; cargo install cargo-fuzz --locked; }
	@for target in $$(cd fuzz && cargo fuzz list); do \
	    echo "== fuzzing $$target for $(SECONDS) s"; \
	    mkdir -p target/fuzz/corpus/$$target; \
	    cargo fuzz run --sanitizer none --target-dir target/fuzz $$target \
	        target/fuzz/corpus/$$target fuzz/seeds/$$target -- \
	        -max_total_time=$(SECONDS) -timeout=10 -rss_limit_mb=2048 \
	        -artifact_prefix=target/fuzz/found-$$target-; \
	done

cuda-kernels: ## Compile the kernels for GPUs anew, after their sources were changed
	@echo "== compiling the kernels for every architecture"
	@read -r library ptxas < <(tools/nvrtc.sh) && \
	    LD_LIBRARY_PATH="$$library" cargo run -p quern-cuda --example compile_kernels -- "$$ptxas"

gpu-suite: ## Build the program that checks and measures the kernels on a machine with a GPU
	@echo "== building the program"
	cargo build --release -p quern-gpu-suite
	@mkdir -p target/gpu-suite
	@strip -o target/gpu-suite/gpu-suite target/release/gpu-suite
	@cp benches/gpu/torch_rows.py target/gpu-suite/
	@bytes=$$(stat -c %s target/gpu-suite/gpu-suite); \
	    test $$bytes -le $$((60 << 20)) || { echo "it has $$bytes bytes: 60 MiB are the most" >&2; exit 1; }; \
	    echo "== target/gpu-suite/gpu-suite has $$bytes bytes, and needs nothing but the driver and the C library"
	@echo "Copy the folder target/gpu-suite to the machine with the GPU, and run there:"
	@echo "  ./gpu-suite check && ./gpu-suite sanitize && ./gpu-suite bench --out results && python3 torch_rows.py results/gpu-*.json"

ort: ## Fetch ONNX Runtime's library into .quern/ort
	@echo "== fetching ONNX Runtime, if it is not there yet"
	@tools/ort.sh

guests: wasm-target ## Build the functions and the tests' guests for wasm32-wasip2
	@for folder in $(WASM); do \
	    echo "== building $$folder"; (cd $$folder && cargo build --release --lib --examples); \
	done

# Not `npm ci`: it refuses the lock file, as packages of it name optional ones that were never published.
# Its engine answers `fetch` events for the handler of 0.2.10, of which ours is a superset.
javascript: ## Build the function in JavaScript (needs node and npm)
	@echo "== building functions/hello-js"
	@rm -rf target/javascript/wit && mkdir -p target/javascript && cp -r wit target/javascript/wit
	@cp functions/hello-js/world.wit target/javascript/wit/
	@find target/javascript/wit -name '*.wit' -exec sed -i 's/0\.2\.1[12]/0.2.10/g' {} +
	@cp functions/hello-js/package.json functions/hello-js/package-lock.json target/javascript/
	cd target/javascript && npm install --no-audit --no-fund --loglevel=error
	cd target/javascript && node_modules/.bin/componentize-js \
	    ../../functions/hello-js/handler.js --wit wit --world-name hello-js -o hello-js.wasm

# The parts of `check` and what `bench` needs; each can be made alone.

wasm-target:
	@test -d "$$(rustc --print sysroot)/lib/rustlib/wasm32-wasip2" || \
	    { echo "== adding the target wasm32-wasip2"; rustup target add wasm32-wasip2; }

format:
	@echo "== checking the format"
	cargo fmt --all --check
	@for folder in $(WASM); do (cd $$folder && cargo fmt --all --check); done

lint: wasm-target
	@echo "== linting the workspace"
	cargo clippy --locked --workspace --all-targets -- -D warnings
	@for folder in $(WASM); do \
	    echo "== linting $$folder"; \
	    (cd $$folder && cargo clippy --locked --workspace --release --lib --examples -- -D warnings); \
	done
	@echo "== linting the guest library"
	cd functions && cargo clippy --locked -p quern-sdk --release -- -D warnings

documentation:
	@echo "== checking the documentation"
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps

rules: wasm-target
	@echo "== checking architecture, licences, tidiness and links"
	@for folder in $(WASM); do \
	    (cd $$folder && cargo fetch --locked --quiet --target wasm32-wasip2); \
	done
	cargo test --locked --workspace --test project

clients:
	@echo "== installing the clients into .quern/conformance"
	@test -d .quern/conformance || python3 -m venv .quern/conformance
	@.quern/conformance/bin/pip install --quiet --disable-pip-version-check \
	    --requirement tests/conformance/requirements.txt \
	    $(if $(KSERVE),--requirement tests/conformance/requirements-kserve.txt)

peers:
	@benches/peers/install.sh
