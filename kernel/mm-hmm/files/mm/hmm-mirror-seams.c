// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * The HMM mirror: how to make its steps fail.
 *
 * debugfs fail_hmm_mirror has the usual knobs of a fault attribute and seams: a bit mask of
 * enum hmm_mirror_seam that may fail, all at first.
 */

#include <linux/debugfs.h>
#include <linux/fault-inject.h>
#include <linux/init.h>

#include "hmm-mirror-internal.h"

static DECLARE_FAULT_ATTR(fail_hmm_mirror);
static u32 fail_seams = ~0;

/**
 * hmm_mirror_fails() - whether a step is to fail now
 * @seam: the step
 *
 * Return: true if fault injection chose it.
 */
bool hmm_mirror_fails(enum hmm_mirror_seam seam)
{
	return fail_seams & BIT(seam) && should_fail(&fail_hmm_mirror, 1);
}

static int __init seams_init(void)
{
	struct dentry *dir;

	dir = fault_create_debugfs_attr("fail_hmm_mirror", NULL,
					&fail_hmm_mirror);
	if (!IS_ERR(dir))
		debugfs_create_x32("seams", 0600, dir, &fail_seams);
	return 0;
}
late_initcall(seams_init);
