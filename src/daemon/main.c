// SPDX-License-Identifier: GPL-2.0-or-later
/* lodged: options, folders, sockets, and the main loop. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "base/unix.h"
#include "base/util.h"
#include "daemon/cgroup.h"
#include "daemon/server.h"

#define LOCK_TRIES       100
#define PROBE_TRIES      25
#define LOCK_WAIT_US     20000
#define LISTEN_BACKLOG   1024
#define LISTEN_FDS_FIRST 3 /* sd_listen_fds(3) */

static const char usage[] = "usage: lodged [--session] [--root DIR] [--socket PATH] [--cgroup DIR] [--debug]\n"
                            "Serves libvirt's protocol for Lodge's guests; see lodged(8).\n";

struct options {
    const char *root, *socket, *cgroup;
    bool session, debug;
};

struct stop {
    struct watch watch;
    struct daemon *daemon;
};

static int parse_options(int argc, char **argv, struct options *o, struct error *err)
{
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--session") == 0)
            o->session = true;
        else if (strcmp(argv[i], "--debug") == 0)
            o->debug = true;
        else if (strcmp(argv[i], "--root") == 0 && value)
            o->root = argv[++i];
        else if (strcmp(argv[i], "--socket") == 0 && value)
            o->socket = argv[++i];
        else if (strcmp(argv[i], "--cgroup") == 0 && value)
            o->cgroup = argv[++i];
        else
            return error_set(err, 0, "option '%s': unknown, or without its value; see lodged(8)", argv[i]);
    }
    return 0;
}

/* ---- folders ---- */

static char *join(const char *root, const char *path)
{
    char *joined;
    return asprintf(&joined, "%s%s", root ? root : "", path) < 0 ? NULL : joined;
}

/* $VARIABLE/lodge/…, else below $HOME. */
static char *user_folder(const char *variable, const char *below_home, const char *rest)
{
    const char *base = getenv(variable), *home = getenv("HOME");
    char *path;
    if (base && base[0] == '/')
        return asprintf(&path, "%s/lodge%s", base, rest) < 0 ? NULL : path;
    return asprintf(&path, "%s/%s/lodge%s", home ? home : "/nonexistent", below_home, rest) < 0 ? NULL : path;
}

static int make_folders(struct daemon *d, const struct options *o, struct error *err)
{
    if (d->session && !o->root) {
        d->config_dir = user_folder("XDG_CONFIG_HOME", ".config", "/domains");
        d->run_dir = user_folder("XDG_RUNTIME_DIR", ".cache", "/run");
        d->log_dir = user_folder("XDG_CACHE_HOME", ".cache", "/log");
        d->images_dir = user_folder("XDG_DATA_HOME", ".local/share", "/images");
        d->nvram_dir = user_folder("XDG_DATA_HOME", ".local/share", "/nvram");
    } else {
        d->config_dir = join(o->root, "/etc/lodge/domains");
        d->run_dir = join(o->root, "/run/lodge");
        d->log_dir = join(o->root, "/var/log/lodge");
        d->images_dir = join(o->root, "/var/lib/libvirt/images");
        d->nvram_dir = join(o->root, "/var/lib/lodge/nvram");
    }
    const char *const dirs[] = {d->config_dir, d->run_dir, d->log_dir, d->images_dir};
    for (unsigned i = 0; i < ARRAY_SIZE(dirs); i++)
        if (!dirs[i] || store_make_dir(dirs[i], 0700, err) < 0)
            return -1;
    return 0;
}

/* One daemon for each run folder: two would fight over the guests. */
static int lock_folder(const struct daemon *d, struct error *err)
{
    AUTO_FREE char *path = join(d->run_dir, "/lodged.lock");
    int fd = path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
    int locked = fd < 0 ? -1 : flock(fd, LOCK_EX | LOCK_NB);
    /* A guest that a daemon was starting when it was killed holds the lock until it has begun. */
    for (unsigned i = 0; i < LOCK_TRIES && fd >= 0 && locked < 0 && errno == EWOULDBLOCK; i++) {
        usleep(LOCK_WAIT_US);
        locked = flock(fd, LOCK_EX | LOCK_NB);
    }
    if (locked < 0)
        return error_set(err, errno, "'%s': another lodged holds it; stop that one, or use --root", d->run_dir);
    return 0; /* held until the process ends */
}

/* lodge-vm lies beside this program, in the build tree's folder, or in libexecdir. */
static int find_vm(struct daemon *d, struct error *err)
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    char *slash = n > 0 ? (self[n] = 0, strrchr(self, '/')) : NULL;
    if (slash)
        *slash = 0;
    const char *const places[] = {"/lodge-vm", "/../control/lodge-vm", "/../libexec/lodge-vm"};
    for (unsigned i = 0; i <= ARRAY_SIZE(places); i++) {
        AUTO_FREE char *path = i < ARRAY_SIZE(places) ? join(slash ? self : "", places[i]) : strdup(LODGE_LIBEXECDIR "/lodge-vm");
        if (path && access(path, X_OK) == 0 && (d->vm_path = realpath(path, NULL)))
            return 0;
    }
    return error_set(err, 0, "lodge-vm: neither beside lodged nor in " LODGE_LIBEXECDIR "; install Lodge again");
}

static void read_host_uuid(struct daemon *d)
{
    char text[64] = "";
    int fd = open("/etc/machine-id", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, text, 32);
    if (fd >= 0)
        close(fd);
    if (n != 32 || domain_parse_uuid(text, d->host_uuid) < 0)
        memcpy(d->host_uuid, "lodge host uuid.", 16);
}

/* ---- sockets ---- */

