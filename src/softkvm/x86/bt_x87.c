// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * x87 and MMX instructions in translated code. The state is live in the host's registers, so they are copied like any other; a
 * pending unmasked exception traps in the next waiting instruction, which then leaves for the interpreter.
 *
 * The last-instruction pointers need more, since the processor records the copy's address. Behind each x87 memory operand its
 * linear address goes to struct fpu's note_ea; which instruction was the last is known at each exit from the block, and noted there
 * by one store. In 64-bit code only segments without a base take part, whose offsets are linear addresses.
 *
 * Unmasking exceptions may make those pending that an earlier instruction has left, which changes no pointer. So FLDCW does not
 * change the masks in translated code: between two exits only arithmetic sets FSW.ES, and nothing clears it.
 */
#include "softkvm/x86/bt_xlat.h"
#include "softkvm/x86/isa_ops.h"
#include "softkvm/x86/native.h"

#define FPU_OFF(field) offsetof(struct vcpu, fpu.field)
#define FCW_MASKS      0x3f

bool xlat_is_x87(const struct insn *i)
{
    return i->opmap == 0 && (i->opcode & 0xf8) == 0xd8;
}

bool xlat_x87_here(const struct insn *i, uint32_t key)
{
    unsigned n;
    if (i->op == OP_fnclex || i->op == OP_fninit || (xlat_mem_operand(i, &n) && i->seg >= SEG_FS))
        return false;
    return key & BT_KEY_X87;
}

void xlat_x87_ran(struct xlat *x, const struct insn *i, unsigned k, const struct ea *ea, unsigned s)
{
    struct emit *e = &x->e;
    uint16_t fop;
    if (!native_x87_pointers(i, &fop))
        return;
    if (ea) {
        xlat_linear(x, ea, s);
        e_store(e, s, FPU_OFF(note_ea));
    }
    if (!x->x87_page) {
        s = ea ? s : xlat_scratch(x, k, 0);
        e_load(e, s, x->where);
        e_store(e, s, FPU_OFF(note_page));
        x->x87_page = true;
    }
    x->x87 = FPU_NOTE | (ea ? FPU_NOTE_MEM : 0) | (uint32_t)fop << FPU_NOTE_FOP | (x->page_off + x->at[k]);
}

void xlat_x87_note(struct xlat *x)
{
    if (x->x87)
        e_store_imm32(&x->e, FPU_OFF(note), x->x87);
}

/* The new control word is read once, compared with the present one, and loaded from where it was put. */
void xlat_fldcw(struct xlat *x, const struct insn *i, unsigned k)
{
    struct emit *e = &x->e;
    struct ea ea = xlat_ea(x, i);
    struct access a = {.k = k, .size = 2};
    xlat_x87_note(x); /* not behind it: there the interpreter may have unmasked what is pending */
    x->x87 = 0;
    xlat_flags_hold(x, &a);
    xlat_access(x, &a, &ea);
    xlat_op_0f(x, 8, 0xb7, a.s, &a); /* movzx s, word [...] */
    e_store32(e, a.s, BT_OFF(scratch[0]));
    static const uint8_t fnstcw_gs[] = {0x65, 0xd9, 0x3c, 0x25}, fldcw_gs[] = {0x65, 0xd9, 0x2c, 0x25};
    for (unsigned n = 0; n < sizeof fnstcw_gs; n++)
        e8(e, fnstcw_gs[n]);
    e32(e, BT_OFF(scratch[1]));
    e_gs(e, 0x33, a.s, BT_OFF(scratch[1])); /* xor s1, what was there */
    e_test8(e, a.s, FCW_MASKS);
    xlat_from(&x->asides[a.slow], e_jump(e, CC_NZ));
    xlat_flags_release(x, &a);
    for (unsigned n = 0; n < sizeof fldcw_gs; n++)
        e8(e, fldcw_gs[n]);
    e32(e, BT_OFF(scratch[0]));
}
