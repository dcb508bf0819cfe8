// SPDX-License-Identifier: GPL-2.0-or-later
/* The wire: packets byte for byte as libvirt's clients and daemon send them, every struct there and back, and bytes that lie. */
#include <string.h>

#include "../devices/check.h"
#include "rpc/packet.h"
#include "rpc/remote.h"

static unsigned unhex(const char *hex, uint8_t *out)
{
    unsigned n = 0, value;
    for (; *hex; hex += *hex == ' ' ? 1 : 2)
        if (*hex != ' ') {
            CHECK(sscanf(hex, "%2x", &value) == 1);
            out[n++] = (uint8_t)value;
        }
    return n;
}

/* A whole packet: header and body are what is expected, and encoding the body again gives the same bytes. */
static void check_packet(const char *hex, struct rpc_header expect, const struct xdr_type *type, void *object, struct arena *arena)
{
    ERROR_SCOPED(err);
    uint8_t packet[1024];
    struct rpc_header h;
    struct xdr_out out = {0};
    unsigned len = unhex(hex, packet);
    CHECK_EQ(xdr_get_u32(packet), len);
    rpc_header_get(packet + 4, &h);
    CHECK(memcmp(&h, &expect, sizeof h) == 0);
    if (xdr_decode(type, packet + RPC_PACKET_MIN, len - RPC_PACKET_MIN, arena, object, &err) < 0)
        fprintf(stderr, "%s\n", error_text(&err));
    CHECK(!error_is_set(&err));
    rpc_packet_begin(&out, &h);
    xdr_encode(&out, type, object);
    CHECK(rpc_packet_end(&out) && out.len == len && memcmp(out.data, packet, len) == 0);
    xdr_out_free(&out);
}

static void test_packets(void)
{
    struct arena arena = {0};
    struct remote_connect_open_args open;
    check_packet("00000038 20008086 00000001 00000001 00000000 00000002 00000000 00000001 0000000e 71656d753a2f2f2f 73797374656d "
                 "0000 00000000",
                 (struct rpc_header){RPC_PROGRAM_REMOTE, 1, 1, VIR_NET_CALL, 2, VIR_NET_OK}, &xdr_remote_connect_open_args, &open,
                 &arena);
    CHECK(strcmp(open.name, "qemu:///system") == 0);
    CHECK_EQ(open.flags, 0);
    struct remote_auth_list_ret auth;
    check_packet("00000024 20008086 00000001 00000042 00000001 00000000 00000000 00000001 00000000",
                 (struct rpc_header){RPC_PROGRAM_REMOTE, 1, 66, VIR_NET_REPLY, 0, VIR_NET_OK}, &xdr_remote_auth_list_ret, &auth,
                 &arena);
    CHECK_EQ(auth.types.len, 1);
    CHECK_EQ(auth.types.val[0], 0);
    struct remote_domain_lookup_by_name_ret dom;
    check_packet("00000038 20008086 00000001 00000017 00000001 00000009 00000000 00000002 67310000 "
                 "000102030405060708090a0b0c0d0e0f ffffffff",
                 (struct rpc_header){RPC_PROGRAM_REMOTE, 1, 23, VIR_NET_REPLY, 9, VIR_NET_OK},
                 &xdr_remote_domain_lookup_by_name_ret, &dom, &arena);
    CHECK(strcmp(dom.dom.name, "g1") == 0 && dom.dom.uuid[15] == 15 && dom.dom.id == -1);
    struct remote_error e;
    check_packet("0000006c 20008086 00000001 00000017 00000001 00000005 00000001 0000002a 0000000a 00000001 00000005 "
                 "6e6f206769000000 00000002 00000000"
                 "00000001 00000014 446f6d61696e206e6f7420666f756e643a202573 00000000 00000000 ffffffff ffffffff 00000000",
                 (struct rpc_header){RPC_PROGRAM_REMOTE, 1, 23, VIR_NET_REPLY, 5, VIR_NET_ERROR}, &xdr_remote_error, &e, &arena);
    CHECK(e.code == 42 && strcmp(e.str1, "Domain not found: %s") == 0 && !e.str2 && !e.dom);
    arena_free(&arena);
}

