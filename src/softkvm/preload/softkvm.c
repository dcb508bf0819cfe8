// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * softkvm COMMAND [ARGUMENT...]: runs a program with libsoftkvm-preload in front of the C library, so that it finds a /dev/kvm.
 *
 * A program that cannot be helped so is refused: the dynamic linker would run it without a word, and it would find no /dev/kvm.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/util.h"

#define LIBRARY "libsoftkvm-preload.so"

static const char help[] =
    "usage: softkvm COMMAND [ARGUMENT...]\n"
    "\n"
    "Runs COMMAND with a /dev/kvm made of software, on a machine without VT-x or AMD-V.\n"
    "For example: softkvm qemu-system-x86_64 -accel kvm -m 1G disk.img\n"
    "\n"
    "  --help       shows this text\n"
    "  --version    shows the version\n"
    "\n"
    "SOFTKVM_ENGINE=interp interprets instead of translating. See softkvm(1).\n";

/* ---- the library ---- */

/* It lies beside this program in the build tree, in libdir of the tree that this program is installed in, wherever that was moved, or in libdir. */
static int find_library(char path[PATH_MAX], struct error *err)
{
    static const char *const places[] = {"", "/../" SOFTKVM_LIBDIR_NAME};
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    char *slash = n > 0 ? (self[n] = 0, strrchr(self, '/')) : NULL;
    for (unsigned i = 0; slash && i < ARRAY_SIZE(places); i++)
        if ((size_t)snprintf(path, PATH_MAX, "%.*s%s/" LIBRARY, (int)(slash - self), self, places[i]) < PATH_MAX && access(path, R_OK) == 0)
            return 0;
    snprintf(path, PATH_MAX, "%s/" LIBRARY, SOFTKVM_LIBDIR);
    if (access(path, R_OK) == 0)
        return 0;
    return error_set(err, errno, "library '%s': cannot read: %s; install Lodge again", path, strerror(errno));
}

/* In front of what is preloaded already. */
static int set_preload(struct error *err)
{
    char path[PATH_MAX];
    if (find_library(path, err))
        return -1;
    if (strpbrk(path, ": "))
        return error_set(err, 0, "library '%s': its path has a blank or a colon, which LD_PRELOAD cannot name; move Lodge elsewhere", path);
    const char *others = getenv("LD_PRELOAD");
    AUTO_FREE char *value = NULL;
    if (asprintf(&value, "%s%s%s", path, others && *others ? ":" : "", others ? others : "") < 0 || setenv("LD_PRELOAD", value, 1) < 0)
        return error_set(err, ENOMEM, "environment: out of memory");
    return 0;
}

/* ---- the program ---- */

/* The file that execvp() will run; false when there is none, which it then reports. */
static bool find_program(const char *name, char path[PATH_MAX])
{
    if (strchr(name, '/'))
        return (size_t)snprintf(path, PATH_MAX, "%s", name) < PATH_MAX;
    const char *dirs = getenv("PATH");
    for (const char *p = dirs ? dirs : "/bin:/usr/bin"; *p;) {
        size_t n = strcspn(p, ":");
        if ((size_t)snprintf(path, PATH_MAX, "%.*s/%s", (int)n, p, name) < PATH_MAX && access(path, X_OK) == 0)
            return true;
        p += n + (p[n] == ':');
    }
    return false;
}

static bool has_interpreter(int fd, const Elf64_Ehdr *h)
{
    for (unsigned i = 0; i < h->e_phnum; i++) {
        Elf64_Phdr p;
        if (pread(fd, &p, sizeof p, (off_t)(h->e_phoff + i * sizeof p)) != (ssize_t)sizeof p)
            return false;
        if (p.p_type == PT_INTERP)
            return true;
    }
    return false;
}

/* Refuses what no library can be preloaded into. Scripts pass: their interpreter inherits the environment. */
static int check_program(const char *name, struct error *err)
{
    char path[PATH_MAX];
    if (!find_program(name, path))
        return 0;
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    Elf64_Ehdr h;
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0 || pread(fd, &h, sizeof h, 0) != (ssize_t)sizeof h || memcmp(h.e_ident, ELFMAG, SELFMAG))
        return 0;
    if (h.e_ident[EI_CLASS] != ELFCLASS64 || h.e_machine != EM_X86_64)
        return error_set(err, 0, "program '%s': no x86-64 program, so softkvm cannot be loaded into it; use a 64-bit build", path);
    if (!has_interpreter(fd, &h))
        return error_set(err, 0, "program '%s': statically linked, so softkvm cannot be loaded into it; use a dynamically linked build", path);
    if ((st.st_mode & S_ISUID && st.st_uid != getuid()) || (st.st_mode & S_ISGID && st.st_gid != getgid()))
        return error_set(err, 0, "program '%s': set-user-ID or set-group-ID, so softkvm cannot be loaded into it; run it as its owner", path);
    return 0;
}

static int run(char **argv, struct error *err)
{
    if (check_program(argv[0], err) || set_preload(err))
        return -1;
    execvp(argv[0], argv);
    return error_set(err, errno, "program '%s': cannot run: %s; give the name or the path of a program", argv[0], strerror(errno));
}

int main(int argc, char **argv)
{
    ERROR_SCOPED(err);
    if (argc > 1 && strcmp(argv[1], "--help") == 0) {
        fputs(help, stdout);
        return 0;
    }
    if (argc > 1 && strcmp(argv[1], "--version") == 0) {
        puts("softkvm " SOFTKVM_VERSION);
        return 0;
    }
    if (argc < 2)
        error_set(&err, 0, "command line: no program; write softkvm COMMAND [ARGUMENT...]");
    else if (argv[1][0] == '-')
        error_set(&err, 0, "command line: unknown option '%s'; softkvm --help lists the options", argv[1]);
    else
        run(argv + 1, &err);
    fprintf(stderr, "softkvm: %s\n", error_text(&err));
    return 1;
}
