# The short way to everything: `make run` boots a guest on a fresh machine, `make test` checks all there is.
#
# BUILD=dir builds elsewhere; VENEER_SETUP=skip leaves the host's packages alone; RUN_FLAGS adds flags to veneer run.

BUILD ?= build
PRESET ?= release
JOBS ?= $(shell nproc)
SECONDS ?= 60
CPUS ?= 4
BITS ?= 64
SEED ?= 1
REPS ?= 3
CMDLINE ?= console=ttyS0 quiet
DISK ?=
ONLY ?=
NET ?= user
RUN_FLAGS ?=
IMAGE_FLAGS ?=

GUEST := $(BUILD)/guest
VENEER := $(BUILD)/bin/veneer
CCACHE := $(shell command -v ccache)
CMAKE_FLAGS ?= $(if $(CCACHE),-DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
NINJA := cd $(BUILD) && ninja -j $(JOBS)

.PHONY: help setup configure build all run test unit-test boots guest programs bench bench-table bench-disk bench-net bench-login verify-disk prove-disk hostile sanitize scaling fuzz-cpu x86-selftests fuzz-disk fuzz-devices stress real-programs parallel-build image image-test install-debian many nested tidy format clean

help:
	@echo 'make run                 boot a small Linux guest here in the terminal (installs, builds and fetches what it needs)'
	@echo 'make run DISK=1          the same from a root file system on a disk, which keeps what you write'
	@echo 'make run NET=            the same without a network (the default is NET=user)'
	@echo 'make test                build and run every test'
	@echo 'make unit-test           the tests that boot no guest'
	@echo 'make image               a Debian system on a disk: build/debian.qcow2 | image-test: builds a small one, boots it'
	@echo 'make install-debian      Debian'"'"'s installer from its CD-ROM onto an empty disk, by itself (an hour or so)'
	@echo 'make boots N=50          boot and power off the guest N times in a row'
	@echo 'make stress SECONDS=3600 CPUS=4  stress-ng with checks in the guest; fails on what it, the kernel or the host finds'
	@echo 'make real-programs [ONLY=node,java]  node, Java, Go, LuaJIT, Python, SQLite, PostgreSQL in guests with 1 and 4 CPUs, against known answers'
	@echo 'make parallel-build      a build on all processors of the guest: the same bytes with 1 and 4 CPUs as on the host'
	@echo 'make many N=100           idle guests at once: do all answer, what does each cost (memory, processor time)'
	@echo 'make nested CPUS=1        Linux in QEMU on KVM in the guest (AMD hosts with qemu-system-x86_64)'
	@echo 'make bench REPS=3        the guest benchmarks: native, QEMU if it is installed, Veneer (as root)'
	@echo 'make bench-disk SECONDS=10  throughput of a disk against QEMU | verify-disk: checksums under load (both with fio)'
	@echo 'make bench-net           iperf3 both ways against QEMU | bench-login IMAGE=F: time from start to a login prompt'
	@echo 'make prove-disk SECONDS=600  the long proofs of disks: about two hours'
	@echo 'make fuzz-cpu SECONDS=60 compare the CPU engine with the host CPU on random 64-bit code (BITS=32, BITS=16; SEED=n)'
	@echo 'make x86-selftests       the Linux kernel'"'"'s x86 selftests in a guest'
	@echo 'make fuzz-disk SECONDS=60 damaged disk images, with libFuzzer (needs clang)'
	@echo 'make fuzz-devices SECONDS=60 every device, driven by a hostile guest, under the sanitizers (SEED=n)'
	@echo 'make build | all         veneer alone | veneer and all tests and tools'
	@echo 'make guest | programs    the guest images: the demo guest | the one with real programs'
	@echo 'make hostile SECONDS=3600  a hostile kernel on 2 to 8 virtual CPUs | scaling: loads on one and two, against native'
	@echo 'make sanitize SECONDS=3600 the hostile kernel and the devices'"'"' fuzzer under ASan+UBSan, the kernel under TSan too; a third of the time each'
	@echo 'make tidy | format       clang-tidy | clang-format on the sources'

setup:
	@scripts/setup.sh

$(BUILD)/build.ninja:
	@mkdir -p $(BUILD)
	@cmake --preset $(PRESET) -B $(BUILD) $(CMAKE_FLAGS) >$(BUILD)/configure.log 2>&1 || { cat $(BUILD)/configure.log; false; }

configure: setup
	@$(MAKE) -s --no-print-directory $(BUILD)/build.ninja

build: configure
	@$(NINJA) veneer

all: configure
	@$(NINJA)

guest: setup
	@guest/build_demo.sh $(GUEST)

programs: guest
	@guest/build_programs.sh $(GUEST)

# The disk is made once and then the guest's own: remove it to get a fresh one.
$(GUEST)/disk.qcow2: build guest
	@guest/build_disk.sh $(GUEST)
	@[ -f $@ ] || $(VENEER) disk convert -f raw -O qcow2 $(GUEST)/disk.raw $@

ifneq ($(DISK),)
run: $(GUEST)/disk.qcow2
run: override CMDLINE += root=/dev/vda rw
run: override RUN_FLAGS += --disk $(GUEST)/disk.qcow2,format=qcow2
endif
ifneq ($(NET),)
run: RUN_FLAGS += --net $(NET)
endif
run: build guest
	$(VENEER) run --kernel $(GUEST)/vmlinuz --initrd $(GUEST)/initrd --cmdline '$(CMDLINE)' $(RUN_FLAGS)

test: all guest programs
	cd $(BUILD) && ctest --output-on-failure -j $(JOBS)

unit-test: all
	cd $(BUILD) && ctest --output-on-failure -j $(JOBS) -LE 'boot|programs'

image: build
	$(VENEER) image build debian -o $(BUILD)/debian.qcow2 $(IMAGE_FLAGS)

image-test: build
	VENEER=$(abspath $(VENEER)) VENEER_GUEST=$(abspath $(GUEST)) python3 -B tests/boot/image.py

install-debian: build
	@mkdir -p $(GUEST)
	@guest/build_installer.sh $(GUEST)
	VENEER=$(abspath $(VENEER)) VENEER_GUEST=$(abspath $(GUEST)) python3 -u -B tests/boot/installer.py

N ?= 50
boots: build guest
	tools/boots.py $(N) --veneer $(VENEER) --guest $(GUEST)

many: build guest
	guest/build_small.sh $(GUEST)
	tools/many.py $(N) --veneer $(VENEER) --guest $(GUEST)

nested: build guest
	@VENEER_QEMU=$$(command -v qemu-system-x86_64) guest/build_kvm.sh $(GUEST)
	tools/nested.py --cpus $(CPUS) --veneer $(VENEER) --guest $(GUEST)

stress: build guest
	@guest/build_stress.sh $(GUEST)
	tools/stress.py --seconds $(SECONDS) --cpus $(CPUS) --veneer $(VENEER) --guest $(GUEST)

$(GUEST)/real.qcow2: build guest
	@guest/build_real.sh $(GUEST) $(VENEER)

real-programs: $(GUEST)/real.qcow2
	tools/real_programs.py --veneer $(VENEER) --guest $(GUEST) $(if $(ONLY),--only $(ONLY))

parallel-build: $(GUEST)/real.qcow2
	tools/real_programs.py --veneer $(VENEER) --guest $(GUEST) --only go

bench: build guest
	bench/run.sh $(BUILD) $(REPS)

# fio in the guest: throughput against QEMU's translator; checksums under load.
bench-disk: build guest
	@guest/build_fio.sh $(GUEST)
	python3 bench/disk.py compare --guest $(GUEST) --veneer $(VENEER) --work $(BUILD)/bench-work --seconds $(SECONDS)

# iperf3 both ways against the host, and the time to a login prompt (IMAGE: see make image), each in turns with QEMU's translator.
bench-net: SECONDS = 5
bench-net: build guest
	@guest/build_iperf.sh $(GUEST)
	python3 bench/network.py --guest $(GUEST) --veneer $(VENEER) --seconds $(SECONDS)

IMAGE ?= $(BUILD)/debian.qcow2
bench-login: build
	python3 bench/login.py $(IMAGE) --veneer $(VENEER)

verify-disk: build guest
	@guest/build_fio.sh $(GUEST)
	python3 bench/disk.py verify --guest $(GUEST) --veneer $(VENEER) --work $(BUILD)/bench-work --seconds $(SECONDS) --format raw
	python3 bench/disk.py verify --guest $(GUEST) --veneer $(VENEER) --work $(BUILD)/bench-work --seconds $(SECONDS) --format qcow2
	python3 bench/disk.py mirror --guest $(GUEST) --veneer $(VENEER) --work $(BUILD)/bench-work --seconds $(SECONDS)

prove-disk: all guest
	@guest/build_fio.sh $(GUEST)
	@guest/build_disk.sh $(GUEST)
	tests/disk/prove.sh $(BUILD) $(SECONDS)

bench-table:
	bench/bench.py table --build $(BUILD) --work $(abspath $(BUILD))/bench-work --out $(abspath $(BUILD))/bench-out

fuzz-cpu: configure
	@$(NINJA) fuzz_cpu
	$(BUILD)/bin/fuzz_cpu --bits $(BITS) --seed $(SEED) --seconds $(SECONDS)

# PRESET=asan or tsan with a BUILD of its own: what the sanitizers keep for themselves is allowed for.
x86-selftests: build guest
	tests/selftests/build.sh $(BUILD)/selftests $(GUEST)
	tests/selftests/run.py --selftests $(BUILD)/selftests --kernel $(GUEST)/vmlinuz --veneer $(VENEER)
	[ ! -f $(BUILD)/selftests/initrd-32 ] || tests/selftests/run.py --selftests $(BUILD)/selftests --width 32 --kernel $(GUEST)/vmlinuz-686-pae --veneer $(VENEER) --cpus 1

hostile: build
	VENEER=$(VENEER) tests/guest/hostile.py $(SECONDS) $(if $(filter asan tsan,$(PRESET)),--allow-mib 3000)

# Builds of their own, beside BUILD: the first time they take longer than a minute's run. An hour unless told otherwise.
SANITIZE_SECONDS = $(if $(filter file,$(origin SECONDS)),3600,$(SECONDS))
THIRD = $(shell expr $(SANITIZE_SECONDS) / 3)
# A small quarantine, so that what was freed is not taken for growth (ASan keeps 256 MiB of it by itself).
HOSTILE = ASAN_OPTIONS=quarantine_size_mb=32:$${ASAN_OPTIONS:-} VENEER_TIMEOUT_SCALE=$${VENEER_TIMEOUT_SCALE:-8} tests/guest/hostile.py $(THIRD) --seed $(SEED) --allow-mib 3000
sanitize: setup
	@$(MAKE) -s --no-print-directory BUILD=$(BUILD)-asan PRESET=asan $(BUILD)-asan/build.ninja
	@$(MAKE) -s --no-print-directory BUILD=$(BUILD)-tsan PRESET=tsan $(BUILD)-tsan/build.ninja
	@cd $(BUILD)-asan && ninja -j $(JOBS) fuzz_devices veneer
	@cd $(BUILD)-tsan && ninja -j $(JOBS) veneer
	$(BUILD)-asan/bin/fuzz_devices --seconds $(THIRD) --seed $(SEED)
	VENEER=$(BUILD)-asan/bin/veneer $(HOSTILE)
	VENEER=$(BUILD)-tsan/bin/veneer $(HOSTILE)

scaling: build guest
	bench/scaling.py --veneer $(VENEER) --guest $(GUEST)

fuzz-disk: setup
	tests/disk/fuzz/fuzz.sh $(BUILD) $(SECONDS)

# Always under the sanitizers, in a build of their own.
fuzz-devices: setup
	@$(MAKE) -s --no-print-directory BUILD=$(BUILD)-asan PRESET=asan $(BUILD)-asan/build.ninja
	@cd $(BUILD)-asan && ninja -j $(JOBS) fuzz_devices
	$(BUILD)-asan/bin/fuzz_devices --seconds $(SECONDS) --seed $(SEED)

tidy: configure
	@scripts/tidy.sh $(BUILD)

format:
	clang-format -i $$(git ls-files '*.cc' '*.h')

clean:
	rm -rf $(BUILD)
