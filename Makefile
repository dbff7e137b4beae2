# `make matrix` and `make test` need Python 3.11 or newer and nothing else; both can be run again at no cost.
PYTHON ?= python3
# A CPU build of torch, where the index would bring CUDA: make TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu"
TORCH ?= torch==2.13.0
BIN = .venv/bin

.PHONY: matrix test proof peers clean
matrix: .venv/installed
	$(BIN)/python -m experiments.run experiment=default

proof: .venv/installed
	$(BIN)/python -m experiments.proof

peers: .venv/installed
	$(BIN)/python -m experiments.peers.side_by_side $(PEERS)

test: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[onnx,dev]'
	touch $@

clean:
	rm -rf .venv .peers results/runs
