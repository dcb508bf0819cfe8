#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""with_programs.py FOLDER PROGRAM...: fills FOLDER with programs of the host and the libraries that they load, at their places; with_modules.sh puts it into a guest."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)) + "/../bench")
import image

root = image.Root(sys.argv[1])
for path in sys.argv[2:]:
    root.program(path)
