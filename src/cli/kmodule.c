// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/kmodule.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/util.h"
#include "cli/unpack.h"

#define MODULES_MAX 20000u
#define MODULE_MAX  (64u * MIB) /* bytes of a module, unpacked */
#define NAME_BYTES  64

struct kmodule {
    char name[NAME_BYTES]; /* with underscores */
    char *path;            /* below the folder */
    bool added;
};

struct kmodules {
    int fd; /* of the folder */
    char *folder, *version, *kernel;
    struct kmodule *list;
    unsigned n, added;
};

/* ---- the kernel's version ---- */

static void take_version(const char *text, size_t len, char version[KMODULE_VERSION_MAX])
{
    size_t n = 0;
    while (n < len && n < KMODULE_VERSION_MAX - 1 && (isalnum((unsigned char)text[n]) || (text[n] && strchr("._+~-", text[n])))) {
        version[n] = text[n];
        n++;
    }
    version[n] = 0;
    if (version[0] == '.') /* it becomes the name of a folder */
        version[0] = 0;
}

/* Where a bzImage's setup header says (boot.rst, kernel_version), or behind the banner of a vmlinux. */
static void find_version(const uint8_t *data, size_t size, char version[KMODULE_VERSION_MAX])
{
    static const char banner[] = "Linux version ";
    uint16_t at;
    version[0] = 0;
    if (size > 0x210 && memcmp(data + 0x202, "HdrS", 4) == 0) {
        memcpy(&at, data + 0x20e, sizeof at);
        if (at && at + 0x200u < size)
            take_version((const char *)data + at + 0x200, size - at - 0x200, version);
        return;
    }
    const uint8_t *found = memmem(data, size, banner, sizeof banner - 1);
    if (found)
        take_version((const char *)found + sizeof banner - 1, size - (size_t)(found - data) - (sizeof banner - 1), version);
}

int kmodule_version(const char *kernel, char version[KMODULE_VERSION_MAX], struct error *err)
{
    struct stat st;
    AUTO_CLOSE int fd = open(kernel, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) < 0)
        return error_set(err, errno, "kernel '%s': cannot open: %s; give the path of a file that you may read", kernel,
                         strerror(errno));
    if (!S_ISREG(st.st_mode) || st.st_size == 0)
        return error_set(err, 0, "kernel '%s': not a regular file with contents; give the path of a kernel", kernel);
    void *data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED)
        return error_set(err, errno, "kernel '%s': cannot read: %s; get it again", kernel, strerror(errno));
    find_version(data, (size_t)st.st_size, version);
    munmap(data, (size_t)st.st_size);
    return 0;
}

/* ---- the folder ---- */

static int open_in(int dir, const char *path, uint64_t flags, uint64_t resolve)
{
    struct open_how how = {.flags = flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, .resolve = resolve};
    return (int)syscall(SYS_openat2, dir, path, &how, sizeof how);
}

/* As a chroot to `root` would see it: a tree's lib may be a link to usr/lib. */
static int find_below(struct kmodules *m, const char *root)
{
    AUTO_FREE char *path = NULL;
    AUTO_CLOSE int dir = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 || asprintf(&path, "lib/modules/%s", m->version) < 0)
        return -1;
    m->fd = open_in(dir, path, O_RDONLY | O_DIRECTORY, RESOLVE_IN_ROOT);
    return m->fd < 0 || asprintf(&m->folder, "%s/%s", root, path) < 0 ? -1 : 0;
}

/* A package that was unpacked has boot/vmlinuz beside lib. */
static int find_folder(struct kmodules *m, const char *root)
{
    AUTO_FREE char *beside = strdup(m->kernel), *above = NULL;
    char *slash = beside ? strrchr(beside, '/') : NULL;
    if (find_below(m, root) == 0)
        return 0;
    if (!slash)
        return -1;
    *slash = 0;
    if (find_below(m, *beside ? beside : "/") == 0)
        return 0;
    return asprintf(&above, "%s/..", beside) < 0 ? -1 : find_below(m, above);
}

/* "kernel/fs/9p/9p.ko.xz" is 9p. False: no module. */
static bool module_name(const char *file, char name[NAME_BYTES])
{
    const char *slash = strrchr(file, '/'), *base = slash ? slash + 1 : file, *dot = strstr(base, ".ko");
    size_t len = dot ? (size_t)(dot - base) : 0;
    if (!len || len >= NAME_BYTES || (dot[3] && dot[3] != '.'))
        return false;
    for (size_t i = 0; i < len; i++)
        name[i] = base[i] == '-' ? '_' : base[i];
    name[len] = 0;
    return true;
}

static int list_modules(struct kmodules *m, struct error *err)
{
    char start[32];
    snprintf(start, sizeof start, "/proc/self/fd/%d/", m->fd);
    char *const paths[] = {start, NULL};
    FTS *walk = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR | FTS_XDEV, NULL);
    if (!walk)
        return error_set(err, errno, "modules '%s': cannot read: %s; make them readable", m->folder, strerror(errno));
    int result = 0;
    for (FTSENT *e; result == 0 && (e = fts_read(walk)) != NULL;) {
        char name[NAME_BYTES];
        if (e->fts_info != FTS_F || !module_name(e->fts_path, name))
            continue;
        if (m->n == MODULES_MAX) {
            result = error_set(err, 0, "modules '%s': more than %u; give the kernel a folder of its own", m->folder, MODULES_MAX);
            break;
        }
        const char *below = e->fts_path + strlen(start);
        struct kmodule *k = &m->list[m->n];
        memcpy(k->name, name, sizeof name);
        k->path = strdup(below + strspn(below, "/"));
        m->n += k->path != NULL;
    }
    fts_close(walk);
    return result;
}

