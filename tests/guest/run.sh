#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# run.sh VMTEST BUILD SCRIPT [NAME=VALUE...]: sets up a scratch folder and the environment that the scripts use, and plays one.
set -eu
vmtest=$(realpath "$1")
build=$(realpath "$2")
script=$(realpath "$3")
shift 3
cd "$(dirname "$0")/../.."
guest=$build/tests/guest/files
( flock 9; [ -f "$guest/ready" ] && [ "$guest/ready" -nt tests/guest/prepare.sh ] && [ "$guest/ready" -nt tests/guest/run.sh ] || { BUILD=$build tests/guest/prepare.sh "$guest" "$build/tests/guest/stress" "$build"/tests/guest/user32 "$build"/tests/guest/user64 $(ls "$build/tests/guest/user512" 2>/dev/null) && touch "$guest/ready"; } ) 9>"$build/tests/guest/lock"
TMP=$(mktemp -d)
trap 'rm -rf "$TMP"' EXIT
# Two free ports side by side, for scripts with a peer on the host; below those that the kernel gives to connections, which could take them before the peer does.
PORT=$(python3 -c '
import random, socket
while True:
    port = random.randrange(10000, 30000)
    try:
        for p in (port, port + 1):
            socket.create_server(("127.0.0.1", p)).close()
    except OSError:
        continue
    print(port)
    break')
PORT2=$((PORT + 1))
export PORT PORT2
IMAGE=$(tools/image.sh --where)
export IMAGE TMP LODGE="$build/src/cli/lodge" KERNEL="$guest/vmlinuz" INITRD="$guest/initrd.gz" SRC="$PWD" BUILD="$build"
for assignment in "$@"; do
    export "${assignment?}"
done
status=0
"$vmtest" "$script" || status=$?
exit "$status"
