# make run      the embedded pair at work, in an environment with the runtime alone
# make check    lint, types and the tests that need no torch and take less than half a second; under a minute
# make test     lint, types and all tests, in an environment with what the tests and the export need
# make docs     the site of the documentation, strict, and the notebooks of examples/
# make engines  vectors in real search engines and of other libraries, in an environment with those
# make clusters the same vectors on real clusters of Ray and Spark, and on an S3-compatible store
# make browser  tests of the pages in a headless Chromium, in an environment of their own
# make mutants  breaks the code in 300 small ways, and counts the breaks that no test notices; half an hour
# make attack   random texts, faults, files and load against what is promised; an hour, or MINUTES=10
# make sweep    a million texts and all code points against the tokenizers library, under each of PYTHONS="3.10 3.13"; five minutes each
# make bench    every table of benchmarks/; an hour, with nothing else running
# make bench-gpu  documents a second on an NVIDIA card
# make bench-scale  Ray and Spark against one process; a quarter of an hour, with nothing else running
# make models   the embedded bundle again, from its checkpoints
# make quality  nDCG@10 of the embedded bundle and BM25, and of long documents in windows
# make picture  docs/expansion.svg again

PYTHON ?= python3
SHARED ?= ../shared
MINUTES ?= 60
PYTHONS ?= 3.10 3.11 3.12 3.13 3.14
RUN := .venv
CHECK := .venv-check
TEST := .venv-test
DOCS := .venv-docs
BROWSER := .venv-browser
# The export holds huggingface_hub below 1 in the environment of the tests; the runtime works with its successors too.
HUBS := .venv-hub-1 .venv-hub-2
# optimum holds transformers below 5; with 5, the export uses transformers' own exporter.
TRANSFORMERS_5 := .venv-transformers-5
ENGINES := .venv-engines
CLUSTERS := .venv-clusters
MUTANTS := .venv-mutants
SOURCES := pyproject.toml README.md $(shell find spladerunner export models -type f -not -name '*.pyc')

SENTENCE := The Manhattan Project and its atomic bomb helped bring an end to World War II.
QUESTION := who built the nuclear bomb

.PHONY: run check lint types quick test docs engines clusters browser mutants attack sweep bench bench-gpu bench-scale models quality picture clean

run: $(RUN)/installed
	@$(RUN)/bin/spladerunner expand --top 12 "$(SENTENCE)"
	@$(RUN)/bin/spladerunner expand --query --top 8 "$(QUESTION)"
	@$(RUN)/bin/spladerunner explain "$(QUESTION)" "$(SENTENCE)"

check: $(CHECK)/installed
	$(MAKE) --no-print-directory --jobs 2 --output-sync=target lint types quick

lint: $(CHECK)/installed
	$(CHECK)/bin/ruff format --check .
	$(CHECK)/bin/ruff check .
	$(CHECK)/bin/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml

types: $(CHECK)/installed
	$(CHECK)/bin/mypy

quick: $(CHECK)/installed
	$(CHECK)/bin/python -m pytest --quiet --numprocesses 2 --dist worksteal -m "not network and not gpu and not slow and not torch"

test: lint types $(TEST)/installed $(HUBS:=/installed) $(TRANSFORMERS_5)/installed
	$(TEST)/bin/python -m pytest --numprocesses 2 --dist loadfile
	for hub in $(HUBS); do $$hub/bin/python -m pytest --numprocesses 2 tests/test_hub.py tests/test_push.py || exit 1; done
	$(TRANSFORMERS_5)/bin/python -m pytest --numprocesses 2 tests/test_convert.py tests/test_gte.py

docs: $(DOCS)/installed
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict --quiet
	$(DOCS)/bin/python -m pytest --quiet --noconftest tests/site --nbmake examples

engines: $(ENGINES)/installed
	$(ENGINES)/bin/python -m pytest tests/engines

clusters: $(CLUSTERS)/installed
	$(CLUSTERS)/bin/python -m pytest tests/clusters

browser: $(BROWSER)/installed
	$(BROWSER)/bin/python -m pytest tests/browser

mutants: $(MUTANTS)/installed
	$(MUTANTS)/bin/python -m tests.mutation

attack: $(TEST)/installed
	$(TEST)/bin/python -m tests.attack --minutes $(MINUTES) --page docs/reliability.md

sweep: $(PYTHONS:%=.venv-python-%/installed)
	for version in $(PYTHONS); do .venv-python-$$version/bin/python -m tests.attack --minutes $(MINUTES) \
		--only strings --only "code points" --page docs/reliability.md || exit 1; done

bench: $(TEST)/installed
	for command in throughput cold_start latency memory size callers scaling long_texts vocabulary lab.share lab.invariance lab.levers; do \
		$(TEST)/bin/python -m benchmarks.$$command $(SHARED) .bench || exit 1; done
	$(TEST)/bin/python -m benchmarks.plot
	$(TEST)/bin/python -m benchmarks.tables

