// SPDX-License-Identifier: GPL-2.0-or-later
#include "model/netdisk.h"

#include <errno.h>
#include <libxml/uri.h>
#include <string.h>

#include "base/util.h"

#define KEPT "/:@!$&'()*+,;=~" /* beside letters, digits, and -_. , what a path has as it is */

static const char *const protocol_names[] = {"nbd", "iscsi", "http", "https", NULL};
static const char *const transport_names[] = {"tcp", "unix", NULL};

static const struct scheme {
    const char *name;
    enum netdisk_protocol protocol;
    bool tls, local;
} schemes[] = {{"nbd", NETDISK_NBD, false, false},      {"nbds", NETDISK_NBD, true, false}, {"nbd+unix", NETDISK_NBD, false, true}, {"nbds+unix", NETDISK_NBD, true, true},
               {"iscsi", NETDISK_ISCSI, false, false}, {"http", NETDISK_HTTP, false, false}, {"https", NETDISK_HTTPS, false, false}};

static const struct scheme *scheme_of(const char *url)
{
    const char *end = strstr(url, "://");
    for (unsigned i = 0; end && i < ARRAY_SIZE(schemes); i++)
        if (strlen(schemes[i].name) == (size_t)(end - url) && strncmp(url, schemes[i].name, (size_t)(end - url)) == 0)
            return &schemes[i];
    return NULL;
}

bool netdisk_is_url(const char *name)
{
    return scheme_of(name);
}

void netdisk_free(struct netdisk *n)
{
    free(n->name);
    free(n->query);
    free(n->host);
    free(n->socket);
    *n = (struct netdisk){0};
}

/* ---- URLs ---- */

static int set(char **to, const char *text)
{
    *to = text ? strdup(text) : NULL;
    return text && !*to ? -1 : 0;
}

static int set_unescaped(char **to, const char *text)
{
    *to = text && *text ? xmlURIUnescapeString(text, 0, NULL) : NULL;
    return text && *text && !*to ? -1 : 0;
}

static int set_host(struct netdisk *n, const char *server)
{
    size_t len = server ? strlen(server) : 0;
    if (len > 2 && server[0] == '[' && server[len - 1] == ']') /* IPv6 */
        return (n->host = strndup(server + 1, len - 2)) ? 0 : -1;
    return set(&n->host, len ? server : NULL);
}

/* NULL, or what is wrong with it. */
static const char *take_url(struct netdisk *n, const struct scheme *s, const xmlURI *uri)
{
    const char *query = uri->query_raw, *path = uri->path ? uri->path : "";
    bool web = s->protocol == NETDISK_HTTP || s->protocol == NETDISK_HTTPS;
    n->protocol = s->protocol;
    n->tls = s->tls;
    if (uri->user)
        return "has a user's name in it; leave that out (docs/formats.md says how servers are given credentials)";
    if (uri->fragment || (query && !web && !s->local))
        return "has more than a server and a name; leave out what follows";
    if (s->local && (!query || strncmp(query, "socket=", 7) != 0 || strchr(query, '&')))
        return "names no socket; write such as nbd+unix:///EXPORT?socket=PATH";
    n->port = uri->port > 0 && !s->local ? (unsigned)uri->port : 0;
    int ret = set(&n->name, path[0] == '/' && path[1] ? path + 1 : NULL);
    if (ret == 0)
        ret = s->local ? set_unescaped(&n->socket, query + 7) : set_host(n, uri->server);
    if (ret == 0 && web)
        ret = set(&n->query, query);
    return ret < 0 ? "out of memory" : NULL;
}

int netdisk_parse(struct netdisk *n, const char *url, struct error *err)
{
    const struct scheme *s = scheme_of(url);
    xmlURI *uri = s ? xmlParseURI(url) : NULL;
    netdisk_free(n);
    const char *wrong = !s ? "begins like no server's; docs/formats.md has them" : !uri ? "is not a URL; escape what is special in it by %XX" : take_url(n, s, uri);
    xmlFreeURI(uri);
    return wrong ? error_set(err, 0, "disk '%s': %s", url, wrong) : 0;
}

