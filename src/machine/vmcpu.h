/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A virtual CPU and the host thread that runs it.
 *
 * The thread enters the guest until the board is ended; whoever ends the board calls vmcpu_kick() on every CPU, which brings it out
 * of the guest by a signal (immediate_exit closes the race between the signal and KVM_RUN).
 */
#ifndef LODGE_MACHINE_VMCPU_H
#define LODGE_MACHINE_VMCPU_H

#include <linux/kvm.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/types.h>

#include "machine/board.h"
#include "machine/boot.h"

struct vmcpu {
    struct board *board;
    unsigned index; /* and APIC ID */
    int fd;
    struct kvm_run *run;
    size_t run_size;
    pthread_t thread;
    bool started;
    sem_t running; /* up from the moment that the thread has told its number */
    pid_t tid;
};

/* Once per process, before the first vmcpu_start(): the signal that brings CPUs out of the guest. */
int vmcpu_signal_setup(struct error *err);

/* `model` is changed to be this CPU's. On failure nothing is left. */
int vmcpu_create(struct vmcpu *v, struct board *b, unsigned index, struct kvm_cpuid2 *model, struct error *err);
/* Gives the first CPU its start; the others wait for INIT and SIPI. */
int vmcpu_set_entry(struct vmcpu *v, const struct boot_entry *entry, struct error *err);
int vmcpu_start(struct vmcpu *v, struct error *err);
/* The thread's number, for which it is waited; 0: it is not started. Not while another thread starts or joins it. */
pid_t vmcpu_tid(struct vmcpu *v);
/* Tells the guest that its CPU was stopped, so that it takes the gap in time for no lock-up. The CPU waits. */
void vmcpu_tell_paused(struct vmcpu *v);
void vmcpu_kick(struct vmcpu *v);
void vmcpu_join(struct vmcpu *v);
void vmcpu_destroy(struct vmcpu *v);
/* Has the guest enabled its local APIC (SVR bit 8)? No CPU runs. */
bool vmcpu_apic_enabled(struct vmcpu *v);

#endif
