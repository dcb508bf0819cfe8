/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of api/ share: the private halves of a VM and of a vCPU, and who provides what.
 *
 * Threads and locks
 * - A vCPU ioctl holds vcpu->lock throughout, KVM_RUN included. A VM ioctl holds what it needs and never a vcpu->lock.
 * - "Section": the time in which a thread may use a vCPU's TLB, vm->slots and guest memory. Every vCPU ioctl is a section, except
 *   where KVM_RUN waits or is in user space. vm_pause_all() waits until no other thread is in a section. Therefore nobody may call
 *   it with a lock held that a thread in a section may take: vm->lock and the irqchip's locks above all. slots_mutex exists for
 *   this reason.
 */
#ifndef LODGE_SOFTKVM_API_H
#define LODGE_SOFTKVM_API_H

#include <errno.h>
#include <sched.h>

#include "softkvm/api/sigmask.h"
#include "softkvm/direct.h"
#include "softkvm/irqchip/irqchip.h"
#include "softkvm/vm.h"
#include "softkvm/x86/cpu.h"

#define API_RUN_PAGES 3 /* kvm_run, port I/O data, coalesced ring: KVM_GET_VCPU_MMAP_SIZE */
#define API_RUN_SIZE  (API_RUN_PAGES * PAGE_SIZE)

#define HALT_POLL_NS 200000u /* as KVM's module parameter halt_poll_ns */

#define API_MAX_CPUID_ENTRIES 256 /* as KVM_MAX_CPUID_ENTRIES */
#define API_MAX_MSR_ENTRIES   256 /* as MAX_IO_MSRS */
#define API_MCE_BANKS         32

/* ---- requests and their handlers ---- */

/* How the argument of an ioctl is to be understood. */
enum arg_kind {
    ARG_NONE,  /* must be 0, else EINVAL */
    ARG_VALUE, /* a plain number */
    ARG_PTR,   /* a structure: EFAULT when it cannot be one */
};

struct vm_ioctl {
    uint32_t request;
    uint8_t arg; /* enum arg_kind */
    int (*fn)(struct softkvm_vm *vm, void *arg); /* value, or -errno */
};
struct vcpu_ioctl {
    uint32_t request;
    uint8_t arg;
    int (*fn)(struct vcpu *v, void *arg);
};

/* 0, or the errno by which an argument is refused before its handler runs. */
static inline int api_check_arg(enum arg_kind kind, const void *arg)
{
    if (kind == ARG_NONE)
        return arg ? -EINVAL : 0;
    return kind == ARG_PTR && (uintptr_t)arg < PAGE_SIZE ? -EFAULT : 0;
}

/* A signal handler or another thread may set it at any moment. */
static inline bool api_immediate_exit(const struct vcpu *v)
{
    return __atomic_load_n(&v->run->immediate_exit, __ATOMIC_RELAXED);
}

/* ---- fds.c ---- */
enum object_kind { OBJECT_SYSTEM, OBJECT_VM, OBJECT_VCPU };
/* Makes `fd` a descriptor of softkvm and takes it over; `what` is the VM or vCPU. 0, or -ENOMEM (fd is then still the caller's). */
int fds_install(int fd, enum object_kind kind, void *what);

/* ---- api.c ---- */
int system_ioctl(uint32_t request, void *arg);
int api_check_extension(const struct softkvm_vm *vm, uintptr_t cap); /* vm: NULL on the system descriptor */
uint64_t api_supported_xcr0(void);

/* ---- stats.c ---- */
struct stats_file { /* what KVM_GET_STATS_FD lets others read */
    void *map;      /* NULL until somebody asks */
    size_t size;
    int fd;
    dev_t dev;
    ino_t ino;
};
int stats_vm_fd(struct softkvm_vm *vm, void *arg);
int stats_vcpu_fd(struct vcpu *v, void *arg);
void stats_publish(struct vcpu *v); /* by the vCPU's thread */
void stats_free(struct stats_file *f);

/* ---- cpuid_table.c ---- */
uint64_t cpuid_offered_xcr0(void); /* what KVM_GET_SUPPORTED_CPUID shows of xstate_supported() */

