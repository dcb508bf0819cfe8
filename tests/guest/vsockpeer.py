#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The host's side of the vsock test: `vsockpeer.py dial PATH PORT BYTES` sends to a port of the guest and wants the same back; `vsockpeer.py serve PATH` echoes
what one connection of the guest's sends."""
import hashlib, os, socket, sys, threading

s = socket.socket(socket.AF_UNIX)
if sys.argv[1] == 'dial':
    path, port, size = sys.argv[2], sys.argv[3], int(sys.argv[4])
    s.connect(path)
    s.sendall(f'CONNECT {port}\n'.encode())
    f = s.makefile('rb')
    assert f.readline().startswith(b'OK ')
    data = os.urandom(size)
    threading.Thread(target=s.sendall, args=(data,)).start()
    assert hashlib.sha256(f.read(size)).digest() == hashlib.sha256(data).digest()
else:
    s.bind(sys.argv[2])
    s.listen()
    c, _ = s.accept()
    while data := c.recv(65536):
        c.sendall(data)
