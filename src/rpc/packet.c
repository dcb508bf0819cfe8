// SPDX-License-Identifier: GPL-2.0-or-later
#include "rpc/packet.h"

void rpc_header_get(const void *data, struct rpc_header *h)
{
    const uint8_t *p = data;
    *h = (struct rpc_header){xdr_get_u32(p),      xdr_get_u32(p + 4),  (int32_t)xdr_get_u32(p + 8),
                             xdr_get_u32(p + 12), xdr_get_u32(p + 16), xdr_get_u32(p + 20)};
}

void rpc_packet_begin(struct xdr_out *out, const struct rpc_header *h)
{
    xdr_put_u32(out, 0);
    xdr_put_u32(out, h->prog);
    xdr_put_u32(out, h->vers);
    xdr_put_u32(out, (uint32_t)h->proc);
    xdr_put_u32(out, h->type);
    xdr_put_u32(out, h->serial);
    xdr_put_u32(out, h->status);
}

bool rpc_packet_end(struct xdr_out *out)
{
    if (out->failed || out->len > RPC_PACKET_MAX)
        return false;
    for (unsigned i = 0; i < RPC_LENGTH_BYTES; i++)
        out->data[i] = (uint8_t)(out->len >> (24 - 8 * i));
    return true;
}
