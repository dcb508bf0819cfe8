// SPDX-License-Identifier: GPL-2.0-or-later
/* What the differential test against the host cannot see, in memory: restarts, interruptions, faults in the middle, MMIO and ports,
 * self-modifying code. */
#include <stdio.h>
#include <string.h>

#include "../devices/check.h"
#include "flat.h"
#include "softkvm/api/api.h"

/* ---- strings ---- */

static void test_string_overlap(void)
{
    struct flat f;
    flat_init(&f, CODE64);
    FLAT_CODE_BYTES(&f, 0xf3, 0xa4); /* rep movsb */
    memcpy(f.ram + FLAT_DATA + 0xff0, "abcdefgh", 8);
    f.v->gpr[RSI] = FLAT_DATA + 0xff0;
    f.v->gpr[RDI] = FLAT_DATA + 0xff3;
    f.v->gpr[RCX] = 30;
    CHECK_EQ(cpu_step(f.v), STOP_NONE);
    CHECK_EQ(memcmp(f.ram + FLAT_DATA + 0xff0, "abcabcabcabcabcabcabcabcabcabcabc", 33), 0);
    CHECK_EQ(f.v->gpr[RCX], 0);
    CHECK_EQ(f.v->gpr[RDI], FLAT_DATA + 0xff3 + 30);
    CHECK_EQ(f.v->rip, FLAT_CODE + 2);
    flat_free(&f);
}

static void test_string_backward(void)
{
    struct flat f;
    flat_init(&f, CODE64);
    FLAT_CODE_BYTES(&f, 0xf3, 0xa5); /* rep movsd */
    for (unsigned n = 0; n < 8; n++)
        flat_write(&f, FLAT_DATA + 4 * n, n + 1, 4);
    f.v->rflags |= FL_DF;
    f.v->gpr[RSI] = FLAT_DATA + 28;
    f.v->gpr[RDI] = FLAT_DATA + 32;
    f.v->gpr[RCX] = 8;
    CHECK_EQ(cpu_step(f.v), STOP_NONE);
    for (unsigned n = 0; n < 8; n++)
        CHECK_EQ(flat_read(&f, FLAT_DATA + 4 + 4 * n, 4), n + 1);
    CHECK_EQ(f.v->gpr[RSI], FLAT_DATA - 4);
    flat_free(&f);
}

/* A request that arrives before the end suspends the instruction; RF is set so that its breakpoint is not met again. */
static void test_string_suspended(void)
{
    struct flat f;
    flat_init(&f, CODE64);
    FLAT_CODE_BYTES(&f, 0xf3, 0xaa); /* rep stosb */
    f.v->gpr[RAX] = 0x5a;
    f.v->gpr[RDI] = FLAT_DATA + 0x100;
    f.v->gpr[RCX] = 0x3000;
    flat_write(&f, FLAT_DATA + 0x100, 0, 1);
    cpu_request(f.v, REQ_EVENT);
    CHECK_EQ(cpu_step(f.v), STOP_NONE);
    CHECK_EQ(f.v->rip, FLAT_CODE);
    CHECK_EQ(f.v->gpr[RCX] > 0 && f.v->gpr[RCX] < 0x3000, true);
    CHECK_EQ(f.v->gpr[RCX] + f.v->gpr[RDI], FLAT_DATA + 0x3100);
    CHECK_EQ(f.v->rflags & FL_RF, FL_RF);
    f.v->requests = 0;
    CHECK_EQ(cpu_step(f.v), STOP_NONE);
    CHECK_EQ(f.v->rip, FLAT_CODE + 2);
    CHECK_EQ(f.v->rflags & FL_RF, 0);
    CHECK_EQ(flat_read(&f, FLAT_DATA + 0x30ff, 1), 0x5a);
    CHECK_EQ(flat_read(&f, FLAT_DATA + 0x3100, 1), 0);
    flat_free(&f);
}

