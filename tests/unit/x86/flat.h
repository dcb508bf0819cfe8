/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A vCPU made by hand, for tests of single instructions and small programs: 16 MiB of RAM, identity-mapped, no API around it.
 *
 * Map: IDT 0x1000 (256 gates of 64-bit code, or 32-bit ones, to HANDLER + 16 * vector), GDT 0x2000, page tables from 0x3000 (the
 * first 2 MiB in 4 KiB pages), TSS 0x8000, handlers 0x9000 (each HLT), free from 0x10000.
 */
#ifndef LODGE_TESTS_FLAT_H
#define LODGE_TESTS_FLAT_H

#include "softkvm/vm.h"
#include "softkvm/x86/mem.h"

#define FLAT_RAM     (16 * MIB)
#define FLAT_HANDLER 0x9000ull
#define FLAT_TSS     0x8000ull
#define FLAT_CODE    0x10000ull
#define FLAT_STACK   0x80000ull /* initial rSP */
#define FLAT_DATA    0x100000ull

enum { FLAT_CS64 = 0x08, FLAT_DS = 0x10, FLAT_CS32 = 0x18, FLAT_CS16 = 0x20, FLAT_DS16 = 0x28, FLAT_TR = 0x30 };

struct flat {
    struct vcpu *v;
    struct softkvm_vm vm;
    uint8_t *ram;
};

/* One vCPU in 64-bit (paging on), 32-bit protected (paging off) or real mode, at CPL 0. More vCPUs: flat_add. */
void flat_init(struct flat *f, enum code_mode mode);
struct vcpu *flat_add(struct flat *f, enum code_mode mode);
void flat_free(struct flat *f);

/* Copies code to FLAT_CODE and points rip there (real mode: CS:0). */
void flat_code(struct flat *f, const void *code, size_t len);
/* Page-table entry of a page in the first 2 MiB (64-bit mode); the caller flushes. The two below it do. */
uint64_t *flat_pte(struct flat *f, uint64_t la);
void flat_unmap(struct flat *f, uint64_t la);
void flat_map(struct flat *f, uint64_t la, uint64_t gpa);
uint64_t flat_read(const struct flat *f, uint64_t gpa, unsigned size);
void flat_write(struct flat *f, uint64_t gpa, uint64_t val, unsigned size);
/* Vector of the exception that has just been delivered (rip is at its handler), or -1. */
int flat_exception(const struct vcpu *v);

#define FLAT_CODE_BYTES(f, ...) flat_code((f), (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

#define FLAT_PROGRAM(name, text)                                                                                           \
    __asm__(".pushsection .rodata\n.globl " #name ", " #name "_end\n" #name ":\n" text "\n" #name "_end:\n.popsection\n"); \
    extern const uint8_t name[], name##_end[]

#endif
