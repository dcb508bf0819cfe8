// SPDX-License-Identifier: GPL-2.0-or-later
#include "softkvm/api/stub.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include "base/util.h"
#include "softkvm/direct.h"

#define PLACES      0x200000000000ull /* the stub's own pages lie in the 32 TiB from here on, where Linux puts nothing by itself */
#define LIST_BYTES  (STUB_OPS * sizeof(struct stub_op))
#define NOTE_BYTES  PAGE_SIZE /* behind the list: what the first calls point to */
#define KICK        SIGUSR1
#define KERNEL_SIGSET_SIZE 8
#define NAME        "softkvm-user"

extern const uint8_t stub_code[], stub_code_once[], stub_code_end[];

static uint64_t code_at(const struct stub *s, const uint8_t *what)
{
    return s->base + sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr) + (uint64_t)(what - stub_code);
}

/* ---- the program ---- */

static int make_program(const struct stub *s)
{
    struct {
        Elf64_Ehdr e;
        Elf64_Phdr p;
        uint8_t code[256];
    } image = {
        .e = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
              .e_type = ET_EXEC,
              .e_machine = EM_X86_64,
              .e_version = EV_CURRENT,
              .e_entry = code_at(s, stub_code_once),
              .e_phoff = sizeof(Elf64_Ehdr),
              .e_ehsize = sizeof(Elf64_Ehdr),
              .e_phentsize = sizeof(Elf64_Phdr),
              .e_phnum = 1},
        .p = {.p_type = PT_LOAD, .p_flags = PF_R | PF_X, .p_vaddr = s->base, .p_filesz = PAGE_SIZE, .p_memsz = PAGE_SIZE, .p_align = PAGE_SIZE},
    };
    size_t n = (size_t)(stub_code_end - stub_code);
    if (n > sizeof(image.code))
        return -1;
    memcpy(image.code, stub_code, n);
    AUTO_CLOSE int fd = memfd_create(NAME, MFD_CLOEXEC | 0x10u /* MFD_EXEC, Linux 6.3 */);
    if (fd < 0)
        fd = memfd_create(NAME, MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)PAGE_SIZE) < 0 || write(fd, &image, sizeof(image)) != (ssize_t)sizeof(image))
        return -1;
    return steal_fd(&fd);
}

/* In the child of vfork(): only calls of the kernel. What else it has open is closed later. */
static _Noreturn void become_stub(int program, const int *fds, unsigned nfds)
{
    enum { ASIDE = 200 }; /* from here on descriptors are out of each other's way */
    static const uint64_t none;
    char *const empty[] = {NULL};
    long aside[DIRECT_MEMORY + 1];
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, KERNEL_SIGSET_SIZE);
    program = (int)syscall(SYS_fcntl, program, F_DUPFD_CLOEXEC, ASIDE);
    for (unsigned n = 0; n < nfds; n++)
        aside[n] = syscall(SYS_fcntl, fds[n], F_DUPFD_CLOEXEC, ASIDE);
    for (unsigned n = 0; n < nfds; n++)
        if (syscall(SYS_dup3, (int)aside[n], STUB_MEM_FD + (int)n, 0) < 0)
            _exit(1);
    if (syscall(SYS_ptrace, PTRACE_TRACEME, 0, NULL, NULL) == 0)
        syscall(SYS_execveat, program, "", empty, empty, AT_EMPTY_PATH);
    _exit(1);
}

static pid_t spawn(int program, const int *fds, unsigned nfds)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    pid_t pid = vfork();
    if (pid == 0)
        become_stub(program, fds, nfds);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return pid;
}

/* ---- waiting ---- */

/* The next stop's status; -1 when the stub is gone. A signal handler of ours ends no wait: the stub is stopped instead. */
static int wait_stop(struct stub *s)
{
    int status;
    while (waitpid(s->pid, &status, __WALL) < 0) {
        if (errno != EINTR)
            return -1;
        stub_kick(s->pidfd);
    }
    if (WIFSTOPPED(status))
        return status;
    s->pid = 0;
    return -1;
}

void stub_kick(int pidfd)
{
    syscall(SYS_pidfd_send_signal, pidfd, KICK, NULL, 0);
}

