// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Alternate signal stacks: translated code has the guest's rsp in the host's, so no handler may run there. A file of its own because
 * <signal.h> and insn.h both have a REG_RIP.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/mman.h>

#include "base/util.h"
#include "softkvm/x86/bt.h"

#define SIGNAL_STACK (64 * KIB)

static pthread_key_t stack_key;
static pthread_once_t stack_once = PTHREAD_ONCE_INIT;

static void stack_free(void *p)
{
    stack_t off = {.ss_flags = SS_DISABLE};
    sigaltstack(&off, NULL);
    munmap(p, SIGNAL_STACK);
}

static void stack_key_init(void)
{
    pthread_key_create(&stack_key, stack_free);
}

int bt_thread_init(void)
{
    static _Thread_local bool done;
    stack_t old;
    if (done)
        return 0;
    done = true;
    pthread_once(&stack_once, stack_key_init);
    if (sigaltstack(NULL, &old) == 0 && !(old.ss_flags & SS_DISABLE))
        return 0;
    void *p = mmap(NULL, SIGNAL_STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return -ENOMEM;
    stack_t ss = {.ss_sp = p, .ss_size = SIGNAL_STACK};
    if (sigaltstack(&ss, NULL) < 0) {
        munmap(p, SIGNAL_STACK);
        return -errno;
    }
    pthread_setspecific(stack_key, p);
    return 0;
}
