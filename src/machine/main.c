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

static const char usage[] = "usage: lodge-vm [--stats] FILE.xml | --domain-fd N\n"
                            "Runs the guest that a libvirt domain XML describes; see lodge-vm(1).\n";

/* What the command line names, as a descriptor that is open for reading. -1 with err. */
static int open_domain(int argc, char **argv, struct error *err)
{
    if (argc == 3 && strcmp(argv[1], "--domain-fd") == 0) {
        char *end;
        long fd = strtol(argv[2], &end, 10);
        if (end == argv[2] || *end || fd < 0 || fd > 1 << 20 || fcntl((int)fd, F_GETFD) < 0)
            return error_set(err, 0, "--domain-fd '%s': not an open descriptor; give the number of one", argv[2]);
        fcntl((int)fd, F_SETFD, FD_CLOEXEC);
        return (int)fd;
    }
    if (argc != 2 || argv[1][0] == '-')
        return error_set(err, 0, "command line: not understood; write lodge-vm FILE.xml, or see lodge-vm(1)");
    int fd = open(argv[1], O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return error_set(err, errno, "domain XML '%s': cannot open: %s; give the path of a file that you may read", argv[1],
                         strerror(errno));
    return fd;
}

/* The signals that end the guest come through a descriptor; those of a broken pipe are told by write(). */
static int open_signals(struct error *err)
{
    static const int ending[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH};
    sigset_t set;
    sigemptyset(&set);
    for (unsigned i = 0; i < ARRAY_SIZE(ending); i++)
        sigaddset(&set, ending[i]);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
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
    case END_USER:
    case END_NONE:
        break;
    }
    return (struct verdict){false, STATUS_POWEROFF, NULL};
}

/* Runs machines from the domain until one is the last. The process's exit status; with STATUS_ERROR, err is set. */
static int run(const struct domain *d, bool stats, struct terminal *terminal, int signal_fd, struct error *err)
{
    enum domain_accel accel = d->accel;
    for (;;) {
        struct machine *m;
        if (machine_create(d, accel, terminal, &m, err) < 0)
            return STATUS_ERROR;
        accel = machine_accel(m);
        struct verdict v = {.status = STATUS_ERROR};
        if (machine_run(m, signal_fd, err) == 0)
            v = judge(d, m, err);
        terminal_flush(terminal);
        if (stats)
            machine_print_stats(m, stderr);
        machine_destroy(m);
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
    struct terminal *terminal = NULL;
    int status = STATUS_ERROR;
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        fputs(usage, stdout);
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        puts("lodge-vm " LODGE_VERSION);
        return 0;
    }
    bool stats = argc > 1 && strcmp(argv[1], "--stats") == 0;
    int fd = open_domain(argc - stats, argv + stats, &err);
    if (fd >= 0 && domain_parse_fd(&d, fd, &err) == 0) {
        signal_fd = open_signals(&err);
        if (signal_fd >= 0 && vmcpu_signal_setup(&err) == 0 && terminal_open(&terminal, &err) == 0)
            status = run(&d, stats, terminal, signal_fd, &err);
    }
    if (fd >= 0)
        close(fd);
    terminal_close(terminal);
    domain_free(&d);
    if (error_is_set(&err))
        fprintf(stderr, "lodge: %s\n", error_text(&err));
    return status;
}
