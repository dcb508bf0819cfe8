#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""channelpeer.py PATH BYTES: connects to a channel of a guest that copies its input back, sends so many bytes, and wants the same again."""
import os, socket, sys, threading, time

s = socket.socket(socket.AF_UNIX)
for _ in range(1200):
    try:
        s.connect(sys.argv[1])
        break
    except OSError:
        time.sleep(0.1)
data = os.urandom(int(sys.argv[2]))
threading.Thread(target=s.sendall, args=(data,), daemon=True).start()
got = b''
while len(got) < len(data):
    part = s.recv(65536)
    if not part:
        sys.exit(f'channelpeer.py: the channel ended after {len(got)} bytes')
    got += part
assert got == data
