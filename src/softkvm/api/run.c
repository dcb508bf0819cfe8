// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * KVM_RUN: the loop around the engine's loop.
 *
 * Each turn looks at what others have asked for, waits while the vCPU is halted or not yet started, delivers at most one event, and
 * runs the guest until something of this is needed again. While an event waits (v->ev.waiting), the engine sets REQ_EVENT whenever
 * an instruction opens a window (IF, shadow, NMI mask, TPR), so a blocked event is looked at again exactly then.
 *
 * While an instruction (or the delivery of an event) waits for user space's answer, nothing else is injected, and a wish to leave
 * is granted once it is complete.
 */
#include <errno.h>
#include <string.h>

#include "softkvm/api/api.h"
#include "softkvm/x86/bt_check.h"
#include "softkvm/api/hosting.h"
#include "softkvm/x86/mem.h"

enum { RUN_GO = 1, RUN_EXIT = 0 }; /* what a step of the loop returns, beside -errno */

#define LOOP_REQUESTS ((uint32_t)(REQ_EXIT | REQ_EVENT | REQ_TLB_FLUSH | REQ_PAUSE | REQ_TICK))

static bool pic_in_kernel(const struct vcpu *v)
{
    return v->vm->irqchip && !v->vm->split_irqchip;
}

/* As KVM: through without a LAPIC, with a disabled one, or when LVT LINT0 is unmasked in ExtINT mode (SDM vol. 3, 10.5.1). */
bool run_accept_pic(struct vcpu *v)
{
    enum { LVT_LINT0 = 0x350 };
    if (!v->lapic || !(v->apic_base & BIT64(11)))
        return true;
    struct kvm_lapic_state s;
    uint32_t lint0;
    lapic_get(v, &s);
    memcpy(&lint0, s.regs + LVT_LINT0, sizeof(lint0));
    return !(lint0 & BIT(16)) && ((lint0 >> 8) & 7) == 7;
}

/* An interrupt of user space's PIC, with a split irqchip. */
static bool has_external(struct vcpu *v)
{
    return v->api->ext_vector >= 0 && run_accept_pic(v);
}

static bool has_interrupt(struct vcpu *v)
{
    return v->ev.irq_pending || (v->lapic && (lapic_has_interrupt(v) || has_external(v)));
}

static int take_interrupt(struct vcpu *v)
{
    if (has_external(v)) {
        int vector = v->api->ext_vector;
        v->api->ext_vector = -1;
        return vector;
    }
    return v->lapic && lapic_has_interrupt(v) ? lapic_take_interrupt(v) : -1;
}

/* Would user space's interrupt be delivered at once, or behind the instruction in flight? */
static bool ready_for_injection(struct vcpu *v)
{
    const struct pending_events *e = &v->ev;
    bool open = (v->rflags & FL_IF) && !v->int_shadow && !e->exc_pending && !e->irq_pending && !e->nmi_injected;
    return open && v->api->ext_vector < 0 && run_accept_pic(v);
}

static uint32_t take_requests(struct vcpu *v)
{
    return atomic_fetch_and(&v->requests, ~LOOP_REQUESTS) & LOOP_REQUESTS;
}

/* ---- INIT and SIPI, SDM vol. 3, 8.4 ---- */

static void start_at(struct vcpu *v, uint8_t vector)
{
    v->seg[SEG_CS].sel = (uint16_t)(vector << 8);
    v->seg[SEG_CS].base = (uint64_t)vector << 12;
    v->rip = 0;
    cpu_update_mode(v);
    atomic_store(&v->mp_state, KVM_MP_STATE_RUNNABLE);
}

