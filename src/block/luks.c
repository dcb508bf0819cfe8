// SPDX-License-Identifier: GPL-2.0-or-later
#include "block/luks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/util.h"
#include "block/blockmap.h"

#define HEADER   592u
#define MAGIC    "LUKS\xba\xbe"
#define STRIPES  4000u
#define SALT     32u
#define DIGEST   20u
#define KEY_MAX  64u /* bytes */
#define ACTIVE   0x00ac71f3u
#define INACTIVE 0x0000deadu
#define SECRET_MAX     (1u << 20) /* bytes */
#define ITERATIONS_MIN 1000u
#define ITERATIONS_MAX 20000000u  /* that a header may ask for: some ten seconds */
#define ALIGNMENT      4096u      /* of key slots and of the data */
#define WORKER_BYTES   (32 * KIB) /* fewer are encrypted at once */

enum { AT_VERSION = 6, AT_CIPHER = 8, AT_MODE = 40, AT_HASH = 72, AT_PAYLOAD = 104, AT_KEY_BYTES = 108, AT_DIGEST = 112, AT_DIGEST_SALT = 132, AT_DIGEST_ITER = 164,
       AT_UUID = 168, AT_SLOTS = 208, SLOT = 48 };
enum { SLOT_ITER = 4, SLOT_SALT = 8, SLOT_PLACE = 40, SLOT_STRIPES = 44 };

struct luks {
    uint8_t header[HEADER];
    uint64_t at; /* of the header in its file */
    char cipher[33], mode[33], hash[33], name[128];
    unsigned key_bytes;
    uint8_t key[KEY_MAX]; /* the master key */
    struct luks_cipher *data;
};

static int no_memory(struct error *err)
{
    return error_set(err, ENOMEM, "encrypted image: out of memory; close other programs");
}

/* ---- passphrases ---- */

struct secret {
    uint8_t *bytes;
    size_t len;
};

static void secret_free(struct secret *s)
{
    if (s->bytes)
        explicit_bzero(s->bytes, s->len);
    free(s->bytes);
}

static int secret_read(struct secret *s, const char *path, struct error *err)
{
    AUTO_CLOSE int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (!path)
        return error_set(err, 0, "encrypted image: wants a passphrase; give the name of a file that holds it with --secret-file");
    s->bytes = malloc(SECRET_MAX);
    ssize_t n = fd >= 0 && s->bytes ? read(fd, s->bytes, SECRET_MAX) : -1;
    if (n <= 0 || n == SECRET_MAX)
        return error_set(err, errno, "passphrase file '%s': cannot be read, is empty or longer than 1M; give another", path);
    s->len = (size_t)n;
    return 0;
}

/* ---- slots ---- */

static uint8_t *slot_of(struct luks *l, unsigned i)
{
    return l->header + AT_SLOTS + i * SLOT;
}

static uint64_t material_bytes(const struct luks *l)
{
    return ALIGN_UP((uint64_t)l->key_bytes * STRIPES, (uint64_t)LUKS_SECTOR);
}

/* A cipher for a slot's key material. */
static struct luks_cipher *slot_cipher(struct luks *l, const uint8_t *slot, const struct secret *s)
{
    uint8_t key[KEY_MAX];
    struct luks_cipher *c = NULL;
    if (luks_pbkdf2(l->hash, s->bytes, s->len, slot + SLOT_SALT, SALT, (uint32_t)be_get(slot + SLOT_ITER, 4), key, l->key_bytes))
        c = luks_cipher_new(l->cipher, l->mode, key, l->key_bytes);
    explicit_bzero(key, sizeof key);
    return c;
}

static bool key_is_right(struct luks *l)
{
    uint8_t digest[DIGEST];
    const uint8_t *h = l->header;
    return luks_pbkdf2(l->hash, l->key, l->key_bytes, h + AT_DIGEST_SALT, SALT, (uint32_t)be_get(h + AT_DIGEST_ITER, 4), digest, DIGEST) &&
           memcmp(digest, h + AT_DIGEST, DIGEST) == 0;
}

