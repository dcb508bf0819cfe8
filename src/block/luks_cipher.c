// SPDX-License-Identifier: GPL-2.0-or-later
/* What LUKS needs of cryptography, over nettle's block ciphers and hashes. A unit is a sector of 512 bytes; each has an initial vector of its own. */
#include <nettle/aes.h>
#include <nettle/cbc.h>
#include <nettle/hmac.h>
#include <nettle/nettle-meta.h>
#include <nettle/pbkdf2.h>
#include <nettle/ripemd160.h>
#include <nettle/serpent.h>
#include <nettle/sha1.h>
#include <nettle/sha2.h>
#include <nettle/twofish.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/util.h"
#include "block/luks.h"

#define BLOCK 16u

/* ---- hashes ---- */

static const struct nettle_hash *hash_named(const char *name)
{
    static const struct nettle_hash *const all[] = {&nettle_sha1, &nettle_sha224, &nettle_sha256, &nettle_sha384, &nettle_sha512, &nettle_ripemd160};
    for (unsigned i = 0; i < ARRAY_SIZE(all); i++)
        if (strcmp(all[i]->name, name) == 0)
            return all[i];
    return NULL;
}

static void hash_of(const struct nettle_hash *h, const void *a, size_t na, const void *b, size_t nb, uint8_t *out, size_t n)
{
    max_align_t ctx[(sizeof(struct sha512_ctx) + sizeof(max_align_t)) / sizeof(max_align_t)];
    h->init(ctx);
    if (na)
        h->update(ctx, na, a);
    h->update(ctx, nb, b);
    h->digest(ctx, n, out);
}

struct mac {
    const struct nettle_hash *h;
    max_align_t outer[16], inner[16], state[16]; /* struct sha512_ctx is the largest: 208 bytes */
};

static void mac_update(void *opaque, size_t n, const uint8_t *data)
{
    struct mac *m = opaque;
    m->h->update(m->state, n, data);
}

static void mac_digest(void *opaque, size_t n, uint8_t *out)
{
    struct mac *m = opaque;
    hmac_digest(m->outer, m->inner, m->state, m->h, n, out);
}

bool luks_pbkdf2(const char *hash, const void *secret, size_t secret_len, const uint8_t *salt, size_t salt_len, uint32_t iterations, uint8_t *out, size_t len)
{
    struct mac m = {.h = hash_named(hash)};
    if (!m.h || m.h->context_size > sizeof m.state)
        return false;
    hmac_set_key(m.outer, m.inner, m.state, m.h, secret_len, secret);
    pbkdf2(&m, mac_update, mac_digest, m.h->digest_size, iterations, salt_len, salt, len, out);
    explicit_bzero(&m, sizeof m);
    return true;
}

/* ---- the splitter, specification 2.4 ---- */

