#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""failed-tests.py LOG.json: the tests that failed, one name a line. failed-tests.py LOG.json NAME LINES: the last lines of what that test said.

LOG.json is meson-logs/testlog.json.
"""
import json
import sys

failed = {}
with open(sys.argv[1], encoding="utf-8") as f:
    for line in f:
        test = json.loads(line)
        if test["result"] not in ("OK", "SKIP", "EXPECTEDFAIL"):
            failed[test["name"].split(" / ")[-1]] = test

if len(sys.argv) == 2:
    for name in failed:
        print(name)
else:
    test = failed[sys.argv[2]]
    said = (test.get("stdout", "") + test.get("stderr", "")).splitlines()
    print(f"{test['result']} after {test['duration']:.0f} s, status {test['returncode']}; it said last:")
    for line in said[-int(sys.argv[3]):]:
        print("  " + line[:160])
