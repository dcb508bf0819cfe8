// SPDX-License-Identifier: GPL-2.0-or-later
/* vhostslow_test BACK: an answer that comes byte for byte, each in good time, has no more time as a whole than any other. */
#include <stdio.h>
#include <string.h>

#include "backs.h"
#include "net/vhost_user.h"

int main(int argc, char **argv)
{
    struct guestmem mem;
    ERROR_SCOPED(err);
    CHECK(argc == 2);
    CHECK(guestmem_init(&mem, 4096, 4096, &err) == 0);
    backs_open(argv[1]);
    pid_t back = back_start("--spoil", "1:drip");
    struct vhost_back *u = vhost_user_create(backs_path);
    CHECK(u && vhost_back_connect(u, &mem, &err) < 0);
    CHECK(strstr(error_text(&err), "time is over"));
    vhost_back_destroy(u);
    guestmem_free(&mem);
    back_kill(back);
    backs_close();
    return 0;
}
