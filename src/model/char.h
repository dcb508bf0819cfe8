/* SPDX-License-Identifier: GPL-2.0-or-later */
/* <serial>, <parallel>, <console>: where a guest's characters go. */
#ifndef LODGE_MODEL_CHAR_H
#define LODGE_MODEL_CHAR_H

#include <stdbool.h>
#include <stdint.h>

#define DOMAIN_DEBUGCON_PORT 0xe9
#define DOMAIN_SERIALS       2u
#define DOMAIN_FIRMWARE_LOG  0x402 /* the debug console that SeaBIOS writes to */

enum domain_char_kind { DOMAIN_CHAR_SERIAL, DOMAIN_CHAR_VIRTIO, DOMAIN_CHAR_DEBUGCON, DOMAIN_CHAR_PARALLEL, DOMAIN_CHAR_KINDS };
enum domain_char_backend {
    DOMAIN_CHAR_STDIO,
    DOMAIN_CHAR_FILE,
    DOMAIN_CHAR_NULL,
    DOMAIN_CHAR_PTY, /* lodged's: it becomes a socket when the guest starts */
    DOMAIN_CHAR_UNIX /* lodge-vm listens on a Unix socket, and replays its last output to who connects */
};

struct domain_char {
    enum domain_char_kind kind;
    enum domain_char_backend backend;
    char *path;        /* of DOMAIN_CHAR_FILE and DOMAIN_CHAR_UNIX */
    uint16_t iobase;   /* of DOMAIN_CHAR_DEBUGCON */
    uint8_t port;      /* of DOMAIN_CHAR_SERIAL: 0 is COM1, 1 is COM2 */
    bool from_console; /* while parsing: it came from <console> */
    char *tty;         /* of DOMAIN_CHAR_PTY while it runs: for the XML, not read from it */
};

#endif