/* A run of LODS leaves the element in front of the one that faults in AL, and goes on there. */
static void test_string_load(void)
{
    struct flat f;
    flat_init(&f, CODE64);
    FLAT_CODE_BYTES(&f, 0xf3, 0xac); /* rep lodsb */
    flat_write(&f, FLAT_DATA + 0x1fff, 0x42, 1);
    flat_unmap(&f, FLAT_DATA + 0x2000);
    f.v->gpr[RAX] = 0x1100;
    f.v->gpr[RSI] = FLAT_DATA + 0xf80;
    f.v->gpr[RCX] = 0x2000;
    CHECK_EQ(cpu_step(f.v), STOP_NONE);
    CHECK_EQ(flat_exception(f.v), EXC_PF);
    CHECK_EQ(f.v->cr2, FLAT_DATA + 0x2000);
    CHECK_EQ(f.v->gpr[RCX], 0x2000 - 0x1080);
    CHECK_EQ(f.v->gpr[RSI], FLAT_DATA + 0x2000);
    CHECK_EQ(f.v->gpr[RAX], 0x1142);
    CHECK_EQ(flat_read(&f, f.v->gpr[RSP] + 8, 8), FLAT_CODE);
    flat_free(&f);
}

static void test_string_fault(void)
{
    struct flat f;
    flat_init(&f, CODE64);
    FLAT_CODE_BYTES(&f, 0xf3, 0xa6); /* repe cmpsb */
    flat_unmap(&f, FLAT_DATA + 0x2000);
    f.v->rflags |= FL_CF | FL_SF;
    f.v->gpr[RSI] = FLAT_DATA + 0x1f00;
    f.v->gpr[RDI] = FLAT_DATA;
    f.v->gpr[RCX] = 0x200;
    CHECK_EQ(cpu_step(f.v), STOP_NONE);
    CHECK_EQ(flat_exception(f.v), EXC_PF);
    CHECK_EQ(f.v->cr2, FLAT_DATA + 0x2000);
    CHECK_EQ(f.v->gpr[RCX], 0x100);
    CHECK_EQ(f.v->gpr[RDI], FLAT_DATA + 0x100);
    /* The frame, upwards from rsp: error code, RIP, CS, RFLAGS. Flags are those from before the instruction, with RF. */
    CHECK_EQ(flat_read(&f, f.v->gpr[RSP] + 8, 8), FLAT_CODE);
    CHECK_EQ(flat_read(&f, f.v->gpr[RSP] + 24, 8), FL_ONE | FL_CF | FL_SF | FL_RF);
    flat_free(&f);
}

static void test_string_16bit_wrap(void)
{
    struct flat f;
    flat_init(&f, CODE16);
    FLAT_CODE_BYTES(&f, 0xf3, 0xaa); /* rep stosb */
    f.v->gpr[RAX] = 0x77;
    f.v->gpr[RDI] = 0x1234fffe;
    f.v->gpr[RCX] = 0xabcd0004;
    f.v->seg[SEG_ES].base = 0x20000;
    seg_fixup(f.v, SEG_ES);
    CHECK_EQ(cpu_step(f.v), STOP_NONE);
    CHECK_EQ(flat_read(&f, 0x2fffe, 2), 0x7777);
    CHECK_EQ(flat_read(&f, 0x20000, 4), 0x7777);
    CHECK_EQ(f.v->gpr[RDI], 0x12340002);
    CHECK_EQ(f.v->gpr[RCX], 0xabcd0000);
    flat_free(&f);
}

/* ---- user space: MMIO and ports ---- */

#define MMIO (FLAT_RAM + 0x1000) /* behind RAM */

static void map_mmio(struct flat *f, uint64_t la)
{
    flat_map(f, la, MMIO);
}

/* A read-modify-write on MMIO is one read exit and one write exit, and the instruction takes effect once. */
static void test_mmio_restart(void)
{
    struct flat f;
    flat_init(&f, CODE64);
    struct kvm_run *run = f.v->run;
    map_mmio(&f, FLAT_DATA);
    FLAT_CODE_BYTES(&f, 0x01, 0x03); /* add %eax, (%rbx) */
    f.v->gpr[RAX] = 5;
    f.v->gpr[RBX] = FLAT_DATA + 8;
    f.v->rflags |= FL_CF;
    CHECK_EQ(cpu_step(f.v), STOP_EXIT);
    CHECK_EQ(run->exit_reason, KVM_EXIT_MMIO);
    CHECK_EQ(run->mmio.is_write, 0);
    CHECK_EQ(run->mmio.phys_addr, MMIO + 8);
    CHECK_EQ(f.v->rip, FLAT_CODE);
    uint32_t val = 0xfffffffe;
    memcpy(run->mmio.data, &val, 4);
    exits_complete(f.v);
    CHECK_EQ(cpu_step(f.v), STOP_EXIT);
    CHECK_EQ(run->mmio.is_write, 1);
    memcpy(&val, run->mmio.data, 4);
    CHECK_EQ(val, 3);
    CHECK_EQ(f.v->rflags, FL_ONE | FL_CF);
    exits_complete(f.v);
    CHECK_EQ(cpu_step(f.v), STOP_NONE);
    CHECK_EQ(f.v->rip, FLAT_CODE + 2);
    CHECK_EQ(f.v->rflags & FL_ARITH, FL_CF | FL_PF | FL_AF);
    CHECK_EQ(f.v->io_done, 0);
    flat_free(&f);
}