void run_accept_init_sipi(struct vcpu *v)
{
    struct vcpu_api *a = v->api;
    uint8_t vector;
    if (!v->lapic)
        return;
    if (lapic_take_init(v)) {
        exits_drop(v);
        events_clear(v);
        cpu_reset(v, true);
        lapic_reset(v, true);
        a->sipi_forced = false;
        atomic_store(&v->mp_state, vcpu_is_bsp(v) ? KVM_MP_STATE_RUNNABLE : KVM_MP_STATE_INIT_RECEIVED);
    }
    bool sipi = lapic_take_sipi(v, &vector);
    if (!sipi && a->sipi_forced) {
        sipi = true;
        vector = a->sipi_vector;
    }
    if (!sipi)
        return;
    a->sipi_forced = false;
    if (atomic_load(&v->mp_state) == KVM_MP_STATE_INIT_RECEIVED) /* else it is lost */
        start_at(v, vector);
}

/* ---- waiting ---- */

static bool wants_exit(struct vcpu *v, uint32_t requests)
{
    if (api_immediate_exit(v) || (requests & REQ_EXIT))
        return true;
    return (requests & REQ_TICK) && sigmask_pending(&v->api->sigmask);
}

static int interrupted(struct vcpu *v)
{
    v->run->exit_reason = KVM_EXIT_INTR;
    return -EINTR;
}

/* Does something end a HLT? */
static bool has_event(struct vcpu *v)
{
    const struct pending_events *e = &v->ev;
    if (e->exc_pending || e->nmi_injected || e->irq_pending || v->api->triple_fault || (e->nmi_pending && !e->nmi_masked))
        return true;
    if (v->lapic && lapic_take_unhalt(v))
        return true;
    return (v->rflags & FL_IF) && has_interrupt(v);
}

/* Takes them within a section: who wants the vCPU held, or its TLB empty, is served at once. */
static uint32_t take_and_serve(struct vcpu *v)
{
    uint32_t requests = take_requests(v);
    while (requests & REQ_PAUSE) {
        section_leave(v);
        section_enter(v);
        requests = (requests & ~(uint32_t)REQ_PAUSE) | take_requests(v);
    }
    if (requests & REQ_TLB_FLUSH)
        mmu_flush_all(v);
    return requests;
}

/* RUN_GO after a wake-up. */
static int sleep_once(struct vcpu *v)
{
    section_leave(v);
    enum wait_result woken = vcpu_wait(v);
    section_enter(v);
    uint32_t requests = take_and_serve(v);
    return woken == WAIT_SIGNAL || wants_exit(v, requests) ? interrupted(v) : RUN_GO;
}

static int wait_until_runnable(struct vcpu *v)
{
    for (;;) {
        run_accept_init_sipi(v);
        uint32_t state = atomic_load(&v->mp_state);
        if (state == KVM_MP_STATE_HALTED && has_event(v)) {
            atomic_store(&v->mp_state, KVM_MP_STATE_RUNNABLE);
            state = KVM_MP_STATE_RUNNABLE;
        }
        if (state == KVM_MP_STATE_RUNNABLE)
            return RUN_GO;
        int r = sleep_once(v);
        if (r != RUN_GO)
            return r;
    }
}

/* An application processor that waits for its first INIT. KVM wants KVM_RUN to be called anew after it. */
static int wait_for_init(struct vcpu *v)
{
    if (api_immediate_exit(v))
        return -EINTR;
    for (;;) {
        run_accept_init_sipi(v);
        if (atomic_load(&v->mp_state) != KVM_MP_STATE_UNINITIALIZED)
            return -EAGAIN;
        int r = sleep_once(v);
        if (r != RUN_GO)
            return r;
    }
}

/* ---- events ---- */

/* Delivers through the IDT. When user space must answer first, the event stays pending and `delivering` says so. */
static enum cpu_stop inject(struct vcpu *v, enum event_kind kind, uint8_t vector, bool has_error, uint32_t error, bool *pending)
{
    enum cpu_stop stop = event_inject(v, kind, vector, has_error, error);
    *pending = v->api->delivering = stop == STOP_EXIT || stop == STOP_REQUEST;
    return stop;
}

