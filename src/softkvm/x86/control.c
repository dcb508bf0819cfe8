// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Control and debug registers, XCR0 and PKRU, and the instructions that invalidate translations or caches. SDM vol. 3, 2.5, 4.10.4
 * and 4.1.2.
 *
 * The software TLB holds translations of the current CR3 alone: every write of CR3 empties it, so PCIDs need no further care here.
 */
#include "softkvm/direct.h"
#include "softkvm/irqchip/irqchip.h"
#include "softkvm/x86/debug.h"
#include "softkvm/x86/desc.h"
#include "softkvm/x86/isa.h"
#include "softkvm/x86/sys.h"

#define CR0_VALID    (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG)
#define CR3_NO_FLUSH BIT64(63)

/* ---- CR0, CR3, CR4, CR8 ---- */

/* Enabling paging with EFER.LME enters IA-32e mode; SDM vol. 3, 10.8.5. */
static void check_paging_on(struct vcpu *v, uint64_t val)
{
    if (!(v->efer & EFER_LME)) {
        if ((v->cr4 & CR4_PAE) && !mmu_load_pdptrs(v, v->cr3))
            cpu_gp(v, 0);
        return;
    }
    bool tss16 = !v->seg[SEG_TR].unusable && !(SEG_TYPE(&v->seg[SEG_TR]) & 8) && (val & CR0_PE);
    if (!(v->cr4 & CR4_PAE) || (v->seg[SEG_CS].attr & SEG_L) || tss16)
        cpu_gp(v, 0);
}

void cr0_write(struct vcpu *v, uint64_t val)
{
    uint64_t old = v->cr0;
    if (val >> 32 || ((val & CR0_PG) && !(val & CR0_PE)) || ((val & CR0_NW) && !(val & CR0_CD)))
        cpu_gp(v, 0);
    val = (val & CR0_VALID) | CR0_ET;
    uint64_t changed = old ^ val;
    if (!(val & CR0_PG) && (old & CR0_PG) && (cpu_64bit(v) || (v->cr4 & CR4_PCIDE)))
        cpu_gp(v, 0);
    if (val & changed & CR0_PG)
        check_paging_on(v, val);
    else if ((val & CR0_PG) && (changed & (CR0_CD | CR0_NW)) && (v->cr4 & CR4_PAE) && !v->long_mode && !mmu_load_pdptrs(v, v->cr3))
        cpu_gp(v, 0);
    v->cr0 = val;
    if (changed & CR0_PG) {
        bool lma = (val & CR0_PG) && (v->efer & EFER_LME);
        v->efer = (v->efer & ~EFER_LMA) | (lma ? EFER_LMA : 0);
    }
    if (changed & (CR0_PG | CR0_PE | CR0_WP))
        mmu_flush_all(v);
    cpu_update_mode(v);
}

void cr3_write(struct vcpu *v, uint64_t val)
{
    bool keep = (v->cr4 & CR4_PCIDE) && (val & CR3_NO_FLUSH);
    if (v->cr4 & CR4_PCIDE)
        val &= ~CR3_NO_FLUSH;
    if (v->long_mode) {
        if (val >> v->phys_bits)
            cpu_gp(v, 0);
    } else {
        val = (uint32_t)val;
        if (v->paging && (v->cr4 & CR4_PAE) && !mmu_load_pdptrs(v, val))
            cpu_gp(v, 0);
    }
    if (v->cr4 & CR4_PCIDE)
        mmu_switch_space(v, v->cr3 & 0xfff, val & 0xfff, keep);
    else
        mmu_flush_address_space(v);
    v->cr3 = val;
    direct_note_cr3(v, keep);
}

static uint64_t cr4_valid(const struct vcpu *v)
{
    uint64_t mask =
        CR4_VME | CR4_PVI | CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_PCE | CR4_OSFXSR | CR4_OSXMMEXCPT;
    mask |= v->has.umip ? CR4_UMIP : 0;
    mask |= v->has.fsgsbase ? CR4_FSGSBASE : 0;
    mask |= v->has.pcid ? CR4_PCIDE : 0;
    mask |= v->has.xsave ? CR4_OSXSAVE : 0;
    mask |= v->has.smep ? CR4_SMEP : 0;
    mask |= v->has.smap ? CR4_SMAP : 0;
    mask |= v->has.pku ? CR4_PKE : 0;
    return mask;
}

