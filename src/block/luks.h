/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * LUKS version 1 ("LUKS On-Disk Format Specification", 1.2.3): over a raw file, and within qcow2. A header of 592 bytes names the cipher; up to eight key
 * slots each hold the master key, split into stripes and encrypted with a key that PBKDF2 makes of a passphrase.
 *
 * Passphrases come from files: all their bytes count, a newline at the end too.
 */
#ifndef LODGE_BLOCK_LUKS_H
#define LODGE_BLOCK_LUKS_H

#include "block/image.h"

#define LUKS_SECTOR 512u
#define LUKS_SLOTS  8u

struct luks;
struct luks_kind { /* NULL and 0: as usual, which is aes-256-xts-plain64, sha256, 2000 ms */
    const char *cipher /* aes-256, serpent-256, … */, *mode /* xts, cbc */, *ivgen /* plain64, plain, essiv */, *hash;
    uint64_t iter_ms; /* that checking a passphrase takes */
};
/* An option "cipher-alg", "cipher-mode", "ivgen-alg", "hash-alg" or "iter-time". 1: it is one of these, 0: it is none; -1 with err. */
int luks_set_option(struct luks_kind *k, const char *name, const char *value, struct error *err);

/* Opens with the passphrase in `secret_file` what begins at `at` of the file and takes `len` bytes at most. 0, or -1 with err. */
int luks_open(struct file *f, uint64_t at, uint64_t len, const char *secret_file, struct luks **out, struct error *err);
/* The same without a passphrase: the header can be looked at, reading and writing fail. */
int luks_open_locked(struct file *f, uint64_t at, uint64_t len, struct luks **out, struct error *err);
void luks_close(struct luks *l); /* the keys are wiped */

/* What a header says, by the names that options have. */
struct luks_info {
    char cipher[48], mode[33], ivgen[33], ivgen_hash[33] /* "": has none */, hash[33], uuid[41];
    uint64_t payload; /* bytes */
    uint32_t iterations; /* of the master key's digest */
    struct {
        bool active;
        uint32_t iterations, stripes;
        uint64_t place; /* bytes */
    } slots[LUKS_SLOTS];
};
void luks_describe(const struct luks *l, struct luks_info *out);
uint64_t luks_payload(const struct luks *l); /* bytes from the header to the data */
/* Bytes that a new header takes, key slots included. 0 with err: the kind is not possible. */
uint64_t luks_header_size(const struct luks_kind *k, struct error *err);
/* Writes a new header with one passphrase. 0, or -1 with err. */
int luks_format(struct file *f, uint64_t at, const struct luks_kind *k, const char *secret_file, struct error *err);
/* Sectors [sector, …) in place; len is a multiple of LUKS_SECTOR. Any thread. */
void luks_encrypt(const struct luks *l, uint64_t sector, uint8_t *buf, uint64_t len);
void luks_decrypt(const struct luks *l, uint64_t sector, uint8_t *buf, uint64_t len);
/* Transfers of whole sectors through a buffer, in worker threads where much is to do: `host` in the file, whose sector is numbered `sector`. 0 or -errno. */
int luks_read(const struct luks *l, struct file *f, uint64_t host, uint64_t sector, uint64_t len, const struct iovec *iov, int niov);
int luks_write(const struct luks *l, struct file *f, uint64_t host, uint64_t sector, uint64_t len, const struct iovec *iov, int niov);
/* Another passphrase; and without one of the slots. 0, or -1 with err. */
int luks_add_key(struct luks *l, struct file *f, const char *secret_file, struct error *err);
int luks_erase_slot(struct luks *l, struct file *f, unsigned slot, struct error *err);
unsigned luks_active_slots(const struct luks *l); /* a bit each */
const char *luks_name(const struct luks *l);      /* "aes-256 xts-plain64 sha256" */

/* ---- luks_cipher.c ---- */
struct luks_cipher;
/* `name` is "aes", "serpent" or "twofish"; `mode` is "xts-plain64", "cbc-essiv:sha256", …; NULL: not known, or not with a key of that length. */
struct luks_cipher *luks_cipher_new(const char *name, const char *mode, const uint8_t *key, unsigned key_bytes);
void luks_cipher_free(struct luks_cipher *c);
void luks_cipher_run(const struct luks_cipher *c, bool encrypt, uint64_t sector, uint8_t *buf, uint64_t len);
/* PBKDF2 with HMAC of a hash by name. False: the hash is not known. */
bool luks_pbkdf2(const char *hash, const void *secret, size_t secret_len, const uint8_t *salt, size_t salt_len, uint32_t iterations, uint8_t *out, size_t len);
/* The anti-forensic splitter: a key in `stripes` pieces of its length. */
bool luks_merge(const char *hash, const uint8_t *split, unsigned key_bytes, unsigned stripes, uint8_t *key);
bool luks_split(const char *hash, const uint8_t *key, unsigned key_bytes, unsigned stripes, uint8_t *split);

#endif
