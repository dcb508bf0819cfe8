#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# fuzz.sh [SECONDS]: builds the libFuzzer targets with clang and runs each, without end unless SECONDS are given. Findings stay in build-fuzz/.
set -eu
seconds=${1:-0}
dir=build-fuzz
[ -f "$dir/build.ninja" ] || CC=clang meson setup "$dir" >/dev/null
ninja -C "$dir" --quiet
found=0
for target in "$dir"/tests/fuzz/*_fuzz; do
    [ -x "$target" ] && [ -f "$target" ] || continue
    name=$(basename "$target")
    found=1
    mkdir -p "$dir/corpus/$name"
    echo "fuzz.sh: $name"
    "$target" -max_total_time="$seconds" -artifact_prefix="$dir/" "$dir/corpus/$name"
done
[ "$found" = 1 ] || { echo "fuzz.sh: no fuzz target was built; install clang and libclang-rt-14-dev, remove $dir, and try again" >&2; exit 1; }
