# make demo    a trained vision transformer on generated hardware, exact to the last bit
# make test    the whole test suite
# make help    everything else
PY := .venv/bin/python
export PYTHONHASHSEED := 0

.PHONY: help setup demo test lint bench bench-units bench-core bench-flash regress clean
.PHONY: bench-architectures bench-boards bench-hybrid bench-link bench-minilm bench-netlist bench-onnx
.PHONY: bench-sdram boards

help:
	@echo 'make demo        compile the digits ViT, simulate its RTL, compare every tensor'
	@echo 'make test        set up and run the whole test suite'
	@echo 'make lint        ruff, type checker'
	@echo 'make bench       utilization of whole models -> docs/results/utilization.{json,md}'
	@echo 'make bench-units area, clock and error of every unit -> docs/results/units.{json,md} (hours)'
	@echo 'make bench-core  whole cores, placed and routed -> docs/results/core.{json,md} (hours)'
	@echo 'make boards      bitstreams of all boards -> build/boards, docs/results/boards.{json,md} (an hour)'
	@echo 'make bench-boards the digits ViT on boards in simulation -> docs/results/virtual-boards.{json,md}'
	@echo 'make bench-flash bandwidth of the flash controller -> docs/results/flash.{json,md}'
	@echo 'make bench-hybrid MobileViT and MobileBERT -> docs/results/hybrid.{json,md}'
	@echo 'make bench-link  10,000 broken frames on the link -> docs/results/link.{json,md}'
	@echo 'make bench-onnx  QDQ models of ONNX Runtime, code by code -> docs/results/onnx.{json,md}'
	@echo 'make bench-sdram the SDRAM controller: bandwidth, a million random commands -> docs/results/sdram.{json,md}'
	@echo 'make bench-minilm all-MiniLM-L6-v2: accuracy, equality on RTL, cycles -> docs/results/minilm.{json,md}'
	@echo 'make bench-netlist gate-level netlists of cores -> docs/results/netlist.{json,md}'
	@echo 'make bench-architectures Hugging Face architectures -> docs/results/architectures.{json,md}'
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

bench-units:
	@scripts/setup
	$(PY) -m intformer.cli units --full --record --jobs 2

bench-core:
	@scripts/setup
	$(PY) -m intformer.bench.core

boards:
	@scripts/setup
	$(PY) -m examples.build_boards

bench-boards:
	@scripts/setup
	$(PY) -m examples.bench_boards

bench-flash:
	@scripts/setup
	$(PY) -m intformer.bench.flash

bench-hybrid:
	@scripts/setup
	$(PY) -m intformer.bench.hybrid

bench-onnx:
	@scripts/setup
	HF_HUB_OFFLINE=1 $(PY) -m intformer.bench.onnx_models

bench-link:
	@scripts/setup
	$(PY) -m intformer.bench.link

bench-sdram:
	@scripts/setup
	$(PY) -m intformer.bench.sdram

bench-minilm:
	@scripts/setup
	$(PY) -m intformer.bench.minilm

bench-architectures:
	@scripts/setup
	$(PY) -m intformer.bench.architectures --rtl

bench-netlist:
	@scripts/setup
	$(PY) -m intformer.bench.netlist

clean:
	rm -rf build
