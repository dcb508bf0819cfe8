#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# check.sh [--long] [--suite NAME] [--sanitize]: builds, runs the tests, and ends with a line "N passed, N failed".
#
# --sanitize runs the unit tests once more under ASan+UBSan, and those of the threaded parts under TSan.
set -u
build=${BUILD:-build}
suites=
sanitize=0
fuzz=0
while [ $# -gt 0 ]; do
    case $1 in
    --long) suites="$suites quick long"; fuzz=60 ;;
    --suite) shift; suites="$suites $1" ;;
    --sanitize) sanitize=1 ;;
    *) echo "check.sh: unknown option $1" >&2; exit 2 ;;
    esac
    shift
done

passed=0
failed=0

# run_suite BUILD-DIR MESON-TEST-ARGS...: adds meson's counts to the totals.
run_suite() {
    dir=$1
    shift
    log=$dir/meson-logs/summary.txt
    mkdir -p "$dir/meson-logs"
    status=0
    { meson test -C "$dir" --no-rebuild --print-errorlogs "$@" 2>&1; echo "exit $?"; } | tee "$log.all"
    grep -q '^exit 0$' "$log.all" || status=1
    ok=$(sed -n 's/^Ok: *\([0-9]*\).*/\1/p' "$log.all" | tail -n 1)
    bad=$(sed -n -e 's/^Fail: *\([0-9]*\).*/\1/p' -e 's/^Timeout: *\([0-9]*\).*/\1/p' -e 's/^Unexpected Pass: *\([0-9]*\).*/\1/p' "$log.all" | awk '{s += $1} END {print s + 0}')
    [ "$status" = 0 ] || [ "$bad" != 0 ] || bad=1
    passed=$((passed + ${ok:-0}))
    failed=$((failed + bad))
}

build_dir() {
    dir=$1
    shift
    [ -f "$dir/build.ninja" ] || env "${@}" meson setup $setup_args "$dir" >"$dir.setup.log" 2>&1 || { cat "$dir.setup.log"; failed=$((failed + 1)); return 1; }
    ninja -C "$dir" >"$dir.build.log" 2>&1 || { tail -n 60 "$dir.build.log"; echo "check.sh: the build in $dir fails"; failed=$((failed + 1)); return 1; }
}

setup_args="-Dwerror=true"
if build_dir "$build" CC=gcc; then
    tools/demo.sh --prepare >/dev/null || failed=$((failed + 1))
    # shellcheck disable=SC2046
    run_suite "$build" $(printf -- ' --suite %s' ${suites:-quick})
fi

if [ "$sanitize" = 1 ]; then
    setup_args="-Dwerror=true -Db_sanitize=address,undefined -Db_lundef=false"
    build_dir "$build-asan" CC=clang && run_suite "$build-asan" --suite sanitize --timeout-multiplier 4
    setup_args="-Dwerror=true -Db_sanitize=thread -Db_lundef=false"
    build_dir "$build-tsan" CC=clang && run_suite "$build-tsan" --suite threads --timeout-multiplier 4
fi

# A minute for each libFuzzer target.
if [ "$fuzz" != 0 ]; then
    if tools/fuzz.sh "$fuzz"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
fi

echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
