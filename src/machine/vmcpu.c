// SPDX-License-Identifier: GPL-2.0-or-later
/* Creating CPUs, starting them by a boot protocol, and dispatching their exits to the bus. See vmcpu.h. */
#include "machine/vmcpu.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "base/util.h"
#include "machine/cpumodel.h"

#define KICK_SIGNAL SIGUSR1

enum { MSR_ARCH_CAPABILITIES = 0x10a, MSR_MISC_ENABLE = 0x1a0, MSR_MTRR_DEF_TYPE = 0x2ff };
enum { MISC_ENABLE_FAST_STRINGS = 1, MTRR_ENABLE = 1 << 11, MTRR_WRITE_BACK = 6 };
enum { CR0_PE = 1, CR0_ET = 1 << 4, CR4_PAE = 1 << 5, EFER_LME = 1 << 8, EFER_LMA = 1 << 10, RFLAGS_FIXED = 2 };
#define CR0_PG (1u << 31)
/* LAPIC registers (SDM vol. 3, 10.4.1). */
enum { LAPIC_SVR = 0xf0, LAPIC_LVT0 = 0x350, LAPIC_LVT1 = 0x360 };
enum { SVR_ENABLED = 1 << 8, LVT_MASKED = 1 << 16, LVT_EXTINT = 7 << 8, LVT_NMI = 4 << 8 };

/* The CPU that this thread runs: what the signal handler has to go by. */
static _Thread_local struct kvm_run *volatile current_run;

static void on_kick(int signal)
{
    (void)signal;
    if (current_run)
        current_run->immediate_exit = 1;
}

int vmcpu_signal_setup(struct error *err)
{
    /* On the alternate stack: under softkvm a guest's values may be in the stack pointer. */
    struct sigaction action = {.sa_handler = on_kick, .sa_flags = SA_ONSTACK};
    if (sigaction(KICK_SIGNAL, &action, NULL) < 0)
        return error_set(err, errno, "CPU threads: cannot set up their signal: %s", strerror(errno));
    return 0;
}

static int cpu_call(struct vmcpu *v, unsigned long request, void *arg)
{
    return board_ioctl(v->board, v->fd, request, arg);
}

/* ---- creation ---- */

/* One MSR by KVM_GET_MSRS or KVM_SET_MSRS, whose argument ends in an array. True when it was transferred. */
static bool msr_call(struct vmcpu *v, int fd, unsigned long request, struct kvm_msr_entry *entry)
{
    _Alignas(struct kvm_msrs) char room[sizeof(struct kvm_msrs) + sizeof *entry];
    struct kvm_msrs *msrs = (struct kvm_msrs *)room;
    *msrs = (struct kvm_msrs){.nmsrs = 1};
    memcpy(msrs->entries, entry, sizeof *entry);
    bool done = board_ioctl(v->board, fd, request, msrs) == 1;
    memcpy(entry, msrs->entries, sizeof *entry);
    return done;
}

static void set_msr(struct vmcpu *v, uint32_t index, uint64_t data)
{
    struct kvm_msr_entry entry = {.index = index, .data = data};
    msr_call(v, v->fd, KVM_SET_MSRS, &entry);
}

/*
 * The MSRs as firmware leaves them. ARCH_CAPABILITIES gets what the accelerator offers: it tells the kernel which mitigations it
 * can spare. An accelerator without one of them keeps its own value.
 */
static void set_msrs(struct vmcpu *v)
{
    struct kvm_msr_entry caps = {.index = MSR_ARCH_CAPABILITIES};
    if (msr_call(v, v->board->vm.sys_fd, KVM_GET_MSRS, &caps))
        set_msr(v, caps.index, caps.data);
    set_msr(v, MSR_MISC_ENABLE, MISC_ENABLE_FAST_STRINGS);
    set_msr(v, MSR_MTRR_DEF_TYPE, MTRR_ENABLE | MTRR_WRITE_BACK);
}

/* Virtual wire mode: the PICs arrive at LINT0 of the first CPU, NMI at LINT1 (MultiProcessor specification 1.4, 3.6.2.1). */
static int set_lapic(struct vmcpu *v)
{
    struct kvm_lapic_state s;
    const uint32_t lint0 = v->index == 0 ? LVT_EXTINT : LVT_EXTINT | LVT_MASKED, lint1 = LVT_NMI;
    if (cpu_call(v, KVM_GET_LAPIC, &s) < 0)
        return -1;
    memcpy(s.regs + LAPIC_LVT0, &lint0, sizeof lint0);
    memcpy(s.regs + LAPIC_LVT1, &lint1, sizeof lint1);
    return cpu_call(v, KVM_SET_LAPIC, &s);
}

