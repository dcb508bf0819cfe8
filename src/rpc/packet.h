/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A packet: u32 length of the whole, 24 bytes of header, body. docs/rpc.md draws it. */
#ifndef LODGE_RPC_PACKET_H
#define LODGE_RPC_PACKET_H

#include "rpc/xdr.h"

#define RPC_LENGTH_BYTES 4u
#define RPC_HEADER_BYTES 24u
#define RPC_PACKET_MIN   (RPC_LENGTH_BYTES + RPC_HEADER_BYTES)
#define RPC_PACKET_MAX   33554436u /* bytes, length word included */
#define RPC_STREAM_CHUNK 262120u   /* bytes of a stream's data in one packet that we send */

#define RPC_PROGRAM_REMOTE    0x20008086u
#define RPC_PROGRAM_QEMU      0x20008087u
#define RPC_PROGRAM_LXC       0x00068000u
#define RPC_PROGRAM_KEEPALIVE 0x6b656570u
#define RPC_VERSION           1u

enum { KEEPALIVE_PING = 1, KEEPALIVE_PONG = 2 };

struct rpc_header {
    uint32_t prog, vers;
    int32_t proc;
    uint32_t type; /* virNetMessageType */
    uint32_t serial;
    uint32_t status; /* virNetMessageStatus */
};

/* `data` has RPC_HEADER_BYTES. */
void rpc_header_get(const void *data, struct rpc_header *h);
/* Writes length and header; rpc_packet_end() corrects the length once the body is there. False when it cannot be sent. */
void rpc_packet_begin(struct xdr_out *out, const struct rpc_header *h);
bool rpc_packet_end(struct xdr_out *out);

#endif
