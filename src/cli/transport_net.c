// SPDX-License-Identifier: GPL-2.0-or-later
/* TCP, and TLS over it by gnutls, which is loaded when it is asked for. Certificates lie where libvirt's clients have them. */
#include <errno.h>
#include <gnutls/gnutls.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/util.h"
#include "block/library.h"
#include "cli/transport.h"

#define TCP_PORT     16509
#define TLS_PORT     16514
#define HANDSHAKE_MS 30000
#define PRIORITY     "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

#define CALLS(X)                                    \
    X(gnutls_certificate_allocate_credentials)      \
    X(gnutls_certificate_free_credentials)          \
    X(gnutls_certificate_set_x509_trust_file)       \
    X(gnutls_certificate_set_x509_key_file)         \
    X(gnutls_session_get_verify_cert_status)        \
    X(gnutls_certificate_verification_status_print) \
    X(gnutls_init)                                  \
    X(gnutls_deinit)                                \
    X(gnutls_priority_set_direct)                   \
    X(gnutls_credentials_set)                       \
    X(gnutls_session_set_verify_cert)               \
    X(gnutls_transport_set_int2)                    \
    X(gnutls_handshake_set_timeout)                 \
    X(gnutls_handshake)                             \
    X(gnutls_record_recv)                           \
    X(gnutls_record_send)                           \
    X(gnutls_record_check_pending)                  \
    X(gnutls_bye)                                   \
    X(gnutls_error_is_fatal)                        \
    X(gnutls_strerror)
#define CALL(name) LIBRARY_CALL(lib, name),

static struct {
    CALLS(LIBRARY_POINTER)
} lib;
static const struct library_call calls[] = {CALLS(CALL)};

/* ---- TCP ---- */

/* A TCP connection to the URI's host. The descriptor, or -1 with err. */
static int dial(const struct uri *uri, const char *text, int default_port, struct error *err)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
    struct addrinfo *list;
    char port[16];
    int fd = -1, failed = 0, one = 1;
    if (!uri->host)
        return error_set(err, 0, "URI '%s': names no host; write qemu+%s://HOST/system", text, uri->transport);
    snprintf(port, sizeof port, "%d", uri->port ? uri->port : default_port);
    int r = getaddrinfo(uri->host, port, &hints, &list);
    if (r)
        return error_set(err, 0, "URI '%s': host '%s': %s; correct its name", text, uri->host, gai_strerror(r));
    for (const struct addrinfo *a = list; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) == 0)
            break;
        failed = errno;
        if (fd >= 0)
            close(fd);
        fd = -1;
    }
    freeaddrinfo(list);
    if (fd < 0)
        return error_set(err, failed,
                         "URI '%s': cannot connect to port %s of '%s': %s; have its daemon listen there, or use qemu+ssh://%s%s",
                         text, port, uri->host, strerror(failed), uri->host, uri->path ? uri->path : "/system");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

int transport_tcp(const struct uri *uri, const char *text, struct rpc_client **c, struct error *err)
{
    int fd = dial(uri, text, TCP_PORT, err);
    return fd < 0 ? -1 : rpc_client_from_fd(fd, text, c, err);
}

/* ---- certificates ---- */

struct files {
    char *ca, *cert, *key; /* owned; cert and key NULL: the client shows none */
};

static void free_files(struct files *f)
{
    free(f->ca);
    free(f->cert);
    free(f->key);
}

static bool readable(const char *path)
{
    return path && access(path, R_OK) == 0;
}

/* A file of the folder, when it can be read; else the one of the system. */
static char *choose(const char *folder, const char *name, const char *system)
{
    AUTO_FREE char *own = NULL;
    if (folder && asprintf(&own, "%s/%s", folder, name) < 0)
        return NULL;
    return readable(own) ? steal_ptr(&own) : strdup(system);
}