int vmcpu_create(struct vmcpu *v, struct board *b, unsigned index, struct kvm_cpuid2 *model, struct error *err)
{
    const char *what = "create";
    *v = (struct vmcpu){.board = b, .index = index};
    v->fd = board_ioctl(b, b->vm.vm_fd, KVM_CREATE_VCPU, (void *)(uintptr_t)index);
    if (v->fd < 0)
        goto fail;
    int size = board_ioctl(b, b->vm.sys_fd, KVM_GET_VCPU_MMAP_SIZE, NULL);
    void *run = size > 0 ? mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0) : MAP_FAILED;
    if (run == MAP_FAILED) {
        what = "map the state of";
        goto fail;
    }
    v->run = run;
    v->run_size = (size_t)size;
    int khz = cpu_call(v, KVM_GET_TSC_KHZ, NULL);
    cpumodel_set_tsc(model, khz > 0 ? (unsigned)khz : 0);
    cpumodel_set_cpu(model, index);
    what = "set the features of";
    if (cpu_call(v, KVM_SET_CPUID2, model) < 0)
        goto fail;
    set_msrs(v);
    what = "set the local APIC of";
    if (set_lapic(v) < 0)
        goto fail;
    return 0;
fail:
    error_set(err, errno,
              "%s: cannot %s CPU %u: %s; give the guest fewer CPUs with --cpus, or use another accelerator with --accel",
              b->vm.accel->name, what, index, strerror(errno));
    vmcpu_destroy(v);
    return -1;
}

void vmcpu_destroy(struct vmcpu *v)
{
    if (v->run)
        munmap(v->run, v->run_size);
    if (v->fd >= 0)
        v->board->vm.accel->close(v->fd);
    v->run = NULL;
    v->fd = -1;
}

bool vmcpu_apic_enabled(struct vmcpu *v)
{
    struct kvm_lapic_state s;
    uint32_t svr;
    if (cpu_call(v, KVM_GET_LAPIC, &s) < 0)
        return true;
    memcpy(&svr, s.regs + LAPIC_SVR, sizeof svr);
    return svr & SVR_ENABLED;
}

/* ---- the start ---- */

static struct kvm_segment flat_segment(unsigned selector, unsigned type, bool wide)
{
    return (struct kvm_segment){.limit = 0xffffffff,
                                .selector = (uint16_t)selector,
                                .type = (uint8_t)type,
                                .present = 1,
                                .db = !wide,
                                .s = 1,
                                .l = wide,
                                .g = 1};
}

int vmcpu_set_entry(struct vmcpu *v, const struct boot_entry *entry, struct error *err)
{
    struct kvm_sregs s;
    struct kvm_regs r = {
        .rip = entry->rip, .rax = entry->rax, .rbx = entry->rbx, .rsi = entry->rsi, .rsp = entry->rsp, .rflags = RFLAGS_FIXED};
    if (cpu_call(v, KVM_GET_SREGS, &s) < 0)
        goto fail;
    s.cs = flat_segment(0x10, 0xb, entry->long_mode);
    s.ds = s.es = s.fs = s.gs = s.ss = flat_segment(0x18, 3, false);
    /* VMX demands a busy TSS in TR, of the 64-bit kind in long mode (SDM vol. 3, 26.3.1.2). */
    s.tr = (struct kvm_segment){.limit = 0xffff, .type = 0xb, .present = 1};
    s.ldt = (struct kvm_segment){.unusable = 1};
    s.gdt = (struct kvm_dtable){.base = entry->gdt, .limit = 4 * 8 - 1};
    s.idt = (struct kvm_dtable){.limit = 0};
    s.cr0 = CR0_PE | CR0_ET;
    s.cr3 = s.cr4 = s.efer = 0;
    if (entry->long_mode) {
        s.cr0 |= CR0_PG;
        s.cr3 = entry->cr3;
        s.cr4 = CR4_PAE;
        s.efer = EFER_LME | EFER_LMA;
    }
    if (cpu_call(v, KVM_SET_SREGS, &s) == 0 && cpu_call(v, KVM_SET_REGS, &r) == 0)
        return 0;
fail:
    return error_set(err, errno, "%s: cannot set the registers of CPU %u: %s; use another accelerator with --accel",
                     v->board->vm.accel->name, v->index, strerror(errno));
}

/* ---- the run loop ---- */

static void do_io(struct vmcpu *v)
{
    const struct kvm_run *run = v->run;
    uint8_t *data = (uint8_t *)run + run->io.data_offset;
    for (unsigned i = 0; i < run->io.count; i++, data += run->io.size) {
        if (run->io.direction == KVM_EXIT_IO_OUT)
            bus_write(&v->board->bus, BUS_PORT, run->io.port, data, run->io.size);
        else
            bus_read(&v->board->bus, BUS_PORT, run->io.port, data, run->io.size);
    }
}

static void do_mmio(struct vmcpu *v)
{
    struct kvm_run *run = v->run;
    if (run->mmio.is_write)
        bus_write(&v->board->bus, BUS_MMIO, run->mmio.phys_addr, run->mmio.data, run->mmio.len);
    else
        bus_read(&v->board->bus, BUS_MMIO, run->mmio.phys_addr, run->mmio.data, run->mmio.len);
}

