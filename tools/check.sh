#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# check.sh [--long] [--suite NAME] [--sanitize] [--again]: builds, runs the tests, and ends with a line "N passed, N failed".
#
# --sanitize runs the unit tests once more under ASan+UBSan, and those of the threaded parts under TSan.
# --again runs a test that fails once more, alone; when it passes then, it counts as passed, and is named as unsteady before the last line.
#
# The last lines name each test that failed, with the end of what it said.
set -u
build=${BUILD:-build}
suites=
sanitize=0
again=0
fuzz=0
again_max=5    # more failures in one round are no matter of luck
details_max=3  # some CI systems keep only the last 60 lines or so
detail_lines=12
while [ $# -gt 0 ]; do
    case $1 in
    --long) suites="$suites quick long"; fuzz=60 ;;
    --suite) shift; suites="$suites $1" ;;
    --sanitize) sanitize=1 ;;
    --again) again=1 ;;
    *) echo "check.sh: unknown option $1" >&2; exit 2 ;;
    esac
    shift
done

passed=0
failed=0
report=$(mktemp -d)
trap 'rm -rf "$report"' EXIT
touch "$report/failed" "$report/unsteady" # names; $report/N has what is to be said of the Nth of them
reports=0

# note KIND NAME DETAILS: keeps it for the last lines. KIND is "failed" or "unsteady".
note() {
    reports=$((reports + 1))
    printf '%s\n' "$3" >"$report/$reports"
    printf '%s %s\n' "$reports" "$2" >>"$report/$1"
}

# another_run BUILD-DIR NAME MESON-TEST-ARGS...: the test alone, once more.
another_run() {
    dir=$1
    name=$2
    shift 2
    echo "check.sh: once more, alone: $name in $dir"
    meson test -C "$dir" --no-rebuild --num-processes 1 --logbase again "$@" "$name"
}

# note_failures BUILD-DIR COUNT MESON-TEST-ARGS...: notes the tests that have failed; with --again those that pass alone count as passed.
note_failures() {
    dir=$1
    count=$2
    shift 2
    tools/failed-tests.py "$dir/meson-logs/testlog.json" >"$report/names"
    [ -s "$report/names" ] || note failed "meson test in $dir" "$(tail -n "$detail_lines" "$dir/meson-logs/summary.txt.all")"
    while read -r name; do
        text=$(tools/failed-tests.py "$dir/meson-logs/testlog.json" "$name" "$detail_lines" 2>&1)
        if [ "$again" = 1 ] && [ "$count" -le "$again_max" ] && another_run "$dir" "$name" "$@" </dev/null; then
            passed=$((passed + 1))
            failed=$((failed - 1))
            note unsteady "$name ($dir)" "$text"
        else
            note failed "$name ($dir)" "$text"
        fi
    done <"$report/names"
}

# run_suite BUILD-DIR SUITES MESON-TEST-ARGS...: adds meson's counts to the totals.
run_suite() {
    dir=$1
    which=$2
    shift 2
    log=$dir/meson-logs/summary.txt
    mkdir -p "$dir/meson-logs"
    rm -f "$dir/meson-logs/testlog.json"
    status=0
    # shellcheck disable=SC2046,SC2086
    { meson test -C "$dir" --no-rebuild --print-errorlogs "$@" $(printf -- ' --suite %s' $which) 2>&1; echo "exit $?"; } | tee "$log.all"
    grep -q '^exit 0$' "$log.all" || status=1
    ok=$(sed -n 's/^Ok: *\([0-9]*\).*/\1/p' "$log.all" | tail -n 1)
    bad=$(sed -n -e 's/^Fail: *\([0-9]*\).*/\1/p' -e 's/^Timeout: *\([0-9]*\).*/\1/p' -e 's/^Unexpected Pass: *\([0-9]*\).*/\1/p' "$log.all" | awk '{s += $1} END {print s + 0}')
    [ "$status" = 0 ] || [ "$bad" != 0 ] || bad=1
    passed=$((passed + ${ok:-0}))
    failed=$((failed + bad))
    [ "$bad" = 0 ] || note_failures "$dir" "$bad" "$@"
}

# say_failures: the tests that failed, and those that did so once; details of the first.
say_failures() {
    left=$details_max
    while read -r n name; do
        echo "FAILED: $name"
        [ "$left" -le 0 ] || cat "$report/$n"
        left=$((left - 1))
    done <"$report/failed"
    while read -r n name; do
        echo "unsteady: $name failed once, passed alone: a bug to mend"
        [ "$left" -le 0 ] || cat "$report/$n"
        left=$((left - 1))
    done <"$report/unsteady"
}

build_dir() {
    dir=$1
    shift
    if ! { [ -f "$dir/build.ninja" ] || env "${@}" meson setup $setup_args "$dir"; } >"$dir.setup.log" 2>&1; then
        cat "$dir.setup.log"
        note failed "meson setup $dir" "$(tail -n "$detail_lines" "$dir.setup.log")"
    elif ! ninja -C "$dir" >"$dir.build.log" 2>&1; then
        tail -n 60 "$dir.build.log"
        note failed "the build in $dir" "$(grep -e error: -e FAILED "$dir.build.log" | head -n "$detail_lines")"
    else
        return 0
    fi
    failed=$((failed + 1))
    return 1
}

setup_args="-Dwerror=true"
if build_dir "$build" CC=gcc; then
    tools/demo.sh --prepare >/dev/null || { failed=$((failed + 1)); note failed "tools/demo.sh --prepare" "see above"; }
    run_suite "$build" "${suites:-quick}" --timeout-multiplier 3
fi

if [ "$sanitize" = 1 ]; then
    setup_args="-Dwerror=true -Db_sanitize=address,undefined -Db_lundef=false"
    build_dir "$build-asan" CC=clang && run_suite "$build-asan" sanitize --timeout-multiplier 4
    setup_args="-Dwerror=true -Db_sanitize=thread -Db_lundef=false"
    build_dir "$build-tsan" CC=clang && run_suite "$build-tsan" threads --timeout-multiplier 4
fi

# A minute for each libFuzzer target.
if [ "$fuzz" != 0 ]; then
    if tools/fuzz.sh "$fuzz"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        note failed "tools/fuzz.sh" "see above"
    fi
fi

say_failures
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
