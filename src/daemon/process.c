// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Guests as lodge-vm processes, which know nothing of the daemon and outlive it.
 *
 *     CONFIG/UUID.xml            the domain, for its next start      CONFIG/autostart/UUID   starts with the daemon
 *     RUN/ID-UUID.xml            the domain as it runs               RUN/UUID.qmp            its control socket
 *     RUN/UUID-N.console         its consoles' sockets               RUN/UUID-N.channel      those of its channels
 *     LOG/NAME.log               what it says
 *
 * The daemon makes the control socket, and the process inherits it listening: so there is no moment at which a guest runs and
 * cannot be found. A new daemon connects to every RUN/UUID.qmp; where nobody listens, nobody runs.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "base/log.h"
#include "base/unix.h"
#include "base/util.h"
#include "daemon/cgroup.h"
#include "daemon/journal.h"
#include "daemon/monitor.h"
#include "daemon/server.h"

#define START_S 30
#define END_MS  3000

static char *path_of(const struct dom *dom, const char *dir, const char *suffix)
{
    char uuid[37], *path;
    domain_format_uuid(dom->uuid, uuid);
    return asprintf(&path, "%s/%s%s", dir, uuid, suffix) < 0 ? NULL : path;
}

static char *live_path(const struct dom *dom, int id)
{
    char uuid[37], *path;
    domain_format_uuid(dom->uuid, uuid);
    return asprintf(&path, "%s/%d-%s.xml", dom->hv->daemon->run_dir, id, uuid) < 0 ? NULL : path;
}

char *process_console_path(const struct dom *dom, unsigned index)
{
    char suffix[32];
    snprintf(suffix, sizeof suffix, "-%u.console", index);
    return path_of(dom, dom->hv->daemon->run_dir, suffix);
}

char *process_channel_path(const struct dom *dom, unsigned index)
{
    char suffix[32];
    snprintf(suffix, sizeof suffix, "-%u.channel", index);
    return path_of(dom, dom->hv->daemon->run_dir, suffix);
}

static int out_of_memory(const struct dom *dom, struct error *err)
{
    return error_set(err, VIR_ERR_NO_MEMORY, "domain '%s': out of memory", dom->name);
}

/* ---- state on disk ---- */

/* A file's name in the folder of configurations. */
static char *config_name(const struct dom *dom, const char *suffix)
{
    char uuid[37], *name;
    domain_format_uuid(dom->uuid, uuid);
    return asprintf(&name, "%s%s", uuid, suffix) < 0 ? NULL : name;
}

static int lodge_save(struct dom *dom, struct error *err)
{
    AUTO_FREE char *name = config_name(dom, ".xml");
    AUTO_FREE char *xml = dom_xml(dom->config, -1, err);
    if (!name || !xml)
        return out_of_memory(dom, err);
    return journal_write(dom->hv->daemon->journal, name, xml, strlen(xml), err);
}

static int lodge_save_autostart(struct dom *dom, bool on, struct error *err)
{
    struct journal *j = dom->hv->daemon->journal;
    AUTO_FREE char *name = config_name(dom, ".autostart");
    if (!name)
        return out_of_memory(dom, err);
    return on ? journal_write(j, name, "", 0, err) : journal_remove(j, name, err);
}

static int lodge_forget(struct dom *dom, struct error *err)
{
    AUTO_FREE char *name = config_name(dom, ".xml");
    if (!name)
        return out_of_memory(dom, err);
    /* The autostart mark goes last: without a domain it means nothing, and a domain never loses it by half an undefine. */
    return journal_remove(dom->hv->daemon->journal, name, err) < 0 ? -1 : lodge_save_autostart(dom, false, err);
}

void process_forget_run(struct dom *dom, int id)
{
    AUTO_FREE char *live = live_path(dom, id);
    AUTO_FREE char *socket_path = path_of(dom, dom->hv->daemon->run_dir, ".qmp");
    if (live)
        unlink(live);
    if (socket_path)
        unlink(socket_path);
    if (dom->hv->daemon->cgroup_dir)
        cgroup_remove(dom->hv->daemon->cgroup_dir, dom->uuid);
}

