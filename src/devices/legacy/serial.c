// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The 16550A. Register names and bits are those of the PC16550D data sheet.
 *
 * The line is infinitely fast: a byte written to THR has left when the write returns, so THRE and TEMT are always set, and the
 * transmitter FIFO is always empty. Input that does not fit the receiver FIFO waits in a backlog, so that it overruns only in
 * loopback mode, where the guest itself is the sender. The receiver's time-out (data below the trigger level that nobody fetches)
 * is reported at once, since no more data is on the way.
 */
#include "devices/legacy/serial.h"

#include <string.h>

#include "base/util.h"

#define SERIAL_PORTS   8
#define SERIAL_FIFO    16   /* bytes */
#define SERIAL_BACKLOG 4096 /* bytes */

enum { REG_RBR_THR_DLL, REG_IER_DLM, REG_IIR_FCR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCR };

#define IER_RDI  0x01 /* received data */
#define IER_THRI 0x02 /* transmitter empty */
#define IER_RLSI 0x04 /* line status */
#define IER_MSI  0x08 /* modem status */
#define IER_ALL  0x0f

#define IIR_NONE    0x01
#define IIR_MSI     0x00
#define IIR_THRI    0x02
#define IIR_RDI     0x04
#define IIR_RLSI    0x06
#define IIR_TIMEOUT 0x0c
#define IIR_FIFOS   0xc0

#define FCR_ENABLE   0x01
#define FCR_CLEAR_RX 0x02
#define FCR_CLEAR_TX 0x04
#define FCR_TRIGGER  0xc0

#define LCR_DLAB 0x80

#define MCR_DTR  0x01
#define MCR_RTS  0x02
#define MCR_OUT1 0x04
#define MCR_OUT2 0x08
#define MCR_LOOP 0x10
#define MCR_ALL  0x1f

#define LSR_DR     0x01
#define LSR_OE     0x02
#define LSR_BI     0x10
#define LSR_THRE   0x20
#define LSR_TEMT   0x40
#define LSR_ERRORS 0x1e /* cleared by reading LSR */
#define LSR_FIFOE  0x80

#define MSR_DCTS 0x01
#define MSR_DDSR 0x02
#define MSR_TERI 0x04
#define MSR_DDCD 0x08
#define MSR_CTS  0x10
#define MSR_DSR  0x20
#define MSR_RI   0x40
#define MSR_DCD  0x80

struct serial {
    struct bus *bus;
    struct serial_config cfg;
    uint8_t ier, fcr, lcr, mcr, lsr, msr, scr, dll, dlm;
    bool thre_pending; /* the THRE interrupt is due; reading it from IIR, or writing THR, ends it */
    bool irq;
    uint8_t fifo[SERIAL_FIFO];
    uint8_t fifo_count;
    uint8_t backlog[SERIAL_BACKLOG];
    uint32_t backlog_head, backlog_count;
    bool starved; /* an input call took less than it was given */
};

static const struct field serial_fields[] = {
    FIELD(FIELD_U8, struct serial, ier),
    FIELD(FIELD_U8, struct serial, fcr),
    FIELD(FIELD_U8, struct serial, lcr),
    FIELD(FIELD_U8, struct serial, mcr),
    FIELD(FIELD_U8, struct serial, lsr),
    FIELD(FIELD_U8, struct serial, msr),
    FIELD(FIELD_U8, struct serial, scr),
    FIELD(FIELD_U8, struct serial, dll),
    FIELD(FIELD_U8, struct serial, dlm),
    FIELD(FIELD_BOOL, struct serial, thre_pending),
    FIELD(FIELD_BOOL, struct serial, irq),
    FIELD_ARRAY(FIELD_BYTES, struct serial, fifo),
    FIELD(FIELD_U8, struct serial, fifo_count),
    FIELD_ARRAY(FIELD_BYTES, struct serial, backlog),
    FIELD(FIELD_U32, struct serial, backlog_head),
    FIELD(FIELD_U32, struct serial, backlog_count),
    {0},
};

static int serial_restored(void *dev, struct error *err)
{
    struct serial *s = dev;
    if (s->fifo_count > SERIAL_FIFO || s->backlog_head >= SERIAL_BACKLOG || s->backlog_count > SERIAL_BACKLOG)
        return error_set(err, 0, "device 'serial-16550': the saved FIFO is larger than the chip's; restore from an intact state");
    return 0;
}

const struct device_desc serial_desc = {
    .name = "serial-16550",
    .fields = serial_fields,
    .reset = serial_reset,
    .restored = serial_restored,
};

static unsigned fifo_size(const struct serial *s)
{
    return s->fcr & FCR_ENABLE ? SERIAL_FIFO : 1;
}

