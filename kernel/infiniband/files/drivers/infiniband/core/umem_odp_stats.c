// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * Counters of on-demand paging umems: per memory region for "rdma statistic show mr", per
 * device in debugfs umem_odp/DEVICE/.
 *
 * A umem counts for itself, without sharing a cache line with others. Who asks for a sum
 * walks the umems of a set: of a device, or the children of an implicit parent. What a
 * umem has counted when it goes is kept in its sets.
 *
 * Locking: &devices_lock, a set's mutex, then a umem's lock. A device's set is outside of a
 * parent's.
 */

#include <linux/debugfs.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <rdma/rdma_netlink.h>
#include <rdma/restrack.h>

#include "umem_odp.h"

/**
 * struct ib_umem_odp_device - what the umems of a device have in common
 * @umems: all of them, children and implicit parents as well
 * @refs: the client's and one per umem
 * @refused: bit 0: the log says why the device has no on-demand paging
 * @dir: its folder in debugfs
 */
struct ib_umem_odp_device {
	struct ib_umem_odp_set umems;
	refcount_t refs;
	unsigned long refused;
	struct dentry *dir;
};

/* A device's set stays a device's while it is held. */
static DECLARE_RWSEM(devices_lock);

static struct dentry *debugfs_root;

static const char *const stat_names[] = {
	[IB_UMEM_ODP_PAGE_FAULTS] = "page_faults",
	[IB_UMEM_ODP_PAGE_FAULTS_HANDLED] = "page_faults_handled",
	[IB_UMEM_ODP_PAGE_INVALIDATIONS] = "page_invalidations",
	[IB_UMEM_ODP_PAGE_INVALIDATIONS_HANDLED] = "page_invalidations_handled",
	[IB_UMEM_ODP_PAGE_PREFETCH] = "page_prefetch",
	[IB_UMEM_ODP_FAULTS] = "faults",
	[IB_UMEM_ODP_INVALIDATIONS] = "invalidations",
	[IB_UMEM_ODP_PREFETCHES] = "prefetches",
	[IB_UMEM_ODP_RETRIES] = "retries",
	[IB_UMEM_ODP_IOMMU_CALLS] = "iommu_calls",
	[IB_UMEM_ODP_IOMMU_FLUSHES] = "iommu_flushes",
	[IB_UMEM_ODP_METADATA_BYTES] = "metadata_bytes",
};

static_assert(ARRAY_SIZE(stat_names) == IB_UMEM_ODP_NR_STATS);

/**
 * ib_umem_odp_set_init() - make a set
 * @set: out: the set, empty
 */
void ib_umem_odp_set_init(struct ib_umem_odp_set *set)
{
	mutex_init(&set->lock);
	INIT_LIST_HEAD(&set->members);
}

static void add_events(struct ib_umem_odp *odp, u64 *stats)
{
	struct hmm_mirror_stats *of = &odp->mirror.stats;
	u64 unlinks = atomic64_read(&odp->unlinks);

	stats[IB_UMEM_ODP_PAGE_FAULTS] += atomic64_read(&of->fault_pages);
	stats[IB_UMEM_ODP_PAGE_FAULTS_HANDLED] +=
		atomic64_read(&of->faults_handled);
	stats[IB_UMEM_ODP_PAGE_INVALIDATIONS] +=
		atomic64_read(&of->invalidated_pages);
	stats[IB_UMEM_ODP_PAGE_INVALIDATIONS_HANDLED] +=
		atomic64_read(&of->invalidations_handled);
	stats[IB_UMEM_ODP_PAGE_PREFETCH] += atomic64_read(&of->prefetch_pages);
	stats[IB_UMEM_ODP_FAULTS] += atomic64_read(&of->faults);
	stats[IB_UMEM_ODP_INVALIDATIONS] += atomic64_read(&of->invalidations);
	stats[IB_UMEM_ODP_PREFETCHES] += atomic64_read(&of->prefetches);
	stats[IB_UMEM_ODP_RETRIES] += atomic64_read(&of->retries);
	stats[IB_UMEM_ODP_IOMMU_CALLS] += atomic64_read(&odp->links) + unlinks;
	stats[IB_UMEM_ODP_IOMMU_FLUSHES] += unlinks;
}

static void add_umem(struct ib_umem_odp *odp, u64 *stats)
{
	add_events(odp, stats);
	ib_umem_odp_lock_shared(odp);
	stats[IB_UMEM_ODP_METADATA_BYTES] +=
		sizeof(*odp) + hmm_mirror_bytes(&odp->mirror);
	ib_umem_odp_unlock_shared(odp);
}

static void add_gone(const struct ib_umem_odp_set *set, u64 *stats)
{
	enum ib_umem_odp_stat i;

	for (i = 0; i < IB_UMEM_ODP_NR_STATS; i++)
		stats[i] += set->gone[i];
}

