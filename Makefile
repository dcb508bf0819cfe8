# SPDX-License-Identifier: GPL-2.0-or-later
# The front door. Each target installs what is missing of Debian's packages (asks first, unless YES=1 or there is no terminal), builds, and goes.

BUILD ?= build
MESON_ARGS ?=
export BUILD

.PHONY: all demo image check check-long check-kvm check-compat bench fuzz fuzz-cpu fuzz-power install clean

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD)

$(BUILD)/build.ninja:
	@tools/deps.sh build
	@meson setup $(MESON_ARGS) $(BUILD) >/dev/null

# A root shell of an unmodified Debian kernel.
demo: $(BUILD)/build.ninja
	@tools/deps.sh build demo
	@ninja -C $(BUILD) --quiet src/cli/lodge src/control/lodge-vm
	@tools/demo.sh

# A Debian 12 disk, in raw and qcow2, to run.
image: $(BUILD)/build.ninja
	@tools/deps.sh build image
	@ninja -C $(BUILD) --quiet src/cli/lodge src/control/lodge-vm
	@tools/image.sh

# Everything that is tested on every submission; ends with a line "N passed, N failed".
check:
	@tools/deps.sh build demo test
	@tools/check.sh

check-long:
	@tools/deps.sh build demo test image long fuzz
	@tools/check.sh --long

# lodge run --accel kvm, on the AMD-V that QEMU's TCG emulates.
check-kvm:
	@tools/deps.sh build demo test kvm
	@tools/check.sh --suite kvm

check-compat:
	@tools/deps.sh build demo test image
	@tools/check.sh --suite compat

bench: all
	@tools/deps.sh build demo test bench
	@tools/bench.sh

# Power cuts on qcow2 images, without end.
fuzz-power: all
	@$(BUILD)/tests/unit/block/power_test 0

# The interpreter against the host CPU, without end.
fuzz-cpu: all
	@$(BUILD)/tests/diff/difftest --forever

fuzz:
	@tools/deps.sh build fuzz
	@tools/fuzz.sh

install: all
	@meson install -C $(BUILD) --no-rebuild

clean:
	rm -rf $(BUILD) build-*