/* ?pkipath= names a folder with all of them; an ordinary user's are in ~/.pki/libvirt, the system's in /etc/pki. */
static int find_files(const struct uri *uri, const char *text, struct files *f, struct error *err)
{
    const char *pki = uri_param(uri, "pkipath"), *home = geteuid() ? getenv("HOME") : NULL;
    AUTO_FREE char *own = NULL;
    if (!pki && home && asprintf(&own, "%s/.pki/libvirt", home) < 0)
        return error_set(err, ENOMEM, "URI '%s': out of memory", text);
    const char *folder = pki ? pki : own;
    f->ca = choose(folder, "cacert.pem", "/etc/pki/CA/cacert.pem");
    f->cert = choose(folder, "clientcert.pem", "/etc/pki/libvirt/clientcert.pem");
    f->key = choose(folder, "clientkey.pem", "/etc/pki/libvirt/private/clientkey.pem");
    if (!f->ca || !f->cert || !f->key)
        return error_set(err, ENOMEM, "URI '%s': out of memory", text);
    if (!readable(f->cert) && !readable(f->key)) {
        free(steal_ptr(&f->cert));
        free(steal_ptr(&f->key));
    }
    return 0;
}

/* ---- TLS ---- */

struct tls {
    int fd;
    gnutls_session_t session;
    gnutls_certificate_credentials_t credentials;
};

static ssize_t tls_result(ssize_t n)
{
    if (n >= 0)
        return n;
    errno = lib.gnutls_error_is_fatal((int)n) ? EPROTO : EINTR;
    return n == GNUTLS_E_PREMATURE_TERMINATION ? 0 : -1;
}

static ssize_t tls_read(void *self, void *data, size_t len)
{
    return tls_result(lib.gnutls_record_recv(((struct tls *)self)->session, data, len));
}

static ssize_t tls_write(void *self, const void *data, size_t len)
{
    return tls_result(lib.gnutls_record_send(((struct tls *)self)->session, data, len));
}

static bool tls_pending(void *self)
{
    return lib.gnutls_record_check_pending(((struct tls *)self)->session) > 0;
}

static void tls_close(void *self)
{
    struct tls *t = self;
    if (t->session) {
        lib.gnutls_bye(t->session, GNUTLS_SHUT_WR);
        lib.gnutls_deinit(t->session);
    }
    if (t->credentials)
        lib.gnutls_certificate_free_credentials(t->credentials);
    if (t->fd >= 0)
        close(t->fd);
    free(t);
}

static int load_files(struct tls *t, const struct files *f, bool verify, const char *text, struct error *err)
{
    int r = lib.gnutls_certificate_allocate_credentials(&t->credentials);
    if (r < 0)
        return error_set(err, 0, "URI '%s': %s; free some memory", text, lib.gnutls_strerror(r));
    r = verify ? lib.gnutls_certificate_set_x509_trust_file(t->credentials, f->ca, GNUTLS_X509_FMT_PEM) : 1;
    if (r <= 0)
        return error_set(err, 0,
                         "URI '%s': the authority's certificate '%s' cannot be used: %s; put it there, or name its folder by "
                         "?pkipath=DIR",
                         text, f->ca, r < 0 ? lib.gnutls_strerror(r) : "it is empty");
    r = f->cert ? lib.gnutls_certificate_set_x509_key_file(t->credentials, f->cert, f->key, GNUTLS_X509_FMT_PEM) : 0;
    return r < 0 ? error_set(err, 0, "URI '%s': the client's certificate '%s' and key '%s' cannot be used: %s; see to both", text,
                             f->cert, f->key, lib.gnutls_strerror(r))
                 : 0;
}

/* Why the server's certificate is not believed; to be freed by free(), as gnutls's default allocator says. */
static char *verdict(struct tls *t)
{
    gnutls_datum_t out = {0};
    unsigned status = lib.gnutls_session_get_verify_cert_status(t->session);
    if (lib.gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &out, 0) < 0)
        return NULL;
    for (char *end = strchr((char *)out.data, 0); end > (char *)out.data && (end[-1] == ' ' || end[-1] == '.');)
        *--end = 0;
    return (char *)out.data;
}