void cr4_write(struct vcpu *v, uint64_t val)
{
    uint64_t changed = v->cr4 ^ val;
    if ((val & ~cr4_valid(v)) || (v->long_mode && !(val & CR4_PAE)))
        cpu_gp(v, 0);
    if ((val & changed & CR4_PCIDE) && (!v->long_mode || (v->cr3 & 0xfff)))
        cpu_gp(v, 0);
    bool pae = v->paging && !v->long_mode && (val & CR4_PAE);
    if (pae && (changed & (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP)) && !mmu_load_pdptrs(v, v->cr3))
        cpu_gp(v, 0);
    v->cr4 = val;
    if (changed & (CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCIDE | CR4_SMEP | CR4_SMAP | CR4_PKE))
        mmu_flush_all(v);
    cpu_update_mode(v);
}

uint64_t cr8_read(struct vcpu *v)
{
    if (!v->lapic)
        return v->cr8;
    fpu_put(v);
    return lapic_tpr_get(v);
}

void cr8_write(struct vcpu *v, uint64_t val)
{
    if (val > 15)
        cpu_gp(v, 0);
    if (v->lapic) {
        fpu_put(v);
        lapic_tpr_set(v, val);
        cpu_request(v, REQ_EVENT);
        return;
    }
    /* User space's LAPIC must learn of a lower priority; the instruction, restarted, then finds it written already. */
    bool lower = val < v->cr8;
    v->cr8 = val;
    if (lower) {
        v->run->exit_reason = KVM_EXIT_SET_TPR;
        cpu_exit(v, STOP_EXIT);
    }
}

static uint64_t cr_read(struct vcpu *v, unsigned n)
{
    switch (n) {
    case 0:
        return v->cr0;
    case 2:
        return v->cr2;
    case 3:
        return v->cr3;
    case 4:
        return v->cr4;
    case 8:
        return cr8_read(v);
    default:
        cpu_ud(v);
    }
}

static void cr_write(struct vcpu *v, unsigned n, uint64_t val)
{
    switch (n) {
    case 0:
        cr0_write(v, val);
        break;
    case 2:
        v->cr2 = val;
        break;
    case 3:
        cr3_write(v, val);
        break;
    case 4:
        cr4_write(v, val);
        break;
    case 8:
        cr8_write(v, val);
        break;
    default:
        cpu_ud(v);
    }
}

static bool is_cr(unsigned n)
{
    return n == 0 || (n >= 2 && n <= 4) || n == 8;
}

void op_mov_cr(struct vcpu *v, const struct insn *i)
{
    bool to_cr = i->ops[0].kind == OPK_CR;
    unsigned n = i->ops[to_cr ? 0 : 1].reg;
    if (!is_cr(n))
        cpu_ud(v);
    require_cpl0(v);
    if (to_cr)
        cr_write(v, n, op_read(v, i, 1));
    else
        op_write(v, i, 0, cr_read(v, n));
}

void op_clts(struct vcpu *v, const struct insn *i)
{
    (void)i;
    require_cpl0(v);
    v->cr0 &= ~CR0_TS;
}

void op_lmsw(struct vcpu *v, const struct insn *i)
{
    require_cpl0(v);
    uint64_t val = op_read(v, i, 0);
    const uint64_t low = CR0_MP | CR0_EM | CR0_TS;
    cr0_write(v, (v->cr0 & ~low) | (val & (low | CR0_PE))); /* PE can be set, not cleared */
}

void op_smsw(struct vcpu *v, const struct insn *i)
{
    require_no_umip(v);
    op_write(v, i, 0, v->cr0);
}

/* ---- debug registers ---- */

void op_mov_dr(struct vcpu *v, const struct insn *i)
{
    bool to_dr = i->ops[0].kind == OPK_DR;
    unsigned n = i->ops[to_dr ? 0 : 1].reg;
    require_cpl0(v);
    if ((n == 4 || n == 5) && (v->cr4 & CR4_DE))
        cpu_ud(v);
    if (debug_dr7(v) & DR7_GD)
        cpu_fault_db(v, DR6_BD);
    if (n == 4 || n == 5)
        n += 2;
    if (!to_dr) {
        op_write(v, i, 0, v->dr[n]);
        return;
    }
    uint64_t val = op_read(v, i, 1);
    if (n >= 6 && val >> 32)
        cpu_gp(v, 0);
    dr_write(v, n, val);
}

/* ---- XCR0, PKRU, SMAP's switch ---- */

static void require_osxsave(struct vcpu *v)
{
    if (!(v->cr4 & CR4_OSXSAVE))
        cpu_ud(v);
}

void op_xgetbv(struct vcpu *v, const struct insn *i)
{
    (void)i;
    require_osxsave(v);
    uint32_t n = (uint32_t)v->gpr[RCX];
    uint32_t leaf[4] = {0};
    if (n == 1)
        cpuid_query(v, 0xd, 1, leaf);
    /* ECX = 1 asks for the components in use (CPUID.0DH.1:EAX[2]); saying "all" is allowed. */
    if (n > 1 || (n == 1 && !(leaf[0] & BIT(2))))
        cpu_gp(v, 0);
    v->gpr[RAX] = (uint32_t)v->xcr0;
    v->gpr[RDX] = v->xcr0 >> 32;
}

