/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A conversation with a guest's agent (qemu-guest-agent); see agent.c. The domain's job is held. */
#ifndef LODGE_DAEMON_AGENT_H
#define LODGE_DAEMON_AGENT_H

#include "base/json.h"
#include "daemon/daemon.h"

#define AGENT_WAIT_MS     5000  /* unless a client says otherwise */
#define AGENT_WAIT_MAX_MS 60000 /* and at most: other calls about the domain wait meanwhile */
#define AGENT_REFUSAL     (-1)

/*
 * Sends a command, a line of JSON without its end. The answer's whole object, to be freed; NULL with err.
 * With AGENT_REFUSAL, or 0 to send it only, NULL without err is good: an agent that switches the guest off says nothing.
 */
json_t *agent_ask(struct dom *dom, const char *command, int wait_ms, struct error *err);

#endif
