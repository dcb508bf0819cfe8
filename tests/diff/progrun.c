// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Runs a program on the vCPU of guest.c and records its stops.
 *
 * All gates lead to HLTs on a stack of their own, so an exception in ring 0 is as good as one in ring 3. At each stop the state is
 * recorded as the frame and the registers have it, then the harness itself returns from the exception, to the next instruction of
 * the program. Flags that a fault's frame shows may be dead ones (bt.h), so the run goes on with those that the program began with.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "guest.h"
#include "program.h"
#include "softkvm/vm.h"
#include "softkvm/x86/bt_priv.h"
#include "softkvm/x86/debug.h"
#include "softkvm/x86/mem.h"

#define STATE_SIZE offsetof(struct vcpu, fpu)

uint8_t *prog_kernel;
static uint8_t pristine_kernel[PROG_KERNEL_SIZE], pristine_state[STATE_SIZE];
static _Atomic unsigned serial; /* of the run under way, for the watchdog */

/* ---- setting up ---- */

static void put_pte(unsigned table, unsigned page, uint64_t pte)
{
    memcpy(guest_ram + table + 8 * page, &pte, 8);
}

static void map_aliases(void)
{
    for (unsigned page = 0; page < SCRATCH_PAGES; page++) {
        if (scratch_kind[page] == PAGE_HOLE)
            continue;
        uint64_t pte = (GPA_SCRATCH + page * PAGE_SIZE) | PTE_P | PTE_W;
        put_pte(GPA_PT_LOW, SCRATCH_PAGES + page, pte | PTE_U);
        put_pte(GPA_PT_HIGH, GPA_SCRATCH / PAGE_SIZE + page, pte | PTE_G);
    }
}

/* A gate's IST field is its fifth byte; IST1 is at 0x24 of the TSS. SDM vol. 3, 6.14.4 and 7.7. */
static void use_ist(void)
{
    uint64_t stack = KERNEL_BASE + GPA_STACK;
    memcpy(guest_ram + GPA_TSS + 0x24, &stack, 8);
    for (unsigned vector = 0; vector < 256; vector++)
        guest_ram[GPA_IDT + 16 * vector + 4] = 1;
}

/* A run that does not end within seconds is told to; the comparison then finds that it ended otherwise. */
static void on_tick(void)
{
    static unsigned seen, ticks;
    unsigned now = atomic_load(&serial);
    ticks = now == seen ? ticks + 1 : 0;
    seen = now;
    if (ticks < 3)
        return;
    guest_vcpu->run->immediate_exit = 1;
    cpu_request(guest_vcpu, REQ_TICK);
    bt_poke(guest_vcpu);
}

/* Not 0: there is no translator here. */
static int init_translator(void)
{
    struct vcpu *v = guest_vcpu;
    int err = bt_create(&guest_vm);
    if (!err)
        err = bt_thread_init();
    if (err || !guest_vm.bt)
        return -1;
    guest_vm.bt->warm_up = 0; /* each program runs once */
    bt_cpu_init(v);
    if (!v->bt.on)
        return -1;
    memset(guest_ram + (HANDLER_BASE - KERNEL_BASE), 0xf4 /* HLT */, 16 * 256);
    map_aliases();
    use_ist();
    v->msr.star = (uint64_t)SEL_KERNEL_CS << 32 | (uint64_t)SEL_USER_CS32 << 48;
    v->msr.lstar = KERNEL_CODE + PROG_SYSCALL;
    v->msr.sfmask = FL_IF | FL_TF | FL_DF;
    v->msr.tsc_aux = 5;
    prog_kernel = guest_ram;
    memcpy(pristine_kernel, guest_ram, PROG_KERNEL_SIZE);
    memcpy(pristine_state, v, STATE_SIZE);
    return progwatch_start(on_tick);
}

