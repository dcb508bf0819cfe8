// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * shim_test, to be run as `softkvm shim_test`: a program that knows only /dev/kvm, and what it may do with its descriptors, signals
 * and threads.
 *
 * The guest is in long mode with a stack pointer that leads nowhere, so a handler that ran on the guest's stack would not come
 * back.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xmmintrin.h>

#include "base/util.h"

#define CHECK(cond)                                                                                           \
    do {                                                                                                      \
        if (!(cond)) {                                                                                        \
            fprintf(stderr, "%s:%d: %s: errno %d (%s)\n", __FILE__, __LINE__, #cond, errno, strerror(errno)); \
            exit(1);                                                                                          \
        }                                                                                                     \
    } while (0)

#define MEMORY   (2 * MIB)
#define CODE     0x10000
#define CODE_HLT 0x10100
#define MXCSR    0x10200

struct guest {
    int kvm, vm, vcpu;
    struct kvm_run *run;
    uint8_t *memory;
};

/* ---- a guest in long mode ---- */

static void write_memory(uint8_t *m)
{
    static const uint8_t spin[] = {
        0x0f, 0xae, 0x14, 0x25, 0x00, 0x02, 0x01, 0x00, /* ldmxcsr [MXCSR] */
        0x48, 0xff, 0xc0,                               /* inc rax */
        0xeb, 0xfb,                                     /* jmp back */
    };
    static const uint8_t halt[] = {0xf4, 0xeb, 0xfd};
    uint32_t mxcsr = 0x7f80; /* round towards zero */
    *(uint64_t *)(void *)(m + 0x1000) = 0x2000 | 3;
    *(uint64_t *)(void *)(m + 0x2000) = 0x3000 | 3;
    *(uint64_t *)(void *)(m + 0x3000) = 0x83; /* 2 MiB at 0 */
    memcpy(m + CODE, spin, sizeof spin);
    memcpy(m + CODE_HLT, halt, sizeof halt);
    memcpy(m + MXCSR, &mxcsr, sizeof mxcsr);
}

static void enter_long_mode(int vcpu)
{
    struct kvm_sregs s;
    CHECK(ioctl(vcpu, KVM_GET_SREGS, &s) == 0);
    s.cr3 = 0x1000;
    s.cr4 = 0x620; /* PAE, OSFXSR, OSXMMEXCPT */
    s.cr0 = 0x80000031;
    s.efer = 0x500;
    s.cs = (struct kvm_segment){.limit = 0xffffffff, .selector = 8, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1};
    s.ds = s.es = s.ss =
        (struct kvm_segment){.limit = 0xffffffff, .selector = 16, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1};
    CHECK(ioctl(vcpu, KVM_SET_SREGS, &s) == 0);
}

static void start_at(struct guest *g, uint64_t rip)
{
    struct kvm_regs r = {.rip = rip, .rsp = 0x123450, .rflags = 2};
    CHECK(ioctl(g->vcpu, KVM_SET_REGS, &r) == 0);
}

/* With a LAPIC, so that HLT waits inside KVM_RUN. */
static struct guest guest_new(void)
{
    struct guest g = {.kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC)};
    CHECK(g.kvm >= 0);
    CHECK((g.vm = ioctl(g.kvm, KVM_CREATE_VM, 0)) >= 0);
    CHECK(ioctl(g.vm, KVM_CREATE_IRQCHIP, 0) == 0);
    g.memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(g.memory != MAP_FAILED);
    write_memory(g.memory);
    struct kvm_userspace_memory_region m = {.memory_size = MEMORY, .userspace_addr = (uintptr_t)g.memory};
    CHECK(ioctl(g.vm, KVM_SET_USER_MEMORY_REGION, &m) == 0);
    CHECK((g.vcpu = ioctl(g.vm, KVM_CREATE_VCPU, 0)) >= 0);
    int size = ioctl(g.kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    CHECK(size >= (int)sizeof(struct kvm_run));
    g.run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, g.vcpu, 0);
    CHECK(g.run != MAP_FAILED);
    enter_long_mode(g.vcpu);
    start_at(&g, CODE);
    return g;
}

static void guest_end(struct guest *g)
{
    CHECK(munmap(g->run, sizeof *g->run) == 0);
    CHECK(close(g->vcpu) == 0 && close(g->vm) == 0 && close(g->kvm) == 0);
    CHECK(munmap(g->memory, MEMORY) == 0);
}

/* ---- paths ---- */

