# SPDX-License-Identifier: GPL-2.0-or-later
"""work.py NAME N: the Python programs of the benchmark. They print results that do not depend on the machine."""
import json
import re
import sys


def nbody(n):
    bodies = [[i * 1.7, i * 0.3 - 1, i * 0.1, 0.0, 0.6 / (i + 1), 0.01 * i, 1.0 / (i * i + 1)] for i in range(5)]
    for _ in range(n):
        for i, a in enumerate(bodies):
            for b in bodies[i + 1:]:
                dx, dy, dz = a[0] - b[0], a[1] - b[1], a[2] - b[2]
                pull = 0.001 / ((dx * dx + dy * dy + dz * dz + 0.01) ** 1.5)
                a[3] -= dx * b[6] * pull
                a[4] -= dy * b[6] * pull
                a[5] -= dz * b[6] * pull
                b[3] += dx * a[6] * pull
                b[4] += dy * a[6] * pull
                b[5] += dz * a[6] * pull
        for b in bodies:
            b[0] += 0.001 * b[3]
            b[1] += 0.001 * b[4]
            b[2] += 0.001 * b[5]
    return "%.6f" % sum(b[0] + b[1] + b[2] for b in bodies)


def fannkuch(n):
    """The most flips of a leading run over all permutations of n numbers, by Heap's order."""
    p, counts, most, i = list(range(n)), [0] * n, 0, 0
    while True:
        q, flips = p[:], 0
        while q[0]:
            k = q[0] + 1
            q[:k] = q[k - 1::-1]
            flips += 1
        most = max(most, flips)
        while i < n and counts[i] >= i:
            counts[i] = 0
            i += 1
        if i == n:
            return most
        j = counts[i] if i % 2 else 0
        p[i], p[j] = p[j], p[i]
        counts[i] += 1
        i = 0


def json_(n):
    assert json.encoder.c_make_encoder and json.decoder.scanstring is json.decoder.c_scanstring # without lib-dynload it is another program
    tree = {"items": [{"id": i, "name": "item %d" % i, "tags": ["a", "b", str(i % 7)], "price": i / 4} for i in range(200)]}
    for _ in range(n):
        tree = json.loads(json.dumps(tree))
    return sum(item["price"] for item in tree["items"])


def regex(n):
    text = open("data").read(n)
    return [len(re.findall(p, text)) for p in (r"\b\w+ing\b", r"[aeiou]{2,}", r"(\w)\1", r"\b(\w+) \w+ \1\b")]


print({"nbody": nbody, "fannkuch": fannkuch, "json": json_, "regex": regex}[sys.argv[1]](int(sys.argv[2])))
