/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * softkvm: the KVM API in user space.
 *
 * The three calls below take the place of open("/dev/kvm"), ioctl() and close(). Requests, structures, return values and errno are those of
 * <linux/kvm.h> and Documentation/virt/kvm/api.rst. The descriptors are real file descriptors of this process (so they can be polled,
 * closed with softkvm_close, and a vCPU's kvm_run is reached with plain mmap() and KVM_GET_VCPU_MMAP_SIZE), but only these calls give them meaning.
 *
 * Differences from the kernel, all of them:
 * - KVM_RUN returns with EINTR for a signal only if its handler sets kvm_run->immediate_exit, or if the signal is blocked in the thread
 *   and let through by KVM_SET_SIGNAL_MASK (it then stays pending, as with the kernel). An empty handler does not end a running KVM_RUN.
 * - Signal handlers that may run in a thread within KVM_RUN need SA_ONSTACK: the stack pointer may hold the guest's. KVM_RUN gives the thread an
 *   alternate stack if it has none. Without it the signal is lost, or the process ends.
 * - Between KVM_EXIT_IO or KVM_EXIT_MMIO and the next KVM_RUN, KVM_SET_REGS with another rip (or KVM_SET_SREGS with another CS base) makes the
 *   vCPU forget the access. With the same rip the instruction is executed with the new registers; the answer counts if the same access comes of it.
 * - The VM's one ring of coalesced writes is in the mapping of the vCPU that was created first; the ring page of the others stays empty.
 * - Guest memory must stay mapped while its slot exists; a hole ends the process with SIGSEGV or SIGBUS instead of EFAULT.
 * - A vCPU descriptor is closed with softkvm_close() like all others, not with close().
 */
#ifndef SOFTKVM_H
#define SOFTKVM_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Opens a "system" descriptor, as open("/dev/kvm"). Returns a descriptor, or -1 with errno. */
int softkvm_open(void);

/* As ioctl(2): the request's value, or -1 with errno. `arg` is the structure's address or the plain argument. Thread-safe. */
int softkvm_ioctl(int fd, unsigned long request, void *arg);

/* Closes a descriptor of softkvm; a VM lives until its descriptor and all its vCPUs' are closed. 0, or -1 with EBADF. */
int softkvm_close(int fd);

/* True when `fd` is a descriptor of softkvm. */
int softkvm_owns(int fd);

/*
 * Tells that `bytes` of guest memory at `memory` are a shared mapping of the file `fd` from `offset` on; all multiples of 4096. A VM that knows this
 * of its memory can run the guest's user code natively, in processes of its own that map the file, too (docs/softkvm.md). Before the first vCPU. The
 * descriptor is copied. 0, or -1 with errno: EBADF, EINVAL, EBUSY with a vCPU, ENOSPC after eight calls.
 */
int softkvm_share_memory(int vm_fd, const void *memory, uint64_t bytes, int fd, uint64_t offset);

#ifdef __cplusplus
}
#endif

#endif
