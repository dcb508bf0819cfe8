// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * lodge-vm: one process, one guest. It reads the guest's domain XML from a descriptor or a file, and runs it in the foreground
 * until the guest, a person or a signal ends it; the exit status says which (man/lodge-vm.1).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>

#include "base/log.h"
#include "base/util.h"
#include "control/qmp.h"
#include "machine/disk.h"
#include "machine/machine.h"
#include "machine/vmcpu.h"

enum exit_status {
    STATUS_POWEROFF = 0,
    STATUS_ERROR = 1,
    STATUS_RESET = 3,
    STATUS_PANIC = 4,
    STATUS_TRIPLE_FAULT = 5,
    STATUS_SIGNAL = 128
};

static const char usage[] = "usage: lodge-vm [--stats] [--paused] [--qmp unix:PATH] FILE.xml | --domain-fd N\n"
                            "Runs the guest that a libvirt domain XML describes; see lodge-vm(1).\n";

struct options {
    bool stats, paused;
    const char *qmp, *domain_fd, *cgroup_fd, *file;
};

static int parse_options(int argc, char **argv, struct options *o, struct error *err)
{
    int i = 1;
    for (; i < argc && argv[i][0] == '-'; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--stats") == 0)
            o->stats = true;
        else if (strcmp(argv[i], "--paused") == 0)
            o->paused = true;
        else if (strcmp(argv[i], "--qmp") == 0 && value)
            o->qmp = argv[++i];
        else if (strcmp(argv[i], "--domain-fd") == 0 && value)
            o->domain_fd = argv[++i];
        else if (strcmp(argv[i], "--cgroup-fd") == 0 && value)
            o->cgroup_fd = argv[++i];
        else
            break;
    }
    if (i < argc && argv[i][0] != '-')
        o->file = argv[i++];
    if (i < argc || !o->file == !o->domain_fd)
        return error_set(err, 0, "command line: not understood; write lodge-vm FILE.xml, or see lodge-vm(1)");
    if (o->paused && !o->qmp)
        return error_set(err, 0, "option '--paused': nobody could let the guest run; add --qmp unix:PATH");
    return 0;
}

/* A descriptor that was inherited, by its number. -1 with err. */
static int inherited(const char *option, const char *number, struct error *err)
{
    char *end;
    long fd = strtol(number, &end, 10);
    if (end == number || *end || fd < 0 || fd > 1 << 20 || fcntl((int)fd, F_GETFD) < 0)
        return error_set(err, 0, "%s '%s': not an open descriptor; give the number of one", option, number);
    fcntl((int)fd, F_SETFD, FD_CLOEXEC);
    return (int)fd;
}

/* Before there is memory to account for. */
static int join_cgroup(const struct options *o, struct error *err)
{
    AUTO_CLOSE int fd = o->cgroup_fd ? inherited("--cgroup-fd", o->cgroup_fd, err) : -1;
    if (!o->cgroup_fd || (fd >= 0 && write(fd, "0", 1) == 1))
        return 0;
    return fd < 0 ? -1 : error_set(err, errno, "--cgroup-fd '%s': cannot join the cgroup: %s; see to the folder that lodged has", o->cgroup_fd, strerror(errno));
}

static int check_limits(const struct options *o, const struct domain *d, struct error *err)
{
    return domain_is_limited(d) && !o->cgroup_fd
               ? error_set(err, 0, "domain '%s': <memtune> is what lodged does, in a cgroup; start the guest by lodged --cgroup DIR, or remove it", d->name)
               : 0;
}