/* 1: the passphrase is this slot's; 0: it is not; -errno. */
static int try_slot(struct luks *l, struct file *f, unsigned i, const struct secret *s)
{
    const uint8_t *slot = slot_of(l, i);
    uint64_t bytes = material_bytes(l);
    AUTO_FREE uint8_t *split = malloc(bytes);
    int ret = split ? file_read(f, l->at + be_get(slot + SLOT_PLACE, 4) * LUKS_SECTOR, split, bytes) : -ENOMEM;
    struct luks_cipher *c = ret == 0 ? slot_cipher(l, slot, s) : NULL;
    if (c) {
        luks_cipher_run(c, false, 0, split, bytes);
        ret = luks_merge(l->hash, split, l->key_bytes, STRIPES, l->key) && key_is_right(l);
    }
    luks_cipher_free(c);
    return ret;
}

/* ---- opening ---- */

static int check_header(struct luks *l, const struct file *f, uint64_t len, struct error *err)
{
    const uint8_t *h = l->header;
    const char *what = NULL;
    l->key_bytes = (unsigned)be_get(h + AT_KEY_BYTES, 4);
    if (memcmp(h, MAGIC, 6) != 0)
        what = "it has no LUKS header";
    else if (be_get(h + AT_VERSION, 2) != 1)
        what = "its LUKS version is not 1";
    else if (l->key_bytes < 16 || l->key_bytes > KEY_MAX)
        what = "its master key has a length that is not possible";
    else if (be_get(h + AT_DIGEST_ITER, 4) == 0 || be_get(h + AT_DIGEST_ITER, 4) > ITERATIONS_MAX)
        what = "it wants more iterations than are done here";
    for (unsigned i = 0; !what && i < LUKS_SLOTS; i++) {
        const uint8_t *s = slot_of(l, i);
        uint64_t place = be_get(s + SLOT_PLACE, 4) * LUKS_SECTOR;
        if (be_get(s, 4) != ACTIVE)
            continue;
        if (be_get(s + SLOT_STRIPES, 4) != STRIPES || place < HEADER || place > len || material_bytes(l) > len - place || be_get(s + SLOT_ITER, 4) == 0 ||
            be_get(s + SLOT_ITER, 4) > ITERATIONS_MAX)
            what = "a key slot is not where it can be, or wants more iterations than are done here";
    }
    return what ? error_set(err, 0, "image '%s': is not sound: %s; check that its format is right, or restore a copy", f->path, what) : 0;
}

static void get_names(struct luks *l)
{
    memcpy(l->cipher, l->header + AT_CIPHER, 32);
    memcpy(l->mode, l->header + AT_MODE, 32);
    memcpy(l->hash, l->header + AT_HASH, 32);
    bool xts = strncmp(l->mode, "xts", 3) == 0;
    snprintf(l->name, sizeof l->name, "%s-%u %s %s", l->cipher, l->key_bytes * 8 / (xts ? 2 : 1), l->mode, l->hash);
}

static int unlock(struct luks *l, struct file *f, const char *secret_file, struct error *err)
{
    struct secret s __attribute__((cleanup(secret_free))) = {0};
    int ret = 0;
    if (secret_read(&s, secret_file, err) < 0)
        return -1;
    for (unsigned i = 0; ret == 0 && i < LUKS_SLOTS; i++)
        if (be_get(slot_of(l, i), 4) == ACTIVE)
            ret = try_slot(l, f, i, &s);
    if (ret < 0)
        return error_set(err, -ret, "image '%s': its key slots cannot be read: %s; check the disk that holds it", f->path, strerror(-ret));
    if (ret == 0)
        return error_set(err, EACCES, "image '%s': the passphrase in '%s' is not one of its; give another file", f->path, secret_file);
    l->data = luks_cipher_new(l->cipher, l->mode, l->key, l->key_bytes);
    return l->data ? 0 : no_memory(err);
}