/* ---- vm.c ---- */
int vm_create(void);                        /* a new descriptor, or -errno */
int vm_ioctl(struct softkvm_vm *vm, uint32_t request, void *arg);
void vm_get(struct softkvm_vm *vm);
void vm_put(struct softkvm_vm *vm);
void vm_descriptor_closed(struct softkvm_vm *vm); /* ends what only the VM's own descriptor keeps alive (irqfds), then vm_put */

/* ---- vcpu.c ---- */
int vcpu_create(struct softkvm_vm *vm, void *id); /* KVM_CREATE_VCPU */
int vcpu_ioctl(struct vcpu *v, uint32_t request, void *arg);
void vcpu_free(struct vcpu *v);
bool vcpu_is_bsp(const struct vcpu *v);

/* ---- memslot.c ---- */
int memslot_init(struct softkvm_vm *vm);
void memslot_free_all(struct softkvm_vm *vm);
int memslot_set(struct softkvm_vm *vm, void *arg);       /* KVM_SET_USER_MEMORY_REGION */
int memslot_dirty_log(struct softkvm_vm *vm, void *arg); /* KVM_GET_DIRTY_LOG */
int memslot_dirty_clear(struct softkvm_vm *vm, void *arg);

/* ---- worker.c: the VM's one helper thread ---- */
struct worker_source { /* a descriptor to watch; `fn` runs on the worker when it is readable */
    int fd;
    void (*fn)(struct worker_source *s);
};
struct worker {
    pthread_mutex_t lock; /* held while sources are called */
    pthread_t thread;
    bool running;
    int epoll_fd, wake_fd;
    _Atomic bool stop, ticking; /* ticking: the thread looks at masked vCPUs every WORKER_TICK_MS */
    struct worker_source wake;
};
void worker_init(struct worker *w);
void worker_stop(struct softkvm_vm *vm); /* joins; no source's fn runs afterwards */
int worker_watch(struct softkvm_vm *vm, struct worker_source *s); /* starts the thread at need: 0 or -errno */
void worker_unwatch(struct softkvm_vm *vm, struct worker_source *s);
void worker_tick(struct softkvm_vm *vm); /* from now on, REQ_TICK for vCPUs that are `ticked` (signal.c) */

/* ---- eventfd.c ---- */
struct irqfd;
struct resampler;
struct irqfds {
    pthread_mutex_t change, lock;
    struct irqfd *list;
    struct resampler *resamplers; /* never freed before the VM: an ack may be under way */
    int source;                   /* irqchip source of all resampling irqfds, -1 none */
};
void irqfd_init(struct softkvm_vm *vm);
void irqfd_release_all(struct softkvm_vm *vm);
void irqfd_free(struct softkvm_vm *vm);
int irqfd_ioctl(struct softkvm_vm *vm, void *arg); /* KVM_IRQFD */
int eventfd_dup(int fd, uint64_t *id); /* a private copy and the eventfd's identity; -EBADF, -EINVAL when it is no eventfd */
int eventfd_identify(int fd, uint64_t *id);        /* 0 or -errno */

/* ---- zones.c: ioeventfds and coalesced zones ---- */
struct io_zones {
    pthread_rwlock_t lock;
    struct ioeventfd *events;
    struct kvm_coalesced_mmio_zone *coalesced;
    unsigned nevents, ncoalesced;
    struct kvm_coalesced_mmio_ring *ring; /* of the first vCPU */
};
void zones_init(struct io_zones *z);
void zones_free(struct io_zones *z);
int ioeventfd_ioctl(struct softkvm_vm *vm, void *arg);
int coalesced_register(struct softkvm_vm *vm, void *arg);
int coalesced_unregister(struct softkvm_vm *vm, void *arg);
/* A guest's write: true when an ioeventfd or a coalesced zone has taken it. */
bool zones_write(struct softkvm_vm *vm, bool port, uint64_t addr, const void *data, unsigned size);