int kmodules_open(const char *root, const char *kernel, const char *version, struct kmodules **out, struct error *err)
{
    struct kmodules *m = calloc(1, sizeof *m);
    *out = NULL;
    if (!m)
        return error_set(err, ENOMEM, "command line: out of memory");
    m->fd = -1;
    m->version = strdup(version);
    m->kernel = strdup(kernel);
    m->list = calloc(MODULES_MAX, sizeof *m->list);
    if (!m->version || !m->kernel || !m->list) {
        kmodules_close(m);
        return error_set(err, ENOMEM, "command line: out of memory");
    }
    if (!version[0] || find_folder(m, root) < 0) {
        kmodules_close(m);
        return 0;
    }
    if (list_modules(m, err) < 0) {
        kmodules_close(m);
        return -1;
    }
    *out = m;
    return 0;
}

void kmodules_close(struct kmodules *m)
{
    if (!m)
        return;
    for (unsigned i = 0; i < m->n; i++)
        free(m->list[i].path);
    if (m->fd >= 0)
        close(m->fd);
    free(m->list);
    free(m->folder);
    free(m->version);
    free(m->kernel);
    free(m);
}

/* ---- modules ---- */

static struct kmodule *find_module(struct kmodules *m, const char *name)
{
    for (unsigned i = 0; i < m->n; i++)
        if (strcmp(m->list[i].name, name) == 0)
            return &m->list[i];
    return NULL;
}

/* The whole file, unpacked; NULL with err. */
static uint8_t *read_module(const struct kmodules *m, const char *path, size_t *len, struct error *err)
{
    struct stat st;
    AUTO_CLOSE int fd = open_in(m->fd, path, O_RDONLY, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > (off_t)MODULE_MAX) {
        error_set(err, errno, "module '%s/%s': not a file of at most 64 MiB that can be read; install the kernel's modules again",
                  m->folder, path);
        return NULL;
    }
    AUTO_FREE uint8_t *data = malloc((size_t)st.st_size + 1);
    ssize_t n = data ? pread(fd, data, (size_t)st.st_size, 0) : -1;
    if (n < 0) {
        error_set(err, errno, "module '%s/%s': cannot read: %s; try again", m->folder, path, strerror(errno));
        return NULL;
    }
    *len = (size_t)n;
    if (!unpack_needed(path))
        return steal_ptr(&data);
    uint8_t *unpacked = unpack(path, data, len, MODULE_MAX);
    if (!unpacked)
        error_set(err, 0, "module '%s/%s': cannot unpack it; install the kernel's modules again", m->folder, path);
    return unpacked;
}

/* Is it in modules.builtin? Yes, too, where there is no such list. */
static bool built_in(const struct kmodules *m, const char *name)
{
    char line[512], found[NAME_BYTES];
    int fd = open_in(m->fd, "modules.builtin", O_RDONLY, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
    FILE *f = fd >= 0 ? fdopen(fd, "r") : NULL;
    if (!f) {
        if (fd >= 0)
            close(fd);
        return true;
    }
    bool is = false;
    while (!is && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        is = module_name(line, found) && strcmp(found, name) == 0;
    }
    fclose(f);
    return is;
}

/* .modinfo has "depends=a,b" between zero bytes. */
static int add_dependencies(struct kmodules *m, const uint8_t *data, size_t len, struct cpio *c, struct error *err)
{
    static const char key[] = "\0depends=";
    const uint8_t *found = memmem(data, len, key, sizeof key - 1);
    if (!found)
        return 0;
    const char *text = (const char *)found + sizeof key - 1;
    AUTO_FREE char *names = strndup(text, len - (size_t)((const uint8_t *)text - data));
    for (char *rest = names, *name; rest && (name = strsep(&rest, ",")) != NULL;)
        if (*name && kmodules_add(m, name, c, err) < 0)
            return -1;
    return 0;
}

int kmodules_add(struct kmodules *m, const char *name, struct cpio *c, struct error *err)
{
    char wanted[NAME_BYTES + 4], path[NAME_BYTES + 32];
    size_t len;
    snprintf(path, sizeof path, "%.60s.ko", name);
    if (!module_name(path, wanted))
        return error_set(err, 0, "module '%.60s': no name of a module; install the kernel's modules again", name);
    struct kmodule *k = find_module(m, wanted);
    if (!k && !built_in(m, wanted))
        return error_set(err, 0,
                         "kernel '%s': version %s has no module '%s' in '%s' and has not built it in; use a kernel with 9p over "
                         "virtio, such as Debian's "
                         "linux-image-amd64",
                         m->kernel, m->version, wanted, m->folder);
    if (!k || k->added)
        return 0;
    k->added = true; /* before what it needs: a circle ends here */
    AUTO_FREE uint8_t *data = read_module(m, k->path, &len, err);
    if (!data || add_dependencies(m, data, len, c, err) < 0)
        return -1;
    snprintf(path, sizeof path, "modules/%03u-%s.ko", m->added++, k->name);
    cpio_add(c, path, S_IFREG | 0644, data, len);
    return 0;
}
