/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Copyright (c) 2026 The Twostep authors */
/*
 * Names that libibverbs 44 does not have yet, as the kernel's uapi numbers them.
 */
#ifndef NEWER_H
#define NEWER_H

/* Bits of struct ibv_odp_caps: IB_ODP_SUPPORT_FLUSH and _ATOMIC_WRITE, of Linux 6.14. */
#define ODP_SUPPORT_FLUSH (1U << 6)
#define ODP_SUPPORT_ATOMIC_WRITE (1U << 7)

#endif /* NEWER_H */
