// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The image is ISO 9660 (ECMA-119) with one folder and two files, each of one extent. File names are not of the few letters that
 * the standard has; Linux and the BSDs take them as they are, folded to lower case and without the version.
 *
 *     sector  16      primary volume descriptor
 *             17      end of the descriptors
 *             18, 19  path tables, little- and big-endian
 *             20      the root folder
 *             21 …    the files
 */
#include "cli/seed.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/util.h"

#define SECTOR   2048u
#define LABEL    "cidata"
#define USER_MAX (1u << 20) /* bytes of user-data */
#define META_MAX 512u

enum { AT_VOLUME = 16, AT_END = 17, AT_TABLE_LE = 18, AT_TABLE_BE = 19, AT_ROOT = 20, AT_FILES = 21 };
enum { DIRECTORY = 2 };

/* Numbers in both byte orders (7.2.3, 7.3.3). */
static void put_both16(uint8_t *p, uint16_t v)
{
    p[0] = p[3] = (uint8_t)v;
    p[1] = p[2] = (uint8_t)(v >> 8);
}

static void put_both32(uint8_t *p, uint32_t v)
{
    for (unsigned i = 0; i < 4; i++)
        p[i] = p[7 - i] = (uint8_t)(v >> (8 * i));
}

/* A directory record (9.1); its length. */
static unsigned put_record(uint8_t *p, const char *name, unsigned name_len, uint32_t sector, uint32_t len, unsigned flags)
{
    static const uint8_t date[7] = {124, 1, 1, 0, 0, 0, 0};
    unsigned size = ALIGN_UP(33 + name_len, 2u);
    p[0] = (uint8_t)size;
    put_both32(p + 2, sector);
    put_both32(p + 10, len);
    memcpy(p + 18, date, sizeof date);
    p[25] = (uint8_t)flags;
    put_both16(p + 28, 1);
    p[32] = (uint8_t)name_len;
    memcpy(p + 33, name, name_len);
    return size;
}

/* 8.4; text fields are padded with spaces, dates are unset. */
static void put_volume(uint8_t *p, uint32_t sectors)
{
    static const struct {
        uint16_t at, len;
    } texts[] = {{8, 32}, {40, 32}, {190, 623}}, dates[] = {{813, 17}, {830, 17}, {847, 17}, {864, 17}};
    p[0] = 1;
    memcpy(p + 1, "CD001\1", 6);
    for (unsigned i = 0; i < ARRAY_SIZE(texts); i++)
        memset(p + texts[i].at, ' ', texts[i].len);
    for (unsigned i = 0; i < ARRAY_SIZE(dates); i++)
        memset(p + dates[i].at, '0', dates[i].len - 1u);
    memcpy(p + 40, LABEL, strlen(LABEL));
    put_both32(p + 80, sectors);
    put_both16(p + 120, 1);
    put_both16(p + 124, 1);
    put_both16(p + 128, SECTOR);
    put_both32(p + 132, 10); /* bytes of a path table: the root */
    p[140] = AT_TABLE_LE;
    p[151] = AT_TABLE_BE;
    put_record(p + 156, "", 1, AT_ROOT, SECTOR, DIRECTORY);
    p[881] = 1;
}

static void put_path_tables(uint8_t *image)
{
    uint8_t *le = image + AT_TABLE_LE * SECTOR, *be = image + AT_TABLE_BE * SECTOR;
    le[0] = be[0] = 1;
    le[2] = be[5] = AT_ROOT;
    le[6] = be[7] = 1;
}

struct file {
    const char *name;
    const void *data;
    size_t len;
};

static uint8_t *build(const struct file *files, unsigned n, size_t *size)
{
    uint32_t sector = AT_FILES;
    for (unsigned i = 0; i < n; i++)
        sector += (uint32_t)((files[i].len + SECTOR - 1) / SECTOR);
    *size = (size_t)sector * SECTOR;
    uint8_t *image = calloc(sector, SECTOR);
    if (!image)
        return NULL;
    put_volume(image + AT_VOLUME * SECTOR, sector);
    memcpy(image + AT_END * SECTOR,
           "\xff"
           "CD001\1",
           7);
    put_path_tables(image);
    uint8_t *root = image + AT_ROOT * SECTOR;
    root += put_record(root, "\0", 1, AT_ROOT, SECTOR, DIRECTORY);
    root += put_record(root, "\1", 1, AT_ROOT, SECTOR, DIRECTORY);
    sector = AT_FILES;
    for (unsigned i = 0; i < n; i++) { /* in the order of their names, as 9.3 demands */
        root += put_record(root, files[i].name, (unsigned)strlen(files[i].name), sector, (uint32_t)files[i].len, 0);
        memcpy(image + (size_t)sector * SECTOR, files[i].data, files[i].len);
        sector += (uint32_t)((files[i].len + SECTOR - 1) / SECTOR);
    }
    return image;
}

static char *read_user_data(const char *path, size_t *len, struct error *err)
{
    struct stat st;
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) < 0) {
        error_set(err, errno, "user-data '%s': cannot open: %s; give the path of a file that you may read", path, strerror(errno));
        return NULL;
    }
    if (!S_ISREG(st.st_mode) || st.st_size > (off_t)USER_MAX) {
        error_set(err, 0, "user-data '%s': not a file of at most 1 MiB; give the path of one", path);
        return NULL;
    }
    char *data = malloc((size_t)st.st_size + 1);
    ssize_t n = data ? read(fd, data, (size_t)st.st_size) : -1;
    if (n < 0) {
        error_set(err, errno, "user-data '%s': cannot read: %s; try again", path, strerror(errno));
        free(data);
        return NULL;
    }
    *len = (size_t)n;
    return data;
}

/* cloud-init runs once for each instance: other user-data or another name make another (FNV-1a). */
static uint64_t instance(const char *data, size_t len, const char *name)
{
    uint64_t h = 0xcbf29ce484222325ull;
    for (size_t i = 0; i < len; i++)
        h = (h ^ (uint8_t)data[i]) * 0x100000001b3ull;
    for (; *name; name++)
        h = (h ^ (uint8_t)*name) * 0x100000001b3ull;
    return h;
}

/* A host's name from the guest's: letters, digits and dashes. */
static void hostname(const char *name, char host[64])
{
    unsigned n = 0;
    for (; *name && n < 63; name++) {
        bool good = (*name >= '0' && *name <= '9') || ((*name | 32) >= 'a' && (*name | 32) <= 'z');
        if (good || (*name == '-' && n))
            host[n++] = *name;
        else if (*name == '.')
            break;
    }
    host[n] = 0;
}

int seed_make(const char *user_data, const char *name, struct error *err)
{
    size_t len = 0, size = 0;
    char meta[META_MAX], host[64];
    AUTO_FREE char *data = read_user_data(user_data, &len, err);
    if (!data)
        return -1;
    hostname(name, host);
    int n = snprintf(meta, sizeof meta, "instance-id: lodge-%016llx\nlocal-hostname: %s\n",
                     (unsigned long long)instance(data, len, name), host[0] ? host : "lodge");
    const struct file files[] = {{"META-DATA;1", meta, (size_t)n}, {"USER-DATA;1", data, len}};
    AUTO_FREE uint8_t *image = build(files, ARRAY_SIZE(files), &size);
    AUTO_CLOSE int fd = memfd_create("lodge-seed", 0);
    if (!image || fd < 0 || write(fd, image, size) != (ssize_t)size)
        return error_set(err, errno, "user-data '%s': no memory for the seed: %s; free some memory", user_data, strerror(errno));
    return steal_fd(&fd);
}
