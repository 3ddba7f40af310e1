PYTHON ?= python3
BIN := .venv/bin
IN_PARALLEL := --numprocesses auto --maxprocesses 4 --dist loadfile  # with one thread each
PHOTOGRAPH = $$($(BIN)/python -c "import skimage; print(skimage.__path__[0] + '/data/astronaut.png')")

.PHONY: audit bench cards demo docs hostile opening release test test-browser test-lowest test-slurm tutorials

demo: .venv/installed
	$(BIN)/invert predict "$(PHOTOGRAPH)"

cards: .venv/installed
	$(BIN)/invert cards "$(PHOTOGRAPH)"

# The pictures that the page opens with, after decoders have been replaced.
opening: .venv/installed-dev
	$(BIN)/python -m inverters.app.opening

bench: .venv/installed
	$(BIN)/python benchmarks/fidelity.py --data "$${DATA:-$$(dirname "$(PHOTOGRAPH)")}"
	$(BIN)/python benchmarks/inversion.py
	$(BIN)/python benchmarks/prediction.py
	$(BIN)/python benchmarks/training.py --data "$${DATA:-$$(dirname "$(PHOTOGRAPH)")}"

test: .venv/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	OMP_NUM_THREADS=1 $(BIN)/pytest $(IN_PARALLEL)

# The trials of hostile input whose table is in docs/reliability.md.
hostile: .venv/installed-dev
	$(BIN)/python tests/hostile/trials.py

test-browser: .venv/installed-dev
	$(BIN)/pip install --quiet --editable ".[browser]"
	command -v chromium || { apt-get update && apt-get install --yes --no-install-recommends chromium; }
	$(BIN)/pytest -m browser

# The tests with the lowest versions that pyproject.toml allows, on the lowest Python. It needs uv.
test-lowest:
	uv venv --clear --python 3.11 build/lowest
	uv pip install --python build/lowest --resolution lowest-direct --editable ".[dev]"
	OMP_NUM_THREADS=1 build/lowest/bin/python -m pytest $(IN_PARALLEL)

# The known vulnerabilities of today's dependencies. It needs uv and pip-audit.
audit:
	mkdir -p build
	uv pip compile --quiet --all-extras --no-header --output-file build/requirements.txt pyproject.toml
	pip-audit --strict --no-deps --disable-pip --requirement build/requirements.txt

test-slurm: .venv/installed-dev
	apt-get install --yes --no-install-recommends munge slurmctld slurmd slurm-client
	$(BIN)/pytest -m slurm

# The documentation site, in build/site/.
docs: .venv/installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The outputs of the notebooks, after decoders have been replaced.
tutorials: .venv/installed-dev
	$(BIN)/python docs/site/execute.py

# What is uploaded: an sdist and a wheel in dist/, and the test that the wheel alone works.
release: .venv/installed-dev
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*
	$(BIN)/pytest -m "slow and network" tests/cli/test_wheel.py

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable .
	touch $@

.venv/installed-dev: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable ".[dev]"
	touch .venv/installed $@