static enum cpu_stop deliver_exception(struct vcpu *v)
{
    struct pending_events *e = &v->ev;
    struct vcpu_api *a = v->api;
    if (a->exc_has_payload) { /* what the exception leaves in a register, SDM vol. 3, 6.15: #PF in CR2, #DB in DR6 */
        if (e->exc_vector == EXC_PF)
            v->cr2 = a->exc_payload;
        else if (e->exc_vector == EXC_DB)
            v->dr[6] |= a->exc_payload;
        a->exc_has_payload = false;
    }
    bool soft = e->exc_vector == EXC_BP || e->exc_vector == EXC_OF;
    return inject(v, soft ? EV_SOFT_EXC : EV_HW_EXC, e->exc_vector, e->exc_has_error, e->exc_error, &e->exc_pending);
}

static enum cpu_stop deliver_nmi(struct vcpu *v)
{
    return inject(v, EV_NMI, EXC_NMI, false, 0, &v->ev.nmi_injected);
}

static enum cpu_stop deliver_interrupt(struct vcpu *v)
{
    struct pending_events *e = &v->ev;
    direct_tick(v);
    enum cpu_stop stop = inject(v, e->irq_soft ? EV_SOFT_INT : EV_EXT_INT, e->irq_vector, false, 0, &e->irq_pending);
    if (stop == STOP_NONE)
        STAT_ADD(v, irq_delivered, 1);
    return stop;
}

/* An event that has been accepted already: by us before its delivery was interrupted, or by user space. */
static enum cpu_stop deliver_accepted(struct vcpu *v)
{
    const struct pending_events *e = &v->ev;
    if (e->exc_pending)
        return deliver_exception(v);
    if (e->nmi_injected)
        return deliver_nmi(v);
    bool open = (v->rflags & FL_IF) && !v->int_shadow; /* KVM_INTERRUPT is not to be called otherwise */
    return open || e->irq_soft || v->api->delivering ? deliver_interrupt(v) : STOP_NONE;
}

/* Its word is the one that sleepers wait on (wait.c), so others write beside it. */
static bool window_wanted(const struct vcpu *v)
{
    return __atomic_load_n(&v->run->request_interrupt_window, __ATOMIC_RELAXED);
}

/* Is there something that will be delivered, or told, as soon as a window opens? */
static bool something_waits(struct vcpu *v)
{
    const struct pending_events *e = &v->ev;
    return e->exc_pending || e->nmi_injected || e->nmi_pending || v->api->ext_vector >= 0 || window_wanted(v) ||
           has_interrupt(v);
}

/* Delivers the event that comes next, if one can come now. */
static enum cpu_stop deliver_event(struct vcpu *v)
{
    struct pending_events *e = &v->ev;
    e->waiting = true; /* unless the end of this function finds that nothing does */
    if (exits_in_flight(v) && !v->api->delivering) {
        if (something_waits(v))
            cpu_request(v, REQ_EVENT); /* the engine sees it behind the instruction that is in flight */
        return STOP_NONE;
    }
    if (e->exc_pending || e->nmi_injected || e->irq_pending)
        return deliver_accepted(v);
    bool block = (v->guest_debug.control & KVM_GUESTDBG_ENABLE) && (v->guest_debug.control & KVM_GUESTDBG_BLOCKIRQ);
    if (block)
        return STOP_NONE;
    if (e->nmi_pending && event_nmi_open(v)) {
        atomic_fetch_sub(&e->nmi_pending, 1);
        e->nmi_injected = true;
        return deliver_nmi(v);
    }
    int vector = event_intr_open(v) ? take_interrupt(v) : -1;
    if (vector < 0) {
        e->waiting = something_waits(v);
        return STOP_NONE;
    }
    e->irq_pending = true;
    e->irq_soft = false;
    e->irq_vector = (uint8_t)vector;
    return deliver_interrupt(v);
}

/* ---- the loop ---- */

