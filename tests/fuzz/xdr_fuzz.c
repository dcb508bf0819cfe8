// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The XDR decoder over every struct of both programs: what it accepts encodes to as many bytes as it was made of. An input is the
 * procedure's number (2 bytes), bits (1: its arguments, else its answer; 2: of the qemu program), a byte of nothing, and the body.
 *
 * With -DSTANDALONE it has a main that takes xdr_seeds.py's folder: each seed must decode, and mutants of it must do no harm.
 */
#include <stdlib.h>
#include <string.h>

#include "rpc/remote.h"

#define HEAD_BYTES 4

static const struct xdr_type *type_of(const uint8_t *data)
{
    bool qemu = data[2] & 2;
    const struct rpc_proc *p =
        qemu ? &qemu_procs[(data[0] << 8 | data[1]) % QEMU_PROCS] : &remote_procs[(data[0] << 8 | data[1]) % REMOTE_PROCS];
    return data[2] & 1 ? p->args : p->ret;
}

/* True when it was decoded. */
static bool try(const uint8_t *data, size_t size)
{
    const struct xdr_type *type = type_of(data);
    struct arena arena = {0};
    struct xdr_out out = {0};
    void *object = type ? malloc(type->size) : NULL;
    bool good = object && xdr_decode(type, data + HEAD_BYTES, size - HEAD_BYTES, &arena, object, NULL) == 0;
    if (good) {
        xdr_encode(&out, type, object);
        if (out.failed || out.len != size - HEAD_BYTES)
            abort();
    }
    xdr_out_free(&out);
    free(object);
    arena_free(&arena);
    return good;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size >= HEAD_BYTES)
        try(data, size);
    return 0;
}

#ifdef STANDALONE
#include "seeds.h"

#define MUTANTS 400u

static bool check_seed(const uint8_t *data, size_t size)
{
    return size >= HEAD_BYTES && try(data, size);
}

int main(int argc, char **argv)
{
    return seeds_run(argc, argv, MUTANTS, check_seed, LLVMFuzzerTestOneInput);
}
#endif