/**
 * ib_umem_odp_read_stats() - what a memory region counted
 * @umem_odp: its umem; of an implicit parent, the sum with its children
 * @stats: out: IB_UMEM_ODP_NR_STATS values
 *
 * Context: sleeps.
 */
void ib_umem_odp_read_stats(struct ib_umem_odp *umem_odp, u64 *stats)
{
	struct ib_umem_odp_set *set = &umem_odp->children;
	struct ib_umem_odp *child;

	memset(stats, 0, IB_UMEM_ODP_NR_STATS * sizeof(*stats));
	add_umem(umem_odp, stats);
	if (!umem_odp->is_implicit_odp)
		return;
	mutex_lock(&set->lock);
	add_gone(set, stats);
	list_for_each_entry(child, &set->members, in_root)
		add_umem(child, stats);
	mutex_unlock(&set->lock);
}
EXPORT_SYMBOL_GPL(ib_umem_odp_read_stats);

/**
 * ib_umem_odp_fill_stats() - the counters for "rdma statistic show mr"
 * @msg: the message
 * @umem_odp: the memory region's umem
 *
 * For &ib_device_ops.fill_stat_mr_entry.
 *
 * Return: 0, -EMSGSIZE.
 */
int ib_umem_odp_fill_stats(struct sk_buff *msg, struct ib_umem_odp *umem_odp)
{
	u64 stats[IB_UMEM_ODP_NR_STATS];
	enum ib_umem_odp_stat i;
	struct nlattr *table;

	ib_umem_odp_read_stats(umem_odp, stats);
	table = nla_nest_start(msg, RDMA_NLDEV_ATTR_STAT_HWCOUNTERS);
	if (!table)
		return -EMSGSIZE;
	for (i = 0; i < IB_UMEM_ODP_NR_STATS; i++) {
		if (rdma_nl_stat_hwcounter_entry(msg, stat_names[i],
						 stats[i])) {
			nla_nest_cancel(msg, table);
			return -EMSGSIZE;
		}
	}
	nla_nest_end(msg, table);
	return 0;
}
EXPORT_SYMBOL_GPL(ib_umem_odp_fill_stats);

/* Returns how many umems there are now. */
static u64 read_device(struct ib_umem_odp_device *device, u64 *stats)
{
	struct ib_umem_odp *odp;
	u64 umems = 0;

	memset(stats, 0, IB_UMEM_ODP_NR_STATS * sizeof(*stats));
	mutex_lock(&device->umems.lock);
	add_gone(&device->umems, stats);
	list_for_each_entry(odp, &device->umems.members, in_device) {
		add_umem(odp, stats);
		umems++;
	}
	mutex_unlock(&device->umems.lock);
	return umems;
}

