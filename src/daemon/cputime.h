/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CPU time of guests' processes, from /proc. A guest's process may have children that compute for it (softkvm's stubs,
 * docs/softkvm.md): what they use is the guest's.
 */
#ifndef LODGE_DAEMON_CPUTIME_H
#define LODGE_DAEMON_CPUTIME_H

#include <stdint.h>

/* CPU time in ns of a process with its children, those included that have ended. 0: there is no such process. */
uint64_t cputime_process(int pid);
/* The same of one of its threads with the children that it has started and that live. *cpu, unless NULL: that the thread ran on
 * last. 0: no such thread. */
uint64_t cputime_thread(int pid, int tid, int *cpu);

#endif
