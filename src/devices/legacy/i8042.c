// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The 8042. Every command is answered, also those to the mouse that is not there, so that no driver waits for a time-out.
 *
 * The output buffer is a short queue: the controller's and the keyboard's answers line up in it, oldest first, and OBF is set while
 * it is not empty.
 */
#include "devices/legacy/i8042.h"

#include <string.h>

#include "base/util.h"

#define PORT_DATA    0x60
#define PORT_COMMAND 0x64
#define PORT_SYSTEM  0x92

#define STATUS_OBF 0x01
#define STATUS_SYS 0x04
#define STATUS_CMD 0x08 /* the last write was a command */
#define STATUS_KEY 0x10 /* not locked */

#define CTR_KBD_IRQ 0x01
#define CTR_SYS     0x04
#define CTR_KBD_OFF 0x10
#define CTR_AUX_OFF 0x20
#define CTR_XLATE   0x40
#define CTR_ALL     0x7f

#define OUT_NO_RESET 0x01
#define OUT_A20      0x02
#define OUT_KBD_IRQ  0x10
#define OUT_IDLE     0xcc /* clock and data lines high */

#define AUX_STUCK 0x01 /* interface test: clock line stuck low, that is, nothing connected */

#define KBD_ACK    0xfa
#define KBD_RESEND 0xfe
#define KBD_BAT    0xaa /* self-test passed */
#define KBD_ECHO   0xee

#define QUEUE 16 /* bytes; a power of two */

struct i8042 {
    struct bus *bus;
    unsigned gsi;
    uint8_t ctr;      /* command byte */
    uint8_t outport;  /* the bits of OUT_* that are kept: A20 */
    uint8_t command;  /* controller command that waits for its data byte, or 0 */
    uint8_t kbd_wait; /* keyboard command that waits for its parameter, or 0 */
    uint8_t scancode_set, last_was_command, system_port;
    uint8_t ram[32];
    uint8_t queue[QUEUE];
    uint8_t queue_head, queue_count;
    bool irq;
};

static const struct field i8042_fields[] = {
    FIELD(FIELD_U8, struct i8042, ctr),
    FIELD(FIELD_U8, struct i8042, outport),
    FIELD(FIELD_U8, struct i8042, command),
    FIELD(FIELD_U8, struct i8042, kbd_wait),
    FIELD(FIELD_U8, struct i8042, scancode_set),
    FIELD(FIELD_U8, struct i8042, last_was_command),
    FIELD(FIELD_U8, struct i8042, system_port),
    FIELD_ARRAY(FIELD_BYTES, struct i8042, ram),
    FIELD_ARRAY(FIELD_BYTES, struct i8042, queue),
    FIELD(FIELD_U8, struct i8042, queue_head),
    FIELD(FIELD_U8, struct i8042, queue_count),
    FIELD(FIELD_BOOL, struct i8042, irq),
    {0},
};

static int i8042_restored(void *dev, struct error *err)
{
    struct i8042 *k = dev;
    if (k->queue_head >= QUEUE || k->queue_count > QUEUE)
        return error_set(err, 0, "device 'i8042': the saved queue is larger than the chip's; restore from an intact state");
    return 0;
}

const struct device_desc i8042_desc = {.name = "i8042", .fields = i8042_fields, .reset = i8042_reset, .restored = i8042_restored};

static void update_irq(struct i8042 *k)
{
    bool level = k->queue_count && (k->ctr & CTR_KBD_IRQ);
    if (level == k->irq)
        return;
    k->irq = level;
    k->bus->ops->set_gsi(k->bus->board, k->gsi, level);
}

/* A full queue drops the newest byte, as a keyboard's does. */
static void answer(struct i8042 *k, uint8_t byte)
{
    if (k->queue_count < QUEUE)
        k->queue[(k->queue_head + k->queue_count++) % QUEUE] = byte;
}

static void machine_reset(struct i8042 *k)
{
    k->bus->ops->event(k->bus->board, BOARD_RESET, 0);
}

static void set_outport(struct i8042 *k, uint8_t val)
{
    k->outport = val & OUT_A20;
    if (!(val & OUT_NO_RESET))
        machine_reset(k);
}