/* ---- starting ---- */

/* The domain as lodge-vm is to run it, in a memfd: consoles and channels on sockets, and `kvm` is what the host has. */
static int write_vm_xml(struct dom *dom, struct error *err)
{
    struct domain *d = dom_copy(dom->live, err);
    if (!d)
        return -1;
    int fd = memfd_create("lodge-domain", MFD_CLOEXEC);
    bool good = fd >= 0;
    if (d->accel == DOMAIN_ACCEL_KVM)
        d->accel = DOMAIN_ACCEL_AUTO;
    for (unsigned i = 0; i < d->nchars && good; i++) {
        if (d->chars[i].backend != DOMAIN_CHAR_PTY)
            continue;
        d->chars[i].backend = DOMAIN_CHAR_UNIX;
        d->chars[i].path = process_console_path(dom, i);
        good = d->chars[i].path != NULL;
    }
    for (unsigned i = 0; i < d->nchannels && good; i++) {
        if (d->channels[i].path)
            continue;
        d->channels[i].path = process_channel_path(dom, i);
        good = d->channels[i].path != NULL;
        if (good)
            unlink(d->channels[i].path); /* of a process that was killed */
    }
    AUTO_FREE char *xml = good ? dom_xml(d, -1, err) : NULL;
    good = xml && write(fd, xml, strlen(xml)) == (ssize_t)strlen(xml) && lseek(fd, 0, SEEK_SET) == 0;
    dom_drop(d);
    if (good)
        return fd;
    if (fd >= 0)
        close(fd);
    return out_of_memory(dom, err);
}

static int make_listener(const char *path, struct error *err)
{
    unlink(path);
    int fd = unix_listen(path, 0, 0600, 8);
    if (fd < 0)
        return error_set(err, VIR_ERR_SYSTEM_ERROR, "'%s': cannot listen: %s; see to the run folder's rights", path, unix_strerror(errno));
    return fd;
}

/* Makes the guest's cgroup; the descriptor by which its process joins that, -1: it has none, or with err. */
static int open_cgroup(const struct dom *dom, struct error *err)
{
    const char *folder = dom->hv->daemon->cgroup_dir;
    if (!folder && domain_is_limited(dom->live))
        return error_set(err, VIR_ERR_CONFIG_UNSUPPORTED, "domain '%s': <memtune> needs a cgroup; start lodged with --cgroup DIR, or remove <memtune>",
                         dom->name);
    if (!folder || cgroup_make(folder, dom->uuid, &dom->live->limits, err) < 0)
        return -1;
    return cgroup_door(folder, dom->uuid, err);
}

/* Descriptors 3 and 4 are the domain and the control socket, 5 is the cgroup's, where there is one. A session of its own: signals to the daemon's group are not for
 * guests. */
static int spawn(struct dom *dom, int xml_fd, int listen_fd, int log_fd, int cgroup_fd, bool paused, struct error *err)
{
    char *argv[9] = {"lodge-vm", "--domain-fd", "3", "--qmp", "fd:4"};
    unsigned argc = 5;
    if (paused)
        argv[argc++] = "--paused";
    if (cgroup_fd >= 0) {
        argv[argc++] = "--cgroup-fd";
        argv[argc++] = "5";
    }
    extern char **environ;
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t none, defaults;
    pid_t pid;
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attr);
    sigemptyset(&none);
    sigfillset(&defaults);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &defaults);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, log_fd, 1);
    posix_spawn_file_actions_adddup2(&actions, log_fd, 2);
    posix_spawn_file_actions_adddup2(&actions, xml_fd, 3);
    posix_spawn_file_actions_adddup2(&actions, listen_fd, 4);
    if (cgroup_fd >= 0)
        posix_spawn_file_actions_adddup2(&actions, cgroup_fd, 5);
    int r = posix_spawn(&pid, dom->hv->daemon->vm_path, &actions, &attr, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attr);
    if (r)
        return error_set(err, VIR_ERR_SYSTEM_ERROR, "domain '%s': cannot start '%s': %s; install Lodge again", dom->name,
                         dom->hv->daemon->vm_path, strerror(r));
    return pid;
}

