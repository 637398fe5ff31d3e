# make demo    see a small vision-language model find tiny details       (sets itself up; needs Python 3.10-3.14)
# make quick   unit tests of every room, in less than a minute
# make test    also integration tests, without slow ones (over ten seconds)
# make test-all  also slow tests, as CI does; make test-very-slow runs what takes minutes, and variants of slow tests
# make check   format, lint, types, direction of the rooms
# make clean   remove what these made

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
GUESTS := $(VENV)/guests
GUEST  := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target
SOURCES := src tests recipes benchmarks

# Tests start many processes, which would compile p2r each time where PYTHONDONTWRITEBYTECODE is set.
TEST := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses=auto --maxprocesses=8 --dist=loadfile --no-loadscope-reorder

.PHONY: demo quick test test-all test-very-slow check format clean

demo: $(VENV)/.local
	$(BIN)/p2r demo

# One process per core, and one thread each. A file's tests stay in one process, so that they share what a module loads.
quick: $(VENV)/.dev
	$(TEST) tests/unit tests/golden

test: $(VENV)/.dev
	$(TEST)

test-all: $(VENV)/.dev $(patsubst tests/integration/guests/%.txt,$(GUESTS)/.%,$(wildcard tests/integration/guests/*.txt))
	$(TEST) -m "not very_slow" --durations=40 --durations-min=5

test-very-slow: $(VENV)/.dev $(VENV)/.verl $(GUESTS)/.vllm
	$(BIN)/python -m pytest -m very_slow

check: $(VENV)/.dev
	$(BIN)/ruff format --check $(wildcard $(SOURCES))
	$(BIN)/ruff check $(wildcard $(SOURCES))
	$(BIN)/pyright
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff format $(wildcard $(SOURCES))
	$(BIN)/ruff check --fix $(wildcard $(SOURCES))

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 10) <= v < (3, 15) else "Python %d.%d does not fit: run e.g. `make PYTHON=python3.12 ...` with 3.10 to 3.14" % v[:2])'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.local: pyproject.toml constraints.txt | $(VENV)/.made
	@echo "installing p2r[local] into $(VENV) (torch included: a few minutes the first time)" >&2
	$(PIP) -e '.[local]'
	@touch $@

# torchvision is a referee in tests, never a dependency. Its wheel does not fit a CPU build of torch and would stop
# transformers from importing, so it lies where only tests/fakes/stock_torchvision.py looks.
$(VENV)/.dev: pyproject.toml constraints.txt Makefile | $(VENV)/.made
	@echo "installing p2r[all,dev] into $(VENV) (torch included: a few minutes the first time)" >&2
	$(PIP) -e '.[all,dev]'
	$(PIP) --no-deps --upgrade --target $(VENV)/referee torchvision
	@touch $@ $(VENV)/.local

# Tools that p2r is a part of, clients that ask it, engines that it asks, and what drives a browser, never dependencies. They bring
# many packages, some in other versions than ours, so each lies where only its tests look, and is installed again when its own list
# changes. Inspect, the clients and vLLM need Python 3.11; vLLM's CPU build needs Linux on x86.
$(GUESTS)/.%: tests/integration/guests/%.txt | $(VENV)/.made
	@echo "installing $* into $(GUESTS), for its tests" >&2
	rm -rf $(GUESTS)/$*
	@mkdir -p $(GUESTS)
	$(GUEST) $(GUESTS)/$* -r $<
	@touch $@

# verl needs an older transformers than p2r, so it has an environment of its own, with p2r in it (4.2 GB). vLLM's CPU build asks
# for the version of a package called vllm, which it is not.
$(VENV)/.verl: tests/integration/verl_env/packages.txt | $(VENV)/.made
	@echo "installing verl into $(VENV)/verl, for its tests" >&2
	$(PYTHON) -m venv --clear $(VENV)/verl
	$(VENV)/verl/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $< -e .
	d=$$($(VENV)/verl/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/vllm-0.31.0+cpu.dist-info; \
	  mkdir -p $$d && printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.31.0+cpu\n' > $$d/METADATA
	@touch $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .import_linter_cache .hypothesis dist build
