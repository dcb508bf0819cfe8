#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""peer.py FOLDER PORT: a guest's peer on the host. GET /NAME on PORT sends FOLDER/NAME; what is sent to PORT + 1 becomes FOLDER/up."""
import functools
import http.server
import os
import socket
import sys
import threading


def receive(folder, port):
    s = socket.create_server(("127.0.0.1", port))
    while True:
        c, _ = s.accept()
        with open(folder + "/up.new", "wb") as f:
            while data := c.recv(65536):
                f.write(data)
        c.close()
        os.rename(folder + "/up.new", folder + "/up")


folder, port = sys.argv[1], int(sys.argv[2])
threading.Thread(target=receive, args=(folder, port + 1), daemon=True).start()
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
http.server.ThreadingHTTPServer(("127.0.0.1", port), handler).serve_forever()
