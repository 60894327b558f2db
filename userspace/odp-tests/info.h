/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Copyright (c) 2026 The Twostep authors */
/*
 * What of on-demand paging there is: for each operation and transport, and for what goes with
 * it, whether it can be used, and if not, who says no.
 *
 * Each answer is one of:
 *
 *	yes      the device announces it and the library can ask for it
 *	kernel   the kernel has no such thing, or was built without; the kernel is also the
 *	         device where that is software
 *	device   kernel and library know it; the device, its driver or its firmware does not
 *	library  the device announces it; libibverbs or the provider cannot ask for it
 *	-        the IBTA knows no such operation on this transport
 *
 * Nothing is taken from a list of versions: what the device announces is asked of it, what the
 * library can is tried, and the kernel is asked by ioctl, past the library.
 */
#ifndef INFO_H
#define INFO_H

/* Print it for each device that the options choose. Returns a status: 2 if there is none. */
int print_info(void);

#endif /* INFO_H */
