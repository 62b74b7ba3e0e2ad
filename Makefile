# SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
# Builds, boots and tests AxHive. `make help` lists what it can do.

# What to build: `app` is AxHive; any other crate's folder, here or elsewhere, runs bare.
A ?= app
# The architecture: riscv64, aarch64 or x86_64.
ARCH ?= riscv64
# The VMs to run: files of configs/vms, or your own. Without any, AxHive brings its own.
VM ?=
# The machine's CPUs; needs no rebuild.
SMP ?= 2
# The machine's memory; ArceOS takes 16 MiB of it, guests the rest.
MEM ?= 1G
# off, error, warn, info, debug or trace; needs no rebuild.
LOG ?= warn
# What to do when the last VM has stopped: shell or poweroff.
ONIDLE ?= shell
# More words for the hypervisor's command line; riscv64: stage2=sv48x4 for another format of tables.
OPTIONS ?=
# release or debug.
MODE ?= release
# What stands for the machine: qemu, or bochs for an x86_64 with VMX (output only).
EMULATOR ?= qemu
# How QEMU runs an x86_64: tcg, in software, or kvm, on this machine's CPUs.
ACCEL ?= tcg
# More arguments for QEMU, e.g. QEMU_ARGS="-cpu neoverse-n1".
QEMU_ARGS ?=
# One system test to run, of those in tests/qemu.
CASE ?=
# How many CPUs the system tests may keep busy at a time; all without it.
JOBS ?=

ARCHES := riscv64 aarch64 x86_64
ifeq ($(filter $(ARCH),$(ARCHES)),)
  $(error ARCH=$(ARCH) is not one of: $(ARCHES))
endif

NAME := $(notdir $(abspath $(A)))
# An ArceOS application with a platform of its own is built for a number of CPUs.
IMAGE := build/$(ARCH)/$(MODE)/$(NAME)$(if $(wildcard $(A)/configs/$(ARCH).toml),-smp$(SMP))
BUNDLE := $(if $(strip $(VM)),build/$(ARCH)/vms.bundle)
TOOLS := cargo run --quiet --package axhive-tools --
TEST_ARCHES := $(if $(filter command,$(firstword $(origin ARCH))),$(ARCH),$(ARCHES))
HOST_FEATURES := --workspace --features axhive/host
export SMP MEM LOG ONIDLE OPTIONS ACCEL QEMU_ARGS JOBS
# Named, it keeps rustup from fetching the targets of rust-toolchain.toml for host commands.
export RUSTUP_TOOLCHAIN ?= stable

.DEFAULT_GOAL := help
.PHONY: help setup build run justrun debug bundle test test-host test-qemu test-boot bench fmt fmt-check clippy \
    clippy-host clippy-machines doc clean

help: ## Show this help.
	@echo 'make A=app ARCH=riscv64 run'
	@echo; echo 'Variables:'
	@awk '/^# /{text=substr($$0,3)} /^[A-Z_]+ \?=/{printf "  %-10s %-9s %s\n",$$1,$$3,text; text=""}' Makefile
	@echo; echo 'Targets:'
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-10s %s\n",$$1,$$2}' Makefile

setup: ## Find out what is missing, and install it (as root) or say how.
	@VERBOSE=1 scripts/setup.sh $(ARCH) test

build: ## Build A for ARCH.
	@scripts/setup.sh $(ARCH)
ifeq ($(NAME),app)
	@scripts/default-bundle.sh $(ARCH)
endif
	@scripts/build.sh $(ARCH) $(MODE) $(A) $(IMAGE)

run: build justrun ## Build A for ARCH and boot it; Ctrl-A X ends QEMU.

justrun: bundle ## Boot what was built.
	@scripts/$(EMULATOR).sh $(ARCH) $(IMAGE) $(BUNDLE)

debug: build bundle ## Boot A and wait for gdb on port 1234.
	@echo 'gdb-multiarch $(IMAGE).elf -ex "target remote :1234"'
	@QEMU_ARGS="$(QEMU_ARGS) -s -S" scripts/qemu.sh $(ARCH) $(IMAGE) $(BUNDLE)

# The bundle names files that make does not know of, so it is made each time.
bundle:
ifneq ($(BUNDLE),)
	@mkdir -p $(dir $(BUNDLE))
	@$(TOOLS) bundle -o $(BUNDLE) $(VM)
endif

test: ## Run everything that must hold; ends with `N passed, N failed`.
	@scripts/test.sh

test-host: ## Test every crate on this machine.
	cargo test --quiet --no-fail-fast $(HOST_FEATURES)

test-qemu: ## Run the system tests of every architecture, or those of ARCH and CASE.
	@status=0; built=; for arch in $(TEST_ARCHES); do \
	    $(MAKE) --no-print-directory A=app ARCH=$$arch MODE=release build && \
	    built="$$built $$arch" || status=1; done; \
	cargo run --quiet --package system-tests -- $$built $(CASE) && exit $$status

test-boot: ## Boot AxHive on every machine and CPU model it must run on.
	@set -e; for arch in $(ARCHES); do $(MAKE) --no-print-directory A=app ARCH=$$arch MODE=release build; done
	@scripts/test-boot.sh

bench: ## Count what exits cost, beside the targets; BENCH="--linux --write" for more.
	@$(TOOLS) bench --arch $(ARCH) $(BENCH)

fmt: ## Format the code.
	cargo fmt --all
	cargo fmt --manifest-path guests/arceos-demo/Cargo.toml

fmt-check:
	cargo fmt --all --check
	cargo fmt --manifest-path guests/arceos-demo/Cargo.toml --check

# What runs on the machines beside AxHive itself, and on which.
GUESTS := $(foreach arch,$(ARCHES),hello:$(arch) bench:$(arch)) \
    sbi-test:riscv64 vector-test:riscv64 arm-test:aarch64 x86-test:x86_64

clippy: clippy-host clippy-machines ## Lint the host build, the build for each machine, and the scripts.

clippy-host:
	@scripts/setup.sh $(ARCH) test
	cargo clippy --quiet $(HOST_FEATURES) --all-targets -- -D warnings
	shellcheck -x scripts/*.sh

# In the profile in which images are built: what they share is compiled once.
clippy-machines:
	@scripts/setup.sh $(ARCH) test
	@set -e; for arch in $(ARCHES); do echo "clippy for $$arch"; \
	    scripts/cargo.sh $$arch clippy --release --quiet -p axhive --features $$arch -- -D warnings; done
	@set -e; for guest in $(GUESTS); do \
	    scripts/cargo.sh $${guest#*:} clippy --release --quiet -p $${guest%:*} -- -D warnings; done

doc: ## Build the documentation of the code.
	RUSTDOCFLAGS="-D warnings" cargo doc --quiet --no-deps $(HOST_FEATURES)

clean: ## Remove everything that was built.
	rm -rf build target