/* Each element of a repeated instruction is an access of its own, and a finished one is never made again. */
static void test_mmio_string(void)
{
    struct flat f;
    flat_init(&f, CODE64);
    struct kvm_run *run = f.v->run;
    map_mmio(&f, FLAT_DATA);
    FLAT_CODE_BYTES(&f, 0xf3, 0xa5, 0xf4); /* rep movsd; hlt */
    f.v->gpr[RSI] = FLAT_DATA;
    f.v->gpr[RDI] = FLAT_DATA + 0x1000;
    f.v->gpr[RCX] = 3;
    for (unsigned n = 0; n < 3; n++) {
        CHECK_EQ(cpu_run(f.v), STOP_EXIT);
        CHECK_EQ(run->mmio.phys_addr, MMIO + 4 * n);
        CHECK_EQ(f.v->gpr[RCX], 3 - n);
        uint32_t val = 100 + n;
        memcpy(run->mmio.data, &val, 4);
        exits_complete(f.v);
    }
    CHECK_EQ(cpu_run(f.v), STOP_HALT);
    CHECK_EQ(flat_read(&f, FLAT_DATA + 0x1000, 4), 100);
    CHECK_EQ(flat_read(&f, FLAT_DATA + 0x1008, 4), 102);
    flat_free(&f);
}

/* What has been asked for before the exit is granted only once the instruction is complete; but then before the next one. */
static void test_mmio_then_request(void)
{
    struct flat f;
    flat_init(&f, CODE64);
    map_mmio(&f, FLAT_DATA);
    FLAT_CODE_BYTES(&f, 0x8b, 0x03, 0x90); /* mov (%rbx), %eax; nop */
    f.v->gpr[RBX] = FLAT_DATA;
    CHECK_EQ(cpu_run(f.v), STOP_EXIT);
    memset(((struct kvm_run *)f.v->run)->mmio.data, 0x11, 4);
    exits_complete(f.v);
    cpu_request(f.v, REQ_EXIT);
    CHECK_EQ(cpu_run(f.v), STOP_REQUEST);
    CHECK_EQ(f.v->gpr[RAX], 0x11111111);
    CHECK_EQ(f.v->rip, FLAT_CODE + 2);
    flat_free(&f);
}

static void test_ports_permission(void)
{
    struct flat f;
    flat_init(&f, CODE64);
    struct vcpu *v = f.v;
    v->cpl = 3;
    cpu_update_mode(v);
    flat_write(&f, FLAT_TSS + 102, 0x68, 2);
    v->seg[SEG_TR].limit = 0x68 + 0x20;
    memset(f.ram + FLAT_TSS + 0x68, 0xff, 0x21);
    flat_write(&f, FLAT_TSS + 0x68 + 0x80 / 8, 0xfffe, 2); /* port 0x80 alone is open */
    flat_write(&f, FLAT_TSS + 4, FLAT_STACK, 8);           /* RSP0 for the handler */
    FLAT_CODE_BYTES(&f, 0xe6, 0x80);                       /* out %al, $0x80 */
    CHECK_EQ(cpu_step(v), STOP_EXIT);
    CHECK_EQ(v->run->exit_reason, KVM_EXIT_IO);
    CHECK_EQ(v->run->io.port, 0x80);
    exits_complete(v);
    CHECK_EQ(cpu_step(v), STOP_NONE);
    CHECK_EQ(v->rip, FLAT_CODE + 2);
    FLAT_CODE_BYTES(&f, 0x66, 0xe7, 0x80); /* outw: port 0x81 is closed */
    CHECK_EQ(cpu_step(v), STOP_NONE);
    CHECK_EQ(flat_exception(v), EXC_GP);
    v->cpl = 3;
    cpu_update_mode(v);
    v->rflags |= FL_IOPL;
    FLAT_CODE_BYTES(&f, 0x66, 0xe7, 0x80);
    CHECK_EQ(cpu_step(v), STOP_EXIT);
    CHECK_EQ(v->run->io.size, 2);
    exits_drop(v);
    v->rflags &= ~FL_IOPL;
    FLAT_CODE_BYTES(&f, 0x66, 0xba, 0x07, 0x01,
                    0xee); /* mov $0x107, %dx; out: its bitmap byte is the last, whose successor must be within the limit */
    CHECK_EQ(cpu_step(v), STOP_NONE);
    CHECK_EQ(cpu_step(v), STOP_NONE);
    CHECK_EQ(flat_exception(v), EXC_GP);
    flat_free(&f);
}

