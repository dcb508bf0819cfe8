/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The arithmetic instructions as inline functions: NAME_reg on values, NAME_locked with LOCK on host memory. See op.h for their
 * signatures. */
#ifndef LODGE_SOFTKVM_X86_ALU_H
#define LODGE_SOFTKVM_X86_ALU_H

#include "softkvm/x86/op.h"

#define ASM_BINARY(sfx, m, pre, insn) \
    __asm__(pre insn sfx " %" m "[s], %" m "[d]" ASM_FLAGS_SAVE : [d] "+r"(d), "=&a"(f) : [s] "r"(s), [fl] "r"(fl) : "cc")
#define ASM_BINARY_LOCKED(sfx, m, pre, insn)                                  \
    __asm__ volatile(pre "lock " insn sfx " %" m "[s], (%[p])" ASM_FLAGS_SAVE \
                     : "=&a"(f)                                               \
                     : [p] "r"(p), [s] "r"(s), [fl] "r"(fl)                   \
                     : "cc", "memory")

#define DEFINE_BINARY_REG(name, pre, insn)                                                                  \
    ALWAYS_INLINE uint64_t name##_reg(unsigned size, uint64_t d, uint64_t s, uint64_t rflags, uint32_t *ax) \
    {                                                                                                       \
        uint32_t f, fl = (uint32_t)rflags;                                                                  \
        BY_SIZE(size, ASM_BINARY, pre, insn);                                                               \
        *ax = f;                                                                                            \
        return d;                                                                                           \
    }
#define DEFINE_BINARY(name, pre, insn)                                                        \
    DEFINE_BINARY_REG(name, pre, insn)                                                        \
    ALWAYS_INLINE uint32_t name##_locked(unsigned size, void *p, uint64_t s, uint64_t rflags) \
    {                                                                                         \
        uint32_t f, fl = (uint32_t)rflags;                                                    \
        BY_SIZE(size, ASM_BINARY_LOCKED, pre, insn);                                          \
        return f;                                                                             \
    }

#define ASM_CARRY_IN "btl $0, %k[fl]\n\t"
DEFINE_BINARY(add, "", "add")
DEFINE_BINARY(or, "", "or")
DEFINE_BINARY(adc, ASM_CARRY_IN, "adc")
DEFINE_BINARY(sbb, ASM_CARRY_IN, "sbb")
DEFINE_BINARY(and, "", "and")
DEFINE_BINARY(sub, "", "sub")
DEFINE_BINARY(xor, "", "xor")
DEFINE_BINARY_REG(cmp, "", "cmp")
DEFINE_BINARY_REG(test, "", "test")

#define ASM_UNARY(sfx, m, insn) __asm__(insn sfx " %" m "[d]" ASM_FLAGS_SAVE : [d] "+r"(d), "=&a"(f) : : "cc")
#define ASM_UNARY_LOCKED(sfx, m, insn) \
    __asm__ volatile("lock " insn sfx " (%[p])" ASM_FLAGS_SAVE : "=&a"(f) : [p] "r"(p) : "cc", "memory")

/* INC and DEC leave CF, NOT leaves all flags as they are: the caller masks them. */
#define DEFINE_UNARY(name, insn)                                                                            \
    ALWAYS_INLINE uint64_t name##_reg(unsigned size, uint64_t d, uint64_t s, uint64_t rflags, uint32_t *ax) \
    {                                                                                                       \
        uint32_t f;                                                                                         \
        (void)s, (void)rflags;                                                                              \
        BY_SIZE(size, ASM_UNARY, insn);                                                                     \
        *ax = f;                                                                                            \
        return d;                                                                                           \
    }                                                                                                       \
    ALWAYS_INLINE uint32_t name##_locked(unsigned size, void *p, uint64_t s, uint64_t rflags)               \
    {                                                                                                       \
        uint32_t f;                                                                                         \
        (void)s, (void)rflags;                                                                              \
        BY_SIZE(size, ASM_UNARY_LOCKED, insn);                                                              \
        return f;                                                                                           \
    }

DEFINE_UNARY(inc, "inc")
DEFINE_UNARY(dec, "dec")
DEFINE_UNARY(neg, "neg")
DEFINE_UNARY(not, "not")

#endif