int luks_open_locked(struct file *f, uint64_t at, uint64_t len, struct luks **out, struct error *err)
{
    struct luks *l = calloc(1, sizeof *l);
    uint8_t any[KEY_MAX] = {0}, digest[4];
    if (!l)
        return no_memory(err);
    l->at = at;
    int ret = file_read(f, at, l->header, HEADER);
    if (ret < 0)
        ret = error_set(err, -ret, "image '%s': cannot be read: %s; check the disk that holds it", f->path, strerror(-ret));
    else if ((ret = check_header(l, f, len, err)) == 0) {
        get_names(l);
        struct luks_cipher *known = luks_cipher_new(l->cipher, l->mode, any, l->key_bytes);
        if (!known || !luks_pbkdf2(l->hash, "", 0, any, 1, 1, digest, sizeof digest))
            ret = error_set(err, 0, "image '%s': is encrypted by '%s', which is not supported; convert it with the program that made it", f->path, l->name);
        luks_cipher_free(known);
    }
    if (ret == 0)
        *out = l;
    else
        luks_close(l);
    return ret;
}

int luks_open(struct file *f, uint64_t at, uint64_t len, const char *secret_file, struct luks **out, struct error *err)
{
    struct luks *l;
    if (luks_open_locked(f, at, len, &l, err) < 0)
        return -1;
    if (unlock(l, f, secret_file, err) == 0) {
        *out = l;
        return 0;
    }
    luks_close(l);
    return -1;
}

/* "xts-plain64", "cbc-essiv:sha256" */
static void split_mode(const char *mode, struct luks_info *out)
{
    const char *dash = strchrnul(mode, '-'), *iv = *dash ? dash + 1 : dash, *colon = strchrnul(iv, ':');
    snprintf(out->mode, sizeof out->mode, "%.*s", (int)(dash - mode), mode);
    snprintf(out->ivgen, sizeof out->ivgen, "%.*s", (int)(colon - iv), iv);
    snprintf(out->ivgen_hash, sizeof out->ivgen_hash, "%s", *colon ? colon + 1 : "");
}

void luks_describe(const struct luks *l, struct luks_info *out)
{
    bool xts = strncmp(l->mode, "xts", 3) == 0;
    *out = (struct luks_info){.payload = luks_payload(l), .iterations = (uint32_t)be_get(l->header + AT_DIGEST_ITER, 4)};
    split_mode(l->mode, out);
    snprintf(out->cipher, sizeof out->cipher, "%s-%u", l->cipher, l->key_bytes * 8 / (xts ? 2 : 1));
    snprintf(out->hash, sizeof out->hash, "%s", l->hash);
    memcpy(out->uuid, l->header + AT_UUID, 40);
    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        const uint8_t *s = l->header + AT_SLOTS + i * SLOT;
        out->slots[i].active = be_get(s, 4) == ACTIVE;
        out->slots[i].iterations = (uint32_t)be_get(s + SLOT_ITER, 4);
        out->slots[i].place = be_get(s + SLOT_PLACE, 4) * LUKS_SECTOR;
        out->slots[i].stripes = (uint32_t)be_get(s + SLOT_STRIPES, 4);
    }
}

void luks_close(struct luks *l)
{
    if (!l)
        return;
    luks_cipher_free(l->data);
    explicit_bzero(l, sizeof *l);
    free(l);
}

uint64_t luks_payload(const struct luks *l)
{
    return be_get(l->header + AT_PAYLOAD, 4) * LUKS_SECTOR;
}

unsigned luks_active_slots(const struct luks *l)
{
    unsigned bits = 0;
    for (unsigned i = 0; i < LUKS_SLOTS; i++)
        bits |= be_get(l->header + AT_SLOTS + i * SLOT, 4) == ACTIVE ? BIT(i) : 0;
    return bits;
}

const char *luks_name(const struct luks *l)
{
    return l->name;
}

/* ---- making ---- */