bench-gpu: $(TEST)/installed
	$(TEST)/bin/python -m benchmarks.gpu $(SHARED) .bench

bench-scale: $(TEST)/installed $(CLUSTERS)/installed
	$(TEST)/bin/python -m benchmarks.scale $(SHARED) .bench
	$(TEST)/bin/python -m benchmarks.tables

models: $(TEST)/installed
	rm -rf models/tiny-en
	$(TEST)/bin/spladerunner export --doc $(SHARED)/tiny-en/doc --query $(SHARED)/tiny-en/query \
		-o models/tiny-en --license Apache-2.0

quality: $(TEST)/installed
	$(TEST)/bin/spladerunner eval $(SHARED)/data/scifact $(SHARED)/data/cranfield -o .bench/quality
	$(TEST)/bin/python -m benchmarks.quality .bench/quality
	$(TEST)/bin/python -m benchmarks.windows $(SHARED)/data/scifact
	$(TEST)/bin/python -m benchmarks.tables

picture: $(TEST)/installed
	$(TEST)/bin/python docs/picture.py

$(RUN)/installed: $(SOURCES)
	$(PYTHON) -m venv $(RUN)
	rm -rf build
	$(RUN)/bin/pip install --quiet --disable-pip-version-check .
	@touch $@

$(CHECK)/installed: pyproject.toml
	$(PYTHON) -m venv $(CHECK)
	$(CHECK)/bin/pip install --quiet --disable-pip-version-check --editable ".[test]"
	@touch $@

# This release of torch comes without CUDA; asked for without it, torch brings gigabytes of it.
$(TEST)/installed: pyproject.toml
	$(PYTHON) -m venv $(TEST)
	$(TEST)/bin/pip install --quiet --disable-pip-version-check torch==2.13.0
	$(TEST)/bin/pip install --quiet --disable-pip-version-check --editable ".[test-export]"
	@touch $@

$(DOCS)/installed: pyproject.toml
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/pip install --quiet --disable-pip-version-check --editable ".[docs,formats,html]"
	@touch $@

# Debian's packages where there is no browser yet and they may be installed; the tests say what is missing.
$(BROWSER)/installed: pyproject.toml
	-@{ command -v chromium && command -v chromedriver; } >/dev/null || test "$$(id -u)" != 0 || \
		{ apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium chromium-driver; }
	$(PYTHON) -m venv $(BROWSER)
	$(BROWSER)/bin/pip install --quiet --disable-pip-version-check --editable ".[eval]" onnx pytest selenium
	@touch $@

.venv-hub-%/installed: pyproject.toml
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check --editable . pytest pytest-xdist onnx "huggingface_hub==$*.*"
	@touch $@

$(TRANSFORMERS_5)/installed: pyproject.toml
	$(PYTHON) -m venv $(TRANSFORMERS_5)
	$(TRANSFORMERS_5)/bin/pip install --quiet --disable-pip-version-check torch==2.13.0
	$(TRANSFORMERS_5)/bin/pip install --quiet --disable-pip-version-check --editable ".[export-transformers-5]" \
		"sentence-transformers>=6" pytest pytest-xdist
	@touch $@

.venv-python-%/installed: pyproject.toml
	python$* -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check --editable ".[test]"
	@touch $@

$(ENGINES)/installed: pyproject.toml $(wildcard tests/engines/*.txt)
	$(PYTHON) -m venv $(ENGINES)
	$(ENGINES)/bin/pip install --quiet --disable-pip-version-check --editable ".[formats,parquet]" -r tests/engines/requirements.txt
	$(ENGINES)/bin/pip install --quiet --disable-pip-version-check --no-deps -r tests/engines/requirements-alone.txt
	$(ENGINES)/bin/pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(ENGINES)/spladerunner-0.1 \
		SPLADERunner==0.1.6
	@touch $@

$(MUTANTS)/installed: pyproject.toml
	$(PYTHON) -m venv $(MUTANTS)
	$(MUTANTS)/bin/pip install --quiet --disable-pip-version-check --editable ".[mutants]"
	@touch $@

$(CLUSTERS)/installed: pyproject.toml $(wildcard tests/clusters/*.txt)
	$(PYTHON) -m venv $(CLUSTERS)
	$(CLUSTERS)/bin/pip install --quiet --disable-pip-version-check --editable ".[parquet,ray,spark,zstd]" \
		-r tests/clusters/requirements.txt
	@touch $@

clean:
	rm -rf $(RUN) $(CHECK) $(TEST) $(DOCS) $(HUBS) $(TRANSFORMERS_5) $(ENGINES) $(CLUSTERS) $(BROWSER) $(MUTANTS) .venv-python-* .bench build *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
