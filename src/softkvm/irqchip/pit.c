/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The 8254 interval timer: three 16-bit counters at 1.193182 MHz on ports 40-43, and port 61 with counter 2's gate and output.
 *
 * Nothing counts here: a counter's value and output are functions of the time since it was loaded, computed when they are read. Only
 * counter 0's interrupts need the timer thread; they stay on the grid of its load time, so they do not drift.
 *
 * Reinjection (KVM_REINJECT_CONTROL, on by default): a tick that comes before the guest has ended the last one's interrupt is kept and
 * injected at its EOI, for guests that count ticks.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "softkvm/irqchip/irqchip_priv.h"

#define MIN_TICKS  239 /* 200 us: no guest gets interrupts faster (KVM's min_timer_period_us) */
#define MODE_UNSET 0xff
enum { RW_LSB = 1, RW_MSB, RW_WORD0, RW_WORD1 }; /* access state: which byte is next */

static uint64_t ticks_to_ns(uint64_t ticks)
{
    return (uint64_t)((unsigned __int128)ticks * NS_PER_S / PIT_HZ);
}
static uint64_t ns_to_ticks(uint64_t ns)
{
    return (uint64_t)((unsigned __int128)ns * PIT_HZ / NS_PER_S);
}

static unsigned from_bcd(unsigned v)
{
    return (v & 15) + (v >> 4 & 15) * 10 + (v >> 8 & 15) * 100 + (v >> 12 & 15) * 1000;
}
static unsigned to_bcd(unsigned v)
{
    return v % 10 | (v / 10 % 10) << 4 | (v / 100 % 10) << 8 | (v / 1000 % 10) << 12;
}

/* ---- counting ---- */

static bool periodic(const struct pit_channel *ch)
{
    return ch->s.mode == 2 || ch->s.mode == 3;
}
static bool triggered_mode(const struct pit_channel *ch)
{
    return ch->s.mode == 1 || ch->s.mode == 5;
}
static unsigned modulus(const struct pit_channel *ch)
{
    return ch->s.bcd ? 10000 : 0x10000;
}

/* Clock ticks since the count began. */
static uint64_t elapsed(const struct pit_channel *ch)
{
    if (!ch->loaded || (triggered_mode(ch) && !ch->triggered))
        return 0;
    if (!ch->s.gate && !triggered_mode(ch))
        return periodic(ch) ? 0 : ch->paused;
    uint64_t now = now_ns(), start = (uint64_t)ch->s.count_load_time;
    return now > start ? ns_to_ticks(now - start) : 0;
}

/* The counter's value as the guest reads it. */
static uint16_t counter_value(const struct pit_channel *ch)
{
    uint64_t e = elapsed(ch);
    unsigned count = ch->s.count, w = modulus(ch), val;
    switch (ch->s.mode) {
    case 2: val = count - (unsigned)(e % count); break;
    case 3: val = count - (unsigned)(2 * e % count); break;
    default: val = (unsigned)((count + (uint64_t)w - e % w) % w); break;
    }
    return (uint16_t)(ch->s.bcd ? to_bcd(val % w) : val);
}

static bool output(const struct pit_channel *ch)
{
    uint64_t e = elapsed(ch);
    unsigned count = ch->s.count;
    if (!ch->loaded)
        return ch->s.mode != 0; /* a control word sets the output to its mode's idle level */
    switch (ch->s.mode) {
    case 1: return !ch->triggered || e >= count;
    case 2: return !ch->s.gate || e % count != count - 1;
    case 3: return !ch->s.gate || e % count < (count + 1) / 2;
    case 4: return e != count;
    case 5: return !ch->triggered || e != count;
    default: return e >= count;
    }
}

/* ---- counter 0's interrupt ---- */

static void pit_inject(struct pit *p)
{
    p->acked = false;
    route_set_gsi(p->chip, SOURCE_PIT, 0, true);
    route_set_gsi(p->chip, SOURCE_PIT, 0, false);
    apic_lint0_nmi(p->chip->vm);
}

