# SPDX-License-Identifier: GPL-2.0-or-later
# tools.sh NAME N: a unit of work for a program of Debian's packages; its output is what the runs must agree on. Runs under dash, in the folder that
# image.py fills (data, inserts.sql, medium.i, work.*), with a scratch folder in $T. programs.py has the table of names and amounts.
set -eu
n=$2
case $1 in
sha256sum) head -c "$n" data | sha256sum ;;
md5sum) head -c "$n" data | md5sum ;;
gzip) head -c "$n" data | gzip -6 -n -c ;;
bzip2) head -c "$n" data | bzip2 -c ;;
xz) head -c "$n" data | xz -6 -T1 -c ;;
awk) head -c "$n" data | mawk '{ for (i = 1; i <= NF; i++) seen[$i]++ } END { for (w in seen) if (seen[w] > most) { most = seen[w]; word = w } print NR, word, most }' ;;
shell-loop)
    i=0 sum=0
    while [ "$i" -lt "$n" ]; do
        i=$((i + 1))
        case $i in *7) sum=$((sum + i)) ;; esac
    done
    echo "$sum"
    ;;
dd) dd if=/dev/zero of=/dev/null bs=512 count="$n" 2>/dev/null && echo "$n" ;;
python-start)
    i=0
    while [ "$i" -lt "$n" ]; do
        python3 -I -c 'print("here")'
        i=$((i + 1))
    done
    ;;
python-*) python3 -I work.py "${1#python-}" "$n" ;;
perl) perl work.pl "$n" ;;
lua) lua5.4 work.lua "$n" ;;
sqlite)
    rm -f "$T/db"
    { echo 'PRAGMA page_size=4096; CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT, c INT); CREATE INDEX i ON t(c); BEGIN;'
      head -n "$n" inserts.sql
      echo 'COMMIT; SELECT count(*), sum(a * c), max(b) FROM t; SELECT count(DISTINCT c) FROM t WHERE b > "m";'; } | sqlite3 -batch "$T/db"
    ;;
gcc)
    i=0
    while [ "$i" -lt "$n" ]; do
        gcc -O2 -c -o "$T/medium.o" medium.i
        i=$((i + 1))
    done
    cat "$T/medium.o"
    ;;
openssl-aes) head -c "$n" data | openssl enc -aes-256-cbc -K 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff -iv 0123456789abcdef0123456789abcdef ;;
openssl-sha256) head -c "$n" data | openssl dgst -sha256 -r ;;
openssl-rsa)
    # PKCS #1 v1.5 signatures have no random part.
    i=0
    while [ "$i" -lt "$n" ]; do
        openssl dgst -sha256 -sign rsa.pem -hex work.lua
        i=$((i + 1))
    done
    ;;
*) echo "tools.sh: no program $1" >&2; exit 1 ;;
esac
