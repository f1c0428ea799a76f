# make run      the embedded pair at work, in an environment with the runtime alone
# make test     lint, types and tests, in an environment with what the tests and the export need
# make engines  vectors in real search engines, in an environment with those
# make browser  tests of the pages in a headless Chromium, in an environment of their own
# make bench    every table of benchmarks/README.md; an hour, with nothing else running
# make models   the embedded bundle again, from its checkpoints
# make quality  nDCG@10 of the embedded bundle, its checkpoints and BM25
# make picture  docs/expansion.svg again

PYTHON ?= python3
SHARED ?= ../shared
RUN := .venv
TEST := .venv-test
BROWSER := .venv-browser
# The export holds huggingface_hub below 1 in the environment of the tests; the runtime works with its successors too.
HUBS := .venv-hub-1 .venv-hub-2
ENGINES := .venv-engines
SOURCES := pyproject.toml README.md $(wildcard spladerunner/*.py spladerunner/*/*.py spladerunner/templates/* spladerunner/*/templates/* \
	export/* models/* models/*/*)

SENTENCE := The Manhattan Project and its atomic bomb helped bring an end to World War II.
QUESTION := who built the nuclear bomb

.PHONY: run test engines browser bench models quality picture clean

run: $(RUN)/installed
	@$(RUN)/bin/spladerunner expand --top 12 "$(SENTENCE)"
	@$(RUN)/bin/spladerunner expand --query --top 8 "$(QUESTION)"
	@$(RUN)/bin/spladerunner explain "$(QUESTION)" "$(SENTENCE)"

test: $(TEST)/installed $(HUBS:=/installed)
	$(TEST)/bin/ruff format --check .
	$(TEST)/bin/ruff check .
	$(TEST)/bin/mypy
	$(TEST)/bin/python -m pytest --numprocesses 2 --dist loadfile
	for hub in $(HUBS); do $$hub/bin/python -m pytest --numprocesses 2 tests/test_hub.py || exit 1; done

engines: $(ENGINES)/installed
	$(ENGINES)/bin/python -m pytest tests/engines

browser: $(BROWSER)/installed
	$(BROWSER)/bin/python -m pytest tests/browser

bench: $(TEST)/installed
	$(TEST)/bin/pip install --quiet --disable-pip-version-check matplotlib
	for table in throughput share cold_start latency memory levers invariance scaling size plot; do \
		$(TEST)/bin/python -m benchmarks.$$table $(SHARED) .bench || exit 1; done

models: $(TEST)/installed
	rm -rf models/tiny-en
	$(TEST)/bin/spladerunner export --doc $(SHARED)/tiny-en/doc --query $(SHARED)/tiny-en/query \
		-o models/tiny-en --license Apache-2.0

quality: $(TEST)/installed
	$(TEST)/bin/python benchmarks/quality.py $(SHARED)/data $(SHARED)/tiny-en

picture: $(TEST)/installed
	$(TEST)/bin/python docs/picture.py

$(RUN)/installed: $(SOURCES)
	$(PYTHON) -m venv $(RUN)
	rm -rf build
	$(RUN)/bin/pip install --quiet --disable-pip-version-check .
	@touch $@

# This release of torch comes without CUDA; asked for without it, torch brings gigabytes of it.
$(TEST)/installed: pyproject.toml
	$(PYTHON) -m venv $(TEST)
	$(TEST)/bin/pip install --quiet --disable-pip-version-check torch==2.13.0
	$(TEST)/bin/pip install --quiet --disable-pip-version-check --editable ".[export,test]"
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

$(ENGINES)/installed: pyproject.toml $(wildcard tests/engines/*.txt)
	$(PYTHON) -m venv $(ENGINES)
	$(ENGINES)/bin/pip install --quiet --disable-pip-version-check --editable ".[formats]" -r tests/engines/requirements.txt
	$(ENGINES)/bin/pip install --quiet --disable-pip-version-check --no-deps -r tests/engines/requirements-alone.txt
	@touch $@

clean:
	rm -rf $(RUN) $(TEST) $(HUBS) $(ENGINES) $(BROWSER) .bench build *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