static void do_system_event(struct vmcpu *v)
{
    switch (v->run->system_event.type) {
    case KVM_SYSTEM_EVENT_SHUTDOWN:
        board_end(v->board, END_POWEROFF, 0);
        break;
    case KVM_SYSTEM_EVENT_RESET:
        board_end(v->board, END_RESET, 0);
        break;
    default:
        board_end(v->board, END_PANIC, 0);
        break;
    }
}

/* An exit after which the guest cannot go on: says where it was, and with what. */
static void fail_exit(struct vmcpu *v)
{
    const struct kvm_run *run = v->run;
    struct kvm_regs r = {0};
    char bytes[48] = "";
    cpu_call(v, KVM_GET_REGS, &r);
    if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR && run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION &&
        run->emulation_failure.ndata >= 3 && (run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES)) {
        for (unsigned i = 0; i < run->emulation_failure.insn_size && i < 15; i++)
            snprintf(bytes + 3 * i, sizeof bytes - 3 * i, " %02x", run->emulation_failure.insn_bytes[i]);
    }
    board_fail(v->board, "CPU %u: %s cannot go on at rip 0x%llx (exit %u, cause 0x%llx%s%s); use another accelerator with --accel",
               v->index, v->board->vm.accel->name, (unsigned long long)r.rip, run->exit_reason,
               run->exit_reason == KVM_EXIT_FAIL_ENTRY ? (unsigned long long)run->fail_entry.hardware_entry_failure_reason
                                                       : (unsigned long long)run->internal.suberror,
               bytes[0] ? ", instruction" : "", bytes);
}

static void dispatch(struct vmcpu *v)
{
    switch (v->run->exit_reason) {
    case KVM_EXIT_IO:
        do_io(v);
        break;
    case KVM_EXIT_MMIO:
        do_mmio(v);
        break;
    case KVM_EXIT_SHUTDOWN:
        board_end(v->board, END_TRIPLE_FAULT, 0);
        break;
    case KVM_EXIT_SYSTEM_EVENT:
        do_system_event(v);
        break;
    case KVM_EXIT_INTR:
    case KVM_EXIT_HLT:
    case KVM_EXIT_IRQ_WINDOW_OPEN:
        break;
    default:
        fail_exit(v);
        break;
    }
}

static void *cpu_main(void *arg)
{
    struct vmcpu *v = arg;
    char name[16];
    sigset_t kick;
    snprintf(name, sizeof name, "cpu%u", v->index % 1024);
    pthread_setname_np(pthread_self(), name);
    current_run = v->run;
    sigemptyset(&kick);
    sigaddset(&kick, KICK_SIGNAL);
    pthread_sigmask(SIG_UNBLOCK, &kick, NULL);
    v->tid = gettid();
    sem_post(&v->running);
    while (!board_ended(v->board)) {
        if (v->board->paused)
            board_wait_paused(v->board);
        if (cpu_call(v, KVM_RUN, NULL) == 0) {
            dispatch(v);
            v->board->console.wait(v->board->console.opaque);
        } else if (errno == EINTR || errno == EAGAIN) {
            v->run->immediate_exit = 0; /* then the board is looked at, so that a kick between the two is not lost */
        } else {
            board_fail(v->board, "CPU %u: %s cannot run it: %s; use another accelerator with --accel", v->index,
                       v->board->vm.accel->name, strerror(errno));
        }
    }
    current_run = NULL;
    return NULL;
}

int vmcpu_start(struct vmcpu *v, struct error *err)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};
    sigset_t mask, old;
    sem_init(&v->running, 0, 0);
    /* Signals are the main thread's; the CPU's thread lets through its kick, and the faults that softkvm works with. */
    sigfillset(&mask);
    for (unsigned i = 0; i < ARRAY_SIZE(faults); i++)
        sigdelset(&mask, faults[i]);
    pthread_sigmask(SIG_SETMASK, &mask, &old);
    int r = pthread_create(&v->thread, NULL, cpu_main, v);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (r)
        return error_set(err, r,
                         "CPU %u: cannot start its thread: %s; free some memory, or raise the limit of processes (ulimit -u)",
                         v->index, strerror(r));
    v->started = true;
    return 0;
}

pid_t vmcpu_tid(struct vmcpu *v)
{
    if (!v->started)
        return 0;
    while (sem_wait(&v->running) < 0 && errno == EINTR)
        ;
    sem_post(&v->running);
    return v->tid;
}

void vmcpu_tell_paused(struct vmcpu *v)
{
    cpu_call(v, KVM_KVMCLOCK_CTRL, NULL); /* EINVAL: the guest does not use kvmclock */
}

void vmcpu_kick(struct vmcpu *v)
{
    if (v->started)
        pthread_kill(v->thread, KICK_SIGNAL);
}

void vmcpu_join(struct vmcpu *v)
{
    if (v->started)
        pthread_join(v->thread, NULL);
    v->started = false;
}
