# Edgewright. `make demo` and `make test` do all their own set-up in .venv; everything they write stays in this folder.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
ARGS   ?=

export ORT_DISABLE_TELEMETRY := 1
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock

.PHONY: help demo test test-sagemaker lint format bench bench-telemetry bench-ingest bench-serving bench-swaps bench-restarts bench-oip bench-perf-analyzer perf-analyzer faults lock clean

help: ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | sort | column -t -s "$$(printf '\t')"

demo: $(VENV)/.demo ## the whole loop on three simulated devices; ARGS="--exit --summary FILE" for scripts
	$(BIN)/edgewright-sim demo $(ARGS)

test: $(VENV)/.dev ## every test; ARGS="-k name" chooses
	$(BIN)/python -m pytest $(ARGS)

test-sagemaker: $(VENV)/.python ## the SageMaker SDK's ModelTrainer, in an environment of its own (700 MB)
	@test -x $(VENV)-sagemaker/bin/pytest || { $(PYTHON) -m venv $(VENV)-sagemaker && \
	  $(VENV)-sagemaker/bin/python -m pip install --quiet --disable-pip-version-check \
	    --editable '.[cloud,compile,training,simulator,sagemaker]' hypothesis pytest pytest-timeout; }
	PATH=$(CURDIR)/$(VENV)-sagemaker/bin:$$PATH $(VENV)-sagemaker/bin/python -m pytest tests/sagemaker_sdk $(ARGS)

lint: $(VENV)/.dev ## what CI checks before the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev ## put the sources into their canonical form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: bench-telemetry bench-ingest bench-serving bench-swaps bench-restarts bench-oip ## every benchmark, one after the other

bench-telemetry: $(VENV)/.dev ## cost of recording a prediction on the device
	$(BIN)/python tests/benchmarks/bench_telemetry.py $(ARGS)

bench-serving: $(VENV)/.dev ## latency, throughput, swaps, idle cost of the fast path; ARGS=--peers for others beside it
	$(BIN)/python tests/benchmarks/bench_serving.py $(ARGS)

bench-swaps: $(VENV)/.dev ## 200 model swaps under load: what requests notice of them
	$(BIN)/python tests/benchmarks/bench_swaps.py $(ARGS)

bench-restarts: $(VENV)/.dev ## 20 kills of the runtime under load: every request answered, or told so by its deadline
	$(BIN)/python tests/benchmarks/bench_restarts.py $(ARGS)

bench-oip: $(VENV)/.dev ## what the Open Inference Protocol adds, through its real client
	$(BIN)/python tests/benchmarks/bench_oip.py $(ARGS)

bench-ingest: $(VENV)/.dev ## messages a second into the fleet store
	$(BIN)/python tests/benchmarks/bench_ingest.py $(ARGS)

bench-perf-analyzer: perf-analyzer ## the same as Triton's measuring client sees it
	$(BIN)/python tests/benchmarks/bench_perf_analyzer.py $(ARGS)

perf-analyzer: $(VENV)/.dev ## fetch Triton's measuring client (x86-64), which the tests then run against the protocol's doors
	$(BIN)/python -m tests.edge_component.serving.oip.perf_analyzer

faults: $(VENV)/.dev ## kills, power cuts, refusing disks, bad and malicious models; as root, about four minutes
	$(BIN)/python -m tests.faults.run $(ARGS)

lock: $(VENV)/.dev ## pin every dependency anew
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --universal --python-version 3.11 --extra dev pyproject.toml --upgrade \
	  --no-emit-index-url --no-emit-find-links --no-header --no-annotate --quiet --output-file requirements.lock

clean: ## remove the virtual environment and everything the demo left
	rm -rf $(VENV) $(VENV)-sagemaker .edgewright .pytest_cache .mypy_cache .ruff_cache

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Edgewright needs Python 3.11 or later; $(PYTHON) is older. Try: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "Could not make a virtual environment. On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@touch $@

$(VENV)/.demo: $(VENV)/.python pyproject.toml requirements.lock
	@echo "Installing what the demo needs into $(VENV) (once, about a minute) ..."
	@$(PIP_INSTALL) --editable '.[device,cloud,compile,training,simulator]'
	@touch $@

$(VENV)/.dev: $(VENV)/.python pyproject.toml requirements.lock
	@echo "Installing what the tests need into $(VENV) (once, about a minute) ..."
	@$(PIP_INSTALL) --editable '.[dev]'
	@# Silero VAD's package declares PyTorch; the tests need nothing but the ONNX file inside. tritonclient declares a
	@# protobuf and ml-dtypes that are older than everybody else's; it works with these.
	@$(PIP_INSTALL) --no-deps silero-vad==6.2.3 tritonclient==2.73.0
	@# Likewise RapidOCR's and OpenCV: the serving benchmark wants its classifier.
	@$(PIP_INSTALL) --no-deps rapidocr-onnxruntime==1.4.4
	@touch $@ $(VENV)/.demo