static int handshake(struct tls *t, const struct uri *uri, bool verify, const char *text, struct error *err)
{
    const char *priority = uri_param(uri, "tls_priority"), *where = NULL;
    int r = lib.gnutls_init(&t->session, GNUTLS_CLIENT | GNUTLS_NO_SIGNAL);
    if (r == 0)
        r = lib.gnutls_priority_set_direct(t->session, priority ? priority : PRIORITY, &where);
    if (r == 0)
        r = lib.gnutls_credentials_set(t->session, GNUTLS_CRD_CERTIFICATE, t->credentials);
    if (r < 0)
        return error_set(err, 0, "URI '%s': TLS cannot begin: %s; correct tls_priority", text, lib.gnutls_strerror(r));
    if (verify)
        lib.gnutls_session_set_verify_cert(t->session, uri->host, 0);
    lib.gnutls_transport_set_int2(t->session, t->fd, t->fd);
    lib.gnutls_handshake_set_timeout(t->session, HANDSHAKE_MS);
    do
        r = lib.gnutls_handshake(t->session);
    while (r < 0 && !lib.gnutls_error_is_fatal(r));
    if (r == GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR) {
        AUTO_FREE char *why = verdict(t);
        return error_set(err, 0,
                         "URI '%s': the server's certificate is not to be trusted: %s; see to the authority's certificate "
                         "here and to the server's own there",
                         text, why ? why : "no reason given");
    }
    return r < 0 ? error_set(err, 0,
                             "URI '%s': TLS fails: %s; see whether that port speaks TLS, and to the certificates of both sides",
                             text, lib.gnutls_strerror(r))
                 : 0;
}

/* A daemon says by one byte that it has accepted the client's certificate. */
static int wait_accepted(struct tls *t, const struct files *f, const char *text, struct error *err)
{
    uint8_t byte = 0;
    ssize_t n;
    do
        n = tls_read(t, &byte, 1);
    while (n < 0 && errno == EINTR);
    if (n == 1 && byte == 1)
        return 0;
    return f->cert
               ? error_set(err, VIR_ERR_AUTH_FAILED,
                           "URI '%s': the daemon does not accept the certificate '%s'; have its authority sign it", text, f->cert)
               : error_set(err, VIR_ERR_AUTH_FAILED,
                           "URI '%s': the daemon wants a client's certificate; put clientcert.pem and clientkey.pem into "
                           "/etc/pki/libvirt, or name a folder by ?pkipath=DIR",
                           text);
}

int transport_tls(const struct uri *uri, const char *text, struct rpc_client **c, struct error *err)
{
    struct files files __attribute__((cleanup(free_files))) = {0};
    const char *no_verify = uri_param(uri, "no_verify");
    bool verify = !no_verify || strcmp(no_verify, "1") != 0;
    if (library_load("libgnutls.so.30", "libgnutls30", calls, ARRAY_SIZE(calls), "URI", text, err) < 0 ||
        find_files(uri, text, &files, err) < 0)
        return -1;
    struct tls *t = calloc(1, sizeof *t);
    if (!t)
        return error_set(err, ENOMEM, "URI '%s': out of memory", text);
    t->fd = -1;
    if (load_files(t, &files, verify, text, err) < 0 || (t->fd = dial(uri, text, TLS_PORT, err)) < 0 ||
        handshake(t, uri, verify, text, err) < 0 || wait_accepted(t, &files, text, err) < 0) {
        tls_close(t);
        return -1;
    }
    const struct rpc_transport transport = {
        .read = tls_read, .write = tls_write, .pending = tls_pending, .close = tls_close, .self = t, .fd = t->fd};
    return rpc_client_new(&transport, text, c, err);
}
