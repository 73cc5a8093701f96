# make demo   a speed-quality frontier from really generated, really executed programs
# make test   all tests            make check  ruff and mypy
# make bench  the measurements of the READMEs      make clean  remove .venv and caches
# make bench-gpu   kernels, step, whole texts and tests on a GPU, in under eight minutes
# Each target makes .venv first if needed. Any Python >= 3.11 will do: make demo PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test check bench bench-sandboxes bench-head-select bench-gpu bench-kernels bench-step bench-sampler bench-training \
  bench-demo clean

demo: .venv/.installed
	$(BIN)/sdbench demo

test: .venv/.installed-dev
	$(BIN)/python -m pytest

check: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: bench-head-select bench-sandboxes bench-sampler bench-training bench-demo

bench-head-select: .venv/.installed-dev
	$(BIN)/python kernels/benchmarks/head_select.py

# These three need a CUDA device, and say so where there is none. The first does all.
bench-gpu: .venv/.installed-dev
	$(BIN)/python reference_model/benchmarks/gpu.py

bench-kernels: .venv/.installed-dev
	$(BIN)/python kernels/benchmarks/operators.py

bench-step: .venv/.installed-dev
	$(BIN)/python reference_model/benchmarks/step.py

bench-sandboxes: .venv/.installed-dev
	$(BIN)/python sandboxes/benchmarks/verdicts_per_second.py

bench-sampler: .venv/.installed
	$(BIN)/python reference_model/benchmarks/sampler.py
	$(BIN)/python reference_model/benchmarks/peers.py $(if $(PEERS),--peers $(PEERS))

bench-training: .venv/.installed-dev
	$(BIN)/python reference_model/benchmarks/training.py
	$(BIN)/python reference_model/benchmarks/training.py --sizes demo,25m,125m,0.5b,1b
	$(BIN)/python reference_model/benchmarks/training.py --sizes demo,25m,125m,0.5b,1b --objective diffusion

bench-demo: .venv/.installed
	$(BIN)/python harness/benchmarks/demo.py

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is %d.%d; name one: make PYTHON=python3.12" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@echo "installing into .venv (once; a few minutes)"
	$(PYTHON) -m venv .venv
	$(PIP) --editable .
	@touch $@

.venv/.installed-dev: .venv/.installed
	@echo "installing the development tools into .venv"
	$(PIP) --editable '.[dev]'
	@touch $@