static void pit_tick(struct pit *p, uint64_t ticks)
{
    if (!p->reinject) {
        pit_inject(p);
        return;
    }
    p->pending += ticks;
    if (p->acked && p->pending) {
        p->pending--;
        pit_inject(p);
    }
}

void pit_ack(struct irqchip *c)
{
    struct pit *p = c->pit;
    if (!p)
        return;
    p->acked = true;
    if (p->reinject && p->pending)
        pit_tick(p, 0);
}

void pit_forget_ticks(struct irqchip *c)
{
    if (!c->pit)
        return;
    c->pit->pending = 0;
    c->pit->acked = true;
}

static uint64_t pit_fire(void *opaque, uint64_t deadline)
{
    struct pit *p = opaque;
    pthread_mutex_lock(&p->chip->lock);
    uint64_t next = 0;
    if (p->next_ns == deadline) {
        uint64_t ticks = 1;
        if (periodic(&p->ch[0])) {
            /* The next point of the grid that is still to come; those that were missed are ticks, too. */
            uint64_t period = MAX(p->ch[0].s.count, MIN_TICKS), now = now_ns();
            uint64_t due = ns_to_ticks(now > p->start_ns ? now - p->start_ns : 0) / period + 1;
            ticks = due > p->periods ? due - p->periods : 1;
            p->periods += ticks;
            next = p->start_ns + ticks_to_ns(p->periods * period);
        }
        p->next_ns = next;
        pit_tick(p, ticks);
    }
    pthread_mutex_unlock(&p->chip->lock);
    return next;
}

/* Arms or disarms the interrupt timer after channel 0 was loaded or got a control word. Modes 1 and 5 want a rising gate, which never comes. */
static void pit_restart(struct pit *p)
{
    struct pit_channel *ch = &p->ch[0];
    pit_forget_ticks(p->chip);
    p->next_ns = 0;
    if (ch->loaded && ch->s.mode <= 4 && ch->s.mode != 1 && !(p->flags & KVM_PIT_FLAGS_HPET_LEGACY)) {
        p->start_ns = (uint64_t)ch->s.count_load_time;
        p->periods = 1;
        p->next_ns = p->start_ns + ticks_to_ns(MAX(ch->s.count, periodic(ch) ? MIN_TICKS : 1));
        timer_arm(&p->chip->timers, &p->timer, p->next_ns, false);
    } else {
        timer_cancel(&p->chip->timers, &p->timer, false);
    }
}

/* ---- registers ---- */

static void load_count(struct pit *p, unsigned n, unsigned val)
{
    struct pit_channel *ch = &p->ch[n];
    if (ch->s.bcd)
        val = from_bcd(val);
    ch->s.count = val ? MIN(val, modulus(ch)) : modulus(ch);
    ch->s.count_load_time = (int64_t)now_ns();
    ch->paused = 0;
    ch->loaded = ch->s.mode <= 5;
    if (n == 0)
        pit_restart(p);
}

static void latch_count(struct pit_channel *ch)
{
    if (ch->s.count_latched)
        return;
    ch->s.latched_count = counter_value(ch);
    ch->s.count_latched = ch->s.rw_mode;
}

static void latch_status(struct pit_channel *ch)
{
    if (ch->s.status_latched)
        return;
    ch->s.status = (uint8_t)(output(ch) << 7 | !ch->loaded << 6 | ch->s.rw_mode << 4 | (ch->s.mode & 7) << 1 | ch->s.bcd);
    ch->s.status_latched = 1;
}

