# `make demo` and `make test` on a fresh machine do everything, the virtual environment included.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export TOKENIZERS_PARALLELISM := false

.PHONY: help demo study-demo study-whisper beyond beyond-seeds splicing results results-whisper backbone speech test test-all test-whisper bench gpu-check faults fuzz pinned lint format docs docs-serve

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# The versions that the figures of README.md and RESULTS.md were made with; setup.cfg allows others.
PUBLISHED := 'torch==2.11.*' 'torchaudio==2.11.0' 'transformers==5.23.*'
$(STAMP): setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' || { \
	  echo "error: found $$($(PYTHON) --version), expected Python 3.11 to 3.14; name one: make PYTHON=python3.11"; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "error: $(PYTHON) has no venv module; on Debian: apt-get install python3-venv"; exit 2; }
	@echo "installing into $(VENV) (torch alone is 5 GB; once)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[demo,study,test]' $(PUBLISHED)
	@touch $@

# Snakemake under a lock, by workflow/profiles/default; after a kill, the same target continues.
# At most four jobs at a time, since each takes a gigabyte: make demo CORES=8 with more memory.
CORES ?= $(shell n=$$(getconf _NPROCESSORS_ONLN); echo $$((n < 4 ? n : 4)))
STUDY := $(BIN)/python -m workflow run configs/study/demo.yaml --cores $(CORES)

demo: $(STAMP)  ## the whole study in miniature: corpora, fine-tunes, merges, one table
	@$(STUDY)
	@$(BIN)/python -m workflow show outputs/demo/study/study.yaml

study-demo: $(STAMP)  ## the same with five seeds: mean and spread
	@$(STUDY) --config 'seeds=[0,1,2,3,4]'
	@$(BIN)/python -m workflow show outputs/demo/study-5-seeds/study.yaml

WHISPER := $(BIN)/python -m workflow run configs/study/whisper_base
study-whisper: $(STAMP)  ## the study on OpenAI's whisper-base (downloads 290 MB) and the spoken sentences of speech/
	@$(WHISPER).yaml --cores $(CORES)
	@$(WHISPER)_tags.yaml --cores $(CORES)
	@$(BIN)/python -m workflow show outputs/whisper_base/study/study.yaml
	@$(BIN)/python -m workflow show outputs/whisper_base/whisper_base_tags-1-seed/study.yaml

beyond: $(STAMP)  ## on the same: the unseen pairs by splicing and both language tags, without a sentence of theirs
	@$(BIN)/python -m workflow run configs/study/beyond.yaml --cores $(CORES)
	@$(WHISPER)_merges.yaml --cores $(CORES)
	@$(BIN)/python -m workflow show outputs/whisper_base/beyond-1-seed/study.yaml
	@$(BIN)/python -m workflow show outputs/whisper_base/whisper_base_merges-1-seed/study.yaml

beyond-seeds: $(STAMP)  ## its main rows with three seeds
	@$(BIN)/python -m workflow run configs/study/beyond-seeds.yaml --cores $(CORES)
	@$(BIN)/python -m workflow show outputs/whisper_base/beyond-seeds-3-seeds/study.yaml

SPLICING := $(BIN)/python -m workflow run configs/study/splicing
splicing: $(STAMP)  ## cross-pair splicing beside its rivals, five seeds, and its ablations (1 h 40 min on two cores)
	@$(SPLICING).yaml --cores $(CORES) --config 'seeds=[0,1,2,3,4]'
	@$(SPLICING)-ablations.yaml --cores $(CORES)
	@$(BIN)/python -m workflow show outputs/splicing/splicing-5-seeds/study.yaml

results: study-demo splicing  ## their sections of RESULTS.md
	$(BIN)/python -m workflow results outputs/demo/study-5-seeds/study.yaml \
	  outputs/splicing/splicing-5-seeds/study.yaml outputs/splicing/splicing-ablations-1-seed/study.yaml

results-whisper: study-whisper beyond beyond-seeds  ## their sections of RESULTS.md
	$(BIN)/python -m workflow results outputs/whisper_base/study/study.yaml outputs/whisper_base/beyond-1-seed/study.yaml \
	  outputs/whisper_base/beyond-seeds-3-seeds/study.yaml \
	  outputs/whisper_base/whisper_base_tags-1-seed/study.yaml \
	  outputs/whisper_base/whisper_base_merges-1-seed/study.yaml

backbone: $(STAMP)  ## train the demo's backbone again, from scratch (about half an hour)
	$(BIN)/python prepare.py demo --out data/backbone --backbone 6000
	$(BIN)/python -m backbone.miniature --out outputs/backbone-init data/backbone/*/*.jsonl
	$(BIN)/python train.py --config backbone-short.yaml
	$(BIN)/python train.py --config backbone-joint.yaml
	$(BIN)/python train.py --config backbone.yaml

speech: $(STAMP)  ## speak the sentence sets again where they, the voices or their phonemes changed (hours at most)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[voices]' $(PUBLISHED)
	$(BIN)/python prepare.py speak --out speech --audio opus --bit-rate 15000

test: $(STAMP) lint docs  ## linters, the documentation's site, and the tests that end in minutes
	$(BIN)/python -m pytest -n 2 -m 'not slow and not gpu and not whisper'

test-all: $(STAMP) lint docs  ## every test but those of test-whisper, the slow ones too
	$(BIN)/python -m pytest -n 2 -m 'not whisper'

test-whisper: $(STAMP)  ## the tests with real weights: downloads openai/whisper-base (290 MB) where the Hub's cache lacks it
	$(BIN)/python -c 'from huggingface_hub import snapshot_download as get; get("openai/whisper-base")'
	$(BIN)/python -m pytest -m whisper

bench: $(STAMP)  ## every benchmark, then docs/performance.md (under half an hour, on an otherwise idle machine)
	$(BIN)/python benchmarks/run_all.py

gpu-check: $(STAMP)  ## this machine's GPU: training, decoding, algorithms, resuming, into docs/performance.md (8 minutes at most)
	$(BIN)/python benchmarks/gpu_check.py

faults: $(STAMP)  ## kill, truncate, fill disks and run at the same time; count what is lost (docs/reliability.md)
	$(BIN)/python -m pytest tests/faults

FUZZ_EXAMPLES ?= 5000
fuzz: $(STAMP)  ## random input to readers, scoring and weights: make fuzz FUZZ_EXAMPLES=100000
	FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/python -m pytest tests/faults/test_fuzz.py

pinned:  ## install the versions of constraints.txt, each file checked by its hash, instead of the newest that fit
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $(STAMP)

lint: $(STAMP)  ## ruff, check and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP)  ## rewrite in ruff's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.docs: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]' $(PUBLISHED)
	@touch $@

export NO_MKDOCS_2_WARNING := true
docs: $(VENV)/.docs  ## the documentation's site, into outputs/site/; a broken link is an error
	$(BIN)/mkdocs build --strict --quiet

docs-serve: $(VENV)/.docs  ## serve the site on http://127.0.0.1:8000 while you write
	$(BIN)/mkdocs serve
