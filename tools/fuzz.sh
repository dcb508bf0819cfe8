#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# fuzz.sh [SECONDS]: builds the libFuzzer targets with clang and runs each for SECONDS; without them, in turns of a minute without end. What they find
# stays in build-fuzz/, as what they have learnt does (build-fuzz/corpus). They begin with tests/fuzz/seeds/TARGET/ and what makes seeds.
set -eu
seconds=${1:-0}
dir=build-fuzz
[ -f "$dir/build.ninja" ] || CC=clang meson setup "$dir" >/dev/null
ninja -C "$dir" --quiet

run() # TARGET SECONDS
{
    name=$(basename "$1")
    corpus=$dir/corpus/$name
    mkdir -p "$corpus"
    [ "$name" != xdr_fuzz ] || tests/fuzz/xdr_seeds.py src/rpc/libvirt-rpc.json "$dir/seeds/$name"
    set -- "$1" "$2" "$corpus"
    for seeds in "tests/fuzz/seeds/$name" "$dir/seeds/$name"; do
        [ ! -d "$seeds" ] || set -- "$@" "$seeds"
    done
    target=$1 time=$2
    shift 2
    dict=
    [ ! -f "tests/fuzz/$name.dict" ] || dict=-dict=tests/fuzz/$name.dict
    echo "fuzz.sh: $name"
    # shellcheck disable=SC2086
    "$target" -max_total_time="$time" -artifact_prefix="$dir/" $dict "$@"
}

turn() # SECONDS
{
    found=0
    for t in "$dir"/tests/fuzz/*_fuzz; do
        [ -x "$t" ] && [ -f "$t" ] || continue
        found=1
        run "$t" "$1"
    done
    [ "$found" = 1 ] || { echo "fuzz.sh: no fuzz target was built; install clang and libclang-rt-14-dev, remove $dir, and try again" >&2; exit 1; }
}

if [ "$seconds" != 0 ]; then
    turn "$seconds"
else
    while :; do turn 60; done
fi