static void write_control(struct pit *p, uint8_t val)
{
    if (val >> 6 == 3) { /* read-back command */
        for (unsigned n = 0; n < 3; n++) {
            if (!(val & (2u << n)))
                continue;
            if (!(val & 0x20))
                latch_count(&p->ch[n]);
            if (!(val & 0x10))
                latch_status(&p->ch[n]);
        }
        return;
    }
    struct pit_channel *ch = &p->ch[val >> 6];
    unsigned access = val >> 4 & 3, mode = val >> 1 & 7;
    if (!access) {
        latch_count(ch);
        return;
    }
    ch->s.rw_mode = ch->s.read_state = ch->s.write_state = (uint8_t)access;
    ch->s.mode = (uint8_t)(mode > 5 ? mode - 4 : mode);
    ch->s.bcd = val & 1;
    ch->s.count_latched = 0;
    ch->s.count = MIN(ch->s.count, modulus(ch));
    ch->loaded = ch->triggered = false; /* counting waits for a count */
    if (val >> 6 == 0)
        pit_restart(p);
}

static void write_counter(struct pit *p, unsigned n, uint8_t val)
{
    struct pit_channel *ch = &p->ch[n];
    switch (ch->s.write_state) {
    case RW_LSB: load_count(p, n, val); break;
    case RW_MSB: load_count(p, n, (unsigned)val << 8); break;
    case RW_WORD0:
        ch->s.write_latch = val;
        ch->s.write_state = RW_WORD1;
        break;
    default:
        ch->s.write_state = RW_WORD0;
        load_count(p, n, ch->s.write_latch | (unsigned)val << 8);
        break;
    }
}

static uint8_t read_counter(struct pit_channel *ch)
{
    if (ch->s.status_latched) {
        ch->s.status_latched = 0;
        return ch->s.status;
    }
    bool latched = ch->s.count_latched;
    unsigned val = latched ? ch->s.latched_count : counter_value(ch);
    uint8_t *state = latched ? &ch->s.count_latched : &ch->s.read_state;
    switch (*state) {
    case RW_LSB: *state = latched ? 0 : RW_LSB; return (uint8_t)val;
    case RW_WORD0: *state = latched ? RW_MSB : RW_WORD1; return (uint8_t)val;
    case RW_WORD1: *state = latched ? 0 : RW_WORD0; return (uint8_t)(val >> 8);
    default: *state = latched ? 0 : RW_MSB; return (uint8_t)(val >> 8);
    }
}

static void set_gate(struct pit_channel *ch, bool gate)
{
    bool rising = gate && !ch->s.gate;
    if (!gate && ch->s.gate)
        ch->paused = elapsed(ch);
    if (rising) {
        uint64_t resume = periodic(ch) || triggered_mode(ch) ? 0 : ticks_to_ns(ch->paused);
        ch->s.count_load_time = (int64_t)(now_ns() - resume);
        ch->triggered = true;
    }
    ch->s.gate = gate;
}

uint8_t pit_read(struct pit *p, uint16_t port)
{
    if (port == 0x61) {
        bool refresh = now_ns() >> 14 & 1; /* the DRAM refresh toggle, about every 15 us */
        bool data = p->flags & KVM_PIT_FLAGS_SPEAKER_DATA_ON;
        return (uint8_t)(p->ch[2].s.gate | data << 1 | refresh << 4 | output(&p->ch[2]) << 5);
    }
    return (port & 3) == 3 ? 0 : read_counter(&p->ch[port & 3]);
}

void pit_write(struct pit *p, uint16_t port, uint8_t val)
{
    if (port == 0x61) {
        p->flags = (p->flags & ~KVM_PIT_FLAGS_SPEAKER_DATA_ON) | (val & 2 ? KVM_PIT_FLAGS_SPEAKER_DATA_ON : 0);
        set_gate(&p->ch[2], val & 1);
    } else if ((port & 3) == 3) {
        write_control(p, val);
    } else {
        write_counter(p, port & 3, val);
    }
}

/* ---- life, state ---- */

