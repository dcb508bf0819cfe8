#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Lodge and its peers side by side, interleaved, in one run. Prints medians, spread and ratios; docs/bench.md holds the last figures.
set -eu
build=${BUILD:-build}
demo=$(tools/demo.sh --prepare)
[ $# -gt 0 ] || python3 tests/bench/block.py --lodge "$build/src/cli/lodge" --bench "$build/tests/bench/block_bench"
# lodged beside libvirtd, by libvirt's binding of Debian's own Python.
[ $# -gt 0 ] || /usr/bin/python3 tests/bench/daemon.py "$(realpath "$build")/src/daemon/lodged" "$(realpath "$build")/src/control/lodge-vm" \
    "$(realpath "$build")/tests/unit/machine/linux.bin"
[ $# -gt 0 ] || python3 tests/bench/paths.py --lodge "$build/src/cli/lodge" --demo "$demo"
# The boot of a whole system is measured where `make image` has made one.
image=$(tools/image.sh --where)
[ ! -f "$image/debian.qcow2" ] || set -- --image "$image" "$@"
exec python3 tests/bench/bench.py --lodge "$build/src/cli/lodge" --demo "$demo" --first "$build/tests/bench" "$@"