static int counters_show(struct seq_file *seq, void *unused)
{
	u64 stats[IB_UMEM_ODP_NR_STATS];
	u64 umems = read_device(seq->private, stats);
	enum ib_umem_odp_stat i;

	seq_printf(seq, "umems %llu\n", umems);
	for (i = 0; i < IB_UMEM_ODP_NR_STATS; i++)
		seq_printf(seq, "%s %llu\n", stat_names[i], stats[i]);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(counters);

static const char *const way_names[] = {
	[IB_UMEM_ODP_IOVA] = "iova",
	[IB_UMEM_ODP_DIRECT] = "direct",
	[IB_UMEM_ODP_VIRT] = "virt",
};

static void show_umem(struct seq_file *seq, struct ib_umem_odp *odp)
{
	u64 stats[IB_UMEM_ODP_NR_STATS] = {};
	enum ib_umem_odp_stat i;

	add_umem(odp, stats);
	if (odp->is_implicit_odp)
		seq_puts(seq, "implicit");
	else
		seq_printf(seq, "%s %#lx-%#lx entries of %lu at %#llx",
			   way_names[odp->way], ib_umem_start(odp),
			   ib_umem_end(odp), BIT(odp->page_shift),
			   (u64)odp->iova.addr);
	for (i = 0; i < IB_UMEM_ODP_NR_STATS; i++)
		seq_printf(seq, " %s %llu", stat_names[i], stats[i]);
	seq_putc(seq, '\n');
}

static int umems_show(struct seq_file *seq, void *unused)
{
	struct ib_umem_odp_device *device = seq->private;
	struct ib_umem_odp *odp;

	mutex_lock(&device->umems.lock);
	list_for_each_entry(odp, &device->umems.members, in_device)
		show_umem(seq, odp);
	mutex_unlock(&device->umems.lock);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(umems);

static int add_device(struct ib_device *ibdev);
static void remove_device(struct ib_device *ibdev, void *data);
static void rename_device(struct ib_device *ibdev, void *data);

static struct ib_client client = {
	.name = "umem_odp",
	.add = add_device,
	.remove = remove_device,
	.rename = rename_device,
	.no_kverbs_req = true,
};

static void put_device_set(struct ib_umem_odp_device *device)
{
	if (refcount_dec_and_test(&device->refs))
		kfree(device);
}

/**
 * ib_umem_odp_read_device_stats() - what all umems of a device counted, also those that went
 * @device: the device; it may be going
 * @stats: out: IB_UMEM_ODP_NR_STATS values, 0 if it does not announce on-demand paging, or is
 *	gone
 *
 * Context: sleeps.
 */
void ib_umem_odp_read_device_stats(struct ib_device *device, u64 *stats)
{
	struct ib_umem_odp_device *of;

	memset(stats, 0, IB_UMEM_ODP_NR_STATS * sizeof(*stats));
	down_read(&devices_lock);
	of = ib_get_client_data(device, &client);
	if (of)
		read_device(of, stats);
	up_read(&devices_lock);
}
EXPORT_SYMBOL_GPL(ib_umem_odp_read_device_stats);

static int add_device(struct ib_device *ibdev)
{
	struct ib_umem_odp_device *device;

	if (!(ibdev->attrs.kernel_cap_flags & IBK_ON_DEMAND_PAGING))
		return -EOPNOTSUPP;
	device = kzalloc(sizeof(*device), GFP_KERNEL);
	if (!device)
		return -ENOMEM;
	refcount_set(&device->refs, 1);
	ib_umem_odp_set_init(&device->umems);
	device->dir = debugfs_create_dir(dev_name(&ibdev->dev), debugfs_root);
	debugfs_create_file("counters", 0400, device->dir, device,
			    &counters_fops);
	debugfs_create_file("umems", 0400, device->dir, device, &umems_fops);
	ib_set_client_data(ibdev, &client, device);
	return 0;
}

static void remove_device(struct ib_device *ibdev, void *data)
{
	struct ib_umem_odp_device *device = data;

	debugfs_remove(device->dir);
	/* Its counters in sysfs can be read for longer than it is a client's. */
	down_write(&devices_lock);
	ib_set_client_data(ibdev, &client, NULL);
	up_write(&devices_lock);
	put_device_set(device);
}

static void rename_device(struct ib_device *ibdev, void *data)
{
	struct ib_umem_odp_device *device = data;

	debugfs_rename(debugfs_root, device->dir, debugfs_root,
		       dev_name(&ibdev->dev));
}

static void join(struct ib_umem_odp_set *set, struct list_head *member)
{
	mutex_lock(&set->lock);
	list_add_tail(member, &set->members);
	mutex_unlock(&set->lock);
}

static void leave(struct ib_umem_odp_set *set, struct list_head *member,
		  struct ib_umem_odp *odp)
{
	mutex_lock(&set->lock);
	list_del(member);
	add_events(odp, set->gone);
	mutex_unlock(&set->lock);
}

/**
 * ib_umem_odp_count() - count a umem with its device and its parent
 * @odp: the umem
 */
void ib_umem_odp_count(struct ib_umem_odp *odp)
{
	odp->device = ib_get_client_data(odp->umem.ibdev, &client);
	if (odp->device) {
		refcount_inc(&odp->device->refs);
		join(&odp->device->umems, &odp->in_device);
	}
	if (odp->root)
		join(&odp->root->children, &odp->in_root);
}

/**
 * ib_umem_odp_uncount() - keep what a umem counted, and forget the umem
 * @odp: the umem
 */
void ib_umem_odp_uncount(struct ib_umem_odp *odp)
{
	if (odp->root)
		leave(&odp->root->children, &odp->in_root, odp);
	if (odp->device) {
		leave(&odp->device->umems, &odp->in_device, odp);
		put_device_set(odp->device);
	}
}

/**
 * ib_umem_odp_first_refusal() - whether the log has not yet said that a device is refused
 * @ibdev: the device
 *
 * Return: true once per device.
 */
bool ib_umem_odp_first_refusal(struct ib_device *ibdev)
{
	struct ib_umem_odp_device *device = ib_get_client_data(ibdev, &client);

	return !device || !test_and_set_bit(0, &device->refused);
}

/**
 * ib_umem_odp_init() - start counting
 *
 * Before the client through which users register memory, so that it ends after that.
 *
 * Return: 0 or an error.
 */
int ib_umem_odp_init(void)
{
	int ret;

	debugfs_root = debugfs_create_dir("umem_odp", NULL);
	ret = ib_register_client(&client);
	if (ret)
		debugfs_remove(debugfs_root);
	return ret;
}

/**
 * ib_umem_odp_exit() - stop counting
 */
void ib_umem_odp_exit(void)
{
	ib_unregister_client(&client);
	debugfs_remove(debugfs_root);
}