bool cpu_set_xcr0(struct vcpu *v, uint64_t val)
{
    uint64_t changed = v->xcr0 ^ val;
    if (!(val & XCR0_X87) || (val & ~(v->guest_xcr0_mask | XCR0_X87)) || ((val & XCR0_AVX) && !(val & XCR0_SSE)) ||
        ((val & XCR0_AVX512) && (val & (XCR0_AVX | XCR0_AVX512)) != (XCR0_AVX | XCR0_AVX512)))
        return false;
    v->xcr0 = val;
    if (changed & XCR0_AVX512)
        mmu_flush_all(v); /* which pages may run directly depends on it (direct_scan.c) */
    return true;
}

void op_xsetbv(struct vcpu *v, const struct insn *i)
{
    (void)i;
    require_osxsave(v);
    require_cpl0(v);
    if ((uint32_t)v->gpr[RCX] != 0 || !cpu_set_xcr0(v, edx_eax(v)))
        cpu_gp(v, 0);
}

void op_rdpkru(struct vcpu *v, const struct insn *i)
{
    (void)i;
    if (!(v->cr4 & CR4_PKE))
        cpu_ud(v);
    if ((uint32_t)v->gpr[RCX])
        cpu_gp(v, 0);
    v->gpr[RAX] = v->pkru;
    v->gpr[RDX] = 0;
}

void op_wrpkru(struct vcpu *v, const struct insn *i)
{
    (void)i;
    if (!(v->cr4 & CR4_PKE))
        cpu_ud(v);
    if ((uint32_t)v->gpr[RCX] || (uint32_t)v->gpr[RDX])
        cpu_gp(v, 0);
    mmu_set_pkru(v, (uint32_t)v->gpr[RAX]);
}

static void set_ac(struct vcpu *v, uint64_t val)
{
    if (v->cpl || !v->has.smap)
        cpu_ud(v);
    flags_write(v, val, FL_AC);
}

void op_stac(struct vcpu *v, const struct insn *i)
{
    (void)i;
    set_ac(v, FL_AC);
}

void op_clac(struct vcpu *v, const struct insn *i)
{
    (void)i;
    set_ac(v, 0);
}

/* ---- translations and caches ---- */

void op_invlpg(struct vcpu *v, const struct insn *i)
{
    require_cpl0(v);
    uint64_t ea = insn_ea(v, i);
    if (!cpu_64bit(v))
        mmu_flush_page(v, (uint32_t)(v->seg[i->seg].base + ea));
    else
        mmu_flush_page(v, i->seg >= SEG_FS ? v->seg[i->seg].base + ea : ea);
}

void op_invpcid(struct vcpu *v, const struct insn *i)
{
    enum { INV_ADDRESS, INV_PCID, INV_ALL, INV_ALL_BUT_GLOBAL };
    require_cpl0(v);
    uint64_t type = op_read(v, i, 0), ea = insn_ea(v, i);
    uint64_t pcid = mem_read(v, i->seg, ea, 8), la = mem_read(v, i->seg, i->addrsize == 8 ? ea + 8 : (uint32_t)(ea + 8), 8);
    if (type > INV_ALL_BUT_GLOBAL || pcid >> 12)
        cpu_gp(v, 0);
    if (type <= INV_PCID && pcid && !(v->cr4 & CR4_PCIDE))
        cpu_gp(v, 0);
    if (type == INV_ADDRESS && !is_canonical(la))
        cpu_gp(v, 0);
    if (type <= INV_PCID && (v->cr4 & CR4_PCIDE) && pcid != (v->cr3 & 0xfff)) {
        mmu_flush_pcid(v, (unsigned)pcid);
        return;
    }
    if (type == INV_ADDRESS)
        mmu_flush_page(v, la);
    else if (type == INV_ALL)
        mmu_flush_all(v);
    else if (type == INV_ALL_BUT_GLOBAL)
        mmu_flush_local(v);
    else
        mmu_flush_address_space(v);
}

/* Caches are the host's and always coherent: nothing to write back. */
void op_invd(struct vcpu *v, const struct insn *i)
{
    (void)i;
    require_cpl0(v);
}

void op_wbinvd(struct vcpu *v, const struct insn *i)
{
    (void)i;
    require_cpl0(v);
}

void op_wbnoinvd(struct vcpu *v, const struct insn *i)
{
    (void)i;
    require_cpl0(v);
}
