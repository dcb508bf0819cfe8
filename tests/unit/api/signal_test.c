// SPDX-License-Identifier: GPL-2.0-or-later
/* Signals and KVM_RUN: kicks by immediate_exit, KVM_SET_SIGNAL_MASK. */
#include "threads.h"

#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define EMULATED "a software-only /dev/kvm emulates this loop without an end"
#define KICK  (SIGRTMIN + 3)
#define OTHER (SIGRTMIN + 4)

static struct kvm_run *kick_run;
static _Atomic int handled;

static void on_kick(int sig)
{
    (void)sig;
    handled++;
    if (kick_run)
        kick_run->immediate_exit = 1;
}

static void catch(int sig, int flags)
{
    struct sigaction sa = {.sa_handler = on_kick, .sa_flags = flags | SA_ONSTACK}; /* softkvm.h */
    sigaction(sig, &sa, NULL);
    sigset_t s;
    sigemptyset(&s);
    sigaddset(&s, sig);
    pthread_sigmask(SIG_UNBLOCK, &s, NULL);
    handled = 0;
}

static void send(struct runner *r, int sig)
{
    syscall(SYS_tgkill, getpid(), r->tid, sig);
}

static const uint8_t spin[] = {0xeb, 0xfe}, halt[] = {0xfb, 0xf4, 0xeb, 0xfd}; /* jmp $; sti, again: hlt, jmp again */

static void kick(unsigned flags, const uint8_t *code, size_t n)
{
    struct guest *g = guest_new(1, flags);
    guest_real(g, 0, 0x1000, code, n);
    for (unsigned i = 0; i < 20; i++) {
        kick_run = g->run[0];
        kick_run->immediate_exit = 0;
        catch(KICK, SA_RESTART);
        struct runner r;
        runner_start(&r, g, 0);
        while (!r.tid)
            usleep(100);
        usleep(i * 200); /* before, at, and in the midst of running or sleeping */
        send(&r, KICK);
        CHECK(runner_ends(&r));
        CHECK_EQ(runner_join(&r), -EINTR);
        CHECK_EQ(handled, 1);
    }
}

static void kick_running(void)
{
    kick(0, spin, sizeof(spin));
}

static void kick_halted(void)
{
    kick(GUEST_IRQCHIP, halt, sizeof(halt));
}

/* A vCPU that has slept for long and then spins is kicked as any other. */
static void kick_behind_halt(void)
{
    struct guest *g = guest_new(1, GUEST_SPLIT | GUEST_CPUID);
    struct kvm_msi nmi = {.address_lo = 0xfee00000, .data = 0x400};
    memcpy(g->ram + 4 * 2, &(uint32_t){0x2000}, 4);
    g->ram[0x2000] = 0xcf; /* iret */
    kick_run = g->run[0];
    for (unsigned i = 0; i < 5; i++) {
        unsigned long sleeps;
        struct runner r;
        guest_real(g, 0, 0x1000, CODE(0xf4, 0xeb, 0xfe)); /* hlt; jmp $ */
        kick_run->immediate_exit = 0;
        catch(KICK, SA_RESTART);
        runner_start(&r, g, 0);
        CHECK(runner_sleeps(&r));
        OK(g->vm, KVM_SIGNAL_MSI, &nmi);
        for (unsigned n = 0; runner_state(&r, &sleeps) == 'S'; n++, usleep(100))
            CHECK(n < 100000);
        usleep(5000);
        send(&r, KICK);
        CHECK(runner_ends(&r));
        CHECK_EQ(runner_join(&r), -EINTR);
        CHECK_EQ(handled, 1);
    }
}

/* A signal that no handler answers ends a sleep, as in the kernel; a vCPU that runs takes no notice (softkvm.h). */
static void empty_handler_while_halted(void)
{
    struct guest *g = guest_new(1, GUEST_IRQCHIP);
    guest_real(g, 0, 0x1000, halt, sizeof(halt));
    kick_run = NULL;
    catch(KICK, 0);
    struct runner r;
    runner_start(&r, g, 0);
    for (unsigned n = 0; n < 1000 && !runner_done(&r, 20); n++) /* again, in case it does not sleep yet */
        send(&r, KICK);
    CHECK(runner_ends(&r));
    CHECK_EQ(runner_join(&r), -EINTR);
    CHECK_EQ(g->run[0]->exit_reason, KVM_EXIT_INTR);
}

static void set_mask(struct guest *g, uint64_t bits)
{
    struct {
        struct kvm_signal_mask head;
        uint8_t set[8];
    } __attribute__((packed)) m = {.head.len = 8};
    memcpy(m.set, &bits, 8);
    OK(g->vcpu[0], KVM_SET_SIGNAL_MASK, &m);
}

static void block(int sig)
{
    sigset_t s;
    sigemptyset(&s);
    sigaddset(&s, sig);
    pthread_sigmask(SIG_BLOCK, &s, NULL);
}

/* Eats the signal if it is pending. */
static bool was_pending(int sig)
{
    sigset_t s;
    sigemptyset(&s);
    sigaddset(&s, sig);
    struct timespec none = {0};
    return sigtimedwait(&s, NULL, &none) == sig;
}

struct masked {
    struct runner r;
    bool pending;
};

static void *masked_main(void *arg)
{
    struct masked *m = arg;
    block(KICK);
    runner_main(&m->r);
    m->pending = was_pending(KICK);
    return NULL;
}