static void test_paths(void)
{
    struct stat st;
    struct statx stx;
    CHECK(access("/dev/kvm", R_OK | W_OK) == 0);
    CHECK(stat("/dev/kvm", &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(10, 232));
    CHECK(lstat("/dev/kvm", &st) == 0 && S_ISCHR(st.st_mode));
    CHECK(fstatat(AT_FDCWD, "/dev/kvm", &st, 0) == 0 && S_ISCHR(st.st_mode));
    CHECK(statx(AT_FDCWD, "/dev/kvm", 0, STATX_BASIC_STATS, &stx) == 0 && stx.stx_rdev_minor == 232);
    CHECK(stat("/dev/null", &st) == 0 && st.st_rdev == makedev(1, 3));
    CHECK(access("/dev/kvm-none", F_OK) < 0 && errno == ENOENT);

    int fds[] = {open("/dev/kvm", O_RDWR), open64("/dev/kvm", O_RDWR), openat(AT_FDCWD, "/dev/kvm", O_RDWR),
                 openat64(AT_FDCWD, "/dev/kvm", O_RDWR)};
    for (unsigned i = 0; i < ARRAY_SIZE(fds); i++) {
        CHECK(fds[i] >= 0 && ioctl(fds[i], KVM_GET_API_VERSION, 0) == KVM_API_VERSION);
        CHECK(close(fds[i]) == 0);
        CHECK(ioctl(fds[i], KVM_GET_API_VERSION, 0) < 0 && errno == EBADF);
    }
    int null = open("/dev/null", O_RDWR);
    CHECK(null >= 0 && ioctl(null, KVM_GET_API_VERSION, 0) < 0 && errno == ENOTTY);
    CHECK(close(null) == 0);
}

/* ---- descriptors ---- */

static bool is_vm(int fd)
{
    return ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY) == 1;
}

static void test_duplicates(void)
{
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    int vm = ioctl(kvm, KVM_CREATE_VM, 0);
    CHECK(vm >= 0);
    int copy = dup(vm);
    CHECK(copy >= 0 && close(vm) == 0 && is_vm(copy)); /* the VM lives on in its copy */
    int third = fcntl(copy, F_DUPFD_CLOEXEC, 100);
    CHECK(third >= 100 && is_vm(third));
    CHECK(dup2(third, 200) == 200 && is_vm(200));
    CHECK(close_range((unsigned)copy, (unsigned)third, 0) == 0 && ioctl(copy, KVM_CHECK_EXTENSION, 0) < 0 && errno == EBADF);
    CHECK(is_vm(200));
    int null = open("/dev/null", O_RDWR);
    CHECK(dup2(null, 200) == 200 && ioctl(200, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY) < 0 && errno == ENOTTY);
    close(200);
    close(null);
    close(kvm);
}

static int pass_through_socket(int fd)
{
    int s[2];
    char byte = 0, control[CMSG_SPACE(sizeof fd)] = {0};
    struct iovec iov = {&byte, 1};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    *c = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof fd), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    CHECK(sendmsg(s[0], &m, 0) == 1 && recvmsg(s[1], &m, 0) == 1);
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
    close(s[0]);
    close(s[1]);
    return fd;
}

static void test_passing(void)
{
    struct guest g = guest_new();
    int vm = pass_through_socket(g.vm), kvm = pass_through_socket(g.kvm);
    CHECK(is_vm(vm) && ioctl(kvm, KVM_GET_API_VERSION, 0) == KVM_API_VERSION);
    CHECK(close(vm) == 0 && close(kvm) == 0 && is_vm(g.vm));
    guest_end(&g);
}

