#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# selftests.sh SOFTKVM OUT [TEST...]: builds Linux 6.1's KVM selftests below OUT and runs them, or those that are named, on softkvm. The results must
# be those of docs/kvm-selftests.md.
set -eu
softkvm=$(realpath "$1")
mkdir -p "$2"
out=$(realpath "$2")
shift 2
cd "$(dirname "$0")/../.."
list=docs/kvm-selftests.md
limit=300 # seconds for one test

# The parts of the kernel's source that the tests are made of. Only unpacked here: nothing of it is copied into the tree.
unpack() {
    [ -f "$out/unpacked" ] && return
    package=$(tools/fetch.sh linux-source-6.1)
    rm -rf "$out/linux-source-6.1"
    tar -C "$out" -xf "$package/usr/src/linux-source-6.1.tar.xz" \
        $(for part in testing/selftests arch/x86 build include lib scripts; do echo "linux-source-6.1/tools/$part"; done) linux-source-6.1/scripts
    touch "$out/unpacked"
}

# Debian's 6.1.y uses TEST_ASSERT_EQ in one test and has it only by its older name; another needs __DECLARE_FLEX_ARRAY and hides its header.
build() {
    [ -f "$out/built" ] && return
    mkdir -p "$out/bin"
    make -k -s -j2 -C "$out/linux-source-6.1/tools/testing/selftests/kvm" OUTPUT="$out/bin" KHDR_INCLUDES= LINUX_HDR_PATH=/usr/include \
        EXTRA_CFLAGS='-DTEST_ASSERT_EQ=ASSERT_EQ -include /usr/include/linux/stddef.h' >"$out/make.log" 2>&1 ||
        { tail -n 30 "$out/make.log"; echo "selftests.sh: tests of KVM: the build fails; $out/make.log has all of it" >&2; exit 1; }
    touch "$out/built"
}

# The result that the list gives for a test; without a row it passes.
expected() {
    row=$(sed -n "s,^| \`$1\` | \([^|]*\) |.*,\1,p" "$list")
    echo "${row:-passes}"
}

run() {
    status=0
    (cd "$out/bin" && timeout -k 5 "$limit" "$softkvm" "./$1") >"$out/log" 2>&1 || status=$?
    case $status in
    0) echo passes ;;
    4) echo skips ;; # KSFT_SKIP
    *) echo fails ;;
    esac
}

unpack
build
all=$(cd "$out/bin" && find . -type f -executable ! -name '*.o' | sed 's,^\./,,' | sort)
bad=0
for name in $(sed -n 's,^| `\([^`]*\)` |.*,\1,p' "$list"); do
    echo "$all" | grep -qx "$name" || { echo "$name: is listed and does not exist"; bad=$((bad + 1)); }
done
for name in ${*:-$all}; do
    want=$(expected "$name")
    [ "$want" != 'left out' ] || { echo "$name: left out"; continue; }
    start=$(date +%s)
    got=$(run "$name")
    [ "$got" = "$want" ] || { echo "$name: $got; again, since some are about time"; got=$(run "$name"); }
    echo "$name: $got ($(($(date +%s) - start)) s)"
    [ "$got" = "$want" ] && continue
    echo "$name: $got, and the list says: $want. Its output ends so:"
    tail -n 15 "$out/log"
    bad=$((bad + 1))
done
[ "$bad" = 0 ] || { echo "selftests.sh: $bad results differ from $list"; exit 1; }
