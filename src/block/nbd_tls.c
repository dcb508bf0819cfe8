// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * TLS for NBD, by gnutls. The handshake wants more stack than a fiber has and waits for the client in the middle, so it is made in a worker thread; records
 * are then sent and received by the fibers themselves.
 */
#include <errno.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "block/library.h"
#include "block/nbd_server.h"

#define CALLS(X)                                                                                                                                    \
    X(gnutls_certificate_allocate_credentials)                                                                                                      \
    X(gnutls_certificate_free_credentials)                                                                                                          \
    X(gnutls_certificate_set_x509_trust_file)                                                                                                       \
    X(gnutls_certificate_set_x509_key_file)                                                                                                         \
    X(gnutls_certificate_server_set_request)                                                                                                        \
    X(gnutls_psk_allocate_server_credentials)                                                                                                       \
    X(gnutls_psk_free_server_credentials)                                                                                                           \
    X(gnutls_psk_set_server_credentials_file)                                                                                                       \
    X(gnutls_init)                                                                                                                                  \
    X(gnutls_deinit)                                                                                                                                \
    X(gnutls_priority_set_direct)                                                                                                                   \
    X(gnutls_credentials_set)                                                                                                                       \
    X(gnutls_session_set_verify_cert)                                                                                                               \
    X(gnutls_transport_set_int2)                                                                                                                    \
    X(gnutls_handshake_set_timeout)                                                                                                                 \
    X(gnutls_handshake)                                                                                                                             \
    X(gnutls_record_recv)                                                                                                                           \
    X(gnutls_record_send)                                                                                                                           \
    X(gnutls_bye)                                                                                                                                   \
    X(gnutls_error_is_fatal)                                                                                                                        \
    X(gnutls_strerror)

#define CALL(name) LIBRARY_CALL(lib, name),
#define TIMEOUT_MS 15000

static struct {
    CALLS(LIBRARY_POINTER)
} lib;
static const struct library_call calls[] = {CALLS(CALL)};

struct nbd_tls {
    gnutls_certificate_credentials_t certificates;
    gnutls_psk_server_credentials_t psk;
    bool verify; /* clients show a certificate */
};

static int load_certificates(struct nbd_tls *t, const char *dir, struct error *err)
{
    AUTO_FREE char *ca = NULL, *cert = NULL, *key = NULL;
    if (asprintf(&ca, "%s/ca-cert.pem", dir) < 0 || asprintf(&cert, "%s/server-cert.pem", dir) < 0 || asprintf(&key, "%s/server-key.pem", dir) < 0)
        return error_set(err, ENOMEM, "TLS certificates '%s': out of memory; close other programs", dir);
    int ret = lib.gnutls_certificate_allocate_credentials(&t->certificates);
    if (ret == 0)
        ret = lib.gnutls_certificate_set_x509_key_file(t->certificates, cert, key, GNUTLS_X509_FMT_PEM);
    if (ret < 0)
        return error_set(err, 0, "TLS certificates '%s': server-cert.pem and server-key.pem cannot be used: %s; make them with certtool", dir, lib.gnutls_strerror(ret));
    t->verify = access(ca, F_OK) == 0;
    if (t->verify && (ret = lib.gnutls_certificate_set_x509_trust_file(t->certificates, ca, GNUTLS_X509_FMT_PEM)) <= 0)
        return error_set(err, 0, "TLS certificates '%s': ca-cert.pem cannot be used: %s; make it with certtool", dir, ret < 0 ? lib.gnutls_strerror(ret) : "it is empty");
    return 0;
}

static int load_keys(struct nbd_tls *t, const char *file, struct error *err)
{
    int ret = access(file, R_OK) < 0 ? GNUTLS_E_FILE_ERROR : lib.gnutls_psk_allocate_server_credentials(&t->psk);
    if (ret == 0)
        ret = lib.gnutls_psk_set_server_credentials_file(t->psk, file);
    return ret == 0 ? 0 : error_set(err, 0, "TLS keys '%s': cannot be used: %s; make the file with psktool", file, lib.gnutls_strerror(ret));
}

struct nbd_tls *nbd_tls_new(const char *certificates, const char *psk_file, struct error *err)
{
    const char *from = certificates ? certificates : psk_file;
    if (library_load("libgnutls.so.30", "libgnutls30", calls, ARRAY_SIZE(calls), "TLS keys", from, err) < 0)
        return NULL;
    struct nbd_tls *t = calloc(1, sizeof *t);
    if (t && (certificates ? load_certificates(t, certificates, err) : load_keys(t, psk_file, err)) == 0)
        return t;
    nbd_tls_free(t);
    return NULL;
}

void nbd_tls_free(struct nbd_tls *t)
{
    if (t && t->certificates)
        lib.gnutls_certificate_free_credentials(t->certificates);
    if (t && t->psk)
        lib.gnutls_psk_free_server_credentials(t->psk);
    free(t);
}

/* ---- sessions ---- */

static int prepare(gnutls_session_t session, const struct nbd_tls *t)
{
    const char *priority = t->psk ? "NORMAL:-VERS-ALL:+VERS-TLS1.2:+VERS-TLS1.3:+ECDHE-PSK:+DHE-PSK:+PSK" : "NORMAL:-VERS-ALL:+VERS-TLS1.2:+VERS-TLS1.3";
    int ret = lib.gnutls_priority_set_direct(session, priority, NULL);
    if (ret == 0)
        ret = t->psk ? lib.gnutls_credentials_set(session, GNUTLS_CRD_PSK, t->psk) : lib.gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, t->certificates);
    if (ret == 0 && t->verify) {
        lib.gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUIRE);
        lib.gnutls_session_set_verify_cert(session, NULL, 0);
    }
    return ret;
}

static ssize_t handshake(void *arg)
{
    struct nbd_conn *c = arg;
    gnutls_session_t session = NULL;
    int ret = lib.gnutls_init(&session, GNUTLS_SERVER | GNUTLS_NO_SIGNAL);
    if (ret == 0)
        ret = prepare(session, c->server->tls);
    if (ret == 0) {
        lib.gnutls_transport_set_int2(session, c->fd, c->fd);
        lib.gnutls_handshake_set_timeout(session, TIMEOUT_MS);
        do
            ret = lib.gnutls_handshake(session);
        while (ret < 0 && !lib.gnutls_error_is_fatal(ret));
    }
    if (ret == 0)
        c->session = session;
    else if (session)
        lib.gnutls_deinit(session);
    return ret;
}

int nbd_tls_start(struct nbd_conn *c)
{
    int ret = (int)io_call(c->server->image->loop, handshake, c);
    if (ret < 0) {
        log_warn("NBD: a client's TLS handshake failed: %s", lib.gnutls_strerror(ret));
        return -EPROTO;
    }
    int flags = fcntl(c->fd, F_GETFL);
    return fcntl(c->fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

void nbd_tls_end(struct nbd_conn *c)
{
    lib.gnutls_bye(c->session, GNUTLS_SHUT_WR);
    lib.gnutls_deinit(c->session);
}

static ssize_t result(ssize_t ret)
{
    return ret >= 0 ? ret : ret == GNUTLS_E_AGAIN ? -EAGAIN : ret == GNUTLS_E_INTERRUPTED ? -EINTR : -EPROTO;
}

ssize_t nbd_tls_receive(struct nbd_conn *c, void *buf, size_t n)
{
    return result(lib.gnutls_record_recv(c->session, buf, n));
}

ssize_t nbd_tls_send(struct nbd_conn *c, const void *buf, size_t n)
{
    return result(lib.gnutls_record_send(c->session, buf, n));
}