static void controller_command(struct i8042 *k, uint8_t cmd)
{
    k->command = 0;
    switch (cmd) {
    case 0x20 ... 0x3f: /* read RAM; byte 0 is the command byte */
        answer(k, cmd == 0x20 ? k->ctr : k->ram[cmd & 0x1f]);
        break;
    case 0x60 ... 0x7f: /* write RAM */
    case 0xd1 ... 0xd4: /* write output port, keyboard buffer, mouse buffer, mouse */
        k->command = cmd;
        break;
    case 0xa7:
        k->ctr |= CTR_AUX_OFF;
        break;
    case 0xa8:
        k->ctr &= (uint8_t)~CTR_AUX_OFF;
        break;
    case 0xa9:
        answer(k, AUX_STUCK);
        break;
    case 0xaa: /* self-test, passed; it leaves the keyboard disabled */
        k->ctr |= CTR_SYS | CTR_KBD_OFF;
        answer(k, 0x55);
        break;
    case 0xab: /* keyboard interface test, passed */
        answer(k, 0x00);
        break;
    case 0xad:
        k->ctr |= CTR_KBD_OFF;
        break;
    case 0xae:
        k->ctr &= (uint8_t)~CTR_KBD_OFF;
        break;
    case 0xc0: /* input port: not locked */
        answer(k, 0x80);
        break;
    case 0xd0:
        answer(k, (uint8_t)(OUT_IDLE | OUT_NO_RESET | k->outport | (k->queue_count ? OUT_KBD_IRQ : 0)));
        break;
    case 0xdd: /* A20 off, on: a convention of chip sets */
    case 0xdf:
        k->outport = cmd & OUT_A20;
        break;
    case 0xf0 ... 0xff: /* pulse the output lines whose bit is 0; line 0 is reset */
        if (!(cmd & OUT_NO_RESET))
            machine_reset(k);
        break;
    }
}

static void keyboard_parameter(struct i8042 *k, uint8_t byte)
{
    uint8_t cmd = k->kbd_wait;
    k->kbd_wait = 0;
    answer(k, KBD_ACK);
    if (cmd == 0xf0 && byte == 0) /* which scan code set? */
        answer(k, k->scancode_set);
    else if (cmd == 0xf0 && byte <= 3)
        k->scancode_set = byte;
}

/* A byte for the keyboard (IBM PS/2 technical reference, keyboard commands). */
static void keyboard_command(struct i8042 *k, uint8_t byte)
{
    if (k->kbd_wait && byte < 0xed) {
        keyboard_parameter(k, byte);
        return;
    }
    k->kbd_wait = 0;
    switch (byte) {
    case 0xee:
        answer(k, KBD_ECHO);
        break;
    case 0xed: /* LEDs */
    case 0xf0: /* scan code set */
    case 0xf3: /* typematic rate */
        k->kbd_wait = byte;
        answer(k, KBD_ACK);
        break;
    case 0xf2: /* identify: an MF2 keyboard; translated as its scan codes are */
        answer(k, KBD_ACK);
        answer(k, 0xab);
        answer(k, k->ctr & CTR_XLATE ? 0x41 : 0x83);
        break;
    case 0xf4: /* enable, disable, defaults */
    case 0xf5:
    case 0xf6 ... 0xfd:
        answer(k, KBD_ACK);
        break;
    case 0xff:
        k->scancode_set = 2;
        answer(k, KBD_ACK);
        answer(k, KBD_BAT);
        break;
    default:
        answer(k, KBD_RESEND);
        break;
    }
}

static void write_data(struct i8042 *k, uint8_t byte)
{
    uint8_t cmd = k->command;
    k->command = 0;
    switch (cmd) {
    case 0:
        k->ctr &= (uint8_t)~CTR_KBD_OFF; /* sending to the keyboard enables it */
        keyboard_command(k, byte);
        break;
    case 0x60:
        k->ctr = byte & CTR_ALL;
        break;
    case 0x61 ... 0x7f:
        k->ram[cmd & 0x1f] = byte;
        break;
    case 0xd1:
        set_outport(k, byte);
        break;
    case 0xd2: /* as if the keyboard had sent it */
    case 0xd3: /* as if the mouse had: without one it comes back as the keyboard's, which tells a driver that there is none */
        answer(k, byte);
        break;
    case 0xd4: /* for the mouse: no one answers, and the controller reports that */
        answer(k, KBD_RESEND);
        break;
    }
}