static void test_params(void)
{
    struct arena arena = {0};
    ERROR_SCOPED(err);
    static char name[] = "state.state", text[] = "x";
    struct remote_typed_param params[] = {{name, {.type = VIR_TYPED_PARAM_INT, .i = -1}},
                                          {name, {.type = VIR_TYPED_PARAM_ULLONG, .ul = 1ull << 63}},
                                          {name, {.type = VIR_TYPED_PARAM_DOUBLE, .d = 1.5}},
                                          {name, {.type = VIR_TYPED_PARAM_BOOLEAN, .b = 1}},
                                          {name, {.type = VIR_TYPED_PARAM_STRING, .s = text}}};
    struct remote_domain_get_memory_parameters_ret r = {.params = {5, params}, .nparams = 7}, back;
    struct xdr_out out = {0};
    xdr_encode(&out, &xdr_remote_domain_get_memory_parameters_ret, &r);
    CHECK(!out.failed);
    CHECK(xdr_decode(&xdr_remote_domain_get_memory_parameters_ret, out.data, out.len, &arena, &back, &err) == 0);
    CHECK_EQ(back.params.len, 5);
    CHECK(back.params.val[0].value.i == -1 && back.params.val[1].value.ul == 1ull << 63 && back.params.val[2].value.d == 1.5);
    CHECK(strcmp(back.params.val[4].value.s, "x") == 0 && back.nparams == 7);
    out.data[4 + 4 + 12 + 3] = 9; /* the first value's type */
    CHECK(xdr_decode(&xdr_remote_domain_get_memory_parameters_ret, out.data, out.len, &arena, &back, &err) < 0);
    xdr_out_free(&out);
    arena_free(&arena);
}

/* Characters take four bytes each. */
static void test_chars(void)
{
    struct remote_node_get_info_ret info = {.model = "x86_64", .memory = 1, .cpus = 2};
    struct xdr_out out = {0};
    xdr_encode(&out, &xdr_remote_node_get_info_ret, &info);
    CHECK_EQ(out.len, 32 * 4 + 8 + 6 * 4);
    CHECK_EQ(out.data[3], 'x');
    xdr_out_free(&out);
}

static void refuse(const struct xdr_type *type, const char *hex, const char *word)
{
    ERROR_SCOPED(err);
    struct arena arena = {0};
    uint8_t data[256];
    unsigned len = unhex(hex, data);
    void *object = calloc(1, type->size);
    if (xdr_decode(type, data, len, &arena, object, &err) == 0 || !strstr(error_text(&err), word)) {
        fprintf(stderr, "%s: %s\n", hex, error_text(&err));
        exit(1);
    }
    free(object);
    arena_free(&arena);
}

static void test_refusals(void)
{
    const struct xdr_type *open = &xdr_remote_connect_open_args, *list = &xdr_remote_connect_list_all_domains_ret;
    refuse(open, "", "cut off");
    refuse(open, "00000002 00000000", "neither");
    refuse(open, "00000001 00000004 61", "cut off");
    refuse(open, "00000001 00000005 6161616161 00 00", "cut off");
    refuse(open, "00000001 ffffffff 61616161 00000000", "count");
    refuse(open, "00000001 00000004 61610061 00000000", "NUL");
    refuse(open, "00000000 00000000 00000000", "left over");
    refuse(list, "00004001", "count");
    refuse(list, "00004000 00000001", "cut off");
    refuse(list, "ffffffff", "count");
}

/* Each struct of the protocol, from noise: refused, or encoded to the bytes that it came from, padding apart. */
static void test_noise(uint64_t seed)
{
    struct rnd r = {seed};
    uint8_t data[512];
    unsigned decoded = 0;
    for (unsigned i = 0; i < 60000; i++) {
        const struct rpc_proc *p = &remote_procs[rnd_below(&r, REMOTE_PROCS)];
        const struct xdr_type *type = rnd_below(&r, 2) ? p->args : p->ret;
        if (!p->name || !type)
            continue;
        struct arena arena = {0};
        struct xdr_out out = {0};
        unsigned len = 4 * rnd_below(&r, sizeof data / 4);
        for (unsigned j = 0; j < len; j++)
            data[j] = j % 4 == 3 ? (uint8_t)rnd_below(&r, 4) : 0;
        void *object = calloc(1, type->size);
        if (xdr_decode(type, data, len, &arena, object, NULL) == 0) {
            xdr_encode(&out, type, object);
            CHECK(!out.failed && out.len == len);
            decoded++;
        }
        xdr_out_free(&out);
        free(object);
        arena_free(&arena);
    }
    CHECK(decoded > 20);
}

static void test_table(void)
{
    CHECK(strcmp(remote_procs[REMOTE_PROC_DOMAIN_CREATE].name, "domain_create") == 0 && REMOTE_PROC_DOMAIN_CREATE == 9);
    CHECK(remote_procs[318].flags & RPC_EVENT);
    CHECK(remote_procs[REMOTE_PROC_DOMAIN_OPEN_CONSOLE].flags & RPC_STREAM);
    CHECK(remote_procs[REMOTE_PROC_DOMAIN_DESTROY].flags & RPC_RW);
    CHECK(remote_procs[REMOTE_PROC_AUTH_LIST].flags & RPC_NO_AUTH);
    CHECK(REMOTE_PROCS == 444);
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
    test_packets();
    test_params();
    test_chars();
    test_refusals();
    test_table();
    test_noise(seed);
    return 0;
}
