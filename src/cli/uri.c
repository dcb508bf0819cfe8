// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/uri.h"

#include <errno.h>
#include <libxml/uri.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

/* Parameters that are for the client; all others stay in the name that the daemon gets. */
static const char *const own_params[] = {"name",         "command",  "socket",  "auth",        "sshauth",
                                         "netcat",       "keyfile",  "pkipath", "known_hosts", "known_hosts_verify",
                                         "tls_priority", "mode",     "proxy",   "no_sanity",   "no_verify",
                                         "no_tty",       "authfile", NULL};

static bool is_own(const char *name)
{
    for (unsigned i = 0; own_params[i]; i++)
        if (strcmp(own_params[i], name) == 0)
            return true;
    return false;
}

const char *uri_param(const struct uri *uri, const char *name)
{
    for (unsigned i = 0; i < uri->nparams; i++)
        if (strcmp(uri->params[i].name, name) == 0)
            return uri->params[i].value;
    return NULL;
}

static char *unescape(const char *text, size_t len)
{
    char *raw = xmlURIUnescapeString(text, (int)len, NULL), *copy = raw ? strdup(raw) : NULL;
    xmlFree(raw);
    return copy;
}

/* "a=b&c=d" (libvirt takes ';' for '&'); values are escaped. */
static int take_params(struct uri *uri, const char *query, const char *text, struct error *err)
{
    while (query && *query) {
        size_t len = strcspn(query, "&;");
        const char *equals = memchr(query, '=', len);
        if (uri->nparams == URI_PARAMS)
            return error_set(err, 0, "URI '%s': more than %u parameters; leave some out", text, URI_PARAMS);
        struct uri_param *p = &uri->params[uri->nparams++];
        size_t name_len = equals ? (size_t)(equals - query) : len;
        p->name = strndup(query, name_len);
        p->value = equals && name_len + 1 < len ? unescape(equals + 1, len - name_len - 1) : strdup("");
        if (!p->name || !p->value)
            return error_set(err, ENOMEM, "URI '%s': out of memory", text);
        query += len + (query[len] != 0);
    }
    return 0;
}

/* The daemon's own URI: the driver and the path, and the parameters that are not the client's. */
static int make_name(struct uri *uri, const char *text, struct error *err)
{
    size_t size;
    const char *given = uri_param(uri, "name");
    if (given) {
        uri->name = strdup(given);
        return uri->name ? 0 : error_set(err, ENOMEM, "URI '%s': out of memory", text);
    }
    FILE *f = open_memstream(&uri->name, &size);
    if (!f)
        return error_set(err, ENOMEM, "URI '%s': out of memory", text);
    if (strcmp(uri->driver, "remote") != 0) {
        /* Lodge's daemon answers to QEMU's name, which other clients know. */
        fprintf(f, "%s://%s", strcmp(uri->driver, "lodge") == 0 ? "qemu" : uri->driver, uri->path ? uri->path : "");
        char separator = '?';
        for (unsigned i = 0; i < uri->nparams; i++) {
            if (is_own(uri->params[i].name))
                continue;
            fprintf(f, "%c%s=%s", separator, uri->params[i].name, uri->params[i].value);
            separator = '&';
        }
    }
    return fclose(f) == 0 ? 0 : error_set(err, ENOMEM, "URI '%s': out of memory", text);
}

static char *copy(const char *s)
{
    return s && *s ? strdup(s) : NULL;
}

int uri_parse(const char *text, struct uri *uri, struct error *err)
{
    *uri = (struct uri){0};
    xmlURI *x = xmlParseURI(text);
    if (!x || !x->scheme) {
        xmlFreeURI(x);
        return error_set(err, 0, "URI '%s': not a URI; write one such as qemu:///system or qemu+ssh://HOST/system", text);
    }
    char *plus = strchr(x->scheme, '+');
    uri->driver = plus ? strndup(x->scheme, (size_t)(plus - x->scheme)) : strdup(x->scheme);
    uri->transport = strdup(plus ? plus + 1 : "");
    uri->user = copy(x->user);
    uri->host = copy(x->server);
    uri->path = copy(x->path);
    uri->port = MAX(x->port, 0);
    int result = uri->driver && uri->transport ? take_params(uri, x->query_raw, text, err)
                                               : error_set(err, ENOMEM, "URI '%s': out of memory", text);
    xmlFreeURI(x);
    return result < 0 ? -1 : make_name(uri, text, err);
}

void uri_free(struct uri *uri)
{
    free(uri->driver);
    free(uri->transport);
    free(uri->user);
    free(uri->host);
    free(uri->path);
    free(uri->name);
    for (unsigned i = 0; i < uri->nparams; i++) {
        free(uri->params[i].name);
        free(uri->params[i].value);
    }
    *uri = (struct uri){0};
}
