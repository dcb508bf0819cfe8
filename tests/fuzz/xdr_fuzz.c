// SPDX-License-Identifier: GPL-2.0-or-later
/* The XDR decoder over every struct of the protocol: what it accepts encodes to as many bytes as it was made of. */
#include <stdlib.h>
#include <string.h>

#include "rpc/remote.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 4)
        return 0;
    const struct rpc_proc *p = &remote_procs[(data[0] << 8 | data[1]) % REMOTE_PROCS];
    const struct xdr_type *type = data[2] & 1 ? p->args : p->ret;
    struct arena arena = {0};
    struct xdr_out out = {0};
    void *object = type ? malloc(type->size) : NULL;
    if (object && xdr_decode(type, data + 4, size - 4, &arena, object, NULL) == 0) {
        xdr_encode(&out, type, object);
        if (out.failed || out.len != size - 4)
            abort();
    }
    xdr_out_free(&out);
    free(object);
    arena_free(&arena);
    return 0;
}