static unsigned fifo_trigger(const struct serial *s)
{
    static const uint8_t levels[] = {1, 4, 8, 14};
    return s->fcr & FCR_ENABLE ? levels[s->fcr >> 6] : 1;
}

/* The identification of the most urgent interrupt that is enabled (data sheet, table IV). */
static uint8_t interrupt_id(const struct serial *s)
{
    if ((s->ier & IER_RLSI) && (s->lsr & LSR_ERRORS))
        return IIR_RLSI;
    if ((s->ier & IER_RDI) && s->fifo_count)
        return s->fifo_count >= fifo_trigger(s) ? IIR_RDI : IIR_TIMEOUT;
    if ((s->ier & IER_THRI) && s->thre_pending)
        return IIR_THRI;
    if ((s->ier & IER_MSI) && (s->msr & (MSR_DCTS | MSR_DDSR | MSR_TERI | MSR_DDCD)))
        return IIR_MSI;
    return IIR_NONE;
}

/* On a PC, OUT2 gates the line. It does not here: kernels that rely on that never leave a source enabled, and small ones forget
 * OUT2. */
static void update_irq(struct serial *s)
{
    bool level = interrupt_id(s) != IIR_NONE;
    if (level == s->irq)
        return;
    s->irq = level;
    s->bus->ops->set_gsi(s->bus->board, s->cfg.gsi, level);
}

static void receive(struct serial *s, uint8_t byte)
{
    if (s->fifo_count == fifo_size(s)) {
        s->lsr |= LSR_OE;
        /* Without FIFOs the new byte replaces the old one; with them it is lost (data sheet, 8.6.3). */
        if (!(s->fcr & FCR_ENABLE))
            s->fifo[0] = byte;
        return;
    }
    s->fifo[s->fifo_count++] = byte;
    s->lsr |= LSR_DR;
}

static void clear_fifo(struct serial *s)
{
    s->fifo_count = 0;
    s->lsr &= (uint8_t) ~(LSR_DR | LSR_BI | LSR_FIFOE);
}

/* Moves the backlog into the FIFO, as far as it fits. */
static void refill(struct serial *s)
{
    if (s->mcr & MCR_LOOP)
        return;
    while (s->backlog_count && s->fifo_count < fifo_size(s)) {
        receive(s, s->backlog[s->backlog_head]);
        s->backlog_head = (s->backlog_head + 1) % SERIAL_BACKLOG;
        s->backlog_count--;
    }
    if (s->starved && s->backlog_count <= SERIAL_BACKLOG / 2) {
        s->starved = false;
        if (s->cfg.chr.input_ready)
            s->cfg.chr.input_ready(s->cfg.chr.opaque);
    }
}

static uint8_t read_rbr(struct serial *s)
{
    uint8_t v = s->fifo[0];
    if (s->fifo_count) {
        memmove(s->fifo, s->fifo + 1, --s->fifo_count);
        if (!s->fifo_count)
            s->lsr &= (uint8_t)~LSR_DR;
        refill(s);
    }
    return v;
}

static void write_thr(struct serial *s, uint8_t byte)
{
    s->thre_pending = true;
    if (s->mcr & MCR_LOOP)
        receive(s, byte);
    else
        s->cfg.chr.write(s->cfg.chr.opaque, &byte, 1);
}

static void write_fcr(struct serial *s, uint8_t val)
{
    /* Changing the mode empties the FIFOs; without the enable bit the others have no effect. */
    if ((val ^ s->fcr) & FCR_ENABLE)
        clear_fifo(s);
    if ((val & FCR_ENABLE) && (val & FCR_CLEAR_RX))
        clear_fifo(s);
    if ((val & FCR_ENABLE) && (val & FCR_CLEAR_TX))
        s->thre_pending = true;
    s->fcr = val & FCR_ENABLE ? val & (FCR_ENABLE | FCR_TRIGGER) : 0;
    refill(s);
}

/* The modem inputs: in loopback the chip's own outputs, else a peer that is always ready. */
static void update_modem(struct serial *s)
{
    uint8_t in = MSR_CTS | MSR_DSR | MSR_DCD;
    if (s->mcr & MCR_LOOP)
        in = (s->mcr & MCR_RTS ? MSR_CTS : 0) | (s->mcr & MCR_DTR ? MSR_DSR : 0) | (s->mcr & MCR_OUT1 ? MSR_RI : 0) |
             (s->mcr & MCR_OUT2 ? MSR_DCD : 0);
    uint8_t changed = (in ^ s->msr) & 0xf0, delta = s->msr & 0x0f;
    delta |= (changed & (MSR_CTS | MSR_DSR | MSR_DCD)) >> 4;
    if (changed & s->msr & MSR_RI) /* trailing edge only */
        delta |= MSR_TERI;
    s->msr = in | delta;
}