/* ---- code ---- */

static void test_self_modifying(void)
{
    struct flat f;
    flat_init(&f, CODE64);
    /* mov $imm, %eax; incb imm; add %eax, %ecx; dec %edx; jnz: sums 0 + 1 + ... + 99 only when each store is seen */
    FLAT_CODE_BYTES(&f, 0xb8, 0, 0, 0, 0, 0xfe, 0x05, 0xf6, 0xff, 0xff, 0xff, 0x01, 0xc1, 0xff, 0xca, 0x75, 0xef, 0xf4);
    f.v->gpr[RCX] = 0;
    f.v->gpr[RDX] = 100;
    CHECK_EQ(cpu_run(f.v), STOP_HALT);
    CHECK_EQ(f.v->gpr[RCX], 4950);
    flat_free(&f);
}

/* The same linear address, other bytes by remapping. */
static void test_remapped_code(void)
{
    struct flat f;
    flat_init(&f, CODE64);
    f.ram[FLAT_DATA] = 0xf4;
    f.ram[FLAT_CODE] = 0x90;
    f.ram[FLAT_CODE + 1] = 0xf4;
    CHECK_EQ(cpu_run(f.v), STOP_HALT);
    CHECK_EQ(f.v->rip, FLAT_CODE + 2);
    flat_map(&f, FLAT_CODE, FLAT_DATA);
    f.v->rip = FLAT_CODE;
    CHECK_EQ(cpu_run(f.v), STOP_HALT);
    CHECK_EQ(f.v->rip, FLAT_CODE + 1);
    flat_free(&f);
}

static void test_page_crossing_code(void)
{
    static const uint8_t mov[] = {0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8}; /* movabs $0x0807060504030201, %rax */
    struct flat f;
    flat_init(&f, CODE64);
    uint64_t at = FLAT_CODE + 0x1000 - 5;
    memcpy(f.ram + at, mov, sizeof(mov));
    f.ram[at + sizeof(mov)] = 0xf4;
    flat_unmap(&f, FLAT_CODE + 0x1000);
    f.v->rip = at;
    CHECK_EQ(cpu_step(f.v), STOP_NONE);
    CHECK_EQ(flat_exception(f.v), EXC_PF);
    CHECK_EQ(f.v->cr2, FLAT_CODE + 0x1000);
    CHECK_EQ(flat_read(&f, f.v->gpr[RSP], 8), 0x10); /* instruction fetch */
    CHECK_EQ(flat_read(&f, f.v->gpr[RSP] + 8, 8), at);
    flat_map(&f, FLAT_CODE + 0x1000, FLAT_CODE + 0x1000);
    for (unsigned n = 0; n < 3; n++) { /* decoded, from the cache, from the cache after a change in the second page */
        f.ram[FLAT_CODE + 0x1000] = (uint8_t)(0x40 + n / 2);
        f.v->rip = at;
        CHECK_EQ(cpu_run(f.v), STOP_HALT);
        CHECK_EQ(f.v->gpr[RAX], 0x0807060500030201ull | (uint64_t)(0x40 + n / 2) << 24);
        flat_unmap(&f, FLAT_CODE + 0x1000);
        flat_map(&f, FLAT_CODE + 0x1000, FLAT_CODE + 0x1000);
    }
    /* A one-byte instruction in the last byte does not touch the next page, whatever the cache holds for this address. */
    flat_unmap(&f, FLAT_CODE + 0x1000);
    memset(f.ram + at, 0x90, 5);
    f.v->rip = at;
    for (unsigned n = 0; n < 5; n++)
        CHECK_EQ(cpu_step(f.v), STOP_NONE);
    CHECK_EQ(f.v->rip, FLAT_CODE + 0x1000);
    CHECK_EQ(flat_exception(f.v), -1);
    flat_free(&f);
}

