/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef LODGE_BASE_IOV_H
#define LODGE_BASE_IOV_H

#include <stddef.h>
#include <sys/uio.h>

/* Copies between a flat buffer and an iovec list from byte `off`; return the bytes copied. */
size_t iov_read(const struct iovec *iov, unsigned n, size_t off, void *buf, size_t len);
size_t iov_write(const struct iovec *iov, unsigned n, size_t off, const void *buf, size_t len);

#endif