int luks_set_option(struct luks_kind *k, const char *name, const char *value, struct error *err)
{
    const struct {
        const char *name, **to;
    } rows[] = {{"cipher-alg", &k->cipher}, {"cipher-mode", &k->mode}, {"ivgen-alg", &k->ivgen}, {"hash-alg", &k->hash}, {"ivgen-hash-alg", NULL}};
    for (unsigned i = 0; i < ARRAY_SIZE(rows) - 1; i++)
        if (strcmp(rows[i].name, name) == 0) {
            *rows[i].to = value;
            return 1;
        }
    if (strcmp(name, "iter-time") != 0)
        return 0;
    char *end;
    k->iter_ms = strtoull(value, &end, 10);
    return *end || !k->iter_ms || k->iter_ms > 60000 ? error_set(err, 0, "option 'iter-time': '%s' is none; give milliseconds from 1 to 60000", value) : 1;
}

/* Fills in the names; the key's bits are behind the cipher's. */
static int describe(struct luks *l, const struct luks_kind *k, struct error *err)
{
    const char *cipher = k->cipher ? k->cipher : "aes-256", *mode = k->mode ? k->mode : "xts", *iv = k->ivgen ? k->ivgen : "plain64", *dash = strrchr(cipher, '-');
    uint8_t any[KEY_MAX] = {0};
    snprintf(l->hash, sizeof l->hash, "%s", k->hash ? k->hash : "sha256");
    snprintf(l->cipher, sizeof l->cipher, "%.*s", (int)(dash ? dash - cipher : 0), cipher);
    snprintf(l->mode, sizeof l->mode, "%s-%s%s", mode, iv, strcmp(iv, "essiv") == 0 ? ":sha256" : "");
    l->key_bytes = dash ? (unsigned)strtoul(dash + 1, NULL, 10) / 8 * (strcmp(mode, "xts") == 0 ? 2 : 1) : 0;
    struct luks_cipher *c = l->key_bytes && l->key_bytes <= KEY_MAX ? luks_cipher_new(l->cipher, l->mode, any, l->key_bytes) : NULL;
    bool ok = c && luks_pbkdf2(l->hash, "", 0, any, 1, 1, any, 4);
    luks_cipher_free(c);
    return ok ? 0 : error_set(err, 0, "encryption '%s' '%s' with '%s': is not known; give for instance aes-256, xts, plain64 and sha256", cipher, l->mode, l->hash);
}

static uint64_t slot_place(const struct luks *l, unsigned i) /* bytes */
{
    return ALIGNMENT + i * ALIGN_UP(material_bytes(l), (uint64_t)ALIGNMENT);
}

uint64_t luks_header_size(const struct luks_kind *k, struct error *err)
{
    struct luks l = {.at = 0};
    return describe(&l, k, err) < 0 ? 0 : slot_place(&l, LUKS_SLOTS);
}

/* How many iterations take so long on this machine? */
static uint32_t measure(const struct luks *l, uint64_t ms)
{
    uint8_t out[KEY_MAX];
    for (uint32_t n = 10000;; n *= 2) {
        uint64_t start = now_ns();
        luks_pbkdf2(l->hash, "measure", 7, out, 16, n, out, l->key_bytes);
        uint64_t took = MAX(now_ns() - start, 1ull);
        if (took > 20000000 || n > ITERATIONS_MAX / 4)
            return (uint32_t)MAX(MIN((double)n * (double)ms * 1e6 / (double)took, (double)ITERATIONS_MAX), (double)ITERATIONS_MIN);
    }
}

static bool fill_random(void *p, size_t n)
{
    return getrandom(p, n, 0) == (ssize_t)n;
}

