// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Where an instruction meets a device: chips in the engine, ioeventfds and coalesced zones, or user space.
 *
 * An access that user space must answer unwinds the instruction. The next KVM_RUN restarts it, and the accesses that it has made
 * before are answered from v->io_log (cpu.h), those to the engine's own chips included. Should user space have changed registers so
 * that the instruction now makes other accesses, the rest of the log fits nothing and is dropped.
 *
 * The guest's vector state may be live here; so this file is built with -mgeneral-regs-only and puts it before anything else.
 */
#include <string.h>

#include "softkvm/api/api.h"
#include "softkvm/x86/interp.h"
#include "softkvm/x86/mem.h"

static uint8_t *pio_data(struct vcpu *v)
{
    return (uint8_t *)v->run + KVM_PIO_PAGE_OFFSET * PAGE_SIZE;
}

/* The next access of a restarted instruction, when it is one that has been made. */
static bool replay(struct vcpu *v, const struct io_record *now, void *data)
{
    if (v->io_next >= v->io_done)
        return false;
    const struct io_record *r = &v->io_log[v->io_next];
    if (r->addr != now->addr || r->size != now->size || r->write != now->write || r->port != now->port) {
        v->io_done = v->io_next;
        return false;
    }
    if (!r->write)
        memcpy(data, r->data, r->size);
    v->io_next++;
    return true;
}

/* A new access is about to be made. */
static struct io_record *record(struct vcpu *v, const struct io_record *now)
{
    if (v->io_done == IO_LOG_MAX)
        interp_emulation_error(v);
    /* Who wants to leave need not wait for an instruction that has touched nothing yet. */
    if (v->io_done == 0 && (atomic_load(&v->requests) & REQ_EXIT || api_immediate_exit(v)))
        cpu_exit(v, STOP_REQUEST);
    v->io_log[v->io_done] = *now;
    return &v->io_log[v->io_done];
}

static void recorded(struct vcpu *v)
{
    v->io_done++;
    v->io_next = v->io_done;
}

static _Noreturn void leave(struct vcpu *v, const struct io_record *r)
{
    struct kvm_run *run = v->run;
    v->io_wait = true;
    if (r->port) {
        STAT_ADD(v, io_exits, 1);
        run->exit_reason = KVM_EXIT_IO;
        run->io.direction = r->write ? KVM_EXIT_IO_OUT : KVM_EXIT_IO_IN;
        run->io.size = r->size;
        run->io.port = (uint16_t)r->addr;
        run->io.count = 1;
        run->io.data_offset = KVM_PIO_PAGE_OFFSET * PAGE_SIZE;
        if (r->write)
            memcpy(pio_data(v), r->data, r->size);
    } else {
        STAT_ADD(v, mmio_exits, 1);
        run->exit_reason = KVM_EXIT_MMIO;
        run->mmio.phys_addr = r->addr;
        run->mmio.len = r->size;
        run->mmio.is_write = r->write;
        memset(run->mmio.data, 0, sizeof(run->mmio.data));
        if (r->write)
            memcpy(run->mmio.data, r->data, r->size);
    }
    cpu_exit(v, STOP_EXIT);
}

void exits_complete(struct vcpu *v)
{
    if (!v->io_wait)
        return;
    struct io_record *r = &v->io_log[v->io_done];
    if (!r->write)
        memcpy(r->data, r->port ? pio_data(v) : v->run->mmio.data, r->size);
    v->io_wait = false;
    v->io_done++;
    v->io_next = 0;
}

void exits_drop(struct vcpu *v)
{
    v->io_wait = false;
    v->io_done = v->io_next = 0;
    v->api->delivering = false;
}

void cpu_mmio_read(struct vcpu *v, uint64_t gpa, void *data, unsigned size)
{
    fpu_put(v);
    struct io_record now = {.addr = gpa, .size = (uint8_t)size};
    if (replay(v, &now, data))
        return;
    struct io_record *r = record(v, &now);
    if (!irqchip_mmio_read(v, gpa, r->data, size))
        leave(v, r);
    memcpy(data, r->data, size);
    recorded(v);
}

void cpu_mmio_write(struct vcpu *v, uint64_t gpa, const void *data, unsigned size)
{
    fpu_put(v);
    struct io_record now = {.addr = gpa, .size = (uint8_t)size, .write = true};
    memcpy(now.data, data, size);
    if (replay(v, &now, NULL))
        return;
    struct io_record *r = record(v, &now);
    if (!irqchip_mmio_write(v, gpa, data, size) && !zones_write(v->vm, false, gpa, data, size))
        leave(v, r);
    recorded(v);
}

uint32_t cpu_port_in(struct vcpu *v, uint16_t port, unsigned size)
{
    fpu_put(v);
    uint32_t val = 0;
    struct io_record now = {.addr = port, .size = (uint8_t)size, .port = true};
    if (replay(v, &now, &val))
        return val;
    struct io_record *r = record(v, &now);
    if (!irqchip_port_in(v, port, size, &val))
        leave(v, r);
    memcpy(r->data, &val, size);
    recorded(v);
    return val;
}

void cpu_port_out(struct vcpu *v, uint16_t port, unsigned size, uint32_t val)
{
    fpu_put(v);
    struct io_record now = {.addr = port, .size = (uint8_t)size, .write = true, .port = true};
    memcpy(now.data, &val, size);
    if (replay(v, &now, NULL))
        return;
    struct io_record *r = record(v, &now);
    if (!irqchip_port_out(v, port, size, val) && !zones_write(v->vm, true, port, &val, size))
        leave(v, r);
    recorded(v);
}
