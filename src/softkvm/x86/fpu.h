/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's x87/SSE/AVX/PKRU state as user space sees it: KVM_GET/SET_FPU and KVM_GET/SET_XSAVE, and the layout that CPUID tells.
 *
 * The layout is the host's (CPUID leaf 0xD), so areas move freely between the guest, the host's registers and user space. PKRU,
 * which may be offered on a host that lacks it, then lies where Intel's processors have it.
 *
 * All calls that take a vCPU are made by the holder of vcpu->lock, outside KVM_RUN or after fpu_put().
 */
#ifndef LODGE_SOFTKVM_X86_FPU_H
#define LODGE_SOFTKVM_X86_FPU_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

struct vcpu;

/* XCR0 bits that a guest can be given on this host: x87, SSE, AVX and AVX-512 where the host has them, PKRU. Valid after native_init(). What a vCPU has
 * been given is v->guest_xcr0_mask, by its CPUID. */
uint64_t xstate_supported(void);
/* Bytes and standard-format offset of extended component n (2, 5 to 7, 9); false when there is none. Its XSAVEC alignment is 8
 * (CPUID.0xD:ECX[1] = 0). */
bool xstate_component(unsigned n, uint32_t *size, uint32_t *offset);
/* Bytes of an area with the components of `xcr0`, in standard (CPUID.0xD.0:EBX) or compacted format (CPUID.0xD.1:EBX). */
uint32_t xstate_size(uint64_t xcr0, bool compacted);
/* MXCSR bits that may be set. */
uint32_t fpu_mxcsr_mask(void);
/* Does this processor update FDP on unmasked exceptions only? CPUID.7.0:EBX[6]. EBX[13] (FCS and FDS are zero) holds for every
 * guest. */
bool fpu_fdp_exceptions_only(void);

/* struct kvm_fpu. As with KVM, SET leaves MXCSR alone. */
void fpu_get_kvm(const struct vcpu *v, struct kvm_fpu *f);
void fpu_set_kvm(struct vcpu *v, const struct kvm_fpu *f);

/* Bytes of KVM_GET_XSAVE2's area: KVM_CAP_XSAVE2. At least sizeof(struct kvm_xsave). */
uint32_t fpu_xsave_size(void);
/* Standard-format area of `size` bytes (4096 or more); what it has no component for is zero. */
void fpu_get_xsave(const struct vcpu *v, void *area, uint32_t size);
/* 0, or -EINVAL for components that the guest is not admitted to (`permitted`: XCR0 bits), a header that is not of the standard
 * format, or reserved MXCSR bits. Then nothing has changed. */
int fpu_set_xsave(struct vcpu *v, const void *area, uint32_t size, uint64_t permitted);

/* The state of another thread of the host, as ptrace(2) has it (NT_X86_XSTATE): in and out, without PKRU. `area` has FPU_AREA_SIZE bytes. */
void fpu_take_host(struct vcpu *v, const void *area);
void fpu_give_host(const struct vcpu *v, void *area);

#endif
