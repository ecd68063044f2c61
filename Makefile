# Two commands matter: `make demo` (the main job) and `make test` (all tests). Both set up what they need.
PYTHON ?= python3
BIN := .venv/bin
BROKER ?= local
LAKE ?= folder
MINUTES ?= 20
READY := .venv/.ready
unexport PYTHONDONTWRITEBYTECODE  # without compiled modules each of many processes takes twice as long to start

.PHONY: demo up test test-long sabotage guarantees bench lint lock clean stack-up stack-down stack-status
demo: $(READY) ## the main job, with a report that must add up; BROKER=kafka LAKE=s3: on the real services
	$(BIN)/coin demo --broker $(BROKER) --lake $(LAKE)

up: $(READY) ## Dagster's UI and the simulated exchanges, until Ctrl-C (COIN_EXCHANGES_MODE=live: the real ones)
	COIN_EXCHANGES_MODE=$${COIN_EXCHANGES_MODE:-simulated} $(BIN)/coin up

test: $(READY) lint ## all tests: many side by side, faults and browser beside the soak, and alone those that measure time
	$(BIN)/pytest --ignore=tests/faults --ignore=tests/ui -n auto --dist loadgroup \
		--junitxml=reports/junit.xml --html=reports/tests.html --self-contained-html \
		--cov --cov-branch --cov-report=term --cov-report=html:reports/coverage
	$(BIN)/pytest tests/faults tests/ui -m 'not long and not alone' -n 2 --dist loadgroup --no-loadscope-reorder \
		--junitxml=reports/junit-faults.xml --html=reports/tests-faults.html --self-contained-html
	$(BIN)/pytest tests/faults -m 'alone and not long' \
		--junitxml=reports/junit-alone.xml --html=reports/tests-alone.html --self-contained-html
	$(BIN)/coverage report --include='coin_platform/book.py,coin_platform/model.py,coin_platform/records.py,coin_platform/end_reasons.py,coin_platform/steady_clock.py,coin_platform/times.py,coin_platform/errors.py,coin_platform/collect/session.py,coin_platform/collect/actions.py,coin_platform/collect/pauses.py,coin_platform/collect/refusals.py,coin_platform/exchanges/*,coin_platform/tables/*,coin_platform/preprocess/*' --fail-under=100

stack-up stack-down stack-status: stack-%: $(READY) ## Apache Kafka, an S3 server, Redis and ZooKeeper on loopback, kept under data/stack
	$(BIN)/python -m infra.stack $*

test-long: $(READY) ## what takes minutes: faults against real processes, the demo on both kinds of services
	$(BIN)/pytest -m long --timeout=900 --junitxml=reports/junit-long.xml

sabotage: $(READY) ## are the promises proved? mechanisms switched off one by one, in a copy of the tree
	$(BIN)/python -m tools.sabotage

soak: $(READY) ## everything at once under random faults; MINUTES=240 before a release, SOAK_SEED=… to repeat a run
	SOAK_MINUTES=$(MINUTES) $(BIN)/pytest -s -m long -k hours tests/faults/test_soak.py

guarantees: $(READY) ## docs/guarantees.md, from the names of the tests and what they measured last
	$(BIN)/python -m tools.guarantees

bench: $(READY) ## ratios measured side by side, and the worker at 5,000 frames/s: reports/bench.json
	$(BIN)/python -m benchmarks

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lock: $(READY) ## after a change of the dependencies in pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --group dev --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -o requirements.lock

clean:
	rm -rf .venv data reports

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	awk '/^[^ #]/ { is_uv = /^uv==/ } is_uv' requirements.lock > .venv/uv.lock
	$(BIN)/pip install --quiet --no-deps --require-hashes -r .venv/uv.lock
	$(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --no-deps --no-build-isolation -e .
	touch $@