uint64_t stub_cpu_ns(const struct stub *s)
{
    clockid_t clock;
    struct timespec t = {0};
    if (s->pid && clock_getcpuclockid(s->pid, &clock) == 0)
        clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* Runs the stub's own code from `rip` to its INT3. */
static bool run_own(struct stub *s, struct stub_regs *r)
{
    if (!s->pid || ptrace(PTRACE_SETREGS, s->pid, NULL, r) < 0)
        return false;
    for (;;) {
        if (ptrace(PTRACE_CONT, s->pid, NULL, NULL) < 0)
            return false;
        int status = wait_stop(s);
        if (status < 0)
            return false;
        if (WSTOPSIG(status) == SIGTRAP)
            break;
        if (WSTOPSIG(status) != KICK && WSTOPSIG(status) != SIGCONT && WSTOPSIG(status) != SIGSTOP)
            return false;
    }
    return ptrace(PTRACE_GETREGS, s->pid, NULL, r) == 0;
}

/* ---- lists of calls ---- */

bool stub_flush(struct stub *s)
{
    if (!s->nops)
        return !s->broken;
    struct stub_regs r = s->regs;
    r.rip = code_at(s, stub_code);
    r.rbx = s->base + PAGE_SIZE;
    r.r12 = s->nops;
    r.rsp = r.orig_rax = ~0ull;
    r.eflags = 0x202;
    r.fs = r.gs = r.fs_base = r.gs_base = 0;
    if (!run_own(s, &r) || r.r12)
        s->broken = true;
    memset(s->ops, 0, s->nops * sizeof(s->ops[0])); /* what guest code could read of the guest's physical addresses */
    s->nops = 0;
    return !s->broken;
}

static void put(struct stub *s, struct stub_op op)
{
    if (s->nops == STUB_OPS)
        stub_flush(s);
    s->ops[s->nops++] = op;
}

void stub_map(struct stub *s, uint64_t la, uint64_t bytes, int prot, unsigned mem, uint64_t offset)
{
    uint64_t flags = MAP_SHARED | MAP_FIXED | MAP_POPULATE;
    put(s, (struct stub_op){SYS_mmap, {la, bytes, (uint64_t)prot, flags, STUB_MEM_FD + mem, offset}, la});
}

void stub_unmap(struct stub *s, uint64_t la, uint64_t bytes)
{
    put(s, (struct stub_op){SYS_munmap, {la, bytes}, 0});
}

/* ---- starting ---- */

/* What the filter allows: mmap and munmap, by the stub's own page. */
static void write_filter(const struct stub *s, struct sock_filter *f, unsigned *n)
{
    const struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 8),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer) + 4),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(s->base >> 32), 0, 6),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer)),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, (uint32_t)PAGE_MASK),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)s->base, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_munmap, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    memcpy(f, program, sizeof(program));
    *n = ARRAY_SIZE(program);
}

/* The note page: the filter's program, its description, and the process's name. */
static void write_calls(struct stub *s, unsigned nfds)
{
    struct note {
        struct sock_fprog fprog;
        char name[16];
        struct sock_filter filter[16];
    } *note = (void *)((uint8_t *)s->ops + LIST_BYTES);
    uint64_t at = s->base + PAGE_SIZE + LIST_BYTES;
    unsigned n;
    write_filter(s, note->filter, &n);
    note->fprog = (struct sock_fprog){.len = (unsigned short)n, .filter = (void *)(uintptr_t)(at + offsetof(struct note, filter))};
    memcpy(note->name, NAME, sizeof(NAME));
    put(s, (struct stub_op){SYS_munmap, {0, s->base}, 0});
    put(s, (struct stub_op){SYS_munmap, {s->end, STUB_END - s->end}, 0});
    put(s, (struct stub_op){SYS_close_range, {0, 2}, 0});
    put(s, (struct stub_op){SYS_close_range, {STUB_MEM_FD + nfds, ~0u}, 0});
    put(s, (struct stub_op){SYS_prctl, {PR_SET_NAME, at + offsetof(struct note, name)}, 0});
    put(s, (struct stub_op){SYS_prctl, {PR_SET_TSC, PR_TSC_SIGSEGV}, 0});
    put(s, (struct stub_op){SYS_prctl, {PR_SET_NO_NEW_PRIVS, 1}, 0});
    put(s, (struct stub_op){SYS_seccomp, {SECCOMP_SET_MODE_FILTER, 0, at}, 0});
}

/* The least of some stops at a system call. */
static bool measure_stop(struct stub *s)
{
    s->stop_ns = UINT64_MAX;
    for (unsigned n = 0; n < 8; n++) {
        struct stub_regs r = s->regs;
        r.rip = code_at(s, stub_code_once);
        r.orig_rax = ~0ull;
        uint64_t before = stub_cpu_ns(s);
        if (ptrace(PTRACE_SETREGS, s->pid, NULL, &r) < 0 || ptrace(PTRACE_SYSEMU, s->pid, NULL, NULL) < 0 || wait_stop(s) < 0)
            return false;
        s->stop_ns = MIN(s->stop_ns, stub_cpu_ns(s) - before);
    }
    return true;
}

/* Maps the list into the stopped stub, and has it make its first calls. */
static bool settle(struct stub *s, unsigned nfds, int ops_fd)
{
    int status = wait_stop(s);
    if (status < 0 || WSTOPSIG(status) != SIGTRAP)
        return false;
    if (ptrace(PTRACE_SETOPTIONS, s->pid, NULL, PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD) < 0 || ptrace(PTRACE_GETREGS, s->pid, NULL, &s->regs) < 0)
        return false;
    struct stub_regs r = s->regs;
    r.rip = code_at(s, stub_code_once);
    r.orig_rax = ~0ull;
    r.rax = SYS_mmap;
    r.rdi = s->base + PAGE_SIZE;
    r.rsi = s->ops_bytes;
    r.rdx = PROT_READ;
    r.r10 = MAP_SHARED | MAP_FIXED;
    r.r8 = (unsigned)ops_fd;
    r.r9 = 0;
    if (!run_own(s, &r) || r.rax != s->base + PAGE_SIZE)
        return false;
    write_calls(s, nfds);
    struct iovec area = {s->xsave, sizeof(s->xsave)};
    if (!stub_flush(s) || ptrace(PTRACE_GETREGSET, s->pid, NT_X86_XSTATE, &area) < 0)
        return false;
    s->xsave_bytes = area.iov_len;
    return measure_stop(s);
}