char *netdisk_url(const struct netdisk *n)
{
    xmlChar *name = xmlURIEscapeStr((const xmlChar *)(n->name ? n->name : ""), (const xmlChar *)KEPT);
    xmlChar *socket = n->socket ? xmlURIEscapeStr((const xmlChar *)n->socket, (const xmlChar *)"/") : NULL;
    bool six = n->host && strchr(n->host, ':');
    char port[16] = "", *url = NULL;
    if (n->port)
        snprintf(port, sizeof port, ":%u", n->port);
    int ret = !name || (n->socket && !socket) ? -1
              : socket                        ? asprintf(&url, "%s%s+unix:///%s?socket=%s", protocol_names[n->protocol], n->tls ? "s" : "", name, socket)
                                              : asprintf(&url, "%s%s://%s%s%s%s/%s%s%s", protocol_names[n->protocol], n->tls ? "s" : "", six ? "[" : "", n->host ? n->host : "",
                                                         six ? "]" : "", port, name, n->query ? "?" : "", n->query ? n->query : "");
    xmlFree(name);
    xmlFree(socket);
    return ret < 0 ? NULL : url;
}

/* ---- XML ---- */

int netdisk_take_source(struct netdisk *n, const struct xml_node *node, struct error *err)
{
    int protocol = xml_attr_word(node, "protocol", protocol_names, -2, err);
    int tls = protocol == -1 ? -1 : xml_attr_switch(node, "tls", 0, err);
    if (protocol == -2)
        return xml_error(node, err, "no protocol; write protocol='nbd', 'iscsi', 'http' or 'https'");
    if (protocol < 0 || tls < 0)
        return -1;
    n->protocol = (enum netdisk_protocol)protocol;
    n->tls = tls && n->protocol == NETDISK_NBD; /* https has it anyway */
    if (tls && n->protocol != NETDISK_NBD && n->protocol != NETDISK_HTTPS)
        return xml_error(node, err, "protocol '%s' has no TLS; remove tls='yes'", protocol_names[n->protocol]);
    return xml_take_attr(node, "name", &n->name, err) < 0 ? -1 : xml_take_attr(node, "query", &n->query, err);
}

int netdisk_take_host(struct netdisk *n, const struct xml_node *node, struct error *err)
{
    uint64_t port = 0;
    int transport = xml_attr_word(node, "transport", transport_names, 0, err);
    if (transport < 0 || xml_attr_number(node, "port", 65535, &port, err) < 0)
        return -1;
    n->port = (unsigned)port;
    if (xml_attr(node, transport ? "name" : "socket") || (transport && port))
        return xml_error(node, err, "does not fit its transport; 'tcp' has a name and perhaps a port, 'unix' a socket");
    return transport ? xml_take_attr(node, "socket", &n->socket, err) : xml_take_attr(node, "name", &n->host, err);
}

int netdisk_check(const struct netdisk *n, unsigned number, struct error *err)
{
    const char *protocol = protocol_names[n->protocol];
    if (!n->host == !n->socket || (n->host && !n->host[0]) || (n->socket && !n->socket[0]))
        return error_set(err, 0, "disk %u: names no server; give it the host's name, or the socket's path", number);
    if (n->socket && n->protocol != NETDISK_NBD)
        return error_set(err, 0, "disk %u: a server by protocol '%s' has a host, no socket; name the host", number, protocol);
    if (n->protocol != NETDISK_NBD && (!n->name || !n->name[0]))
        return error_set(err, 0, "disk %u: says not what of the server by protocol '%s' it is; give it a name", number, protocol);
    if (n->query && n->protocol != NETDISK_HTTP && n->protocol != NETDISK_HTTPS)
        return error_set(err, 0, "disk %u: protocol '%s' has no query; remove it", number, protocol);
    if (n->host && n->host[strcspn(n->host, "/?#@[]% \t\r\n")])
        return error_set(err, 0, "disk %u: '%s' is not a host's name; write the name or the address alone", number, n->host);
    return 0;
}

void netdisk_put(FILE *out, const struct netdisk *n)
{
    fprintf(out, "      <source protocol='%s'", protocol_names[n->protocol]);
    xml_put_attr(out, " name='", n->name, "'");
    xml_put_attr(out, " query='", n->query, "'");
    fprintf(out, "%s>\n        <host", n->tls ? " tls='yes'" : "");
    xml_put_attr(out, " transport='unix' socket='", n->socket, "'");
    xml_put_attr(out, " name='", n->host, "'");
    if (n->port)
        fprintf(out, " port='%u'", n->port);
    fputs("/>\n      </source>\n", out);
}
