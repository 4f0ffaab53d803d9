# Needs only Python >= 3.11 and make. Everything is installed into .venv, from constraints.txt.
.DELETE_ON_ERROR:
.PHONY: setup run test test-slow test-all test-cpus check figures golden chaos bench docs clean

# the first Python that is new enough; say PYTHON=... to choose another
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)
BIN := .venv/bin
STAMP := .venv/.installed
# tests side by side, one thread each, neighbours mostly in one process; say JOBS=0 for one process
JOBS ?= $(shell "$(PYTHON)" -c 'import os; print(min(os.cpu_count() or 1, 4))')
THREADS ?= 1
PYTEST = OMP_NUM_THREADS=$(THREADS) $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

setup: $(STAMP)

# relative paths only: the folder's own path may hold spaces
$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "no Python >= 3.11 found; install one, or say make PYTHON=..."; exit 1; }
	test -x $(BIN)/python || "$(PYTHON)" -m venv .venv
	# ours under its earlier name, or somebody else's: either would take files of this one with it
	$(BIN)/python -m pip uninstall --yes --quiet tlx 2>/dev/null
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e ".[dev,onnx,audio]"
	touch $(STAMP)

run: $(STAMP)
	$(BIN)/python -m tlx.cli train experiment=glyphs_to_digits

test: $(STAMP)
	$(PYTEST)

# what `test` leaves out for its length
test-slow: $(STAMP)
	$(PYTEST) -m "slow and not gpu and not network and not cluster"

test-all: test test-slow

# the usual tests as other machines would run them: without AVX-512, without AVX2, with two threads
test-cpus: $(STAMP)
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 $(PYTEST)
	ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 $(PYTEST)
	$(MAKE) test THREADS=2

check: $(STAMP)
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy
	$(BIN)/python -m pytest -q tests/test_rooms.py

# of the code itself: types, circles, lengths, comments; -v says what lies behind each
figures: $(STAMP)
	$(BIN)/python -m benchmarks.figures

# trains twelve small runs with the recorded commit and with today's code, and compares every bit
golden: $(STAMP)
	$(BIN)/python tests/golden/compare.py

# kills runs of every kind at 300 random moments, and compares every bit with calm runs; an hour
chaos: $(STAMP)
	OMP_NUM_THREADS=1 PYTHONPATH=.:tests $(BIN)/python -m chaos.kills

bench: $(STAMP)
	for name in start memory step studies reuse heads probes texts tfidf; do $(BIN)/python -m benchmarks.$$name || exit 1; done

docs: $(STAMP)
	$(BIN)/python -m pytest -q --doctest-glob='*.md' docs README.md

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache
