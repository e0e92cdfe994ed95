# What a newcomer runs. Everything missing is installed by tests/setup.sh, without a question.
# The folder of the results is cargo's matter: CARGO_TARGET_DIR is obeyed, absolute or relative.

SHELL := /bin/bash
CARGO ?= cargo
# mosquitto lies where only root looks; rustup's folder is missing until the next login.
# The same random cases every time: a red run means the change, not the dice. Set another to search further.
export PROPTEST_RNG_SEED ?= 20260301
export PATH := $(PATH):/usr/sbin:/sbin:$(HOME)/.cargo/bin

.DEFAULT_GOAL := build
.PHONY: help build test soak demo bench lint deny clean

help: ## say what there is
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 16

build: ## build the release binary
	@tests/setup.sh build
	$(CARGO) build --locked --release

test: ## run every test, against a real broker and independent devices
	@tests/setup.sh test
	$(CARGO) test --locked
	# The same gateway, broken on purpose: the tests above are worth something only if this is noticed.
	$(CARGO) test --locked --features mutant --test mutants_are_caught
	$(CARGO) test --locked --features mutant --test power_cut_loses_nothing found_out

# The tests that use force, with the numbers that `make test` has no time for.
FORCE := $(patsubst tests/%.rs,%,$(shell grep -lw rounds tests/*.rs)) damaged_file_is_replaced
IN_FULL := SOAK=1 $(CARGO) test --locked --profile soak

soak: ## prove by force that nothing is lost: kills, power cuts and the rest in full number
	@tests/setup.sh test
	$(IN_FULL) $(addprefix --test ,$(FORCE)) -- --nocapture --test-threads=1
	$(IN_FULL) --features mutant --test mutants_are_caught -- --nocapture --test-threads=1
	$(IN_FULL) --features mutant --test power_cut_loses_nothing found_out -- --nocapture

demo: ## see it work: a broker, simulated devices and the gateway, until Ctrl-C (or DEMO_SECONDS=20)
	@tests/setup.sh demo
	@tests/demo.sh

bench: ## measure
	@tests/setup.sh test
	$(CARGO) bench --locked --bench gateway

lint: ## formatting and clippy, as CI wants them
	@tests/setup.sh build
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked --all-targets --features mutant -- -D warnings

deny: ## licences, sources and advisories of the dependencies (needs cargo-deny)
	$(CARGO) deny --locked check

clean: ## remove what was built and the folders of the tests' peers
	$(CARGO) clean
	rm -rf .venv tests/peers/node_modules
