# make demo    a trained vision transformer on generated hardware, exact to the last bit
# make test    the whole test suite
# make help    everything else
PY := .venv/bin/python
export PYTHONHASHSEED := 0

.PHONY: help setup demo test lint bench bench-fpga regress clean

help:
	@echo 'make demo        compile the digits ViT, simulate its RTL, compare every tensor'
	@echo 'make test        set up and run the whole test suite'
	@echo 'make lint        ruff, type checker'
	@echo 'make bench       utilization of whole models -> docs/results/utilization.{json,md}'
	@echo 'make bench-fpga  the 8x8 core on an LFE5U-85F -> docs/results/fpga.{json,md} (long)'
	@echo 'make regress     the digits ViT on four array shapes, both weights, both simulators; random graphs'
	@echo 'make clean       remove build/'

setup:
	@scripts/setup

demo:
	@scripts/setup
	@$(PY) -m examples.digits_vit.demo

test:
	@scripts/setup --icarus
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@$(PY) -m pytest -n 2 --dist loadgroup

lint:
	@scripts/setup
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

bench:
	@scripts/setup
	$(PY) -m examples.bench_utilization

regress:
	@scripts/setup --icarus
	$(PY) -m examples.regress
	$(PY) -m pytest -q -m slow
	INTFORMER_EXAMPLES=300 INTFORMER_RTL_EXAMPLES=40 $(PY) -m pytest -q tests/test_random_graphs.py

bench-fpga:
	@scripts/setup
	$(PY) -m intformer.cli synth --config 8x8 --device LFE5U-85F --seed 2 --record fpga

clean:
	rm -rf build
