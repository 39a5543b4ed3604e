# Two commands set everything up on a machine that has Python 3.11 or newer and nothing else:
#   make demo   the light core (no torch), then a real clinical table in, a judged release out
#               (make demo-events: the same with a real trial, as SDTM in and SDTM and MEDS out)
#   make test   every extra and every check
# Both may be run again at any time; once installed, both work offline.

PYTHON ?= python3
OUT ?= demo-release
CORE := .venv/core
EVENTS := .venv/events
ALL := .venv/all
WORKERS ?= 2
CASES ?= 100000
FIRST ?= 10000
RUNS ?= 2000

.PHONY: help demo demo-events test fuzz check audit bench pins clean

help:
	@sed -n '2,5p' Makefile | cut -c3-
	@echo "  make check  lint, formatting and types only"
	@echo "  make fuzz   CASES damaged files at the doors (100,000: minutes); FIRST=n for fresh ones"
	@echo "  make audit  games and canaries against everything that promises privacy (RUNS a world: minutes)"
	@echo "  make bench  rewrite docs/benchmarks.md (hours, with every peer)"
	@echo "  make clean  remove what these commands made"

demo: $(CORE)/installed
	@echo "Running the main job on the German Breast Cancer Study Group 2 table (686 women)"
	@$(CORE)/bin/python examples/gbsg2.py $(OUT)

demo-events: $(EVENTS)/installed
	@echo "Running the main job on the CDISC pilot study (254 patients, 26 weeks)"
	@$(EVENTS)/bin/python examples/pilot.py $(OUT)

test: $(ALL)/installed check
	@echo "Running the test suite"
	@$(ALL)/bin/python -m pytest -q -n $(WORKERS)

check: $(ALL)/installed
	@echo "Checking lint, formatting and types"
	@$(ALL)/bin/ruff check .
	@$(ALL)/bin/ruff format --check -q .
	@$(ALL)/bin/mypy

fuzz: $(ALL)/installed
	@MANIKIN_FUZZ_CASES=$(CASES) MANIKIN_FUZZ_FIRST=$(FIRST) \
	  $(ALL)/bin/python -m pytest -q -n $(WORKERS) -m slow tests/security/test_fuzz_doors.py

audit: $(ALL)/installed
	@$(ALL)/bin/python -m pytest -q -m "slow or not slow" tests/privacy tests/metrics/privacy tests/contract/test_private.py
	@$(ALL)/bin/python benchmarks/audit.py --runs $(RUNS)

bench: $(ALL)/installed
	@$(ALL)/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	$(ALL)/bin/python benchmarks/tables.py

$(CORE)/installed: requirements/core.txt pyproject.toml
	@$(call install,$(CORE),requirements/core.txt,the light core)

$(EVENTS)/installed: requirements/core.txt requirements/all.txt pyproject.toml
	@$(call install,$(EVENTS),requirements/core.txt,the light core)
	@echo "Adding the formats of records and the pilot study (extras ehr, demo)"
	@$(EVENTS)/bin/python -m pip install --quiet --disable-pip-version-check --no-build-isolation \
	  --constraint requirements/all.txt --editable ".[demo,ehr]"

$(ALL)/installed: requirements/all.txt pyproject.toml
	@$(call install,$(ALL),requirements/all.txt,every extra and the development tools)

# The package itself is installed in place and without build isolation: its build tools are pinned
# beside everything else, so a second run needs no network.
define install
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is $$($(PYTHON) --version 2>&1); Manikin needs Python 3.11 or newer;" \
	       "name one with: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	echo "Installing $(3) into $(1)"
	$(PYTHON) -m venv $(1)
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check -r $(2)
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check --no-build-isolation \
	  --no-deps --editable .
	touch $@
endef

# Resolve the newest versions that pyproject.toml allows and write them down.
pins:
	rm -rf .venv/pins && $(PYTHON) -m venv .venv/pins
	.venv/pins/bin/python -m pip install --quiet hatchling editables .
	.venv/pins/bin/python -m pip freeze --exclude manikin > .venv/pins/core.txt
	.venv/pins/bin/python -m pip install --quiet "torch==2.13.0" ".[deep,demo,dp,ehr,excel,sign,dev]"
	.venv/pins/bin/python -m pip freeze --exclude manikin > .venv/pins/all.txt
	{ head -1 requirements/core.txt; cat .venv/pins/core.txt; } > .venv/pins/new && mv .venv/pins/new requirements/core.txt
	{ head -1 requirements/all.txt; sed 's/^torch==.*/torch==2.13.0/' .venv/pins/all.txt; } > .venv/pins/new && mv .venv/pins/new requirements/all.txt

clean:
	rm -rf .venv demo-release dist build .mypy_cache .pytest_cache .ruff_cache .hypothesis