static int status_of(pid_t pid)
{
    int status;
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void test_children(const char *self)
{
    struct guest g = guest_new();
    pid_t pid = fork();
    if (pid == 0) { /* as in the kernel: /dev/kvm works, another address space's VM does not */
        bool ok =
            ioctl(g.kvm, KVM_GET_API_VERSION, 0) == KVM_API_VERSION && ioctl(g.vm, KVM_CHECK_EXTENSION, 0) < 0 && errno == EIO;
        struct guest own = guest_new();
        guest_end(&own);
        _exit(ok ? 0 : 1);
    }
    CHECK(status_of(pid) == 0);
    pid = vfork();
    if (pid == 0) {
        close(g.vm);
        close(g.vcpu);
        _exit(0);
    }
    CHECK(status_of(pid) == 0);
    struct kvm_regs r;
    CHECK(is_vm(g.vm) && ioctl(g.vcpu, KVM_GET_REGS, &r) == 0);

    char number[16];
    int kept = open("/dev/kvm", O_RDWR); /* no O_CLOEXEC */
    snprintf(number, sizeof number, "%d", kept);
    pid = fork();
    if (pid == 0) {
        execl(self, self, number, (char *)NULL);
        _exit(127);
    }
    CHECK(status_of(pid) == 0);
    close(kept);
    guest_end(&g);
}

/* ---- signals ---- */

static volatile int hits;
static volatile unsigned seen_mxcsr;
static volatile uintptr_t seen_stack;

static void on_alarm(int sig)
{
    (void)sig;
    char here;
    seen_stack = (uintptr_t)&here;
    seen_mxcsr = _mm_getcsr();
    hits++;
}

/* From now on each so many ms, 0: no more. One that comes before KVM_RUN has begun is followed by another. */
static void alarm_each(unsigned ms)
{
    struct timeval tv = {.tv_usec = ms * 1000};
    struct itimerval t = {.it_value = tv, .it_interval = tv};
    CHECK(setitimer(ITIMER_REAL, &t, NULL) == 0);
}

static void run_interrupted(struct guest *g, unsigned ms)
{
    alarm_each(ms);
    CHECK(ioctl(g->vcpu, KVM_RUN, 0) < 0 && errno == EINTR);
    alarm_each(0);
}

static void test_sigaction(void)
{
    struct sigaction act = {.sa_handler = on_alarm, .sa_flags = SA_RESTART}, old;
    sigfillset(&act.sa_mask);
    CHECK(sigaction(SIGALRM, &act, NULL) == 0 && sigaction(SIGALRM, NULL, &old) == 0);
    CHECK(old.sa_handler == on_alarm && (old.sa_flags & ~0x04000000) == SA_RESTART); /* but for SA_RESTORER */
    CHECK(signal(SIGUSR1, SIG_IGN) == SIG_DFL && signal(SIGUSR1, on_alarm) == SIG_IGN && signal(SIGUSR1, SIG_DFL) == on_alarm);
    CHECK(sigaction(SIGKILL, &act, NULL) < 0 && errno == EINVAL);
}

/* KVM_RUN ends with EINTR for a handler although that says SA_RESTART and touches nothing of KVM's. */
static void test_interrupted_run(void)
{
    struct guest g = guest_new();
    uint64_t places[] = {CODE, CODE_HLT};
    for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
        start_at(&g, places[i]);
        for (int n = 0; n < 20; n++) {
            hits = 0;
            run_interrupted(&g, 5);
            CHECK(hits > 0 && g.run->exit_reason == KVM_EXIT_INTR);
            CHECK(seen_mxcsr == 0x1f80 && seen_stack > MEMORY);
        }
    }
    guest_end(&g);
}

static void test_blocked_traps(void)
{
    struct guest g = guest_new();
    sigset_t all, old;
    sigfillset(&all);
    sigdelset(&all, SIGALRM);
    CHECK(pthread_sigmask(SIG_SETMASK, &all, &old) == 0);
    run_interrupted(&g, 20); /* the engine's own page faults come through */
    CHECK(pthread_sigmask(SIG_SETMASK, &old, NULL) == 0);
    guest_end(&g);
}

static sigjmp_buf recover;
static void on_segv(int sig, siginfo_t *info, void *context)
{
    (void)sig;
    (void)context;
    siglongjmp(recover, info->si_addr == (void *)16 ? 1 : 2);
}

static void test_own_fault(void)
{
    static volatile int *volatile nowhere = (volatile int *)16;
    struct guest g = guest_new();
    struct sigaction act = {.sa_sigaction = on_segv, .sa_flags = SA_SIGINFO}, old;
    CHECK(sigaction(SIGSEGV, &act, NULL) == 0 && sigaction(SIGSEGV, NULL, &old) == 0 && old.sa_sigaction == on_segv);
    int how = sigsetjmp(recover, 1);
    if (how == 0)
        *nowhere = 0;
    CHECK(how == 1);
    run_interrupted(&g, 20);
    CHECK(signal(SIGSEGV, SIG_DFL) != SIG_ERR);
    guest_end(&g);
}

/* ---- threads ---- */

static void *run_for_ever(void *arg)
{
    struct guest *g = arg;
    int old;
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old);
    for (;;)
        ioctl(g->vcpu, KVM_RUN, 0);
    return NULL;
}

static void test_cancelled_thread(void)
{
    uint64_t places[] = {CODE, CODE_HLT};
    for (int n = 0; n < 10; n++) {
        struct guest g = guest_new();
        pthread_t t;
        void *result;
        start_at(&g, places[n % 2]);
        CHECK(pthread_create(&t, NULL, run_for_ever, &g) == 0);
        usleep((useconds_t)(n / 2) * 3000);
        CHECK(pthread_cancel(t) == 0 && pthread_join(t, &result) == 0 && result == PTHREAD_CANCELED);
        struct kvm_regs r;
        CHECK(ioctl(g.vcpu, KVM_GET_REGS, &r) == 0); /* no lock is left behind */
        guest_end(&g);
    }
}

int main(int argc, char **argv)
{
    if (argc == 2) /* a descriptor that exec has passed on */
        return ioctl(atoi(argv[1]), KVM_GET_API_VERSION, 0) == KVM_API_VERSION ? 0 : 1;
    alarm_each(0);
    test_paths();
    test_duplicates();
    test_passing();
    test_children(argv[0]);
    test_sigaction();
    test_interrupted_run();
    test_blocked_traps();
    test_own_fault();
    test_cancelled_thread();
    puts("ok");
    return 0;
}
