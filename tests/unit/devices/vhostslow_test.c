// SPDX-License-Identifier: GPL-2.0-or-later
/* vhostslow_test BACK: an answer that comes byte for byte, each in good time, has no more time as a whole than any other. */
#include <stdio.h>
#include <string.h>

#include "backs.h"
#include "net/vhost_user.h"

int main(int argc, char **argv)
{
    struct vhost_user *u;
    ERROR_SCOPED(err);
    CHECK(argc == 2);
    backs_open(argv[1]);
    pid_t back = back_start("--spoil", "1:drip");
    CHECK(vhost_user_connect(backs_path, &u, &err) < 0);
    CHECK(strstr(error_text(&err), "time is over"));
    back_kill(back);
    backs_close();
    return 0;
}