/* ---- pause.c ---- */
struct pause_gate {
    pthread_mutex_t lock;
    pthread_cond_t resumed, left;
    _Atomic bool closed;
};
void pause_init(struct softkvm_vm *vm);
void pause_free(struct softkvm_vm *vm);
void section_enter(struct vcpu *v); /* waits while a pause is on */
void section_leave(struct vcpu *v);
void exclusive_drop(struct vcpu *v); /* after an instruction that unwound between vm_exclusive_begin and _end */

/* ---- wait.c ---- */
/* Makes a vCPU that runs the guest's code, translated or natively, look at its requests soon. Any thread. */
void vcpu_poke(struct vcpu *v);
enum wait_result { WAIT_WOKEN, WAIT_SIGNAL };
/* Sleeps until vcpu_kick(), a signal, or kvm_run->immediate_exit. */
enum wait_result vcpu_wait(struct vcpu *v);

/* ---- run.c, exits.c ---- */
int run_ioctl(struct vcpu *v, void *arg); /* KVM_RUN */
bool run_accept_pic(struct vcpu *v);      /* does the LAPIC, or its absence, let an ExtINT through? */
void run_accept_init_sipi(struct vcpu *v);
void exits_complete(struct vcpu *v);      /* user space has answered the exit */
void exits_drop(struct vcpu *v);          /* forget the instruction that waits for user space */
static inline bool exits_in_flight(const struct vcpu *v)
{
    return v->io_wait || v->io_done;
}

/* ---- state.c, events.c, fpustate.c, tables.c, guestdebug.c, mce.c: handlers of vCPU ioctls ---- */
int state_get_regs(struct vcpu *v, void *arg);
int state_set_regs(struct vcpu *v, void *arg);
int state_get_sregs(struct vcpu *v, void *arg);
int state_set_sregs(struct vcpu *v, void *arg);
int state_get_sregs2(struct vcpu *v, void *arg);
int state_set_sregs2(struct vcpu *v, void *arg);
int state_get_debugregs(struct vcpu *v, void *arg);
int state_set_debugregs(struct vcpu *v, void *arg);
int state_translate(struct vcpu *v, void *arg);
int state_get_lapic(struct vcpu *v, void *arg);
int state_set_lapic(struct vcpu *v, void *arg);
int state_has_attr(struct vcpu *v, void *arg); /* KVM_HAS_DEVICE_ATTR and its kin, on a vCPU */
int state_get_attr(struct vcpu *v, void *arg);
int state_set_attr(struct vcpu *v, void *arg);
int state_get_tsc_khz(struct vcpu *v, void *arg);
int state_set_tsc_khz(struct vcpu *v, void *arg);
int state_pick_tsc_khz(const void *arg, uint32_t *khz); /* an ioctl's argument, 0 for the host's own; refuses what would need scaling */

int events_get(struct vcpu *v, void *arg);
int events_set(struct vcpu *v, void *arg);
int events_get_mp_state(struct vcpu *v, void *arg);
int events_set_mp_state(struct vcpu *v, void *arg);
int events_interrupt(struct vcpu *v, void *arg); /* KVM_INTERRUPT */
int events_nmi(struct vcpu *v, void *arg);
void events_queue_exception(struct vcpu *v, uint8_t vector, bool has_error, uint32_t error);
void events_clear(struct vcpu *v); /* INIT */

int fpustate_get_fpu(struct vcpu *v, void *arg);
int fpustate_set_fpu(struct vcpu *v, void *arg);
int fpustate_get_xsave(struct vcpu *v, void *arg);
int fpustate_set_xsave(struct vcpu *v, void *arg);
int fpustate_get_xcrs(struct vcpu *v, void *arg);
int fpustate_set_xcrs(struct vcpu *v, void *arg);

int tables_get_msrs(struct vcpu *v, void *arg);
int tables_set_msrs(struct vcpu *v, void *arg);
int tables_get_cpuid2(struct vcpu *v, void *arg);
int tables_set_cpuid2(struct vcpu *v, void *arg);
int tables_set_cpuid(struct vcpu *v, void *arg);
int tables_msr_list(void *arg);         /* KVM_GET_MSR_INDEX_LIST */
int tables_feature_msr_list(void *arg);
int tables_feature_msrs(void *arg);     /* KVM_GET_MSRS on the system descriptor */
int tables_supported_cpuid(void *arg);
int tables_emulated_cpuid(void *arg);