static bool map_list(struct stub *s, int fd)
{
    s->ops_bytes = LIST_BYTES + NOTE_BYTES;
    if (fd < 0 || ftruncate(fd, (off_t)s->ops_bytes) < 0)
        return false;
    void *p = mmap(NULL, s->ops_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    s->ops = p == MAP_FAILED ? NULL : p;
    return s->ops;
}

static bool start(struct stub *s, const int *fds, unsigned nfds)
{
    uint64_t place;
    if (getrandom(&place, sizeof(place), 0) != sizeof(place))
        return false;
    s->base = PLACES + (place & (PLACES - 1) & ~(BIT64(32) - 1)) + (place >> 44 << 12); /* within 4 GiB: the filter compares the halves */
    AUTO_CLOSE int ops_fd = memfd_create("softkvm-calls", 0); /* without CLOEXEC: the stub maps it itself */
    AUTO_CLOSE int program = -1;
    if (!map_list(s, ops_fd))
        return false;
    s->end = s->base + PAGE_SIZE + s->ops_bytes;
    program = make_program(s);
    if (program < 0)
        return false;
    int all[DIRECT_MEMORY + 1];
    memcpy(all, fds, nfds * sizeof(int));
    all[nfds] = ops_fd;
    s->tracer = gettid();
    s->pid = spawn(program, all, nfds + 1);
    if (s->pid < 0) {
        s->pid = 0;
        return false;
    }
    s->pidfd = (int)syscall(SYS_pidfd_open, s->pid, 0);
    return s->pidfd >= 0 && settle(s, nfds, STUB_MEM_FD + (int)nfds);
}

struct stub *stub_start(const int *fds, unsigned nfds)
{
    struct stub *s = aligned_alloc(64, ALIGN_UP(sizeof(*s), (size_t)64));
    if (!s)
        return NULL;
    memset(s, 0, sizeof(*s));
    s->pidfd = s->cpu = -1;
    if (start(s, fds, nfds))
        return s;
    int err = errno ? errno : EPERM;
    stub_end(s);
    errno = err;
    return NULL;
}

void stub_end(struct stub *s)
{
    if (!s)
        return;
    if (s->pid) {
        kill(s->pid, SIGKILL);
        while (waitpid(s->pid, NULL, __WALL) < 0 && errno == EINTR)
            ;
    }
    if (s->pidfd >= 0)
        close(s->pidfd);
    if (s->ops)
        munmap(s->ops, s->ops_bytes);
    free(s);
}

/* ---- running guest code ---- */

static enum stub_stop classify(struct stub *s, int status, uint64_t *address)
{
    siginfo_t info;
    int sig = WSTOPSIG(status);
    *address = 0;
    switch (sig) {
    case SIGTRAP | 0x80: return STUB_SYSCALL;
    case SIGTRAP: return STUB_TRAP;
    case SIGSEGV:
    case SIGBUS:
    case SIGSYS:
        if (ptrace(PTRACE_GETSIGINFO, s->pid, NULL, &info) == 0)
            *address = sig == SIGSYS ? (uint64_t)info.si_syscall : info.si_code > 0 && info.si_code != SI_KERNEL ? (uint64_t)(uintptr_t)info.si_addr : 0;
        return sig == SIGSYS ? STUB_VSYSCALL : STUB_FAULT;
    case SIGILL:
    case SIGFPE: return STUB_FAULT;
    default: return STUB_KICKED;
    }
}

bool stub_load(struct stub *s)
{
    struct iovec area = {s->xsave, s->xsave_bytes};
    return s->pid && ptrace(PTRACE_SETREGS, s->pid, NULL, &s->regs) == 0 && ptrace(PTRACE_SETREGSET, s->pid, NT_X86_XSTATE, &area) == 0;
}

static bool take_state(struct stub *s)
{
    struct iovec area = {s->xsave, sizeof(s->xsave)};
    return ptrace(PTRACE_GETREGS, s->pid, NULL, &s->regs) == 0 && ptrace(PTRACE_GETREGSET, s->pid, NT_X86_XSTATE, &area) == 0;
}

enum stub_stop stub_run(struct stub *s, uint64_t *address, uint64_t *cycles)
{
    uint64_t begin = __rdtsc();
    int status = ptrace(PTRACE_SYSEMU, s->pid, NULL, NULL) < 0 ? -1 : wait_stop(s);
    *cycles = __rdtsc() - begin;
    if (status < 0 || !take_state(s))
        return STUB_DEAD;
    return classify(s, status, address);
}