/* Serves the others' requests. After it the vCPU may run, unless it returns something else than RUN_GO. */
static int serve_requests(struct vcpu *v)
{
    uint32_t requests = take_and_serve(v);
    if (wants_exit(v, requests)) {
        if (!exits_in_flight(v))
            return interrupted(v);
        cpu_request(v, REQ_EXIT); /* behind the instruction in flight */
    }
    if (requests & REQ_EVENT)
        run_accept_init_sipi(v);
    if (v->api->triple_fault) {
        v->api->triple_fault = false;
        v->run->exit_reason = KVM_EXIT_SHUTDOWN;
        return RUN_EXIT;
    }
    if (likely(atomic_load(&v->mp_state) == KVM_MP_STATE_RUNNABLE))
        return RUN_GO;
    int r = wait_until_runnable(v);
    if (r == RUN_GO && (v->api->sigmask.set || v->bt.on)) /* it did not tick for a vCPU that waits */
        worker_tick(v->vm);
    return r;
}

/* Exits that no instruction asks for. */
static bool exit_between(struct vcpu *v)
{
    struct kvm_run *run = v->run;
    int vector = v->lapic && v->vm->split_irqchip ? lapic_take_eoi_exit(v) : -1;
    if (vector >= 0) {
        run->exit_reason = KVM_EXIT_IOAPIC_EOI;
        run->eoi.vector = (uint8_t)vector;
        return true;
    }
    if (window_wanted(v) && !pic_in_kernel(v) && ready_for_injection(v)) {
        run->exit_reason = KVM_EXIT_IRQ_WINDOW_OPEN;
        return true;
    }
    return false;
}

static int handle_stop(struct vcpu *v, enum cpu_stop stop)
{
    switch (stop) {
    case STOP_NONE:
    case STOP_REQUEST:
        return RUN_GO;
    case STOP_EXIT:
        return RUN_EXIT;
    case STOP_HALT:
        if (v->lapic) {
            atomic_store(&v->mp_state, KVM_MP_STATE_HALTED);
            return RUN_GO;
        }
        v->run->exit_reason = KVM_EXIT_HLT;
        return RUN_EXIT;
    case STOP_TRIPLE:
        exits_drop(v);
        v->run->exit_reason = KVM_EXIT_SHUTDOWN;
        return RUN_EXIT;
    }
    return RUN_GO;
}

static enum cpu_stop run_guest(struct vcpu *v)
{
    pv_before_run(v);
    lapic_pv_eoi_sync(v);
    lapic_vapic_to_guest(v);
    enum cpu_stop stop = cpu_run(v);
    if (unlikely(v->bt.check))
        check_report(v);
    exclusive_drop(v);
    lapic_pv_eoi_sync(v);
    lapic_vapic_from_guest(v);
    return stop;
}

static int run_loop(struct vcpu *v)
{
    for (;;) {
        int r = serve_requests(v);
        if (r != RUN_GO)
            return r;
        if (!exits_in_flight(v) && exit_between(v))
            return RUN_EXIT;
        enum cpu_stop stop = deliver_event(v);
        if (stop == STOP_NONE)
            stop = run_guest(v);
        r = handle_stop(v, stop);
        if (r != RUN_GO)
            return r;
    }
}

/* ---- KVM_CAP_SYNC_REGS ---- */

static int sync_in(struct vcpu *v)
{
    struct kvm_run *run = v->run;
    struct kvm_sync_regs *s = &run->s.regs;
    if ((run->kvm_valid_regs | run->kvm_dirty_regs) & ~(uint64_t)KVM_SYNC_X86_VALID_FIELDS)
        return -EINVAL;
    if ((run->kvm_dirty_regs & KVM_SYNC_X86_REGS) && state_set_regs(v, &s->regs))
        return -EINVAL;
    if ((run->kvm_dirty_regs & KVM_SYNC_X86_SREGS) && state_set_sregs(v, &s->sregs))
        return -EINVAL;
    if ((run->kvm_dirty_regs & KVM_SYNC_X86_EVENTS) && events_set(v, &s->events))
        return -EINVAL;
    run->kvm_dirty_regs = 0;
    return 0;
}

