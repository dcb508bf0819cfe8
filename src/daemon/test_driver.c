// SPDX-License-Identifier: GPL-2.0-or-later
/* Domains in memory: name=test:///default in a client's URI. They change state and do nothing else; the protocol's tests run
 * against them. */
#include <string.h>

#include "daemon/server.h"

static int test_start(struct dom *dom, bool paused, struct error *err)
{
    (void)err;
    dom_set_running(dom, paused, VIR_DOMAIN_EVENT_STARTED_BOOTED);
    return 0;
}

static int test_destroy(struct dom *dom, bool graceful, struct error *err)
{
    (void)graceful;
    (void)err;
    dom_set_gone(dom, VIR_DOMAIN_SHUTOFF_DESTROYED, VIR_DOMAIN_EVENT_STOPPED_DESTROYED);
    return 0;
}

static int test_command(struct dom *dom, const char *qmp, struct error *err)
{
    (void)err;
    if (strcmp(qmp, "stop") == 0)
        dom_set_state(dom, VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_USER, VIR_DOMAIN_EVENT_SUSPENDED,
                      VIR_DOMAIN_EVENT_SUSPENDED_PAUSED);
    if (strcmp(qmp, "cont") == 0)
        dom_set_state(dom, VIR_DOMAIN_RUNNING, VIR_DOMAIN_RUNNING_UNPAUSED, VIR_DOMAIN_EVENT_RESUMED,
                      VIR_DOMAIN_EVENT_RESUMED_UNPAUSED);
    if (strcmp(qmp, "system_powerdown") == 0)
        dom_set_gone(dom, VIR_DOMAIN_SHUTOFF_SHUTDOWN, VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN);
    if (strcmp(qmp, "x-reboot") == 0 || strcmp(qmp, "system_reset") == 0)
        event_reboot(dom);
    return 0;
}

static int test_set_memory(struct dom *dom, uint64_t bytes, struct error *err)
{
    (void)dom;
    (void)bytes;
    (void)err;
    return 0;
}

static int nothing(struct dom *dom, struct error *err)
{
    (void)dom;
    (void)err;
    return 0;
}

static int test_save_autostart(struct dom *dom, bool on, struct error *err)
{
    (void)on;
    return nothing(dom, err);
}

const struct domain_driver test_driver = {
    .type = "TEST",
    .start = test_start,
    .destroy = test_destroy,
    .command = test_command,
    .set_memory = test_set_memory,
    .save = nothing,
    .save_autostart = test_save_autostart,
    .forget = nothing,
};
