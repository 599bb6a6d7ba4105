# Everything runs in .venv; delete it to start over.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint bench soak clean

.venv/.demo: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q --disable-pip-version-check -e .
	touch $@

.venv/.test: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q --disable-pip-version-check -e '.[dev]'
	touch $@ .venv/.demo

demo: .venv/.demo  ## images from the built-in weights into outputs/
	$(BIN)/python scripts/demo.py --output outputs

test: .venv/.test  ## lint, import contracts, the whole suite
	$(BIN)/ruff check photophone scripts tests benchmarks
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -m "not slow"

bench: .venv/.test  ## speed, with the share of each part
	$(BIN)/python benchmarks/image.py

soak: .venv/.test  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

clean:
	rm -rf .venv outputs build *.egg-info
