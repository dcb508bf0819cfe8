/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A triple fault: #GP without an IDT, and its double fault without one either, shut the machine down. */
#define GUEST_MODE 64
#include "env.h"

main:
        mov     $1, %eax
        CHECK(1)
        EXPECT_SHUTDOWN
        movw    $0, idtr
        lidt    idtr
        ud2
        DONE
