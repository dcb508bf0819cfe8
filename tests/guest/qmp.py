#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""qmp.py SOCKET [--refused WORD] [--event NAME] COMMAND [NAME=VALUE…] [NAME:=JSON…]: one QMP command to a guest's process, whose answer is printed; must succeed, or
be refused with WORD in the reason. With --event, waits for that event as well, for five minutes at most. The socket may come later."""
import argparse
import json
import socket
import sys
import time

p = argparse.ArgumentParser()
p.add_argument("socket")
p.add_argument("--refused")
p.add_argument("--event")
p.add_argument("command")
p.add_argument("arguments", nargs="*")
a = p.parse_args()
end = time.monotonic() + 120
while True:
    s = socket.socket(socket.AF_UNIX)
    try:
        s.connect(a.socket)
        break
    except OSError:
        s.close()
        if time.monotonic() > end:
            raise
        time.sleep(0.1)
s.settimeout(300)
values = dict(x.split("=", 1) for x in a.arguments)
values = {k.rstrip(":"): json.loads(v) if k.endswith(":") else v for k, v in values.items()}
lines = s.makefile("r")
json.loads(lines.readline())
for message in ({"execute": "qmp_capabilities"}, {"execute": a.command, "arguments": values}):
    s.sendall(json.dumps(message).encode() + b"\n")
answers, event = [], None
while len(answers) < 2 or (a.event and event != a.event):
    message = json.loads(lines.readline())
    if "event" in message:
        event = a.event if message["event"] == a.event else event
    else:
        answers.append(message)
print(json.dumps(answers[1]))
if a.refused:
    sys.exit(a.refused not in answers[1].get("error", {}).get("desc", ""))
sys.exit("return" not in answers[1])