static void test_length_limit(void)
{
    struct flat f;
    flat_init(&f, CODE64);
    uint8_t code[16];
    memset(code, 0x66, sizeof(code));
    code[14] = 0x90;
    flat_code(&f, code, sizeof(code));
    CHECK_EQ(cpu_step(f.v), STOP_NONE);
    CHECK_EQ(f.v->rip, FLAT_CODE + 15);
    code[14] = 0x66;
    code[15] = 0x90;
    flat_code(&f, code, sizeof(code));
    CHECK_EQ(cpu_step(f.v), STOP_NONE);
    CHECK_EQ(flat_exception(f.v), EXC_GP);
    flat_free(&f);
}

static void test_code_limit(void)
{
    struct flat f;
    flat_init(&f, CODE32);
    f.v->seg[SEG_CS].limit = FLAT_CODE + 3;
    FLAT_CODE_BYTES(&f, 0x90, 0xb8, 1, 0, 0, 0); /* nop; mov $1, %eax: reaches beyond the limit */
    f.v->gpr[RAX] = 7;
    CHECK_EQ(cpu_step(f.v), STOP_NONE);
    CHECK_EQ(cpu_step(f.v), STOP_NONE);
    /* Frame: error code, EIP. */
    CHECK_EQ(flat_exception(f.v), EXC_GP);
    CHECK_EQ(flat_read(&f, f.v->gpr[RSP] + 4, 4), FLAT_CODE + 1);
    CHECK_EQ(f.v->gpr[RAX], 7);
    f.v->seg[SEG_CS].limit = FLAT_CODE + 3;
    FLAT_CODE_BYTES(&f, 0xeb, 0x02); /* jmp to the first byte beyond */
    CHECK_EQ(cpu_step(f.v), STOP_NONE);
    CHECK_EQ(flat_exception(f.v), EXC_GP);
    CHECK_EQ(flat_read(&f, f.v->gpr[RSP] + 4, 4), FLAT_CODE);
    flat_free(&f);
}

static void test_ip_wrap(void)
{
    struct flat f;
    flat_init(&f, CODE16);
    f.v->rip = 0xfff0;
    f.ram[FLAT_CODE + 0xfff0] = 0xeb; /* jmp +0x20: to 0x0012 */
    f.ram[FLAT_CODE + 0xfff1] = 0x20;
    CHECK_EQ(cpu_step(f.v), STOP_NONE);
    CHECK_EQ(f.v->rip, 0x12);
    f.v->rip = 0xfff0;
    f.v->gpr[RSP] = 0x12340000;
    f.ram[FLAT_CODE + 0xfff0] = 0xe8; /* call +0x40 */
    f.ram[FLAT_CODE + 0xfff1] = 0x40;
    f.ram[FLAT_CODE + 0xfff2] = 0;
    CHECK_EQ(cpu_step(f.v), STOP_NONE);
    CHECK_EQ(f.v->rip, 0x33);
    CHECK_EQ(f.v->gpr[RSP], 0x1234fffe);
    CHECK_EQ(flat_read(&f, 0xfffe, 2), 0xfff3);
    flat_free(&f);
}

static void test_non_canonical_branch(void)
{
    struct flat f;
    flat_init(&f, CODE64);
    FLAT_CODE_BYTES(&f, 0xff, 0xe0); /* jmp *%rax */
    f.v->gpr[RAX] = 1ull << 47;
    CHECK_EQ(cpu_step(f.v), STOP_NONE);
    CHECK_EQ(flat_exception(f.v), EXC_GP);
    CHECK_EQ(flat_read(&f, f.v->gpr[RSP] + 8, 8), FLAT_CODE);
    uint64_t sp = f.v->gpr[RSP];
    FLAT_CODE_BYTES(&f, 0xc3); /* ret: pops nothing when it faults */
    flat_write(&f, sp, 1ull << 63, 8);
    CHECK_EQ(cpu_step(f.v), STOP_NONE);
    CHECK_EQ(flat_exception(f.v), EXC_GP);
    CHECK_EQ(flat_read(&f, f.v->gpr[RSP] + 32, 8), sp);
    flat_free(&f);
}

int main(void)
{
    test_string_overlap();
    test_string_backward();
    test_string_suspended();
    test_string_load();
    test_string_fault();
    test_string_16bit_wrap();
    test_mmio_restart();
    test_mmio_string();
    test_mmio_then_request();
    test_ports_permission();
    test_self_modifying();
    test_remapped_code();
    test_page_crossing_code();
    test_length_limit();
    test_code_limit();
    test_ip_wrap();
    test_non_canonical_branch();
    puts("interp: 17 tests passed");
    return 0;
}