int guestdebug_set(struct vcpu *v, void *arg);

int mce_setup(struct vcpu *v, void *arg);
int mce_inject(struct vcpu *v, void *arg);
extern const uint64_t mce_supported;

/* ---- engine.c ---- */
/* Address space whose pages are zero and not resident before they are used, and not in a core dump; NULL: none. */
void *engine_reserve(uint64_t bytes);

/* ---- direct_pin.c ---- */
struct stub;
struct pin { /* of a vCPU's thread to a CPU of the host, while its stubs run */
    bool bound;
    int cpu;
    cpu_set_t before;        /* its mask without this */
    uint64_t since, used;    /* ns: the begin of the window; CPU time of thread and stub then, 0 not known */
    uint64_t rest;           /* ns: not to be bound before this */
    const struct stub *stub; /* whose time is in `used` */
};
void pin_stub(struct vcpu *v, struct stub *s); /* before each run of a stub */
void pin_end(struct vcpu *v);                  /* the thread is free again: it waits, or leaves KVM_RUN */

/* ---- the private halves ---- */
struct vm_api {
    _Atomic unsigned refs;         /* one for each descriptor: the VM's and its vCPUs' */
    pthread_rwlock_t slots_lock;   /* vm_phys_*() by any thread against the replacement of vm->slots */
    pthread_mutex_t slots_mutex;   /* one change of slots, one look at dirty bitmaps, at a time */
    bool manual_dirty_log, dirty_initially_set; /* KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 */
    bool exception_payload, triple_fault_event; /* capabilities that user space has enabled */
    struct stats_file stats;
    unsigned max_vcpu_id;          /* from KVM_CAP_MAX_VCPU_ID; 0: not set */
    uint32_t nr_mmu_pages;
    uint64_t tsc_base;             /* host TSC at the VM's creation: guest TSCs start at 0 there, in step */
    uint32_t tsc_khz;              /* for vCPUs to come */
    _Atomic uint32_t halt_poll_ns; /* KVM_CAP_HALT_POLL: no wait polls longer */
    struct pause_gate gate;
    struct io_zones zones;
    struct irqfds irqfds;
    struct worker worker;
    struct direct_memory memory[DIRECT_MEMORY];
    unsigned nmemory;
};

struct vcpu_api {
    /* sections, pause.c */
    _Atomic bool inside;    /* a thread is in a section of this vCPU */
    bool pause_was_inside;  /* vm_pause_all(self) took us out */
    bool holds_others;      /* between vm_exclusive_begin and _end */

    /* waiting, wait.c */
    _Atomic bool waiting;
    _Atomic bool ticked;  /* in KVM_RUN, and needs the worker's ticks where it does not sleep */
    uint32_t poll_ns; /* how long the next wait polls before it sleeps */
    struct sigmask sigmask;

    struct stats_file stats;
    struct pin pin;

    /* fds.c */
    pthread_t runner; /* the thread whose KVM_RUN a shim has announced, while `announced`; guarded by the table's lock */
    bool announced;

    /* run.c */
    bool ran;                 /* KVM_RUN has been called: the CPUID table is fixed */
    bool delivering;          /* what is in flight (exits_in_flight) is not an instruction but the delivery of the event in v->ev */
    bool triple_fault;        /* set by KVM_SET_VCPU_EVENTS or a machine check */
    int ext_vector;           /* KVM_INTERRUPT with a split irqchip: waits for the LAPIC's LINT0; -1 none */

    /* KVM_SET_VCPU_EVENTS, beyond v->ev */
    bool exc_injected; /* the exception was being delivered (else it is merely pending) */
    bool exc_has_payload;
    uint64_t exc_payload;
    bool sipi_forced; /* KVM_MP_STATE_SIPI_RECEIVED was set by user space */
    uint8_t sipi_vector;

};

#endif