/* Encrypts the master key for a passphrase into a slot, and says so in the header, which is not written yet. */
static int fill_slot(struct luks *l, struct file *f, unsigned i, const struct secret *s, uint32_t iterations)
{
    uint8_t *slot = slot_of(l, i);
    uint64_t bytes = material_bytes(l);
    AUTO_FREE uint8_t *split = calloc(1, bytes);
    if (!split || !fill_random(slot + SLOT_SALT, SALT))
        return -ENOMEM;
    be_put(slot, ACTIVE, 4);
    be_put(slot + SLOT_ITER, iterations, 4);
    struct luks_cipher *c = slot_cipher(l, slot, s);
    if (!c || !luks_split(l->hash, l->key, l->key_bytes, STRIPES, split)) {
        luks_cipher_free(c);
        return -EIO;
    }
    luks_cipher_run(c, true, 0, split, bytes);
    luks_cipher_free(c);
    return file_write(f, l->at + be_get(slot + SLOT_PLACE, 4) * LUKS_SECTOR, split, bytes);
}

static void put_header(struct luks *l, uint32_t iterations)
{
    uint8_t *h = l->header, id[16];
    memcpy(h, MAGIC, 6);
    be_put(h + AT_VERSION, 1, 2);
    memcpy(h + AT_CIPHER, l->cipher, 32);
    memcpy(h + AT_MODE, l->mode, 32);
    memcpy(h + AT_HASH, l->hash, 32);
    be_put(h + AT_PAYLOAD, slot_place(l, LUKS_SLOTS) / LUKS_SECTOR, 4);
    be_put(h + AT_KEY_BYTES, l->key_bytes, 4);
    be_put(h + AT_DIGEST_ITER, MAX(iterations / 8, ITERATIONS_MIN), 4);
    format_uuid(id);
    snprintf((char *)h + AT_UUID, 40, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", id[0], id[1], id[2], id[3], id[4], id[5], id[6], id[7], id[8],
             id[9], id[10], id[11], id[12], id[13], id[14], id[15]);
    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        be_put(slot_of(l, i), INACTIVE, 4);
        be_put(slot_of(l, i) + SLOT_PLACE, slot_place(l, i) / LUKS_SECTOR, 4);
        be_put(slot_of(l, i) + SLOT_STRIPES, STRIPES, 4);
    }
}

int luks_format(struct file *f, uint64_t at, const struct luks_kind *k, const char *secret_file, struct error *err)
{
    struct luks l __attribute__((aligned(64))) = {.at = at};
    struct secret s __attribute__((cleanup(secret_free))) = {0};
    if (describe(&l, k, err) < 0 || secret_read(&s, secret_file, err) < 0)
        return -1;
    uint32_t iterations = measure(&l, k->iter_ms ? k->iter_ms : 2000);
    put_header(&l, iterations);
    uint8_t *h = l.header;
    int ret = fill_random(l.key, l.key_bytes) && fill_random(h + AT_DIGEST_SALT, SALT) &&
                      luks_pbkdf2(l.hash, l.key, l.key_bytes, h + AT_DIGEST_SALT, SALT, (uint32_t)be_get(h + AT_DIGEST_ITER, 4), h + AT_DIGEST, DIGEST)
                  ? 0
                  : -EIO;
    if (ret == 0)
        ret = fill_slot(&l, f, 0, &s, iterations);
    if (ret == 0)
        ret = file_sync(f);
    if (ret == 0)
        ret = file_write(f, at, h, HEADER);
    explicit_bzero(&l, sizeof l);
    return ret < 0 ? error_set(err, -ret, "image '%s': its key slots cannot be written: %s; check the disk that is to hold it", f->path, strerror(-ret)) : 0;
}

/* ---- keys ---- */

static int write_header(struct luks *l, struct file *f, int ret, struct error *err)
{
    if (ret == 0)
        ret = file_sync(f);
    if (ret == 0)
        ret = file_write(f, l->at, l->header, HEADER);
    if (ret == 0)
        ret = file_sync(f);
    return ret < 0 ? error_set(err, -ret, "image '%s': its key slots cannot be written: %s; check the disk that holds it", f->path, strerror(-ret)) : 0;
}

