# Everything runs in .venv; delete it to start over.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-browser docs lint bench tables soak clean

CHROMIUM ?= /usr/bin/chromium

.venv/.demo: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q --disable-pip-version-check -e .
	touch $@

.venv/.test: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q --disable-pip-version-check -e '.[dev]'
	touch $@ .venv/.demo

.venv/.browser: .venv/.test
	$(BIN)/pip install -q --disable-pip-version-check -e '.[browser]'
	touch $@

$(CHROMIUM):
	@command -v apt-get >/dev/null || { echo "no browser at $(CHROMIUM) and no apt-get to install it; set CHROMIUM=PATH" >&2; exit 1; }
	apt-get update -q && apt-get install -y -q --no-install-recommends chromium

demo: .venv/.demo  ## samples of the built-in weights into outputs/; in a browser: photophone demo
	$(BIN)/python scripts/make_samples.py --output outputs --overwrite

test: .venv/.test  ## lint, import contracts, the whole suite
	$(BIN)/ruff check photophone scripts tests benchmarks
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -m "not slow and not browser"

test-browser: .venv/.browser | $(CHROMIUM)  ## every tab of the demo in Chromium; screenshots in outputs/browser
	CHROMIUM=$(CHROMIUM) $(BIN)/python -m pytest -m browser tests/browser

docs: .venv/.test  ## the documentation in build/site
	$(BIN)/python -m mkdocs build --strict

.venv/.bench: .venv/.test
	$(BIN)/pip install -q --disable-pip-version-check -e '.[bench]'
	touch $@

bench: .venv/.bench  ## the speeds that README and docs quote: benchmarks/results.json, and the tables made from it
	$(BIN)/python benchmarks/bench.py
	$(BIN)/python scripts/make_docs_tables.py

tables: .venv/.test  ## the tables of README and docs that follow from data
	$(BIN)/python scripts/make_docs_tables.py

soak: .venv/.test  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

clean:
	rm -rf .venv outputs build *.egg-info