static uint64_t serial_read(void *dev, uint64_t off, unsigned size)
{
    struct serial *s = dev;
    uint8_t v = 0;
    (void)size;
    switch (off) {
    case REG_RBR_THR_DLL:
        v = s->lcr & LCR_DLAB ? s->dll : read_rbr(s);
        break;
    case REG_IER_DLM:
        v = s->lcr & LCR_DLAB ? s->dlm : s->ier;
        break;
    case REG_IIR_FCR:
        v = interrupt_id(s);
        if (v == IIR_THRI)
            s->thre_pending = false;
        v |= s->fcr & FCR_ENABLE ? IIR_FIFOS : 0;
        break;
    case REG_LCR:
        v = s->lcr;
        break;
    case REG_MCR:
        v = s->mcr;
        break;
    case REG_LSR:
        v = s->lsr | LSR_THRE | LSR_TEMT;
        s->lsr &= (uint8_t) ~(LSR_ERRORS | LSR_FIFOE);
        break;
    case REG_MSR:
        v = s->msr;
        s->msr &= 0xf0;
        break;
    case REG_SCR:
        v = s->scr;
        break;
    }
    update_irq(s);
    return v;
}

static void serial_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
    struct serial *s = dev;
    uint8_t v = (uint8_t)val;
    (void)size;
    switch (off) {
    case REG_RBR_THR_DLL:
        if (s->lcr & LCR_DLAB)
            s->dll = v;
        else
            write_thr(s, v);
        break;
    case REG_IER_DLM:
        if (s->lcr & LCR_DLAB) {
            s->dlm = v;
            break;
        }
        /* Enabling THRI while the transmitter is empty, which it always is, raises the interrupt at once. */
        if (v & ~s->ier & IER_THRI)
            s->thre_pending = true;
        s->ier = v & IER_ALL;
        break;
    case REG_IIR_FCR:
        write_fcr(s, v);
        break;
    case REG_LCR:
        s->lcr = v;
        break;
    case REG_MCR:
        s->mcr = v & MCR_ALL;
        update_modem(s);
        refill(s);
        break;
    case REG_SCR:
        s->scr = v;
        break;
    default: /* LSR and MSR are read-only in practice (data sheet: writing LSR is for factory testing) */
        break;
    }
    update_irq(s);
}

static const struct io_ops serial_io = {.read = serial_read, .write = serial_write, .max_size = 1};

size_t serial_input(struct serial *s, const void *buf, size_t len)
{
    const uint8_t *p = buf;
    pthread_mutex_lock(&s->bus->lock);
    size_t taken = MIN(len, SERIAL_BACKLOG - s->backlog_count);
    for (size_t i = 0; i < taken; i++)
        s->backlog[(s->backlog_head + s->backlog_count++) % SERIAL_BACKLOG] = p[i];
    s->starved = taken < len;
    refill(s);
    update_irq(s);
    pthread_mutex_unlock(&s->bus->lock);
    return taken;
}

void serial_break(struct serial *s)
{
    pthread_mutex_lock(&s->bus->lock);
    if (!(s->mcr & MCR_LOOP)) {
        /* A break is received as a zero byte with BI (data sheet, 8.6.3). */
        receive(s, 0);
        s->lsr |= LSR_BI;
        update_irq(s);
    }
    pthread_mutex_unlock(&s->bus->lock);
}

void serial_reset(void *dev)
{
    struct serial *s = dev;
    s->ier = s->fcr = s->lcr = s->mcr = s->lsr = s->scr = 0;
    s->dll = 12; /* 9600 baud */
    s->dlm = 0;
    s->msr = MSR_CTS | MSR_DSR | MSR_DCD;
    s->thre_pending = false;
    s->fifo_count = 0;
    s->backlog_head = s->backlog_count = 0;
    update_irq(s);
}

int serial_create(struct bus *b, const struct serial_config *cfg, struct serial **out, struct error *err)
{
    struct serial *s = calloc(1, sizeof *s);
    if (!s)
        return error_set(err, 0, "device 'serial-16550': out of memory; close other programs");
    s->bus = b;
    s->cfg = *cfg;
    serial_reset(s);
    if (bus_map(b, BUS_PORT, cfg->port, SERIAL_PORTS, &serial_io, s, serial_desc.name, err) < 0) {
        free(s);
        return -1;
    }
    *out = s;
    return 0;
}

void serial_destroy(struct serial *s)
{
    if (!s)
        return;
    bus_unmap(s->bus, BUS_PORT, s->cfg.port);
    free(s);
}
