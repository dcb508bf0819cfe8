#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# install_test.sh BUILD KERNEL: the installed tree, moved to another place, runs a guest, and softkvm finds its library.
set -eu
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
DESTDIR=$tree/stage meson install -C "$1" --no-rebuild --quiet >/dev/null
mv "$(dirname "$(dirname "$(find "$tree/stage" -path '*/bin/lodge')")")" "$tree/moved"
out=$("$tree/moved/bin/lodge" run --accel softkvm --kernel "$2" --append off --memory 32M --net none </dev/null)
[ "$out" = "up: off" ] || { echo "the installed lodge printed '$out'"; exit 1; }
maps=$("$tree/moved/bin/softkvm" cat /proc/self/maps)
case $maps in *"$tree/moved/"*libsoftkvm-preload.so*) ;; *) echo "the installed softkvm does not preload its own library"; exit 1 ;; esac
for file in bash-completion/completions/lodge zsh/site-functions/_lodge; do
    [ -s "$tree/moved/share/$file" ] || { echo "no $file"; exit 1; }
done
for page in lodge-run lodge-vm lodge softkvm; do
    [ -s "$tree/moved/share/man/man1/$page.1" ] || { echo "no manual page $page"; exit 1; }
done
