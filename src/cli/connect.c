// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/connect.h"

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/util.h"
#include "cli/transport.h"
#include "cli/uri.h"
#include "rpc/calls.h"

/* ---- daemons of this host ---- */

/* The socket that the URI means, to be freed. NULL with err. */
static char *local_socket(const struct uri *uri, const char *text, struct error *err)
{
    const char *socket = uri_param(uri, "socket"), *runtime = getenv("XDG_RUNTIME_DIR"), *home = getenv("HOME");
    char *path = NULL;
    bool session = uri->path && strcmp(uri->path, "/session") == 0;
    if (socket)
        return strdup(socket);
    if (!session || geteuid() == 0)
        return strdup(SYSTEM_SOCKET);
    if (runtime && *runtime)
        return asprintf(&path, "%s/libvirt/libvirt-sock", runtime) < 0 ? NULL : path;
    if (home && *home)
        return asprintf(&path, "%s/.cache/libvirt/libvirt-sock", home) < 0 ? NULL : path;
    error_set(err, 0,
              "URI '%s': neither XDG_RUNTIME_DIR nor HOME is set, so the session's socket is unknown; set one, or add ?socket=PATH",
              text);
    return NULL;
}

/* What a newcomer does next, by why the connection failed. */
static int explain_local(const char *text, const char *path, const struct error *failed, struct error *err)
{
    struct stat st;
    const char *start = strcmp(path, SYSTEM_SOCKET) == 0 ? "start it with 'systemctl start lodged' or 'lodged &'"
                                                         : "start it with 'lodged --session &', or name another one with -c URI";
    if (failed->errnum == ENOENT || failed->errnum == ECONNREFUSED)
        return error_set(err, failed->errnum, "daemon '%s': none runs at '%s'; %s", text, path, start);
    if (failed->errnum != EACCES)
        return error_copy(err, failed);
    const struct group *g = stat(path, &st) == 0 && st.st_gid ? getgrgid(st.st_gid) : NULL;
    if (g)
        return error_set(
            err, EACCES,
            "daemon '%s': you may not use '%s'; join its group '%s', or have guests of your own with -c qemu:///session", text,
            path, g->gr_name);
    return error_set(err, EACCES,
                     "daemon '%s': you may not use '%s'; become root, or have guests of your own with -c qemu:///session", text,
                     path);
}

static int connect_local(const struct uri *uri, const char *text, struct rpc_client **c, struct error *err)
{
    ERROR_SCOPED(failed);
    AUTO_FREE char *path = local_socket(uri, text, err);
    if (!path)
        return error_set(err, ENOMEM, "URI '%s': out of memory", text);
    return rpc_client_connect(path, c, &failed) < 0 ? explain_local(text, path, &failed, err) : 0;
}

/* ---- the handshake ---- */

static int authenticate(struct rpc_client *c, const char *text, struct error *err)
{
    struct remote_auth_list_ret auth;
    struct remote_auth_polkit_ret polkit;
    if (client_auth_list(c, &auth, err) < 0)
        return -1;
    bool none = auth.types.len == 0, has_polkit = false;
    for (unsigned i = 0; i < auth.types.len; i++) {
        none |= auth.types.val[i] == REMOTE_AUTH_NONE;
        has_polkit |= auth.types.val[i] == REMOTE_AUTH_POLKIT;
    }
    if (none)
        return 0;
    if (!has_polkit)
        return error_set(
            err, VIR_ERR_AUTH_FAILED,
            "daemon of '%s': asks for a password by SASL, which lodge does not speak; reach it by qemu+ssh://HOST/system", text);
    return client_auth_polkit(c, &polkit, err);
}

static int open_daemon(struct rpc_client *c, const struct uri *uri, const char *text, struct error *err)
{
    const struct remote_connect_open_args open = {.name = uri->name};
    if (authenticate(c, text, err) < 0)
        return -1;
    return client_connect_open(c, &open, err) < 0 ? error_prefix(err, "URI '%s': ", text) : 0;
}

typedef int transport_fn(const struct uri *uri, const char *text, struct rpc_client **c, struct error *err);

/* As libvirt has it, a host without a transport is reached by TLS. */
static int find_transport(const struct uri *uri, const char *text, transport_fn **fn, struct error *err)
{
    static const struct {
        const char *name;
        transport_fn *fn;
    } rows[] = {
        {"unix", connect_local}, {"ssh", transport_ssh}, {"tls", transport_tls}, {"tcp", transport_tcp}, {"ext", transport_ext}};
    const char *name = *uri->transport ? uri->transport : uri->host ? "tls" : "unix";
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        if (strcmp(rows[i].name, name) != 0)
            continue;
        *fn = rows[i].fn;
        return 0;
    }
    return error_set(err, 0, "URI '%s': the transport '%s' is unknown; write unix, ssh, tls, tcp or ext", text, name);
}

int connect_uri(const char *text, struct rpc_client **c, struct error *err)
{
    URI_SCOPED(uri);
    transport_fn *by = NULL;
    if (uri_parse(text, &uri, err) < 0)
        return -1;
    if (find_transport(&uri, text, &by, err) < 0 || by(&uri, text, c, err) < 0)
        return -1;
    if (open_daemon(*c, &uri, text, err) == 0)
        return 0;
    rpc_client_close(*c);
    *c = NULL;
    return -1;
}
