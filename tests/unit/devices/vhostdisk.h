/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef LODGE_TESTS_VHOSTDISK_H
#define LODGE_TESTS_VHOSTDISK_H

/* The first byte of the last sector, which vhostdisk takes to heart when it is written: */
#define VHOSTDISK_DEADLY  0xde /* it dies */
#define VHOSTDISK_RESIZED 0xd0 /* it looks at its file again, and tells of it */
#define VHOSTDISK_WAITS   0xd1 /* the same, and waits for the front end's answer before its own */
#define VHOSTDISK_UNKNOWN 0xd2 /* it asks for what there is not, and wants to be refused */
#define VHOSTDISK_RUDE    0xd3 /* it asks what has no version */
#define VHOSTDISK_LONG    0xd4 /* and what is too long */

#endif
