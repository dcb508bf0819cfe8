/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A small writer of AML, ACPI's byte code (ACPI 6.4, chapter 20). Objects that contain others are opened and closed:
 *
 *     aml_device(a, "COM1");
 *       aml_name(a, "_HID"), aml_eisaid(a, "PNP0501");
 *       aml_name(a, "_CRS"), aml_resources(a);
 *         aml_io(a, 0x3f8, 8), aml_irq(a, 4);
 *       aml_end(a);
 *     aml_end(a);
 *
 * Running out of memory sets `failed`, and everything after it does nothing.
 */
#ifndef LODGE_MACHINE_AML_H
#define LODGE_MACHINE_AML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AML_DEPTH 8

struct aml {
    uint8_t *data; /* owned: free() it */
    size_t len, cap;
    bool failed;
    unsigned depth;
    struct {
        size_t start;   /* of the PkgLength */
        bool resources; /* a resource template: gets its end tag and its size at the end */
    } open[AML_DEPTH];
};

/* Raw bytes and little-endian numbers; ACPI's tables are written with them, too. */
void aml_bytes(struct aml *a, const void *data, size_t len);
void aml_u8(struct aml *a, unsigned v);
void aml_u16(struct aml *a, unsigned v);
void aml_u32(struct aml *a, uint32_t v);
void aml_u64(struct aml *a, uint64_t v);

/* Closes the last opened object. */
void aml_end(struct aml *a);
/* Opened objects. Paths are "NAME", "\\NAME" or "\\_SB"; names have up to four characters. */
void aml_scope(struct aml *a, const char *path);
void aml_device(struct aml *a, const char *name);
void aml_method(struct aml *a, const char *name, unsigned args);
void aml_if(struct aml *a); /* the predicate follows, then the statements */
void aml_else(struct aml *a);
void aml_package(struct aml *a, unsigned elements);
void aml_resources(struct aml *a);

/* Name (path, …): the object follows. */
void aml_name(struct aml *a, const char *path);
/* Data objects. */
void aml_integer(struct aml *a, uint64_t v);
void aml_string(struct aml *a, const char *text);
void aml_eisaid(struct aml *a, const char *id); /* "PNP0501" */
void aml_ref(struct aml *a, const char *path);
void aml_buffer(struct aml *a, const void *data, unsigned len); /* up to 255 bytes */

/* Opcodes of a method's body (ACPI 6.4, 20.2.5): the operands follow, and where there is one, the target last. */
enum aml_op {
    AML_LOCAL0 = 0x60,
    AML_ARG0 = 0x68,
    AML_ARG3 = 0x6b,
    AML_STORE = 0x70,
    AML_AND = 0x7b,
    AML_OR = 0x7d,
    AML_DWORD_FIELD = 0x8a, /* buffer, index in bytes, name */
    AML_NOT = 0x92,
    AML_EQUAL = 0x93,
    AML_RETURN = 0xa4,
};
void aml_op(struct aml *a, enum aml_op op);

/* Resource descriptors (ACPI 6.4, 6.4), within aml_resources(). */
void aml_io(struct aml *a, unsigned port, unsigned len);
void aml_irq(struct aml *a, unsigned irq); /* edge, active high, exclusive */
void aml_memory32(struct aml *a, uint32_t base, uint32_t len);
void aml_interrupt(struct aml *a, unsigned gsi); /* level, active high, shared */
/* Windows of a bridge. */
void aml_bus_window(struct aml *a, unsigned first, unsigned last);
void aml_io_window(struct aml *a, unsigned first, unsigned last);
void aml_memory_window32(struct aml *a, uint32_t first, uint32_t last);
void aml_memory_window64(struct aml *a, uint64_t first, uint64_t last);

#endif
