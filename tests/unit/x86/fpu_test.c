// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The engine's vector state beyond single instructions: device memory as operand, the switches in CR0, CR4 and XCR0, the VMM's own
 * control words, real-mode environments, PKRU in save areas, user space's formats, and more different instructions than there is
 * room for stubs.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "flat.h"
#include "softkvm/api/api.h"
#include "softkvm/x86/fpu.h"

static unsigned failures;
#define CHECK(cond)                                           \
    do {                                                      \
        if (!(cond)) {                                        \
            printf("%s:%d: %s\n", __func__, __LINE__, #cond); \
            failures++;                                       \
        }                                                     \
    } while (0)

#define CODE(name, text) FLAT_PROGRAM(code_##name, text)
#define LOAD(f, name)    flat_code(f, code_##name, (size_t)(code_##name##_end - code_##name))

#define MMIO_LA  (FLAT_DATA + 0x10000)
#define MMIO_GPA 0x10000000ull

/* A 64-bit guest with everything enabled; one page of device memory behind one of RAM. */
static void guest(struct flat *f)
{
    flat_init(f, CODE64);
    f->v->cr4 |= CR4_OSXSAVE;
    f->v->xcr0 = f->v->guest_xcr0_mask = XCR0_X87 | XCR0_SSE | XCR0_AVX;
    *flat_pte(f, MMIO_LA) = MMIO_GPA | 7;
    cpu_update_mode(f->v);
    mmu_flush_all(f->v);
}

/* Runs until HLT or an exception's handler (which begins with HLT); the vector or -1. */
static int run(struct vcpu *v)
{
    enum cpu_stop stop = cpu_run(v);
    fpu_put(v);
    CHECK(stop == STOP_HALT);
    v->rip -= 1;
    return flat_exception(v);
}

/* ---- device memory ---- */

struct mmio_log {
    unsigned count;
    struct {
        uint64_t gpa;
        uint8_t len, write;
        uint8_t data[8];
    } access[16];
};

/* Runs to HLT; user space answers reads with bytes that count up from 0xa0. */
static void run_mmio(struct vcpu *v, struct mmio_log *log)
{
    uint8_t next = 0xa0;
    log->count = 0;
    enum cpu_stop stop;
    while ((stop = cpu_run(v)) == STOP_EXIT && log->count < ARRAY_SIZE(log->access)) {
        fpu_put(v);
        CHECK(v->run->exit_reason == KVM_EXIT_MMIO);
        log->access[log->count].gpa = v->run->mmio.phys_addr;
        log->access[log->count].len = (uint8_t)v->run->mmio.len;
        log->access[log->count].write = v->run->mmio.is_write;
        for (unsigned n = 0; !v->run->mmio.is_write && n < v->run->mmio.len; n++)
            v->run->mmio.data[n] = next++;
        memcpy(log->access[log->count++].data, v->run->mmio.data, 8);
        exits_complete(v);
    }
    fpu_put(v);
    CHECK(stop == STOP_HALT);
}

CODE(mmio_pop, "fninit\n fld1\n fldpi\n fstpl 0x110000\n fnstsw 0x100000\n fstpl 0x100008\n fnstsw 0x100002\n hlt\n");
static void test_mmio_pop(void)
{
    struct flat f;
    struct mmio_log log;
    const double pi = 3.14159265358979323846, one = 1.0;
    guest(&f);
    LOAD(&f, mmio_pop);
    run_mmio(f.v, &log);
    CHECK(log.count == 1 && log.access[0].gpa == MMIO_GPA && log.access[0].len == 8 && log.access[0].write);
    CHECK(!memcmp(log.access[0].data, &pi, 8));
    CHECK(!memcmp(f.ram + FLAT_DATA + 8, &one, 8)); /* popped once */
    CHECK((f.ram[FLAT_DATA + 1] & 0x38) == 7 << 3 && (f.ram[FLAT_DATA + 3] & 0x38) == 0);
    flat_free(&f);
}

CODE(mmx_fault, "fninit\n fld1\n fldpi\n mov $0x8000000000000000, %rax\n movq %mm6, (%rax)\n hlt\n");
static void test_mmx_fault(void)
{
    static const uint8_t one[10] = {[7] = 0x80, [8] = 0xff, [9] = 0x3f};
    struct flat f;
    guest(&f);
    LOAD(&f, mmx_fault);
    CHECK(run(f.v) == EXC_GP);
    const uint8_t *area = f.v->fpu.area;
    CHECK(!(area[3] & 0x38) && area[4] == 0xc0); /* TOP is 0, and nothing else has changed: the processor does so, too */
    CHECK(!memcmp(area + 32 + 16 * 7, one, 10));
    flat_free(&f);
}

CODE(mmio_ten, "fninit\n fldz\n fld1\n fstpt 0x110000\n fldt 0x110010\n fstpt 0x100000\n hlt\n");
static void test_mmio_ten_bytes(void)
{
    struct flat f;
    struct mmio_log log;
    guest(&f);
    LOAD(&f, mmio_ten);
    run_mmio(f.v, &log);
    CHECK(log.count == 4);
    CHECK(log.access[0].len == 8 && log.access[1].len == 2 && log.access[1].gpa == MMIO_GPA + 8);
    CHECK(log.access[0].data[7] == 0x80 && log.access[1].data[0] == 0xff && log.access[1].data[1] == 0x3f);
    CHECK(!log.access[2].write && log.access[2].gpa == MMIO_GPA + 16 && log.access[3].len == 2);
    for (unsigned n = 0; n < 10; n++)
        CHECK(f.ram[FLAT_DATA + n] == 0xa0 + n);
    flat_free(&f);
}

CODE(mmio_wide,
     "vpcmpeqd %ymm1, %ymm1, %ymm1\n vmovdqu %ymm1, 0x10fff0\n vmovdqu 0x10fff0, %ymm2\n vmovdqu %ymm2, 0x100000\n hlt\n");
static void test_mmio_split(void)
{
    struct flat f;
    struct mmio_log log;
    guest(&f);
    LOAD(&f, mmio_wide);
    run_mmio(f.v, &log);
    CHECK(log.count == 4 && log.access[0].write && log.access[1].gpa == MMIO_GPA + 8 && !log.access[2].write);
    for (unsigned n = 0; n < 32; n++)
        CHECK(f.ram[FLAT_DATA + n] == (n < 16 ? 0xff : 0xa0 + n - 16));
    flat_free(&f);
}

CODE(mmio_masked,
     "fninit\n fldz\n movw $0x37e, 0x100000\n fldcw 0x100000\n fldz\n fldz\n fldz\n fldz\n fldz\n fldz\n fldz\n fincstp\n"
     "ffree %st(0)\n fstpl 0x110000\n hlt\n");
static void test_mmio_suppressed(void)
{
    struct flat f;
    struct mmio_log log;
    guest(&f);
    LOAD(&f, mmio_masked);
    run_mmio(f.v, &log); /* an unmasked stack underflow: nothing is stored */
    CHECK(log.count == 0);
    CHECK(f.v->fpu.area[2] & 0x80);
    flat_free(&f);
}

CODE(mmio_gather, "movl $0x110000, 0x100000\n movl $0x110008, 0x100004\n movl $0x100100, 0x100008\n movl $0x110010, 0x10000c\n"
                  "movl $0x11223344, 0x100100\n vmovdqu 0x100000, %xmm1\n vpcmpeqd %xmm2, %xmm2, %xmm2\n xor %eax, %eax\n"
                  "vpgatherdd %xmm2, (%rax,%xmm1), %xmm3\n vmovdqu %xmm3, 0x100020\n vmovdqu %xmm2, 0x100030\n hlt\n");
static void test_mmio_gather(void)
{
    struct flat f;
    struct mmio_log log;
    static const uint8_t want[16] = {0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7,
                                     0x44, 0x33, 0x22, 0x11, 0xa8, 0xa9, 0xaa, 0xab};
    static const uint8_t zero[16];
    guest(&f);
    LOAD(&f, mmio_gather);
    run_mmio(f.v, &log);
    CHECK(log.count == 3 && log.access[2].gpa == MMIO_GPA + 16);
    CHECK(!memcmp(f.ram + FLAT_DATA + 0x20, want, 16) && !memcmp(f.ram + FLAT_DATA + 0x30, zero, 16));
    flat_free(&f);
}

/* ---- the switches ---- */

CODE(x87, "fld1\n hlt\n");
CODE(wait, "fwait\n hlt\n");
CODE(mmx, "paddb %mm0, %mm1\n hlt\n");
CODE(sse, "addps %xmm0, %xmm1\n hlt\n");
CODE(avx, "vaddps %xmm0, %xmm1, %xmm2\n hlt\n");
CODE(fxsr, "fxsave 0x100000\n hlt\n");
CODE(xsave, "xor %edx, %edx\n mov $7, %eax\n xsave 0x100000\n hlt\n");
CODE(ldmxcsr, "movl $0x1f80, 0x100000\n ldmxcsr 0x100000\n hlt\n");

struct gate {
    const char *name;
    const uint8_t *code, *end;
    uint64_t cr0, cr4, xcr0; /* set; cleared; cleared */
    int vector;
};
#define GATE(name, cr0, cr4, xcr0, vector)                            \
    {                                                                 \
#name, code_##name, code_##name##_end, cr0, cr4, xcr0, vector \
    }

static void test_switches(void)
{
    const struct gate gates[] = {
        GATE(x87, 0, 0, 0, -1),
        GATE(x87, CR0_TS, 0, 0, EXC_NM),
        GATE(x87, CR0_EM, 0, 0, EXC_NM),
        GATE(x87, CR0_MP, CR4_OSFXSR, 0, -1),
        GATE(wait, CR0_TS, 0, 0, -1),
        GATE(wait, CR0_EM | CR0_MP, 0, 0, -1),
        GATE(wait, CR0_TS | CR0_MP, 0, 0, EXC_NM),
        GATE(mmx, 0, CR4_OSFXSR, 0, -1),
        GATE(mmx, CR0_EM, 0, 0, EXC_UD),
        GATE(mmx, CR0_TS, 0, 0, EXC_NM),
        GATE(mmx, CR0_TS | CR0_EM, 0, 0, EXC_UD),
        GATE(sse, 0, 0, 0, -1),
        GATE(sse, CR0_EM, 0, 0, EXC_UD),
        GATE(sse, 0, CR4_OSFXSR, 0, EXC_UD),
        GATE(sse, CR0_TS, CR4_OSFXSR, 0, EXC_UD),
        GATE(sse, CR0_TS, 0, 0, EXC_NM),
        GATE(avx, 0, 0, 0, -1),
        GATE(avx, CR0_EM, CR4_OSFXSR, 0, -1),
        GATE(avx, 0, CR4_OSXSAVE, 0, EXC_UD),
        GATE(avx, 0, 0, XCR0_AVX, EXC_UD),
        GATE(avx, CR0_TS, 0, 0, EXC_NM),
        GATE(fxsr, 0, 0, 0, -1),
        GATE(fxsr, CR0_EM, 0, 0, EXC_NM),
        GATE(fxsr, CR0_TS, 0, 0, EXC_NM),
        GATE(xsave, CR0_EM, 0, 0, -1),
        GATE(xsave, CR0_TS, 0, 0, EXC_NM),
        GATE(xsave, CR0_TS, CR4_OSXSAVE, 0, EXC_UD),
        GATE(ldmxcsr, 0, 0, 0, -1),
        GATE(ldmxcsr, CR0_EM, 0, 0, EXC_UD),
        GATE(ldmxcsr, 0, CR4_OSFXSR, 0, EXC_UD),
    };
    for (unsigned n = 0; n < ARRAY_SIZE(gates); n++) {
        struct flat f;
        guest(&f);
        f.v->cr0 |= gates[n].cr0;
        f.v->cr4 &= ~gates[n].cr4;
        f.v->xcr0 &= ~gates[n].xcr0;
        flat_code(&f, gates[n].code, (size_t)(gates[n].end - gates[n].code));
        int vector = run(f.v);
        if (vector != gates[n].vector) {
            printf("switches: case %u, %s: exception %d, not %d\n", n, gates[n].name, vector, gates[n].vector);
            failures++;
        }
        flat_free(&f);
    }
}

CODE(real_avx, ".code16\n .byte 0xc5, 0xf0, 0x58, 0xd0\n hlt\n .code64\n");
static void test_real_mode_avx(void)
{
    struct flat f;
    flat_init(&f, CODE16);
    f.v->cr4 |= CR4_OSXSAVE | CR4_OSFXSR;
    f.v->xcr0 = 7;
    LOAD(&f, real_avx);
    CHECK(cpu_step(f.v) == STOP_NONE);
    fpu_put(f.v);
    CHECK(flat_exception(f.v) == EXC_UD);
    flat_free(&f);
}

CODE(simd_fault, "movl $0x1d80, 0x100000\n ldmxcsr 0x100000\n xorps %xmm0, %xmm0\n movl $0x3f800000, %eax\n movd %eax, %xmm1\n"
                 "divss %xmm0, %xmm1\n hlt\n");
CODE(x87_fault, "fninit\n movw $0x37b, 0x100000\n fldcw 0x100000\n fld1\n fldz\n fdivrp\n nop\n fld1\n hlt\n");
static void test_numeric_faults(void)
{
    struct flat f;
    guest(&f);
    LOAD(&f, simd_fault);
    CHECK(run(f.v) == EXC_XM);
    CHECK(f.v->fpu.area[24] & 4); /* MXCSR.ZE */
    flat_free(&f);
    guest(&f);
    f.v->cr4 &= ~CR4_OSXMMEXCPT;
    LOAD(&f, simd_fault);
    CHECK(run(f.v) == EXC_UD);
    flat_free(&f);
    guest(&f);
    LOAD(&f, x87_fault);
    CHECK(run(f.v) == EXC_MF);
    CHECK((f.v->fpu.area[2] & 0x84) == 0x84); /* ES, ZE */
    flat_free(&f);
}

/* ---- the VMM's own state ---- */

CODE(spoil, "fninit\n fldpi\n fldpi\n movl $0x7fc0, 0x100000\n ldmxcsr 0x100000\n movw $0x40, 0x100000\n fldcw 0x100000\n hlt\n");
static void test_own_control_words(void)
{
    struct flat f;
    uint32_t mxcsr = 0x9fc0, mxcsr_after, default_mxcsr = 0x1f80;
    uint16_t fcw = 0x27f, fcw_after, fsw_after, default_fcw = 0x37f;
    guest(&f);
    LOAD(&f, spoil);
    __asm__ volatile("ldmxcsr %0\n fldcw %1" : : "m"(mxcsr), "m"(fcw));
    int vector = run(f.v);
    __asm__ volatile("stmxcsr %0\n fnstcw %1\n fnstsw %2" : "=m"(mxcsr_after), "=m"(fcw_after), "=m"(fsw_after));
    __asm__ volatile("ldmxcsr %0\n fldcw %1" : : "m"(default_mxcsr), "m"(default_fcw));
    CHECK(vector == -1);
    CHECK(mxcsr_after == mxcsr && fcw_after == fcw && fsw_after == 0);
    CHECK(f.v->fpu.area[0] == 0x40 && f.v->fpu.area[24] == 0xc0 && f.v->fpu.area[25] == 0x7f);
    flat_free(&f);
}

/* ---- real-mode environments: SDM vol. 1, figures 8-10 and 8-12 ---- */

CODE(real_env, ".code16\n fninit\n fld1\n .byte 0x66\n fnstenv 0x100\n fnstenv 0x200\n fninit\n fldenv 0x200\n fnstenv 0x300\n"
               ".byte 0x66\n fldenv 0x100\n .byte 0x66\n fnstenv 0x400\n hlt\n .code64\n");
static void test_real_mode_environment(void)
{
    struct flat f;
    flat_init(&f, CODE16);
    LOAD(&f, real_env);
    for (unsigned n = 0; n < 10; n++)
        CHECK(cpu_step(f.v) == (n < 9 ? STOP_NONE : STOP_HALT));
    fpu_put(f.v);
    const uint8_t *wide = f.ram + 0x100, *narrow = f.ram + 0x200;
    CHECK(wide[0] == 0x7f && wide[1] == 3 && wide[5] == 0x38 && wide[9] == 0x3f);
    CHECK(wide[12] == 2 && wide[13] == 0); /* FIP: fld1 stands at offset 2 */
    CHECK(narrow[0] == 0x7f && narrow[3] == 0x38 && narrow[5] == 0x3f && narrow[6] == 2 && narrow[7] == 0);
    CHECK(!memcmp(narrow, f.ram + 0x300, 14));
    CHECK(!memcmp(wide + 4, f.ram + 0x404, 24));
    flat_free(&f);
}

/* ---- PKRU ---- */

CODE(pkru,
     "xor %edx, %edx\n mov $0x203, %eax\n xsave64 0x100000\n xsavec64 0x101000\n movl $0xcc, 0x101240\n xrstor64 0x101000\n hlt\n");
static void test_pkru(void)
{
    struct flat f;
    uint32_t size, offset;
    guest(&f);
    f.v->xcr0 |= XCR0_PKRU;
    f.v->pkru = 0x54;
    CHECK(xstate_component(9, &size, &offset) && size == 8);
    CHECK(xstate_size(0x207, false) == offset + 8 && xstate_size(0x207, true) == 576 + 256 + 8 && xstate_size(3, false) == 576);
    LOAD(&f, pkru);
    CHECK(run(f.v) == -1);
    CHECK(f.ram[FLAT_DATA + offset] == 0x54 && f.ram[FLAT_DATA + 513] == 2);
    CHECK(f.ram[FLAT_DATA + 0x1000 + 513] == 2 && f.ram[FLAT_DATA + 0x1000 + 521] == 2 && f.ram[FLAT_DATA + 0x1000 + 527] == 0x80);
    CHECK(f.v->pkru == 0xcc); /* right behind the header, since AVX was not asked for */
    flat_free(&f);
}

/* ---- user space ---- */

static void test_user_formats(void)
{
    struct flat f;
    static uint8_t area[4096] __attribute__((aligned(64))), back[4096];
    struct kvm_fpu fpu;
    guest(&f);
    fpu_get_kvm(f.v, &fpu);
    CHECK(fpu.fcw == 0x37f && fpu.fsw == 0 && fpu.ftwx == 0 && fpu.mxcsr == 0x1f80);
    fpu.xmm[15][3] = 0x77;
    fpu.last_ip = 0x123456789a;
    fpu.mxcsr = 0;
    fpu_set_kvm(f.v, &fpu);
    fpu_get_xsave(f.v, area, sizeof(area));
    CHECK(area[160 + 15 * 16 + 3] == 0x77 && area[24] == 0x80 && (area[512] & 3) == 3 && area[8] == 0x9a);

    for (unsigned n = 0; n < 256; n++)
        area[576 + n] = (uint8_t)n;
    area[512] = 7;
    CHECK(fpu_set_xsave(f.v, area, sizeof(area), 7) == 0);
    fpu_get_xsave(f.v, back, sizeof(back));
    CHECK(!memcmp(area, back, sizeof(area)));
    CHECK(fpu_set_xsave(f.v, area, sizeof(area), 3) == -EINVAL);
    area[521] = 1;
    CHECK(fpu_set_xsave(f.v, area, sizeof(area), 7) == -EINVAL);
    area[521] = 0;
    area[575] = 1;
    CHECK(fpu_set_xsave(f.v, area, sizeof(area), 7) == -EINVAL);
    area[575] = 0;
    area[26] = 1;
    CHECK(fpu_set_xsave(f.v, area, sizeof(area), 7) == -EINVAL);
    CHECK(fpu_set_xsave(f.v, area, 1024, 7) == -EINVAL);
    fpu_get_xsave(f.v, back, sizeof(back));
    CHECK(back[577] == 1); /* refused areas have changed nothing */
    area[26] = 0;
    area[512] = 1;
    CHECK(fpu_set_xsave(f.v, area, sizeof(area), 7) == 0);
    fpu_get_xsave(f.v, back, sizeof(back));
    CHECK(back[577] == 0 && back[160 + 15 * 16 + 3] == 0); /* components without a bit are initialised */
    flat_free(&f);
}

/* ---- more instructions than stubs ---- */

static void set_xmm(struct vcpu *v, unsigned reg, const uint32_t val[4])
{
    memcpy(v->fpu.area + 160 + 16 * reg, val, 16);
    v->fpu.area[512] |= 2;
}

struct shuffler {
    struct flat *f;
    struct vcpu *v;
    uint64_t at; /* of its code */
    unsigned wrong;
};

/* Every PSHUFD there is. */
static void *shuffle(void *arg)
{
    struct shuffler *w = arg;
    for (unsigned n = 0; n < 1u << 16 && !w->wrong; n++) {
        unsigned dst = n & 15, src = n >> 4 & 15, imm = n >> 8;
        const uint32_t in[4] = {n, ~n, n * 3, 0x12345678};
        uint32_t out[4];
        const uint8_t pshufd[] = {0x66, (uint8_t)(0x40 | (dst >> 3) << 2 | src >> 3), 0x0f,
                                  0x70, (uint8_t)(0xc0 | (dst & 7) << 3 | (src & 7)), (uint8_t)imm};
        set_xmm(w->v, src, in);
        memcpy(w->f->ram + w->at, pshufd, sizeof(pshufd));
        w->v->rip = w->at;
        w->wrong |= cpu_step(w->v) != STOP_NONE;
        fpu_put(w->v);
        memcpy(out, w->v->fpu.area + 160 + 16 * dst, 16);
        for (unsigned k = 0; k < 4; k++)
            w->wrong |= out[k] != in[imm >> 2 * k & 3];
    }
    return NULL;
}

static void test_many_stubs(void)
{
    struct flat f;
    pthread_t thread;
    guest(&f);
    struct shuffler mine = {.f = &f, .v = f.v, .at = FLAT_CODE},
                    other = {.f = &f, .v = flat_add(&f, CODE64), .at = FLAT_CODE + 0x1000};
    CHECK(!pthread_create(&thread, NULL, shuffle, &other));
    shuffle(&mine);
    pthread_join(thread, NULL);
    CHECK(!mine.wrong && !other.wrong);
    LOAD(&f, simd_fault); /* traps in the scratch stub, too */
    CHECK(run(f.v) == EXC_XM);
    flat_free(&f);
}

int main(void)
{
    int e = native_init();
    if (e) {
        printf("cannot run vector instructions here: %s\n", strerror(-e));
        return 1;
    }
    test_mmio_pop();
    test_mmio_ten_bytes();
    test_mmx_fault();
    test_mmio_split();
    test_mmio_suppressed();
    test_mmio_gather();
    test_switches();
    test_real_mode_avx();
    test_numeric_faults();
    test_own_control_words();
    test_real_mode_environment();
    test_pkru();
    test_user_formats();
    test_many_stubs();
    printf("%s\n", failures ? "FAILED" : "ok");
    return failures != 0;
}
