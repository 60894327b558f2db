// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * A device for tests of on-demand paging: /dev/odp_test (odp_test_abi.h).
 *
 * An open file has memory regions, named by handles. Registering and releasing take the
 * file's lock exclusively, all else shared, so that faults, accesses and looks of several
 * threads run at once.
 */

#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/rwsem.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "odp_test.h"

/* A look is at most so many pages. */
#define MAX_LOOK 65536

/**
 * struct regions - the memory regions of an open file
 * @lock: see above
 * @mrs: by handle
 */
struct regions {
	struct rw_semaphore lock;
	struct xarray mrs;
};

static int do_register(struct regions *regions, void __user *arg)
{
	struct odp_test_mr *mr, *parent = NULL;
	struct odp_test_region region;
	int ret;

	if (copy_from_user(&region, arg, sizeof(region)))
		return -EFAULT;
	if (region.flags & ODP_TEST_CHILD) {
		parent = xa_load(&regions->mrs, region.parent);
		if (!parent)
			return -ENOENT;
	}
	mr = odp_test_mr_create(&region, parent);
	if (IS_ERR(mr))
		return PTR_ERR(mr);
	ret = xa_alloc(&regions->mrs, &region.handle, mr, xa_limit_31b,
		       GFP_KERNEL);
	if (!ret && copy_to_user(arg, &region, sizeof(region))) {
		xa_erase(&regions->mrs, region.handle);
		ret = -EFAULT;
	}
	if (ret)
		odp_test_mr_destroy(mr);
	return ret;
}

static int do_release(struct regions *regions, u32 handle)
{
	struct odp_test_mr *mr = xa_erase(&regions->mrs, handle);

	if (!mr)
		return -ENOENT;
	odp_test_mr_destroy(mr);
	return 0;
}

static int do_fault(struct regions *regions, void __user *arg)
{
	struct odp_test_fault fault;
	struct odp_test_mr *mr;
	int ret;

	if (copy_from_user(&fault, arg, sizeof(fault)))
		return -EFAULT;
	mr = xa_load(&regions->mrs, fault.handle);
	if (!mr)
		return -ENOENT;
	ret = odp_test_mr_fault(mr, &fault);
	if (copy_to_user(arg, &fault, sizeof(fault)))
		return -EFAULT;
	return ret;
}

static int do_look(struct regions *regions, void __user *arg)
{
	struct odp_test_page *pages;
	struct odp_test_look look;
	struct odp_test_mr *mr;
	int ret;

	if (copy_from_user(&look, arg, sizeof(look)))
		return -EFAULT;
	mr = xa_load(&regions->mrs, look.handle);
	if (!mr)
		return -ENOENT;
	if (look.nr > MAX_LOOK)
		return -EINVAL;
	pages = kvmalloc_array(look.nr, sizeof(*pages), GFP_KERNEL);
	if (!pages)
		return -ENOMEM;
	ret = odp_test_mr_look(mr, look.address, look.nr, pages);
	if (!ret && copy_to_user(u64_to_user_ptr(look.pages), pages,
				 look.nr * sizeof(*pages)))
		ret = -EFAULT;
	kvfree(pages);
	return ret;
}

static int do_access(struct regions *regions, void __user *arg)
{
	struct odp_test_access access;
	struct odp_test_mr *mr;
	int ret;

	if (copy_from_user(&access, arg, sizeof(access)))
		return -EFAULT;
	mr = xa_load(&regions->mrs, access.handle);
	if (!mr)
		return -ENOENT;
	ret = odp_test_mr_access(mr, &access);
	if (!ret && copy_to_user(arg, &access, sizeof(access)))
		return -EFAULT;
	return ret;
}

static int do_stats(struct regions *regions, void __user *arg)
{
	struct odp_test_stats stats = { .nr = IB_UMEM_ODP_NR_STATS };
	struct odp_test_mr *mr;
	u32 handle;

	static_assert(IB_UMEM_ODP_NR_STATS <= ODP_TEST_MAX_STATS);
	if (copy_from_user(&handle, arg, sizeof(handle)))
		return -EFAULT;
	mr = xa_load(&regions->mrs, handle);
	if (!mr)
		return -ENOENT;
	stats.handle = handle;
	ib_umem_odp_read_stats(mr->odp, stats.values);
	return copy_to_user(arg, &stats, sizeof(stats)) ? -EFAULT : 0;
}

static long shared_ioctl(struct regions *regions, unsigned int cmd,
			 void __user *arg)
{
	switch (cmd) {
	case ODP_TEST_FAULT_IN:
		return do_fault(regions, arg);
	case ODP_TEST_LOOK:
		return do_look(regions, arg);
	case ODP_TEST_ACCESS:
		return do_access(regions, arg);
	case ODP_TEST_STATS:
		return do_stats(regions, arg);
	default:
		return -ENOTTY;
	}
}

static long odp_test_ioctl(struct file *file, unsigned int cmd,
			   unsigned long arg)
{
	struct regions *regions = file->private_data;
	long ret;

	if (cmd == ODP_TEST_REGISTER || cmd == ODP_TEST_RELEASE) {
		down_write(&regions->lock);
		ret = cmd == ODP_TEST_RELEASE ?
			      do_release(regions, arg) :
			      do_register(regions, (void __user *)arg);
		up_write(&regions->lock);
		return ret;
	}
	down_read(&regions->lock);
	ret = shared_ioctl(regions, cmd, (void __user *)arg);
	up_read(&regions->lock);
	return ret;
}

static int odp_test_open(struct inode *inode, struct file *file)
{
	struct regions *regions = kzalloc(sizeof(*regions), GFP_KERNEL);

	if (!regions)
		return -ENOMEM;
	init_rwsem(&regions->lock);
	xa_init_flags(&regions->mrs, XA_FLAGS_ALLOC1);
	file->private_data = regions;
	return 0;
}

static int odp_test_release(struct inode *inode, struct file *file)
{
	struct regions *regions = file->private_data;
	struct odp_test_mr *mr;
	unsigned long handle;

	xa_for_each(&regions->mrs, handle, mr)
		odp_test_mr_destroy(mr);
	xa_destroy(&regions->mrs);
	kfree(regions);
	return 0;
}

static const struct file_operations odp_test_fops = {
	.owner = THIS_MODULE,
	.open = odp_test_open,
	.release = odp_test_release,
	.unlocked_ioctl = odp_test_ioctl,
};

static struct miscdevice odp_test_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "odp_test",
	.fops = &odp_test_fops,
	.mode = 0600,
};

static int __init odp_test_init(void)
{
	int ret;

	ret = odp_test_devices_add();
	if (ret)
		return ret;
	ret = misc_register(&odp_test_misc);
	if (ret)
		odp_test_devices_remove();
	return ret;
}

static void __exit odp_test_exit(void)
{
	misc_deregister(&odp_test_misc);
	odp_test_devices_remove();
}

module_init(odp_test_init);
module_exit(odp_test_exit);

MODULE_DESCRIPTION("A device for tests of on-demand paging");
MODULE_LICENSE("GPL");
