# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks for tests that go on after a failure, and count."""
import sys

failures = 0


def check(what, good, detail=""):
    global failures
    if not good:
        failures += 1
        print(f"not so: {what} {detail}")


def finish():
    print(f"{failures} failures")
    sys.exit(failures != 0)
