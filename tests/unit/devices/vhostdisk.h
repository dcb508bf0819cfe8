/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef LODGE_TESTS_VHOSTDISK_H
#define LODGE_TESTS_VHOSTDISK_H

#define VHOSTDISK_DEADLY 0xde /* the first byte of a write that kills vhostdisk */

#endif