static void diffuse(const struct nettle_hash *h, uint8_t *block, unsigned n)
{
    for (unsigned at = 0, i = 0; at < n; at += h->digest_size, i++) {
        uint8_t number[4] = {(uint8_t)(i >> 24), (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i};
        unsigned part = MIN(n - at, h->digest_size);
        hash_of(h, number, sizeof number, block + at, part, block + at, part);
    }
}

static void xor_into(uint8_t *to, const uint8_t *from, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        to[i] ^= from[i];
}

bool luks_merge(const char *hash, const uint8_t *split, unsigned key_bytes, unsigned stripes, uint8_t *key)
{
    const struct nettle_hash *h = hash_named(hash);
    if (!h)
        return false;
    memset(key, 0, key_bytes);
    for (unsigned i = 0; i + 1 < stripes; i++) {
        xor_into(key, split + (size_t)i * key_bytes, key_bytes);
        diffuse(h, key, key_bytes);
    }
    xor_into(key, split + (size_t)(stripes - 1) * key_bytes, key_bytes);
    return true;
}

bool luks_split(const char *hash, const uint8_t *key, unsigned key_bytes, unsigned stripes, uint8_t *split)
{
    uint8_t *last = split + (size_t)(stripes - 1) * key_bytes;
    for (size_t done = 0, n = (size_t)(stripes - 1) * key_bytes; done < n;) {
        ssize_t got = getrandom(split + done, MIN(n - done, 256u), 0);
        if (got < 0)
            return false;
        done += (size_t)got;
    }
    uint8_t others[64]; /* what all but the last piece come to */
    memset(last, 0, key_bytes);
    if (key_bytes > sizeof others || !luks_merge(hash, split, key_bytes, stripes, others))
        return false;
    xor_into(last, others, key_bytes);
    xor_into(last, key, key_bytes);
    explicit_bzero(others, sizeof others);
    return true;
}

/* ---- ciphers ---- */

struct luks_cipher {
    const struct nettle_cipher *kind;
    bool xts;
    enum { IV_PLAIN, IV_PLAIN64, IV_ESSIV } iv;
    void *encrypt, *decrypt, *tweak; /* contexts; tweak: XTS's second key, or ESSIV's */
    const struct nettle_cipher *tweak_kind;
};

static const struct nettle_cipher *cipher_named(const char *name, unsigned key_bytes)
{
    static const struct nettle_cipher *const all[] = {&nettle_aes128,     &nettle_aes192,     &nettle_aes256,     &nettle_serpent128, &nettle_serpent192,
                                                      &nettle_serpent256, &nettle_twofish128, &nettle_twofish192, &nettle_twofish256};
    for (unsigned i = 0; i < ARRAY_SIZE(all); i++)
        if (strncmp(all[i]->name, name, strlen(name)) == 0 && strcspn(all[i]->name, "0123456789") == strlen(name) && all[i]->key_size == key_bytes)
            return all[i];
    return NULL;
}

static void *context(const struct nettle_cipher *k, const uint8_t *key, bool encrypt)
{
    void *ctx = aligned_alloc(64, ALIGN_UP((size_t)k->context_size, (size_t)64));
    if (ctx)
        (encrypt ? k->set_encrypt_key : k->set_decrypt_key)(ctx, key);
    return ctx;
}

/* "essiv:HASH": initial vectors are sector numbers, encrypted with the key's hash. */
static bool set_essiv(struct luks_cipher *c, const char *name, const char *hash, const uint8_t *key, unsigned key_bytes)
{
    const struct nettle_hash *h = hash_named(hash);
    uint8_t digest[SHA512_DIGEST_SIZE];
    c->tweak_kind = h ? cipher_named(name, h->digest_size) : NULL;
    if (!c->tweak_kind)
        return false;
    hash_of(h, NULL, 0, key, key_bytes, digest, h->digest_size);
    c->tweak = context(c->tweak_kind, digest, true);
    explicit_bzero(digest, sizeof digest);
    return c->tweak;
}

static bool set_up(struct luks_cipher *c, const char *name, const char *mode, const uint8_t *key, unsigned key_bytes)
{
    const char *iv = strchr(mode, '-');
    c->xts = strncmp(mode, "xts-", 4) == 0;
    if (!iv++ || (!c->xts && strncmp(mode, "cbc-", 4) != 0))
        return false;
    unsigned each = c->xts ? key_bytes / 2 : key_bytes;
    c->kind = cipher_named(name, each);
    if (!c->kind || (c->xts && key_bytes % 2))
        return false;
    c->encrypt = context(c->kind, key, true);
    c->decrypt = context(c->kind, key, false);
    c->iv = strcmp(iv, "plain64") == 0 ? IV_PLAIN64 : strcmp(iv, "plain") == 0 ? IV_PLAIN : IV_ESSIV;
    if (c->iv == IV_ESSIV && (c->xts || strncmp(iv, "essiv:", 6) != 0 || !set_essiv(c, name, iv + 6, key, key_bytes)))
        return false;
    if (c->xts) {
        c->tweak_kind = c->kind;
        c->tweak = context(c->kind, key + each, true);
    }
    return c->encrypt && c->decrypt && (c->tweak || (!c->xts && c->iv != IV_ESSIV));
}

struct luks_cipher *luks_cipher_new(const char *name, const char *mode, const uint8_t *key, unsigned key_bytes)
{
    struct luks_cipher *c = calloc(1, sizeof *c);
    if (c && set_up(c, name, mode, key, key_bytes))
        return c;
    luks_cipher_free(c);
    return NULL;
}

static void wipe(void *ctx, const struct nettle_cipher *k)
{
    if (ctx)
        explicit_bzero(ctx, k->context_size);
    free(ctx);
}

void luks_cipher_free(struct luks_cipher *c)
{
    if (!c)
        return;
    wipe(c->encrypt, c->kind);
    wipe(c->decrypt, c->kind);
    wipe(c->tweak, c->tweak_kind);
    free(c);
}

static void initial_vector(const struct luks_cipher *c, uint64_t sector, uint8_t iv[BLOCK])
{
    memset(iv, 0, BLOCK);
    if (c->iv == IV_PLAIN)
        sector &= UINT32_MAX;
    memcpy(iv, &sector, sizeof sector); /* little endian, as is the host */
    if (c->xts || c->iv == IV_ESSIV)
        c->tweak_kind->encrypt(c->tweak, BLOCK, iv, iv);
}

/* IEEE 1619: all tweaks of the sector first, so that the cipher sees the sector as one piece. */
static void xts_sector(const struct luks_cipher *c, bool encrypt, uint64_t sector, uint8_t *buf)
{
    uint64_t tweak[LUKS_SECTOR / 8], *words = (uint64_t *)(void *)buf;
    initial_vector(c, sector, (uint8_t *)tweak);
    for (unsigned i = 2; i < ARRAY_SIZE(tweak); i += 2) {
        uint64_t low = tweak[i - 2], high = tweak[i - 1];
        tweak[i] = low << 1 ^ (high >> 63 ? 0x87 : 0);
        tweak[i + 1] = high << 1 | low >> 63;
    }
    for (unsigned i = 0; i < ARRAY_SIZE(tweak); i++)
        words[i] ^= tweak[i];
    if (encrypt)
        c->kind->encrypt(c->encrypt, LUKS_SECTOR, buf, buf);
    else
        c->kind->decrypt(c->decrypt, LUKS_SECTOR, buf, buf);
    for (unsigned i = 0; i < ARRAY_SIZE(tweak); i++)
        words[i] ^= tweak[i];
}

static void cbc_sector(const struct luks_cipher *c, bool encrypt, uint64_t sector, uint8_t *buf)
{
    uint8_t iv[BLOCK];
    initial_vector(c, sector, iv);
    if (encrypt)
        cbc_encrypt(c->encrypt, c->kind->encrypt, BLOCK, iv, LUKS_SECTOR, buf, buf);
    else
        cbc_decrypt(c->decrypt, c->kind->decrypt, BLOCK, iv, LUKS_SECTOR, buf, buf);
}

void luks_cipher_run(const struct luks_cipher *c, bool encrypt, uint64_t sector, uint8_t *buf, uint64_t len)
{
    for (uint64_t at = 0; at < len; at += LUKS_SECTOR, sector++)
        (c->xts ? xts_sector : cbc_sector)(c, encrypt, sector, buf + at);
}
