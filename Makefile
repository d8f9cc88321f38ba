# From Python 3.11-3.13, git and make alone:
#   make demo    install, then the main job: digits on an iCE40 HX8K
#   make test    install, lint, tests
#   make slow    the tests that take minutes
#   make peers   the libraries that job=benchmark compares with, in .venv-peers
#   make cluster a Ray cluster of two workers on this machine, for executor=ray executor.address=auto
# PYTHON=python3.12 chooses the interpreter, VENV=folder the environment. The torch of PyPI also runs on
# NVIDIA GPUs and is large; TORCH_INDEX=<index of its CPU wheels> takes a small build without them.

SUITABLE = import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python; do \
	$$p -c '$(SUITABLE)' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/.scnas-installed

.PHONY: demo test lint slow install peers cluster
.DELETE_ON_ERROR:

demo: $(INSTALLED)
	$(RUN) -m scnas +experiment=digits_ice40

test: lint
	$(RUN) -m pytest -q -m "not slow and not gpu"

lint: $(INSTALLED)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

slow: $(INSTALLED)
	$(RUN) -m pytest -q -m "slow and not gpu"

# Also installs the extra. WORKERS=8 starts more; $(VENV)/bin/ray stop ends it. On another machine:
# ray start --address=<this one>:6379
WORKERS ?= 2
cluster: $(INSTALLED)
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable '.[cluster]'
	$(VENV)/bin/ray get-auth-token --generate > /dev/null  # only who has it may run code on the cluster
	RAY_USAGE_STATS_ENABLED=0 $(VENV)/bin/ray start --head --num-cpus=$(WORKERS) --include-dashboard=false

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(or $(PYTHON),false) -c '$(SUITABLE)' || { echo "scnas needs Python 3.11 to 3.13: make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@test "$$($(PYTHON) -c 'import sys; print(sys.version_info[:2])')" = \
		"$$($(RUN) -c 'import sys; print(sys.version_info[:2])')" || \
		{ echo "$(VENV) holds another Python than $(PYTHON): remove it, or name another VENV"; exit 1; }
ifdef TORCH_INDEX
	$(RUN) -m pip install --quiet --constraint constraints.txt --index-url $(TORCH_INDEX) torch
endif
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable '.[hardware,dev]'
	@touch $@

peers: .venv-peers/.installed

# An environment of their own: what they need must not move what scnas was tested with.
.venv-peers/.installed: Makefile
	@$(or $(PYTHON),false) -c '$(SUITABLE)' || { echo "scnas needs Python 3.11 to 3.13: make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .venv-peers
ifdef TORCH_INDEX
	.venv-peers/bin/python -m pip install --quiet --constraint constraints.txt --index-url $(TORCH_INDEX) torch
endif
	.venv-peers/bin/python -m pip install --quiet --constraint constraints.txt torch snntorch==1.0.0 \
		spikingjelly==2.0.0 norse==1.1.0
	@touch $@