static void sync_out(struct vcpu *v)
{
    struct kvm_run *run = v->run;
    struct kvm_sync_regs *s = &run->s.regs;
    if (run->kvm_valid_regs & KVM_SYNC_X86_REGS)
        state_get_regs(v, &s->regs);
    if (run->kvm_valid_regs & KVM_SYNC_X86_SREGS)
        state_get_sregs(v, &s->sregs);
    if (run->kvm_valid_regs & KVM_SYNC_X86_EVENTS)
        events_get(v, &s->events);
}

/* ---- KVM_RUN ---- */

static int run_vcpu(struct vcpu *v)
{
    struct kvm_run *run = v->run;
    if (atomic_load(&v->mp_state) == KVM_MP_STATE_UNINITIALIZED)
        return wait_for_init(v);
    int err = sync_in(v);
    if (err)
        return err;
    if (!v->lapic) { /* user space's LAPIC tells the TPR here */
        if (run->cr8 > 15)
            return -EINVAL;
        v->cr8 = run->cr8;
    }
    exits_complete(v);
    uint32_t reason = run->exit_reason;
    bool at_once = api_immediate_exit(v);
    if (at_once && !exits_in_flight(v))
        return -EINTR;
    if (sigmask_pending(&v->api->sigmask))
        cpu_request(v, REQ_EXIT);
    int r = run_loop(v);
    if (r == -EINTR && at_once) /* who only completes an exit still finds its description */
        run->exit_reason = reason;
    return r;
}

/* This thread's KVM_RUN, for signal handlers that a shim has wrapped. */
static _Thread_local struct {
    struct vcpu *volatile vcpu;
    volatile bool signalled;
} running;

bool run_signalled(void)
{
    struct vcpu *v = running.vcpu;
    if (!v)
        return false;
    running.signalled = true;
    vcpu_kick(v, REQ_EXIT);
    return true;
}

/* A signal that came when KVM_RUN was leaving for another reason has had its effect: the next KVM_RUN owes it nothing. */
static void end_running(struct vcpu *v)
{
    running.vcpu = NULL;
    if (running.signalled)
        atomic_fetch_and(&v->requests, ~(uint32_t)REQ_EXIT);
}

static void count_exit(struct vcpu *v, int r)
{
    uint32_t reason = v->run->exit_reason;
    if (r == 0)
        STAT_ADD(v, exits, 1);
    if (r == -EINTR)
        STAT_ADD(v, signal_exits, 1);
    else if (reason == KVM_EXIT_IRQ_WINDOW_OPEN)
        STAT_ADD(v, irq_window_exits, 1);
    else if (reason == KVM_EXIT_DEBUG)
        STAT_ADD(v, debug_exits, 1);
    stats_publish(v);
}

int run_ioctl(struct vcpu *v, void *arg)
{
    (void)arg;
    struct kvm_run *run = v->run;
    v->api->ran = true;
    running.signalled = false;
    running.vcpu = v;
    pv_run_begins(v);
    sigmask_enter(&v->api->sigmask);
    if (v->bt.on)
        bt_thread_init();
    if (v->api->sigmask.set || v->bt.on) {
        atomic_store(&v->api->ticked, true); /* first: a tick may come before the guest's code does */
        worker_tick(v->vm);
    }
    int r = run_vcpu(v);
    pin_end(v);
    atomic_store(&v->api->ticked, false);
    count_exit(v, r);
    sync_out(v);
    run->if_flag = (v->rflags & FL_IF) != 0;
    run->cr8 = v->lapic ? lapic_tpr_get(v) : v->cr8;
    run->apic_base = v->apic_base;
    run->ready_for_interrupt_injection = pic_in_kernel(v) || ready_for_injection(v);
    run->flags = 0;
    end_running(v);
    sigmask_leave(&v->api->sigmask);
    return r;
}