/* A descriptor beyond those that spawn() gives places to. */
static int lift(int fd)
{
    int lifted = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 10);
    if (fd >= 0)
        close(fd);
    return lifted;
}

/* The last line of a log from `from` on: why a guest did not start. */
static char *last_line(const char *path, off_t from)
{
    char text[4096];
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    off_t end = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
    off_t start = MAX(from, end - (off_t)sizeof text + 1);
    ssize_t n = end > start ? pread(fd, text, sizeof text - 1, start) : 0;
    while (n > 0 && text[n - 1] == '\n')
        n--;
    if (n <= 0)
        return NULL;
    text[n] = 0;
    char *line = strrchr(text, '\n');
    line = line ? line + 1 : text;
    return strdup(strncmp(line, "lodge: ", 7) == 0 ? line + 7 : line);
}

static int start_process(struct dom *dom, bool paused, const char *log_path, struct error *err)
{
    struct daemon *d = dom->hv->daemon;
    AUTO_FREE char *socket_path = path_of(dom, d->run_dir, ".qmp");
    AUTO_CLOSE int xml_fd = lift(write_vm_xml(dom, err));
    AUTO_CLOSE int listen_fd = xml_fd < 0 || !socket_path ? -1 : lift(make_listener(socket_path, err));
    AUTO_CLOSE int log_fd = lift(open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (xml_fd < 0 || listen_fd < 0)
        return -1;
    if (log_fd < 0)
        return error_set(err, VIR_ERR_SYSTEM_ERROR, "'%s': cannot open the log: %s; see to the folder's rights", log_path,
                         strerror(errno));
    AUTO_CLOSE int cgroup_fd = lift(open_cgroup(dom, err));
    if (error_is_set(err))
        return -1;
    off_t log_start = lseek(log_fd, 0, SEEK_END);
    AUTO_CLOSE int fd = unix_connect(socket_path, SOCK_NONBLOCK, 0);
    if (fd < 0)
        return error_set(err, VIR_ERR_SYSTEM_ERROR, "domain '%s': cannot connect to its socket: %s", dom->name, strerror(errno));
    int pid = spawn(dom, xml_fd, listen_fd, log_fd, cgroup_fd, paused, err);
    if (pid < 0)
        return -1;
    AUTO_CLOSE int pidfd = pidfd_open(pid, 0); /* -1: it is gone already */
    close(steal_fd(&listen_fd));               /* ours: when the process ends, nobody listens */
    struct monitor *m = monitor_attach(dom, steal_fd(&fd), false, err);
    bool ready = m && monitor_wait_ready(m, START_S, err) == 0;
    bool ended = m && monitor_is_dead(m);
    if (m)
        monitor_unref(m);
    if (ready)
        return 0;
    /* It has said why when it is gone. */
    struct pollfd gone = {.fd = pidfd, .events = POLLIN};
    if (pidfd >= 0 && poll(&gone, 1, ended ? END_MS : 0) == 0)
        pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
    AUTO_FREE char *line = last_line(log_path, log_start);
    error_clear(err);
    return error_set(err, VIR_ERR_INTERNAL_ERROR, "domain '%s': did not start: %s; see '%s'", dom->name,
                     line ? line : "no reason given", log_path);
}

/* What runs is for a daemon that starts while the guest runs: no power cut concerns it. */
static int write_live(struct dom *dom, int id, struct error *err)
{
    AUTO_FREE char *live = live_path(dom, id);
    AUTO_FREE char *xml = dom_xml(dom->live, -1, err);
    if (!live || !xml)
        return out_of_memory(dom, err);
    return store_prepare(live, xml, strlen(xml), err) < 0 ? -1 : store_replace(live, err);
}

static int lodge_save_live(struct dom *dom, struct error *err)
{
    return write_live(dom, dom->id, err);
}

static int lodge_start(struct dom *dom, bool paused, struct error *err)
{
    struct daemon *d = dom->hv->daemon;
    AUTO_FREE char *log_path = NULL;
    pthread_mutex_lock(&d->lock);
    int id = ++dom->hv->next_id;
    dom->expect_end = false;
    pthread_mutex_unlock(&d->lock);
    if (asprintf(&log_path, "%s/%s.log", d->log_dir, dom->name) < 0)
        return out_of_memory(dom, err);
    if (write_live(dom, id, err) < 0)
        return -1;
    pthread_mutex_lock(&d->lock);
    dom->id = id;
    pthread_mutex_unlock(&d->lock);
    if (start_process(dom, paused, log_path, err) == 0) {
        dom_set_running(dom, paused, VIR_DOMAIN_EVENT_STARTED_BOOTED);
        return 0;
    }
    pthread_mutex_lock(&d->lock);
    dom->id = -1;
    pthread_mutex_unlock(&d->lock);
    process_forget_run(dom, id);
    return -1;
}

/* ---- running ---- */

json_t *process_ask(struct dom *dom, const char *command, const char *arguments, struct error *err)
{
    struct monitor *m = monitor_of(dom);
    if (!m) {
        error_set(err, VIR_ERR_OPERATION_INVALID, "domain '%s' is not running", dom->name);
        return NULL;
    }
    json_t *answer = monitor_ask(m, command, arguments, err);
    monitor_unref(m);
    return answer;
}

static int lodge_command(struct dom *dom, const char *qmp, struct error *err)
{
    json_t *answer = process_ask(dom, qmp, NULL, err);
    json_decref(answer);
    return answer ? 0 : -1;
}

static int lodge_set_memory(struct dom *dom, uint64_t bytes, struct error *err)
{
    char arguments[64];
    snprintf(arguments, sizeof arguments, "{\"value\": %llu}", (unsigned long long)bytes);
    json_t *answer = process_ask(dom, "balloon", arguments, err);
    json_decref(answer);
    return answer ? 0 : -1;
}

static int lodge_attach(struct dom *dom, const char *device_xml, struct error *err)
{
    json_t *arguments = json_pack("{s:s}", "xml", device_xml);
    char *text = arguments ? json_dumps(arguments, JSON_COMPACT) : NULL;
    json_t *answer = text ? process_ask(dom, "x-device-add", text, err) : NULL;
    int result = answer ? 0 : text ? -1 : out_of_memory(dom, err);
    json_decref(arguments);
    json_decref(answer);
    free(text);
    return result;
}

static int lodge_detach(struct dom *dom, const char *name, struct error *err)
{
    char arguments[64];
    snprintf(arguments, sizeof arguments, "{\"id\": \"%s\"}", name);
    json_t *answer = process_ask(dom, "device_del", arguments, err);
    json_decref(answer);
    return answer ? 0 : -1;
}

/* By request first, so that disks are closed; a process that does not answer is killed. */
static int lodge_destroy(struct dom *dom, bool graceful, struct error *err)
{
    struct monitor *m = monitor_of(dom);
    if (!m)
        return error_set(err, VIR_ERR_OPERATION_INVALID, "domain '%s' is not running", dom->name);
    pthread_mutex_lock(&dom->hv->daemon->lock);
    dom->expect_end = true;
    pthread_mutex_unlock(&dom->hv->daemon->lock);
    int result = monitor_end(m, graceful, err);
    monitor_unref(m);
    return result;
}

const struct domain_driver lodge_driver = {
    .type = "QEMU", /* the word that clients compare with */
    .start = lodge_start,
    .destroy = lodge_destroy,
    .command = lodge_command,
    .set_memory = lodge_set_memory,
    .save = lodge_save,
    .save_autostart = lodge_save_autostart,
    .forget = lodge_forget,
    .attach = lodge_attach,
    .detach = lodge_detach,
    .save_live = lodge_save_live,
};

/* ---- finding what is there ---- */

static struct domain *read_domain(const char *dir, const char *name)
{
    ERROR_SCOPED(err);
    AUTO_FREE char *path = NULL, *xml = NULL;
    size_t len;
    struct domain *d = calloc(1, sizeof *d);
    if (!d || asprintf(&path, "%s/%s", dir, name) < 0)
        abort();
    xml = store_read(path, DOMAIN_XML_MAX, &len, &err);
    if (xml && domain_parse(d, xml, len, &err) == 0)
        return d;
    log_error("domain file '%s': %s; the domain is left out until it is corrected", path, error_text(&err));
    free(d);
    return NULL;
}

static bool has_suffix(const char *name, const char *suffix)
{
    size_t n = strlen(name), s = strlen(suffix);
    return n > s && strcmp(name + n - s, suffix) == 0;
}

static void load_config(struct daemon *d, const char *name)
{
    struct domain *config = read_domain(d->config_dir, name);
    struct dom *dom = config ? dom_insert(&d->lodge, config->uuid, config->name) : NULL;
    if (!dom)
        return;
    AUTO_FREE char *autostart = path_of(dom, d->config_dir, ".autostart");
    dom->config = config;
    dom->autostart = autostart && access(autostart, F_OK) == 0;
    dom_unref(dom);
}

/* A guest that ran when the last daemon ended: it is there when somebody listens. */
static void find_running(struct daemon *d, const char *name)
{
    ERROR_SCOPED(err);
    struct domain *live = read_domain(d->run_dir, name);
    int id = atoi(name);
    if (!live || id <= 0)
        return;
    struct dom *dom = dom_find_uuid(&d->lodge, live->uuid);
    if (!dom)
        dom = dom_insert(&d->lodge, live->uuid, live->name);
    if (!dom)
        return;
    d->lodge.next_id = MAX(d->lodge.next_id, id);
    AUTO_FREE char *path = path_of(dom, d->run_dir, ".qmp");
    int fd = path && dom->id < 0 ? unix_connect(path, SOCK_NONBLOCK, 0) : -1;
    if (fd >= 0) {
        dom->id = id;
        dom->live = live;
        dom->state = VIR_DOMAIN_RUNNING;
        dom->reason = VIR_DOMAIN_RUNNING_UNKNOWN;
        struct monitor *m = monitor_attach(dom, fd, true, &err);
        if (m)
            monitor_unref(m);
        else
            log_error("domain '%s': %s", dom->name, error_text(&err));
    } else {
        process_forget_run(dom, id);
        dom_drop(live);
        if (!dom->config && dom->id < 0)
            dom_remove(dom);
    }
    dom_unref(dom);
}

static int each_file(struct daemon *d, const char *dir, const char *suffix, void (*fn)(struct daemon *, const char *),
                     struct error *err)
{
    DIR *folder = opendir(dir);
    if (!folder)
        return error_set(err, errno, "folder '%s': cannot read it: %s", dir, strerror(errno));
    for (struct dirent *e; (e = readdir(folder));)
        if (has_suffix(e->d_name, suffix))
            fn(d, e->d_name);
    closedir(folder);
    return 0;
}

int process_load(struct daemon *d, struct error *err)
{
    d->journal = journal_open(d->config_dir, err);
    if (!d->journal)
        return -1;
    return each_file(d, d->config_dir, ".xml", load_config, err) < 0 ? -1 : each_file(d, d->run_dir, ".xml", find_running, err);
}

static void *autostart_main(void *arg)
{
    struct daemon *d = arg;
    unsigned n;
    struct dom **all = dom_all(&d->lodge, &n);
    for (unsigned i = 0; i < n; i++) {
        ERROR_SCOPED(err);
        if (all[i]->autostart && dom_lock(all[i], &err) == 0) {
            if (!dom_active(all[i]) && dom_start(all[i], false, &err) < 0)
                log_error("autostart: %s", error_text(&err));
            dom_unlock(all[i]);
        }
        dom_unref(all[i]);
    }
    free(all);
    return NULL;
}

void process_autostart(struct daemon *d)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, autostart_main, d) == 0)
        pthread_detach(thread);
}