int pit_create(struct softkvm_vm *vm, uint32_t flags)
{
    struct irqchip *c = vm->irqchip;
    if (!c || c->split)
        return -ENOENT;
    if (flags & ~(uint32_t)KVM_PIT_SPEAKER_DUMMY)
        return -EINVAL;
    int err = timers_start(&c->timers);
    if (err)
        return err;
    struct pit *p = calloc(1, sizeof(*p));
    if (!p)
        return -ENOMEM;
    *p = (struct pit){.chip = c, .speaker = flags & KVM_PIT_SPEAKER_DUMMY, .reinject = true, .acked = true};
    p->timer = (struct vm_timer){.fire = pit_fire, .opaque = p};
    for (unsigned n = 0; n < 3; n++) {
        struct kvm_pit_channel_state *s = &p->ch[n].s;
        *s = (struct kvm_pit_channel_state){.mode = MODE_UNSET, .gate = n != 2, .count = 0x10000};
        s->rw_mode = s->read_state = s->write_state = RW_WORD0;
    }
    pthread_mutex_lock(&c->lock);
    bool exists = c->pit;
    if (!exists)
        c->pit = p;
    irqchip_update_eoi_vectors(c);
    pthread_mutex_unlock(&c->lock);
    if (exists)
        free(p);
    return exists ? -EEXIST : 0;
}

void pit_destroy(struct irqchip *c)
{
    if (!c->pit)
        return;
    timer_cancel(&c->timers, &c->pit->timer, true);
    free(c->pit);
    c->pit = NULL;
}

int pit_get(struct softkvm_vm *vm, struct kvm_pit_state2 *s)
{
    struct irqchip *c = vm->irqchip;
    if (!c || !c->pit)
        return -ENXIO;
    memset(s, 0, sizeof(*s));
    pthread_mutex_lock(&c->lock);
    for (unsigned n = 0; n < 3; n++)
        s->channels[n] = c->pit->ch[n].s;
    s->flags = c->pit->flags;
    pthread_mutex_unlock(&c->lock);
    return 0;
}

static uint8_t valid_state(uint8_t state, uint8_t fallback)
{
    return state >= RW_LSB && state <= RW_WORD1 ? state : fallback;
}

static void restore_channel(struct pit_channel *ch, const struct kvm_pit_channel_state *in, bool gated)
{
    struct kvm_pit_channel_state *s = &ch->s;
    *s = *in;
    s->mode = in->mode <= 5 ? in->mode : MODE_UNSET;
    s->bcd = in->bcd & 1;
    s->rw_mode = in->rw_mode >= RW_LSB && in->rw_mode <= RW_WORD0 ? in->rw_mode : RW_WORD0;
    s->read_state = valid_state(in->read_state, s->rw_mode);
    s->write_state = valid_state(in->write_state, s->rw_mode);
    s->count_latched = in->count_latched ? valid_state(in->count_latched, s->rw_mode) : 0;
    s->status_latched = in->status_latched != 0;
    s->gate = gated ? in->gate & 1 : 1;
    s->count = in->count && in->count <= modulus(ch) ? in->count : modulus(ch);
    /* The saved load time is of another host's clock: counting begins anew, as it does with KVM. */
    s->count_load_time = (int64_t)now_ns();
    ch->paused = 0;
    ch->triggered = false;
    ch->loaded = s->mode <= 5;
}

int pit_set(struct softkvm_vm *vm, const struct kvm_pit_state2 *s)
{
    struct irqchip *c = vm->irqchip;
    if (!c || !c->pit)
        return -ENXIO;
    pthread_mutex_lock(&c->lock);
    c->pit->flags = s->flags & (KVM_PIT_FLAGS_HPET_LEGACY | KVM_PIT_FLAGS_SPEAKER_DATA_ON);
    for (unsigned n = 0; n < 3; n++)
        restore_channel(&c->pit->ch[n], &s->channels[n], n == 2);
    pit_restart(c->pit);
    pthread_mutex_unlock(&c->lock);
    return 0;
}

int pit_reinject(struct softkvm_vm *vm, bool reinject)
{
    struct irqchip *c = vm->irqchip;
    if (!c || !c->pit)
        return -ENXIO;
    pthread_mutex_lock(&c->lock);
    c->pit->reinject = reinject;
    pit_forget_ticks(c);
    irqchip_update_eoi_vectors(c);
    pthread_mutex_unlock(&c->lock);
    return 0;
}