int progrun_start(const char *test)
{
    mem_template = mmap(NULL, SCRATCH_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mem_host = mmap(NULL, SCRATCH_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mem_template == MAP_FAILED || mem_host == MAP_FAILED || guest_init()) {
        fprintf(stderr, "%s: cannot set up: %s\n", test, strerror(errno));
        return 1;
    }
    if (init_translator()) {
        printf("%s: this host has no FSGSBASE or BMI2, so there is no translator\n", test);
        return 77;
    }
    progen_init();
    return 0;
}

static bool flush_at_stops;

void progrun_flush_at_stops(bool on)
{
    flush_at_stops = on;
}

void progrun_exact_flags(bool exact)
{
    guest_vm.bt->exact_flags = exact;
    for (uint64_t end = guest_vm.bt->generation + guest_vm.bt->npieces; guest_vm.bt->generation < end;)
        bt_evict(guest_vcpu);
}

void progrun_few_exits(unsigned n)
{
    guest_vm.bt->max_asides = n ? n : BT_MAX_ASIDES;
    guest_vm.bt->evict_step = n ? n : BT_EVICT_STEP;
}

unsigned progrun_cut(void)
{
    return guest_vm.bt->cut;
}

static void restore_memory(const struct program *p)
{
    static const uint8_t syscall_stub[] = {0x4a, 0x8d, 0x0c, 0x11, 0xff, 0xe1};
    memcpy(guest_ram, pristine_kernel, PROG_KERNEL_SIZE);
    for (unsigned page = 0; page < SCRATCH_PAGES; page++)
        if (scratch_kind[page] != PAGE_HOLE)
            memcpy(mem_guest + page * PAGE_SIZE, mem_template + page * PAGE_SIZE, PAGE_SIZE);
    memcpy(mem_guest + p->off, p->code, p->len);
    memcpy(mem_guest + PROG_SYSCALL, syscall_stub, sizeof syscall_stub);
}

static void enter_ring0(struct vcpu *v)
{
    v->cpl = 0;
    guest_load_segment(v, SEG_CS, SEL_KERNEL_CS);
    guest_load_segment(v, SEG_SS, SEL_KERNEL_DS);
    cpu_update_mode(v);
}

static void begin(const struct program *p)
{
    struct vcpu *v = guest_vcpu;
    restore_memory(p);
    memcpy(v, pristine_state, STATE_SIZE);
    v->cr4 &= ~p->cr4_off;
    v->xcr0 &= ~p->xcr0_off;
    guest_set_state(v, &p->in);
    if (p->ring == 0)
        enter_ring0(v);
    memset(&v->ev, 0, sizeof v->ev);
    v->ev.waiting = p->interrupts;
    v->io_done = v->io_next = 0;
    v->io_wait = false;
    v->run->immediate_exit = 0;
    mmu_flush_all(v); /* the code has changed without the vCPU's knowledge */
    atomic_fetch_add(&serial, 1);
}

/* ---- to the next stop ---- */

static bool interrupted(const struct vcpu *v)
{
    return atomic_load(&v->requests) & REQ_EVENT;
}

static enum cpu_stop interpret(struct vcpu *v, unsigned *steps)
{
    enum cpu_stop stop = STOP_NONE;
    while (stop == STOP_NONE && !interrupted(v) && *steps) {
        stop = cpu_step(v);
        --*steps;
    }
    return stop == STOP_NONE ? STOP_REQUEST : stop;
}

static enum cpu_stop translate(struct vcpu *v)
{
    v->bt.on = true;
    return cpu_run(v);
}

/* Delivers the waiting interrupt if its window is open. */
static void take_interrupt(struct vcpu *v, unsigned *interrupts)
{
    atomic_fetch_and(&v->requests, ~(uint32_t)REQ_EVENT);
    if (!event_intr_open(v) || !*interrupts)
        return;
    v->ev.waiting = --*interrupts;
    event_inject(v, EV_EXT_INT, PROG_INTERRUPT, false, 0);
}

static void record_system(const struct vcpu *v, struct sys_image *s)
{
    *s = (struct sys_image){.cr0 = v->cr0,
                            .cr3 = v->cr3,
                            .cr4 = v->cr4,
                            .cr8 = v->cr8,
                            .efer = v->efer,
                            .xcr0 = v->xcr0,
                            .dr6 = v->dr[6],
                            .dr7 = v->dr[7]};
    s->kernel_gs_base = v->msr.kernel_gs_base;
    s->star = v->msr.star;
    s->lstar = v->msr.lstar;
    s->sfmask = v->msr.sfmask;
    s->tsc_aux = v->msr.tsc_aux;
    s->sysenter_esp = v->msr.sysenter_esp;
    s->pat = v->msr.pat;
    s->gdt_base = v->gdt.base;
    s->gdt_limit = v->gdt.limit;
    s->idt_base = v->idt.base;
    s->idt_limit = v->idt.limit;
    for (unsigned n = 0; n < ARRAY_SIZE(s->seg); n++) {
        s->seg[n].base = v->seg[n].base;
        s->seg[n].limit = v->seg[n].limit;
        s->seg[n].sel = v->seg[n].sel;
        s->seg[n].attr = v->seg[n].attr;
    }
    s->int_shadow = v->int_shadow;
    s->cpl = v->cpl;
}

static bool in_handler(const struct vcpu *v)
{
    return v->cpl == 0 && v->rip > HANDLER_BASE && v->rip <= HANDLER_BASE + 16 * 256;
}

static void record(const struct vcpu *v, enum cpu_stop reason, struct stop *s)
{
    memset(s, 0, sizeof *s);
    record_system(v, &s->sys);
    if (reason == STOP_HALT && in_handler(v)) {
        guest_get_state(guest_vcpu, &s->cpu);
        return;
    }
    s->how = reason == STOP_HALT ? HOW_HALT : HOW_OTHER;
    s->reason = reason;
    memcpy(s->cpu.gpr, v->gpr, sizeof s->cpu.gpr);
    memcpy(s->cpu.xarea, v->fpu.area, xarea_size());
    s->cpu.rip = v->rip;
    s->cpu.rflags = v->rflags;
}

/* ---- behind a stop ---- */

static bool known_code_selector(uint16_t sel)
{
    return sel == SEL_KERNEL_CS || sel == SEL_USER_CS64 || sel == SEL_USER_CS32 || sel == SEL_LDT(LDT_CODE16) || sel == SEL_LDT(LDT_CODE16_LOW) ||
           sel == SEL_LDT(LDT_CODE32);
}

/* Offset of a linear address from the program's beginning; what is not in it gives a large number. */
static uint64_t offset_of(const struct program *p, uint64_t la)
{
    for (unsigned b = 0; b < BASES; b++)
        if (la - prog_base_address(b) < SCRATCH_SIZE)
            return la - prog_base_address(b) - p->off;
    return ~0ull;
}

/* The instruction to go on at: behind the one that stopped, and never one that was gone on at before. */
static unsigned next_start(const struct program *p, uint64_t off, bool trap, unsigned least)
{
    unsigned n = 0;
    if (off >= p->len)
        return off == p->len ? p->nstarts : least;
    while (n < p->nstarts && (trap ? p->starts[n] < off : p->starts[n] <= off))
        n++;
    return MAX(n, least);
}

static unsigned linear_base(const struct program *p, uint16_t cs)
{
    return cs == SEL_KERNEL_CS ? BASE_KERNEL : p->base == BASE_KERNEL ? BASE_RWX : p->base;
}

/* Returns from the exception, to instruction number `n`. False: the program is at its end. */
static bool go_on(struct vcpu *v, const struct program *p, const struct stop *s, unsigned n, bool keep_flags)
{
    uint16_t cs = s->cpu.sel[S_CS];
    if (n >= p->nstarts || !known_code_selector(cs))
        return false;
    v->cpl = cs & 3;
    guest_load_segment(v, SEG_CS, cs);
    guest_load_segment(v, SEG_SS, v->cpl ? s->cpu.sel[S_SS] : SEL_KERNEL_DS);
    v->gpr[RSP] = s->cpu.gpr[RSP];
    v->rip = keep_flags ? s->cpu.rip : prog_base_address(linear_base(p, cs)) + p->off + p->starts[n] - v->seg[SEG_CS].base;
    if (v->code_mode != CODE64 && cs != SEL_KERNEL_CS && cs != SEL_USER_CS64)
        v->rip &= 0xffffffff;
    v->rflags = (s->cpu.rflags & ~(uint64_t)(FL_TF | FL_RF | FL_NT | (keep_flags ? 0 : FL_ARITH))) |
                (keep_flags ? 0 : p->in.rflags & FL_ARITH);
    v->ev.nmi_masked = false;
    cpu_update_mode(v);
    debug_update(v);
    return true;
}

/* Does the run go on behind the stop? `least`: the first instruction that has not been gone on at. */
static bool proceed(struct vcpu *v, const struct program *p, const struct stop *s, unsigned *least)
{
    const struct cpu_image *at = &s->cpu;
    if (s->how == HOW_HALT)
        return v->cpl == 0;
    if (s->how == HOW_OTHER)
        return false;
    if (at->vector == PROG_INTERRUPT)
        return go_on(v, p, s, 0, true);
    bool trap = at->vector == EXC_BP || at->vector == EXC_DB || at->vector == EXC_OF;
    guest_load_segment(v, SEG_CS, known_code_selector(at->sel[S_CS]) ? at->sel[S_CS] : SEL_KERNEL_CS);
    uint64_t off = offset_of(p, v->seg[SEG_CS].base + at->rip);
    unsigned n = next_start(p, off, trap, *least);
    *least = n + 1;
    return go_on(v, p, s, n, false);
}

bool progrun(const struct program *p, bool translated, struct outcome *o)
{
    struct vcpu *v = guest_vcpu;
    unsigned steps = PROG_STEPS, interrupts = p->interrupts, least = 1;
    bool more = true;
    begin(p);
    v->bt.on = translated;
    o->nstops = 0;
    while (more && o->nstops < PROG_STOPS) {
        enum cpu_stop stop = translated ? translate(v) : interpret(v, &steps);
        if (stop == STOP_REQUEST && interrupted(v)) {
            take_interrupt(v, &interrupts);
            continue;
        }
        if (stop == STOP_REQUEST && !translated)
            break;
        struct stop *s = &o->stops[o->nstops++];
        record(v, stop, s);
        if (flush_at_stops)
            mmu_flush_all(v);
        more = proceed(v, p, s, &least);
    }
    v->bt.on = true;
    o->steps = PROG_STEPS - steps;
    return translated || steps;
}
