# Everything runs on a machine that has Python 3.11 or newer, make and PyPI: `make demo`, `make test` and `make test-all`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo demo-emoji test test-all test-long lint types tests all-tests bench versions docs pictures site studio-page browser clean

demo: $(VENV)/.demo
	$(BIN)/python examples/debian/demo.py

# Trains a small network on pictures of one artist, and finds those of another.
demo-emoji: $(VENV)/.demo-emoji
	$(BIN)/python examples/emoji/demo.py

# What to run while you work. Lint and types run beside the tests: mypy keeps one core busy for a minute or two.
test: $(VENV)/.test
	@$(MAKE) --no-print-directory --jobs 3 lint types tests

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.test
	$(BIN)/mypy

# One worker more than there are cores, since tests wait for processes and servers of theirs. Workers are forked when all tests are
# collected (tests/support/forked_workers.py).
WORKERS ?= $(shell $(BIN)/python -c "import os; print(min(4, (os.cpu_count() or 1) + 1))")
# Stores wait for the disk at each write. Their files are kept in memory where there is room, unless TMPDIR says where.
ROOM   := $(shell awk '/MemAvailable/ && $$2 > 8000000' /proc/meminfo 2>/dev/null)
MEMORY := $(if $(ROOM),$(shell df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 && $$4 > 8000000 {print "/dev/shm"}'))
# Byte code is kept whatever the environment says: hundreds of processes would each compile diptych anew.
PYTEST  = PYTHONDONTWRITEBYTECODE= TMPDIR="$${TMPDIR:-$(MEMORY)}" $(BIN)/pytest --workers $(WORKERS) --durations 40

# Fast tests of the core and of the embedded store, and of each guest that differs from the upstream branch.
tests: $(VENV)/.test
	$(PYTEST) --reach -m "not slow and not long"

# Everything but the long run: all guests, examples, the commands and programs of the pages, Ray, real models, kills.
test-all: $(VENV)/.test
	@$(MAKE) --no-print-directory --jobs 3 lint types all-tests

all-tests: $(VENV)/.test
	$(PYTEST) -m "not long"

# By hand before a release: kills in every place, trainings that converge, other Pythons, published figures. Takes an hour.
test-long: $(VENV)/.test
	$(PYTEST) -m long

# Into docs/research/performance.md. ONLY=encode,populate picks steps; AGAIN=1 measures anew, QUICK=1 tries, MILLION=1 goes to a million
# points, RENDER=1 only writes the page again.
bench: $(VENV)/.test
	$(BIN)/python tests/benchmarks/run_all.py $(if $(ONLY),--only $(ONLY)) $(if $(AGAIN),--again) $(if $(QUICK),--quick) \
		$(if $(MILLION),--million) $(if $(RENDER),--render)

# The tests of each framework's extra at the lowest and the newest versions of it: EXTRA=langchain picks one.
versions: $(VENV)/.test
	$(BIN)/python tests/versions/run.py $(EXTRA)

docs: $(VENV)/.test
	$(BIN)/python docs/generate.py
	$(BIN)/python docs/guide.py

# The diagrams, the recordings of terminal sessions and the screenshots of Studio in docs/images; takes minutes.
pictures: $(VENV)/.test
	$(BIN)/python docs/draw.py
	$(BIN)/python docs/record.py
	$(BIN)/python docs/screenshots.py

# The documentation as a site in build/site; to read it with its search: python -m http.server -d build/site
site: $(VENV)/.test
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# The page of `diptych studio` from its sources, into plugin/diptych_serve/studio/page, which is committed: only who changes it needs Node.
studio-page:
	$(BIN)/python plugin/studio_page/answer_types.py
	cd plugin/studio_page && npm ci --no-audit --no-fund && npm run types && npm run build

# Chromium for the tests of that page, where the machine has none and this user may install it; else those tests are skipped.
browser:
	@command -v chromium chromium-browser google-chrome >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null \
		&& apt-get update -qq && apt-get install -y -qq chromium >/dev/null; } || echo "No Chromium: the tests of the page are skipped."

# The stamps are older than pyproject.toml exactly when something has to be installed again.
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(VENV)/bin/python
	@echo "Installing diptych and PyTorch into $(VENV); the first time this takes some minutes."
	@$(BIN)/pip install --quiet --editable '.[demo]'
	@touch $@

$(VENV)/.demo-emoji: pyproject.toml | $(VENV)/bin/python
	@echo "Installing diptych, PyTorch and the training packages into $(VENV); the first time this takes some minutes."
	@$(BIN)/pip install --quiet --editable '.[demo,train,image]'
	@touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/bin/python
	@echo "Installing diptych with all extras and the test tools into $(VENV)."
	@$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'  # which knows --group
	@$(BIN)/pip install --quiet --editable . --group test
	@touch $@ $(VENV)/.demo $(VENV)/.demo-emoji

clean:
	rm -rf $(VENV) .venv-bench .venv-versions examples/debian/qdrant examples/emoji/out build dist
