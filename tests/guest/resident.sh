#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# resident.sh above|below MIB SECONDS: waits until the guest of the test that called it holds more, or less, of the host's memory.
set -u
test=$(ps -o ppid= -p "$PPID" | tr -d ' ')
case $(cat "/proc/$PPID/comm") in vmtest) test=$PPID ;; esac
end=$(($(date +%s) + $3))
while :; do
    for fd in $(pgrep -P "$test" lodge-vm | sed 's,.*,/proc/&/fd/*,'); do
        case $(readlink "$fd") in *lodge-guest-ram*) have=$(($(stat -L -c %b "$fd") / 2048)) ;; esac
    done
    case $1 in
    above) [ "${have:-0}" -le "$2" ] || exit 0 ;;
    below) [ "${have:-0}" -ge "$2" ] || exit 0 ;;
    esac
    [ "$(date +%s)" -lt "$end" ] || { echo "resident.sh: the guest holds ${have:-no} MiB, not $1 $2" >&2; exit 1; }
    sleep 0.2
done