static uint64_t data_read(void *dev, uint64_t off, unsigned size)
{
    struct i8042 *k = dev;
    (void)off, (void)size;
    uint8_t v = k->queue[k->queue_head]; /* an empty buffer repeats its last byte */
    if (k->queue_count) {
        /* The line falls with every byte that is fetched, so that an edge announces the next one. */
        k->queue_count--;
        if (k->queue_count)
            k->queue_head = (k->queue_head + 1) % QUEUE;
        if (k->irq) {
            k->irq = false;
            k->bus->ops->set_gsi(k->bus->board, k->gsi, false);
        }
        update_irq(k);
    }
    return v;
}

static void data_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
    struct i8042 *k = dev;
    (void)off, (void)size;
    k->last_was_command = 0;
    write_data(k, (uint8_t)val);
    update_irq(k);
}

static uint64_t command_read(void *dev, uint64_t off, unsigned size)
{
    const struct i8042 *k = dev;
    (void)off, (void)size;
    return STATUS_KEY | (k->queue_count ? STATUS_OBF : 0) | (k->ctr & CTR_SYS ? STATUS_SYS : 0) |
           (k->last_was_command ? STATUS_CMD : 0);
}

static void command_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
    struct i8042 *k = dev;
    (void)off, (void)size;
    k->last_was_command = 1;
    controller_command(k, (uint8_t)val);
    update_irq(k);
}

static uint64_t system_read(void *dev, uint64_t off, unsigned size)
{
    const struct i8042 *k = dev;
    (void)off, (void)size;
    return k->system_port | k->outport;
}

/* System control port A: bit 1 is A20, a rising bit 0 resets. */
static void system_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
    struct i8042 *k = dev;
    (void)off, (void)size;
    bool rising = (val & 1) && !(k->system_port & 1);
    k->outport = val & OUT_A20;
    k->system_port = (uint8_t)val & (uint8_t)~OUT_A20;
    if (rising)
        machine_reset(k);
}

static const struct {
    uint16_t port;
    struct io_ops io;
} i8042_ports[] = {
    {PORT_DATA, {.read = data_read, .write = data_write, .max_size = 1}},
    {PORT_COMMAND, {.read = command_read, .write = command_write, .max_size = 1}},
    {PORT_SYSTEM, {.read = system_read, .write = system_write, .max_size = 1}},
};

void i8042_reset(void *dev)
{
    struct i8042 *k = dev;
    k->ctr = CTR_KBD_IRQ | CTR_SYS | CTR_AUX_OFF | CTR_XLATE; /* as a firmware leaves it */
    k->outport = OUT_A20;
    k->command = k->kbd_wait = k->last_was_command = k->system_port = 0;
    k->scancode_set = 2;
    k->queue_head = k->queue_count = 0;
    memset(k->ram, 0, sizeof k->ram);
    update_irq(k);
}

int i8042_create(struct bus *b, unsigned kbd_gsi, struct i8042 **out, struct error *err)
{
    struct i8042 *k = calloc(1, sizeof *k);
    if (!k)
        return error_set(err, 0, "device 'i8042': out of memory; close other programs");
    k->bus = b;
    k->gsi = kbd_gsi;
    i8042_reset(k);
    for (unsigned i = 0; i < ARRAY_SIZE(i8042_ports); i++) {
        if (bus_map(b, BUS_PORT, i8042_ports[i].port, 1, &i8042_ports[i].io, k, i8042_desc.name, err) == 0)
            continue;
        while (i-- > 0)
            bus_unmap(b, BUS_PORT, i8042_ports[i].port);
        free(k);
        return -1;
    }
    *out = k;
    return 0;
}

void i8042_destroy(struct i8042 *k)
{
    if (!k)
        return;
    for (unsigned i = 0; i < ARRAY_SIZE(i8042_ports); i++)
        bus_unmap(k->bus, BUS_PORT, i8042_ports[i].port);
    free(k);
}