/* Has the thread blocked this signal? */
static bool blocks(int tid, int sig)
{
    char path[64], line[128];
    unsigned long long set = 0;
    snprintf(path, sizeof(path), "/proc/self/task/%d/status", tid);
    FILE *f = fopen(path, "re");
    CHECK(f);
    while (fgets(line, sizeof(line), f))
        if (sscanf(line, "SigBlk: %llx", &set) == 1)
            break;
    fclose(f);
    return set & BIT64(sig - 1);
}

/* Until KVM_RUN has put its mask into force. */
static void masked_start(struct masked *m, struct guest *g)
{
    *m = (struct masked){.r = {.g = g}};
    CHECK(!pthread_create(&m->r.thread, NULL, masked_main, m));
    while (!m->r.tid || !blocks(m->r.tid, OTHER))
        usleep(100);
}

static void masked(unsigned flags, const uint8_t *code, size_t n)
{
    struct guest *g = guest_new(1, flags);
    guest_real(g, 0, 0x1000, code, n);
    set_mask(g, BIT64(OTHER - 1)); /* lets everything but OTHER through */
    kick_run = NULL;
    catch(KICK, 0);
    catch(OTHER, 0);
    for (unsigned i = 0; i < 5; i++) {
        struct masked m;
        masked_start(&m, g);
        usleep(i * 3000);
        send(&m.r, OTHER);
        CHECK(!runner_done(&m.r, 20)); /* the mask holds it back, and its handler */
        CHECK_EQ(handled, i);
        send(&m.r, KICK);
        CHECK(runner_ends(&m.r));
        CHECK_EQ(runner_join(&m.r), -EINTR);
        CHECK_EQ(g->run[0]->exit_reason, KVM_EXIT_INTR);
        CHECK(m.pending); /* not delivered to its handler */
        CHECK_EQ(handled, i + 1); /* OTHER came in when KVM_RUN ended */
    }
}

static void masked_running(void)
{
    masked(0, spin, sizeof(spin));
}

static void masked_halted(void)
{
    masked(GUEST_IRQCHIP, halt, sizeof(halt));
}

/* A signal that is pending at KVM_RUN's beginning: the instruction in flight is completed first. */
static void pending_at_entry(void)
{
    struct guest *g = guest_new(1, 0);
    guest_real(g, 0, 0x1000, CODE(0xe4, 0x20, 0x41, 0xf4)); /* in al,0x20; inc cx; hlt */
    set_mask(g, 0);
    block(KICK);
    struct kvm_run *run = RUN(g, 0, KVM_EXIT_IO);
    *((uint8_t *)run + run->io.data_offset) = 0x66;
    syscall(SYS_tgkill, getpid(), gettid(), KICK);
    FAILS(g->vcpu[0], KVM_RUN, 0, EINTR);
    CHECK_EQ(guest_regs(g, 0).rip, 0x1002);
    CHECK_EQ(guest_regs(g, 0).rax & 0xff, 0x66);
    CHECK_EQ(guest_regs(g, 0).rcx, 0);
    FAILS(g->vcpu[0], KVM_RUN, 0, EINTR); /* it is still there */
    CHECK(was_pending(KICK));
    RUN(g, 0, KVM_EXIT_HLT);
}

static void mask_arguments(void)
{
    struct guest *g = guest_new(1, 0);
    struct {
        struct kvm_signal_mask head;
        uint8_t set[16];
    } m = {.head.len = 16};
    FAILS(g->vcpu[0], KVM_SET_SIGNAL_MASK, &m, EINVAL);
    m.head.len = 4;
    FAILS(g->vcpu[0], KVM_SET_SIGNAL_MASK, &m, EINVAL);
    m.head.len = 8;
    OK(g->vcpu[0], KVM_SET_SIGNAL_MASK, &m);
    OK(g->vcpu[0], KVM_SET_SIGNAL_MASK, 0);
}

/* Does the signal end a process to which it is sent, maybe through a sanitizer's handler? `running`: to a thread that executes guest code. */
static bool end_by_sent_fault(int sig, bool running)
{
    pid_t child = fork();
    if (child == 0) {
        struct guest *g = guest_new(1, 0); /* a parent's VM is not its child's */
        guest_long(g, 0, 0x1000, CODE(0xff, 0x04, 0x25, 0, 0x30, 0, 0, 0xeb, 0xf7)); /* inc dword [0x3000]; jmp back */
        struct runner r;
        struct rlimit no_core = {0, 0};
        setrlimit(RLIMIT_CORE, &no_core);
        if (running) {
            runner_start(&r, g, 0);
            while (!*(volatile uint32_t *)(void *)(g->ram + 0x3000))
                usleep(100);
            send(&r, sig);
        } else {
            raise(sig);
        }
        usleep(120000000); /* at the most */
        _exit(0);
    }
    int status = -1;
    CHECK_EQ(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) ? WTERMSIG(status) == sig : WEXITSTATUS(status) != 0;
}

/* SIGSEGV and SIGFPE are not always softkvm's own: kill() ends the process as ever. */
static void sent_faults(void)
{
    CHECK(end_by_sent_fault(SIGSEGV, false));
    CHECK(end_by_sent_fault(SIGFPE, false));
    CHECK(end_by_sent_fault(SIGSEGV, true));
}

const struct test tests[] = {
    {"sent faults", sent_faults, EMULATED},
    {"kick a running vcpu", kick_running, EMULATED},
    {"kick a halted vcpu", kick_halted, NULL},
    {"kick behind a halt", kick_behind_halt, EMULATED},
    {"empty handler while halted", empty_handler_while_halted, NULL},
    {"mask: running", masked_running, EMULATED},
    {"mask: halted", masked_halted, NULL},
    {"mask: pending at entry", pending_at_entry, NULL},
    {"mask: arguments", mask_arguments, NULL},
    {NULL, NULL, NULL},
};