int luks_add_key(struct luks *l, struct file *f, const char *secret_file, struct error *err)
{
    struct secret s __attribute__((cleanup(secret_free))) = {0};
    unsigned i = 0;
    while (i < LUKS_SLOTS && be_get(slot_of(l, i), 4) == ACTIVE)
        i++;
    if (i == LUKS_SLOTS)
        return error_set(err, 0, "image '%s': all its %u key slots are in use; take one out first", f->path, LUKS_SLOTS);
    uint64_t place = be_get(slot_of(l, i) + SLOT_PLACE, 4) * LUKS_SECTOR;
    if (place < HEADER || place + material_bytes(l) > luks_payload(l))
        return error_set(err, 0, "image '%s': its key slot %u is not where it can be; convert the image", f->path, i);
    if (secret_read(&s, secret_file, err) < 0)
        return -1;
    return write_header(l, f, fill_slot(l, f, i, &s, measure(l, 2000)), err);
}

/* The header first, then the material: it must not be left where only the header says that it is gone. */
int luks_erase_slot(struct luks *l, struct file *f, unsigned slot, struct error *err)
{
    unsigned active = luks_active_slots(l);
    if (slot >= LUKS_SLOTS || !(active & BIT(slot)))
        return error_set(err, 0, "image '%s': its key slot %u is not in use; 'lodge image info' lists them", f->path, slot);
    if (!(active & ~BIT(slot)))
        return error_set(err, 0, "image '%s': key slot %u is its last one, without which nobody could open it; add another passphrase first", f->path, slot);
    uint8_t *s = slot_of(l, slot);
    be_put(s, INACTIVE, 4);
    be_put(s + SLOT_ITER, 0, 4);
    memset(s + SLOT_SALT, 0, SALT);
    AUTO_FREE uint8_t *noise = malloc(material_bytes(l));
    if (!noise)
        return no_memory(err);
    memset(noise, 0xa5, material_bytes(l));
    if (write_header(l, f, 0, err) < 0)
        return -1;
    return write_header(l, f, file_write(f, l->at + be_get(s + SLOT_PLACE, 4) * LUKS_SECTOR, noise, material_bytes(l)), err);
}

/* ---- transfers ---- */

void luks_encrypt(const struct luks *l, uint64_t sector, uint8_t *buf, uint64_t len)
{
    luks_cipher_run(l->data, true, sector, buf, len);
}

void luks_decrypt(const struct luks *l, uint64_t sector, uint8_t *buf, uint64_t len)
{
    luks_cipher_run(l->data, false, sector, buf, len);
}

struct job {
    const struct luks *l;
    bool encrypt;
    uint64_t sector, len;
    uint8_t *buf;
};

static ssize_t run_job(void *arg)
{
    const struct job *j = arg;
    luks_cipher_run(j->l->data, j->encrypt, j->sector, j->buf, j->len);
    return 0;
}

static void crypt_buffer(struct io_loop *loop, struct job j)
{
    if (j.len < WORKER_BYTES)
        run_job(&j);
    else
        io_call(loop, run_job, &j);
}

int luks_read(const struct luks *l, struct file *f, uint64_t host, uint64_t sector, uint64_t len, const struct iovec *iov, int niov)
{
    AUTO_FREE uint8_t *buf = file_buffer(len);
    if (!l->data || !buf || (host | len) % LUKS_SECTOR)
        return !l->data ? -ENOKEY : buf ? -EINVAL : -ENOMEM;
    int ret = file_read(f, host, buf, len);
    if (ret < 0)
        return ret;
    crypt_buffer(f->loop, (struct job){l, false, sector, len, buf});
    iov_from(iov, niov, 0, buf, len);
    return 0;
}

int luks_write(const struct luks *l, struct file *f, uint64_t host, uint64_t sector, uint64_t len, const struct iovec *iov, int niov)
{
    AUTO_FREE uint8_t *buf = file_buffer(len);
    if (!l->data || !buf || (host | len) % LUKS_SECTOR)
        return !l->data ? -ENOKEY : buf ? -EINVAL : -ENOMEM;
    iov_to(iov, niov, 0, buf, len);
    crypt_buffer(f->loop, (struct job){l, true, sector, len, buf});
    return file_write(f, host, buf, len);
}