/* What the command line names, as a descriptor that is open for reading. -1 with err. */
static int open_domain(const struct options *o, struct error *err)
{
    if (o->domain_fd)
        return inherited("--domain-fd", o->domain_fd, err);
    int fd = open(o->file, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return error_set(err, errno, "domain XML '%s': cannot open: %s; give the path of a file that you may read", o->file,
                         strerror(errno));
    return fd;
}

/* The signals that end the guest come through a descriptor; those of a broken pipe and of a limit on files' sizes are told by write(). */
static int open_signals(struct error *err)
{
    static const int ending[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH, SIGCONT};
    sigset_t set;
    sigemptyset(&set);
    for (unsigned i = 0; i < ARRAY_SIZE(ending); i++)
        sigaddset(&set, ending[i]);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? error_set(err, errno, "signals: cannot create their descriptor: %s; raise the limit of open files (ulimit -n)",
                              strerror(errno))
                  : fd;
}

/* What an end means: does the machine start again, and if not, with which status does the process end? */
struct verdict {
    bool again;
    int status;
    const char *text; /* a line for standard error, or NULL */
};

static struct verdict judge_reset(const struct domain *d, enum machine_reset reset)
{
    switch (reset) {
    case RESET_CRASHED:
        return (struct verdict){d->on_crash == DOMAIN_RESTART, STATUS_PANIC, "the guest's kernel crashed and reset the machine"};
    case RESET_EARLY:
        return (struct verdict){false, STATUS_RESET, "the guest reset the machine before it set up its interrupts"};
    case RESET_ORDERLY:
        break;
    }
    return (struct verdict){d->on_reboot == DOMAIN_RESTART, STATUS_RESET, NULL};
}

static struct verdict judge(const struct domain *d, const struct machine *m, struct error *err)
{
    int code;
    switch (machine_end(m, &code)) {
    case END_POWEROFF:
        return (struct verdict){d->on_poweroff == DOMAIN_RESTART, STATUS_POWEROFF, NULL};
    case END_RESET:
        return judge_reset(d, machine_reset(m));
    case END_PANIC:
        return (struct verdict){d->on_crash == DOMAIN_RESTART, STATUS_PANIC, "the guest's kernel panicked"};
    case END_TRIPLE_FAULT:
        return (struct verdict){d->on_crash == DOMAIN_RESTART, STATUS_TRIPLE_FAULT,
                                "the guest's CPU shut down after a triple fault"};
    case END_DEBUG_EXIT:
        return (struct verdict){false, (code << 1 | 1) & 0xff, NULL};
    case END_SIGNAL:
        return (struct verdict){false, STATUS_SIGNAL + code, NULL};
    case END_FAILED:
        error_set(err, 0, "%s", machine_failure(m));
        return (struct verdict){false, STATUS_ERROR, NULL};
    case END_RESTART:
        return (struct verdict){true, STATUS_RESET, NULL};
    case END_USER:
    case END_NONE:
        break;
    }
    return (struct verdict){false, STATUS_POWEROFF, NULL};
}

/* Tells QMP's clients how the machine ended. */
static void tell_end(struct qmp *q, const struct machine *m, const struct verdict *v)
{
    static const char *const reasons[] = {[END_POWEROFF] = "guest-shutdown",   [END_RESET] = "guest-reset",
                                          [END_DEBUG_EXIT] = "guest-shutdown", [END_PANIC] = "guest-panic",
                                          [END_TRIPLE_FAULT] = "guest-panic",  [END_FAILED] = "host-error",
                                          [END_USER] = "host-qmp-quit",        [END_RESTART] = "host-qmp-system-reset",
                                          [END_SIGNAL] = "host-signal"};
    int code;
    enum board_end end = machine_end(m, &code);
    bool guest = end != END_FAILED && end != END_USER && end != END_RESTART && end != END_SIGNAL;
    bool crashed = end == END_PANIC || end == END_TRIPLE_FAULT || (end == END_RESET && machine_reset(m) == RESET_CRASHED);
    const char *reason = end < ARRAY_SIZE(reasons) && reasons[end] ? reasons[end] : "none";
    if (crashed)
        qmp_event(q, "GUEST_PANICKED", "{\"action\": \"%s\"}", v->again ? "run" : "poweroff");
    if (v->again)
        qmp_event(q, "RESET", "{\"guest\": %s, \"reason\": \"%s\"}", guest ? "true" : "false", reason);
    else
        qmp_event(q, "SHUTDOWN", "{\"guest\": %s, \"reason\": \"%s\"}", guest ? "true" : "false", crashed ? "guest-panic" : reason);
}

/* Runs one machine from the domain. */
static struct verdict run_once(struct domain *d, enum domain_accel *accel, const struct options *o, bool paused,
                               struct qmp *q, struct terminal *terminal, struct charsock *sockets, int signal_fd, struct error *err)
{
    struct verdict v = {.status = STATUS_ERROR};
    struct machine *m;
    int code;
    if (machine_create(d, *accel, terminal, sockets, &m, err) < 0)
        return v;
    *accel = machine_accel(m);
    if (paused)
        machine_start_paused(m);
    qmp_set_machine(q, m);
    if (machine_run(m, signal_fd, err) == 0)
        v = judge(d, m, err);
    if (qmp_take_reboot(q) && machine_end(m, &code) == END_POWEROFF)
        v = (struct verdict){true, STATUS_RESET, NULL};
    tell_end(q, m, &v);
    qmp_set_machine(q, NULL);
    terminal_flush(terminal);
    if (o->stats)
        machine_print_stats(m, stderr);
    machine_destroy(m);
    return v;
}

/* Runs machines from the domain until one is the last. The process's exit status; with STATUS_ERROR, err is set. */
static int run(struct domain *d, const struct options *o, struct qmp *q, struct terminal *terminal, struct charsock *sockets,
               int signal_fd, struct error *err)
{
    enum domain_accel accel = d->accel;
    for (bool paused = o->paused;; paused = false) {
        struct verdict v = run_once(d, &accel, o, paused, q, terminal, sockets, signal_fd, err);
        if (v.text)
            fprintf(stderr, "lodge: %s%s\n", v.text, v.again ? "; it starts again" : "");
        if (!v.again)
            return v.status;
    }
}

int main(int argc, char **argv)
{
    ERROR_SCOPED(err);
    AUTO_CLOSE int signal_fd = -1;
    struct domain d = {0};
    struct options o = {0};
    struct qmp *qmp = NULL;
    struct terminal *terminal = NULL;
    struct charsock *sockets = NULL;
    int status = STATUS_ERROR;
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        fputs(usage, stdout);
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        puts("lodge-vm " LODGE_VERSION);
        return 0;
    }
    AUTO_CLOSE int fd = parse_options(argc, argv, &o, &err) < 0 || join_cgroup(&o, &err) < 0 ? -1 : open_domain(&o, &err);
    if (fd >= 0 && domain_parse_fd(&d, fd, &err) == 0 && check_limits(&o, &d, &err) == 0 && (!o.qmp || qmp_open(o.qmp, &d, &qmp, &err) == 0)) {
        domain_name_unserved(&d, stderr, "lodge: ");
        signal_fd = open_signals(&err);
        if (signal_fd >= 0 && vmcpu_signal_setup(&err) == 0 && charsock_open(&d, &sockets, &err) == 0 &&
            terminal_open(&terminal, &err) == 0 && disk_make_overlays(&d, &err) == 0)
            status = run(&d, &o, qmp, terminal, sockets, signal_fd, &err);
    }
    charsock_close(sockets);
    qmp_close(qmp);
    terminal_close(terminal);
    domain_free(&d);
    if (error_is_set(&err))
        fprintf(stderr, "lodge: %s\n", error_text(&err));
    return status;
}