/* Does somebody listen? A guest that a killed daemon was just starting may hold its socket a moment longer than its lock. */
static bool listens(const char *path)
{
    for (unsigned i = 0; i < PROBE_TRIES; i++) {
        AUTO_CLOSE int probe = unix_connect(path, 0, 0);
        if (probe < 0)
            return false;
        usleep(LOCK_WAIT_US);
    }
    return true;
}

/* Refuses to take a socket away from a daemon that answers. */
static int listen_at(struct daemon *d, const char *path, bool readonly, mode_t mode, struct error *err)
{
    if (listens(path))
        return error_set(err, EADDRINUSE, "socket '%s': another daemon listens there; stop it, or use --socket PATH", path);
    unlink(path);
    AUTO_CLOSE int fd = unix_listen(path, SOCK_NONBLOCK, mode, LISTEN_BACKLOG);
    if (fd < 0 || chmod(path, mode) < 0) /* whatever the umask is */
        return error_set(err, errno, "socket '%s': cannot listen: %s; see to the folder's rights, or use --socket PATH", path, unix_strerror(errno));
    return server_listen(d, steal_fd(&fd), readonly, err);
}

static int open_default_sockets(struct daemon *d, const struct options *o, struct error *err)
{
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    AUTO_FREE char *folder = NULL, *path = NULL, *readonly = NULL;
    if (o->socket) {
        path = strdup(o->socket);
        readonly = d->session ? NULL : join(o->socket, "-ro");
    } else {
        folder = !d->session || o->root ? join(o->root, "/run/libvirt")
                 : runtime              ? join(runtime, "/libvirt")
                                        : join(getenv("HOME"), "/.cache/libvirt");
        if (!folder || store_make_dir(folder, d->session ? 0700 : 0755, err) < 0)
            return -1;
        path = join(folder, "/libvirt-sock");
        readonly = d->session ? NULL : join(folder, "/libvirt-sock-ro");
    }
    if (!path)
        return error_set(err, ENOMEM, "sockets: out of memory");
    /* The full socket is for its owner and its group, which the administrator or the systemd unit chooses; everybody may look. */
    if (listen_at(d, path, false, d->session ? 0600 : 0660, err) < 0)
        return -1;
    return readonly ? listen_at(d, readonly, true, 0666, err) : 0;
}

/* Sockets that systemd made (sd_listen_fds(3)): a name that ends in "-ro" is the read-only one. Their number, or -1. */
static int take_sockets(struct daemon *d, struct error *err)
{
    const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
    int n = pid && count && atoi(pid) == getpid() ? atoi(count) : 0;
    for (int i = 0; i < n; i++) {
        struct sockaddr_un addr = {0};
        socklen_t len = sizeof addr - 1;
        int fd = LISTEN_FDS_FIRST + i;
        if (getsockname(fd, (struct sockaddr *)&addr, &len) < 0 || addr.sun_family != AF_UNIX)
            return error_set(err, errno, "LISTEN_FDS: descriptor %d is no Unix socket; correct lodged.socket", fd);
        size_t path_len = strlen(addr.sun_path);
        bool readonly = path_len > 3 && strcmp(addr.sun_path + path_len - 3, "-ro") == 0;
        fcntl(fd, F_SETFD, FD_CLOEXEC);
        fcntl(fd, F_SETFL, O_NONBLOCK);
        if (server_listen(d, fd, readonly, err) < 0)
            return -1;
    }
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    return n;
}

/* ---- life ---- */

static void stop_ready(struct watch *w, uint32_t events)
{
    (void)events;
    container_of(w, struct stop, watch)->daemon->loop.quit = true;
}

/* Guests are nobody's children that have to be waited for: the kernel reaps them. */
static int open_signals(struct daemon *d, struct stop *stop, struct error *err)
{
    sigset_t set;
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    *stop = (struct stop){{signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), stop_ready}, d};
    if (stop->watch.fd < 0)
        return error_set(err, errno, "signals: cannot create their descriptor: %s", strerror(errno));
    return loop_add(&d->loop, &stop->watch, EPOLLIN, err);
}

static void raise_limits(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

static int run(const struct options *o, struct error *err)
{
    struct daemon d = {.session = o->session, .cgroup_dir = o->cgroup};
    struct stop stop;
    pthread_mutex_init(&d.lock, NULL);
    pthread_mutex_init(&d.listeners_lock, NULL);
    d.lodge = (struct hypervisor){.daemon = &d, .driver = &lodge_driver};
    d.test = (struct hypervisor){.daemon = &d, .driver = &test_driver};
    raise_limits();
    read_host_uuid(&d);
    if (o->cgroup && cgroup_open(o->cgroup, err) < 0)
        return 1;
    if (make_folders(&d, o, err) < 0 || lock_folder(&d, err) < 0 || find_vm(&d, err) < 0 || loop_init(&d.loop, err) < 0 ||
        open_signals(&d, &stop, err) < 0 || storage_open(&d, err) < 0 || process_load(&d, err) < 0 || server_open(&d, err) < 0)
        return 1;
    int taken = take_sockets(&d, err);
    if (taken < 0 || (taken == 0 && open_default_sockets(&d, o, err) < 0))
        return 1;
    process_autostart(&d);
    loop_run(&d.loop);
    _exit(0); /* threads may be at work; guests go on, and all that matters is on disk */
}

int main(int argc, char **argv)
{
    ERROR_SCOPED(err);
    struct options o = {0};
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        fputs(usage, stdout);
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        puts("lodged " LODGE_VERSION);
        return 0;
    }
    int status = parse_options(argc, argv, &o, &err);
    if (o.debug)
        log_set_level(LOG_DEBUG);
    if (status == 0)
        status = run(&o, &err);
    if (error_is_set(&err))
        fprintf(stderr, "lodged: %s\n", error_text(&err));
    return status ? 1 : 0;
}
