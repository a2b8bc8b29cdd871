# `make book` and `make test` do everything on a fresh machine that has Python 3.11 to 3.13 and make.
VENV    ?= .venv
PROFILE ?= quick
# More for the build, for example  make book ARGS="-p photos my_photos --only 04_fair_training"
ARGS    ?=

# A process a core; the tests of one file stay together.
SPREAD  := -n logical --dist loadfile

PY      := $(VENV)/bin/python
STAMP   := $(VENV)/.set-up
PYTHON  ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	command -v $$p >/dev/null 2>&1 && \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && \
	echo $$p && break; done)

.PHONY: help book test browser lab bench style strip lock set-up clean

help:
	@echo "make book   set up, execute the notebooks, build the book  (PROFILE=quick or full)"
	@echo "make test   set up, then test everything: library, notebooks, book"
	@echo "make lab    set up, then open the notebooks in JupyterLab"
	@echo "make bench  what costs how much, as ratios measured in one run"
	@echo "make style  mend the style of the code (ruff)"
	@echo "make strip  remove outputs from the notebooks, as they are committed"
	@echo "make lock   rewrite requirements.lock from what is installed in $(VENV)"
	@echo "make clean  remove what the build made (not $(VENV))"

book: set-up
	@$(PY) book/build.py --profile $(PROFILE) $(ARGS)

# Style first, then the library, then the pages, then what the pages became.
test: set-up browser
	$(PY) -m ruff check diga_lib tests book notebooks
	$(PY) -m ruff format --check diga_lib tests book
	$(PY) -m pytest -m "not built" $(SPREAD)
	$(PY) book/build.py --profile quick
	$(PY) -m pytest -m built $(SPREAD)

# For the tests that read the book as readers do. Without it they are skipped, and say so.
browser:
	@if ! command -v chromium chromium-browser google-chrome >/dev/null 2>&1; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
			echo "Installing Chromium"; \
			{ apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } >/dev/null \
				|| echo "CHROMIUM COULD NOT BE INSTALLED: the tests in a real browser will be skipped, and fail where CI is set" >&2; \
		else \
			echo "NO CHROMIUM HERE: the tests in a real browser will be skipped (as root on Debian, make browser installs it)" >&2; \
		fi; \
	fi

lab: set-up
	$(VENV)/bin/jupyter lab --notebook-dir notebooks

bench: set-up
	@$(PY) tests/bench.py

style: set-up
	$(PY) -m ruff check --fix
	$(PY) -m ruff format diga_lib tests book

strip: set-up
	$(VENV)/bin/nbstripout --keep-id --extra-keys "metadata.papermill cell.metadata.papermill" notebooks/*.ipynb

lock: set-up
	$(PY) book/lock.py

# Skipped while the lock and pyproject.toml are those that were last installed.
set-up:
	@if [ "$$(cat $(STAMP) 2>/dev/null)" != "$$(cat requirements.lock pyproject.toml | cksum)" ]; then \
		set -e; \
		if [ ! -x $(PY) ]; then \
			if [ -z "$(PYTHON)" ]; then \
				echo "Python 3.11, 3.12 or 3.13 is needed and none was found:" \
				     "install one, or name it with  make PYTHON=/path/to/python3.11" >&2; exit 1; \
			fi; \
			echo "Making $(VENV) with $(PYTHON)"; \
			$(PYTHON) -m venv $(VENV); \
		fi; \
		echo "Installing requirements.lock into $(VENV)"; \
		$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.lock; \
		$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .; \
		cat requirements.lock pyproject.toml | cksum > $(STAMP); \
	fi

clean:
	rm -rf _build
