// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * The model and how a driver uses it are in linux/blk-mq-dma.h; this file decides how a
 * request is mapped. The cheapest that serves is taken, and every byte is looked at once:
 *
 *  - All is one run: one mapping, nothing else. The first run is found before anything is
 *    decided, so memory that is contiguous costs no more than its pieces.
 *  - Several runs, an IOMMU, and no run that starts or ends inside an IOMMU page but at the
 *    ends of the request: one IOVA range. The runs are found while they are linked, with one
 *    page-table cursor and one sync; the device sees one segment. That the inner borders are
 *    right is known without a look, from the queue's virt boundary.
 *  - Otherwise, and always without an IOMMU: a mapping for each run, made as the driver asks
 *    for it.
 *
 * A peer's memory is part of a run like any other, but for its kind (a run has one): through
 * the host bridge it is mapped as device memory, below a common switch it has its bus
 * address, which no IOVA range can hold. A request that shows such a run after others were
 * linked starts over with a mapping for each.
 *
 * Integrity data is always mapped run by run: it is small, and nothing aligns it.
 *
 * Unmapping run by run relies on finding the same runs again; they depend only on the bios,
 * the queue's limits and what the pages are.
 */

#include <linux/bio.h>
#include <linux/blk-integrity.h>
#include <linux/blk-mq-dma.h>
#include <linux/blkdev.h>
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/export.h>
#include <linux/kmsan.h>
#include <linux/memremap.h>
#include <linux/sizes.h>
#include <xen/xen.h>

/* Below this granularity all pages have one owner: memory, or one device. */
#ifdef CONFIG_SPARSEMEM_VMEMMAP
#define OWNER_SHIFT SUBSECTION_SHIFT
#else
#define OWNER_SHIFT PAGE_SHIFT
#endif

/* From this average length of segments on, linking runs is cheaper than linking pages. */
#define LONG_RUN SZ_64K

static void take_bio(struct blk_dma_iter *iter, struct bio *bio)
{
	struct bio_integrity_payload *bip;
	const struct bio_vec *bvecs = bio->bi_io_vec;
	struct bvec_iter at = bio->bi_iter;

	if (unlikely(iter->integrity)) {
		bip = bio_integrity(bio);
		bvecs = bip ? bip->bip_vec : NULL;
		at = bip ? bip->bip_iter : (struct bvec_iter){};
	}
	iter->bio = bio;
	iter->at = (struct blk_dma_cursor){
		.bvec = bvecs + at.bi_idx,
		.done = at.bi_bvec_done,
		.left = at.bi_size,
	};
}

/* Go to the next bio that has bytes. */
static noinline bool next_bio(struct blk_dma_iter *iter)
{
	do {
		if (!iter->bio || !iter->bio->bi_next)
			return false;
		take_bio(iter, iter->bio->bi_next);
	} while (!iter->at.left);
	return true;
}

/* What of the bio_vec at the cursor lies in the bio. */
static __always_inline struct blk_dma_run
piece_at(const struct blk_dma_cursor *at)
{
	return (struct blk_dma_run){
		.phys = bvec_phys(at->bvec) + at->done,
		.page = at->bvec->bv_page,
		.len = min(at->bvec->bv_len - at->done, at->left),
	};
}

static __always_inline void pass_piece(struct blk_dma_cursor *at, u32 len)
{
	at->bvec++;
	at->done = 0;
	at->left -= len;
}

/*
 * Whether a piece continues a run. For the rest the same answer as biovec_phys_mergeable()
 * gave when the request's segments were counted.
 */
static __always_inline bool continues(const struct blk_dma_run *run,
				      const struct blk_dma_run *piece, u32 room)
{
	if (run->phys + run->len != piece->phys || piece->len > room - run->len)
		return false;
	if (IS_ENABLED(CONFIG_KMSAN) || xen_domain())
		return false;
	if (likely(!((run->phys ^ piece->phys) >> OWNER_SHIFT)))
		return true;
	return zone_device_pages_have_same_pgmap(run->page, piece->page);
}

/* The longest segment that may start at an address. */
static __always_inline u32 segment_room(const struct queue_limits *lim,
					u64 addr)
{
	u64 to_boundary =
		lim->seg_boundary_mask - (lim->seg_boundary_mask & addr);

	return min_t(u64, to_boundary, lim->max_segment_size - 1) + 1;
}

/* Take the next run, within a segment's limits if any are given; false if none is left. */
static __always_inline bool take_run(struct blk_dma_iter *iter,
				     const struct queue_limits *lim,
				     struct blk_dma_run *run)
{
	struct blk_dma_cursor at = iter->at;
	struct blk_dma_run piece;
	u32 room = U32_MAX;

	if (unlikely(!at.left)) {
		if (!next_bio(iter))
			return false;
		at = iter->at;
	}
	*run = piece_at(&at);
	if (lim)
		room = segment_room(lim, run->phys);
	if (unlikely(run->len > room)) {
		run->len = room;
		at.done += room;
		at.left -= room;
		goto out;
	}
	pass_piece(&at, run->len);
	for (;;) {
		if (unlikely(!at.left)) {
			iter->at.left = 0;
			if (!next_bio(iter))
				return true;
			at = iter->at;
		}
		piece = piece_at(&at);
		if (!continues(run, &piece, room))
			break;
		run->len += piece.len;
		pass_piece(&at, piece.len);
	}
out:
	iter->at = at;
	return true;
}

static noinline bool next_run(struct request *req, struct blk_dma_iter *iter)
{
	return take_run(iter, &req->q->limits, &iter->run);
}

/* Go to the first run. A request without bytes has none. */
static bool first_run(struct request *req, struct blk_dma_iter *iter,
		      bool integrity)
{
	iter->integrity = integrity;
	iter->p2pdma.pgmap = NULL;
	iter->rest = 0;
	iter->status = BLK_STS_OK;
	if (unlikely(!req->bio) && !(req->rq_flags & RQF_SPECIAL_PAYLOAD))
		return false;
	if (unlikely(req->rq_flags & RQF_SPECIAL_PAYLOAD) && !integrity) {
		iter->bio = NULL;
		iter->at = (struct blk_dma_cursor){
			.bvec = &req->special_vec,
			.left = req->special_vec.bv_len,
		};
	} else {
		take_bio(iter, req->bio);
	}
	return next_run(req, iter);
}

/* How the device reaches a peer's memory; false if not at all. */
static noinline bool find_peer_kind(struct blk_dma_iter *iter,
				    struct device *dma_dev, struct page *page)
{
	switch (pci_p2pdma_state(&iter->p2pdma, dma_dev, page)) {
	case PCI_P2PDMA_MAP_BUS_ADDR:
		iter->kind = PFN_KIND_P2P_BUS;
		return true;
	case PCI_P2PDMA_MAP_THRU_HOST_BRIDGE:
		iter->kind = PFN_KIND_P2P_BRIDGE;
		return true;
	default:
		iter->status = BLK_STS_TARGET;
		return false;
	}
}

/* Find how the device reaches a run; false if not at all. */
static __always_inline bool find_kind(struct blk_dma_iter *iter,
				      struct device *dma_dev,
				      const struct blk_dma_run *run)
{
	iter->kind = PFN_KIND_REGULAR;
	return likely(!is_pci_p2pdma_page(run->page)) ||
	       find_peer_kind(iter, dma_dev, run->page);
}

static unsigned long attrs_of(enum pfn_tag_kind kind)
{
	return kind == PFN_KIND_P2P_BRIDGE ? DMA_ATTR_MMIO : 0;
}

/* Give the run at hand a mapping of its own, and make it the segment. */
static bool map_run(struct request *req, struct device *dma_dev,
		    struct blk_dma_iter *iter)
{
	if (unlikely(!find_kind(iter, dma_dev, &iter->run)))
		return false;
	iter->len = iter->run.len;
	if (iter->kind == PFN_KIND_P2P_BUS) {
		iter->addr = iter->run.phys + iter->p2pdma.bus_off;
		return true;
	}
	iter->addr = dma_map_phys(dma_dev, iter->run.phys, iter->run.len,
				  rq_dma_dir(req),
				  attrs_of(iter->kind) | DMA_ATTR_NO_WARN);
	if (unlikely(dma_mapping_error(dma_dev, iter->addr))) {
		iter->status = BLK_STS_RESOURCE;
		return false;
	}
	return true;
}

/* Make the next bytes of the request's IOVA range the segment. */
static void next_of_range(struct request *req, struct blk_dma_iter *iter)
{
	iter->len = min(iter->rest, segment_room(&req->q->limits, iter->addr));
	iter->rest -= iter->len;
}

/**
 * struct request_link - a request's memory on its way into its IOVA range
 * @iter: what the DMA core takes runs from
 * @dma: the request; the run at hand is the first to be linked
 * @dma_dev: device
 * @state: the range
 * @start: where in it the request's first byte is
 * @offset: where in it is what comes next
 * @dir: who writes
 * @access: what the device may do
 * @bus: met a run that has no place in a range
 */
struct request_link {
	struct dma_iova_iter iter;
	struct blk_dma_iter *dma;
	struct device *dma_dev;
	struct dma_iova_state *state;
	size_t start;
	size_t offset;
	enum dma_data_direction dir;
	u64 access;
	bool bus;
};

/* Whether a run can be linked. */
static __always_inline bool may_link(struct request_link *link,
				     const struct blk_dma_run *run)
{
	if (unlikely(!find_kind(link->dma, link->dma_dev, run)))
		return false;
	link->bus = link->dma->kind == PFN_KIND_P2P_BUS;
	return likely(!link->bus);
}

/* As dma_map_page() does it for the memory that it maps. */
static __always_inline void handle_dma(const struct request_link *link,
				       const struct blk_dma_run *run)
{
	if (IS_ENABLED(CONFIG_KMSAN) && !is_pci_p2pdma_page(run->page))
		kmsan_handle_dma(run->page, run->phys - page_to_phys(run->page),
				 run->len, link->dir);
}

/* Ends early at a run that cannot be linked. */
static bool next_to_link(struct dma_iova_iter *iter, struct dma_iova_run *out)
{
	struct request_link *link =
		container_of(iter, struct request_link, iter);
	struct blk_dma_iter *dma = link->dma;
	struct blk_dma_run run;

	if (unlikely(link->offset == link->start))
		run = dma->run;
	else if (!take_run(dma, NULL, &run))
		return false;
	if (!may_link(link, &run))
		return false;
	handle_dma(link, &run);
	out->phys = run.phys;
	out->offset = link->offset;
	out->len = run.len;
	out->access = link->access;
	out->kind = dma->kind;
	link->offset += run.len;
	return true;
}

/* How far the first runs reached that next_to_link() gave. */
static size_t reached_by(struct request *req, struct request_link *link,
			 size_t runs)
{
	size_t offset = link->start;
	struct blk_dma_run run;

	first_run(req, link->dma, false);
	for (run = link->dma->run; runs; runs--) {
		offset += run.len;
		if (!take_run(link->dma, NULL, &run))
			break;
	}
	return offset;
}

/* Link runs, few and long. @offset then tells how far it came. */
static int link_runs(struct request *req, struct request_link *link)
{
	int ret;

	ret = dma_iova_link_runs(link->dma_dev, link->state, &link->iter,
				 GFP_ATOMIC);
	if (unlikely(ret))
		link->offset = reached_by(req, link, link->iter.runs);
	return ret;
}

/* Link run by run: what a device that must bounce needs. */
static int link_bounced(struct request_link *link)
{
	struct dma_iova_run run;
	int ret;

	while (next_to_link(&link->iter, &run)) {
		ret = dma_iova_link(link->dma_dev, link->state, run.phys,
				    run.offset, run.len, link->dir,
				    attrs_of(run.kind));
		if (ret) {
			link->offset = run.offset;
			return ret;
		}
	}
	if (link->offset == link->start)
		return 0;
	return dma_iova_sync(link->dma_dev, link->state, link->start,
			     link->offset - link->start);
}

/* Words that are made at once: on the stack. */
#define LINK_WORDS 64

/**
 * struct page_link - a request's pages on their way into its IOVA range
 * @arrays: what the DMA core takes words from
 * @link: the request
 * @at: behind the piece at hand
 * @pfn: next page of the piece at hand
 * @last: last page of it
 * @tags: of its words
 * @border: end of it
 * @error: why the words end early, but for what @link says
 * @words: the words
 */
struct page_link {
	struct dma_iova_arrays arrays;
	struct request_link *link;
	struct blk_dma_cursor at;
	unsigned long pfn;
	unsigned long last;
	u64 tags;
	phys_addr_t border;
	int error;
	u64 words[LINK_WORDS];
};

/* Make a piece the one at hand; false if it cannot be linked. */
static __always_inline bool begin_piece(struct page_link *pages,
					const struct blk_dma_run *piece)
{
	struct request_link *link = pages->link;

	pages->tags = link->access;
	if (unlikely(is_pci_p2pdma_page(piece->page))) {
		if (!may_link(link, piece))
			return false;
		pages->tags = pfn_tag(0, pages->tags, link->dma->kind);
	}
	handle_dma(link, piece);
	pages->border = piece->phys + piece->len;
	pages->pfn = PHYS_PFN(piece->phys);
	pages->last = PHYS_PFN(pages->border - 1);
	return true;
}

/* Go to the next piece; false at the end, or if it cannot be linked. */
static __always_inline bool next_piece(struct page_link *pages)
{
	struct blk_dma_iter *dma = pages->link->dma;
	struct blk_dma_run piece;

	if (unlikely(!pages->at.left)) {
		dma->at.left = 0;
		if (!next_bio(dma))
			return false;
		pages->at = dma->at;
	}
	piece = piece_at(&pages->at);
	/* Or the device would reach bytes of the page that are not the request's. */
	if (WARN_ON_ONCE((pages->border | piece.phys) & ~PAGE_MASK)) {
		pages->error = -EIO;
		return false;
	}
	pass_piece(&pages->at, piece.len);
	return begin_piece(pages, &piece);
}

/*
 * Most pieces are just one page of ordinary memory. Takes those that come next, from word @nr on;
 * returns how many words there are then.
 */
static __always_inline size_t take_pages(struct page_link *pages, size_t nr)
{
	const struct bio_vec *bvec = pages->at.bvec;
	u64 access = pages->link->access;
	u32 left = pages->at.left;

	if (IS_ENABLED(CONFIG_KMSAN) || !PAGE_ALIGNED(pages->border) ||
	    pages->at.done)
		return nr;
	while (nr < LINK_WORDS && left >= PAGE_SIZE &&
	       bvec->bv_len == PAGE_SIZE && !bvec->bv_offset &&
	       !is_pci_p2pdma_page(bvec->bv_page)) {
		pages->words[nr++] = page_to_pfn(bvec->bv_page) | access;
		left -= PAGE_SIZE;
		bvec++;
	}
	pages->at.bvec = bvec;
	pages->at.left = left;
	return nr;
}

static size_t next_words(struct dma_iova_arrays *arrays, u64 **words)
{
	struct page_link *pages =
		container_of(arrays, struct page_link, arrays);
	size_t nr = 0;

	*words = pages->words;
	while (!arrays->last) {
		while (pages->pfn <= pages->last) {
			if (unlikely(nr == LINK_WORDS))
				return nr;
			pages->words[nr++] = pages->pfn++ | pages->tags;
		}
		nr = take_pages(pages, nr);
		if (nr == LINK_WORDS && pages->at.left)
			return nr;
		arrays->last = !next_piece(pages);
	}
	return nr;
}

/* Link single pages, the range's first byte being a page's first. */
static int link_pages(struct request_link *link)
{
	struct page_link pages __uninitialized;
	int ret;

	pages.arrays.next = next_words;
	pages.link = link;
	pages.at = link->dma->at;
	pages.error = 0;
	pages.arrays.last = !begin_piece(&pages, &link->dma->run);
	ret = dma_iova_link_arrays(link->dma_dev, link->state, 0, &pages.arrays,
				   GFP_ATOMIC);
	link->offset = min_t(size_t, pages.arrays.linked << PAGE_SHIFT,
			     dma_iova_size(link->state));
	return ret ?: pages.error;
}

/* Whether all inner borders of a request are borders of pages, and it has many of them. */
static bool has_pages(struct request *req, struct device *dma_dev, u32 total)
{
	return !(~PAGE_MASK & ~queue_virt_boundary(req->q)) &&
	       dma_get_merge_boundary(dma_dev) == ~PAGE_MASK &&
	       total < (u32)blk_rq_nr_phys_segments(req) * LONG_RUN;
}

/*
 * Reserve a range for a request and link all of it, from the run at hand on. On success the
 * range is the segment. On failure nothing is linked or reserved, and the run at hand is the
 * first again. -EAGAIN: the runs must be mapped one by one. -EOPNOTSUPP: try to @bounce.
 */
static int link_request(struct request *req, struct device *dma_dev,
			struct dma_iova_state *state, struct blk_dma_iter *iter,
			bool bounce)
{
	size_t in_page = offset_in_page(iter->run.phys);
	/* The first page's other bytes are not the request's: a CPU's cache may have them. */
	size_t start = bounce || !dev_is_dma_coherent(dma_dev) ? 0 : in_page;
	u32 total = blk_rq_payload_bytes(req);
	struct request_link link = {
		.iter.next = next_to_link,
		.dma = iter,
		.dma_dev = dma_dev,
		.state = state,
		.start = start,
		.offset = start,
		.dir = rq_dma_dir(req),
		.access = op_is_write(req_op(req)) ? PFN_TAG_READ :
						     PFN_TAG_WRITE,
	};
	int ret;

	if (!dma_iova_try_alloc(dma_dev, state, iter->run.phys - start,
				start + total))
		return -EAGAIN;
	if (unlikely(bounce))
		ret = link_bounced(&link);
	else if (start == in_page && has_pages(req, dma_dev, total))
		ret = link_pages(&link);
	else
		ret = link_runs(req, &link);
	if (likely(!ret && link.offset >= start + total)) {
		iter->addr = state->addr + start;
		iter->rest = total;
		next_of_range(req, iter);
		return 0;
	}

	if (!ret && iter->status)
		ret = blk_status_to_errno(iter->status);
	else if (!ret) /* or the request is longer than its bios */
		ret = WARN_ON_ONCE(!link.bus) ? -EIO : -EAGAIN;
	if (link.offset > start)
		dma_iova_destroy(dma_dev, state, link.offset, rq_dma_dir(req),
				 0);
	else
		dma_iova_free(dma_dev, state);
	first_run(req, iter, false);
	return ret;
}

/* Whether the inner borders of a request are borders of IOMMU pages, those of segments too. */
static bool borders_fit(struct request *req, struct device *dma_dev)
{
	const struct queue_limits *lim = &req->q->limits;
	unsigned long mask = dma_get_merge_boundary(dma_dev);

	if (!mask || mask & ~lim->virt_boundary_mask ||
	    mask & (lim->seg_boundary_mask + 1))
		return false;
	return lim->max_segment_size >= blk_rq_payload_bytes(req) ||
	       !(lim->max_segment_size & mask);
}

/**
 * blk_rq_dma_map_iter_start() - map a request and get its first DMA segment
 * @req: request, with data
 * @dma_dev: device
 * @state: out: the request's IOVA range, if it got one. NULL: it shall get none
 * @iter: out: the segment at hand
 *
 * If @state holds a range afterwards, all of the request is mapped. Otherwise only the
 * segment at hand is. What is mapped stays so until the driver unmaps it, also when this or
 * blk_rq_dma_map_iter_next() returns false.
 *
 * Context: any.
 * Return: true if there is a segment, else why not is in &blk_dma_iter.status.
 */
bool blk_rq_dma_map_iter_start(struct request *req, struct device *dma_dev,
			       struct dma_iova_state *state,
			       struct blk_dma_iter *iter)
{
	int ret;

	if (state)
		*state = (struct dma_iova_state){};
	if (!first_run(req, iter, false))
		return false;
	if (!state || iter->run.len == blk_rq_payload_bytes(req) ||
	    !borders_fit(req, dma_dev))
		return map_run(req, dma_dev, iter);

	ret = link_request(req, dma_dev, state, iter, false);
	if (unlikely(ret == -EOPNOTSUPP))
		ret = link_request(req, dma_dev, state, iter, true);
	if (likely(!ret))
		return true;
	if (ret == -EAGAIN)
		return map_run(req, dma_dev, iter);
	iter->status = errno_to_blk_status(ret);
	return false;
}
EXPORT_SYMBOL_GPL(blk_rq_dma_map_iter_start);

/**
 * blk_rq_dma_map_iter_next() - get a request's next DMA segment
 * @req: request
 * @dma_dev: device
 * @state: as given to blk_rq_dma_map_iter_start()
 * @iter: the segment at hand, moved on
 *
 * Context: any.
 * Return: true if there is one, else why not is in &blk_dma_iter.status.
 */
bool blk_rq_dma_map_iter_next(struct request *req, struct device *dma_dev,
			      struct dma_iova_state *state,
			      struct blk_dma_iter *iter)
{
	if (state && dma_use_iova(state)) {
		iter->addr += iter->len;
		next_of_range(req, iter);
		return iter->len;
	}
	return next_run(req, iter) && map_run(req, dma_dev, iter);
}
EXPORT_SYMBOL_GPL(blk_rq_dma_map_iter_next);

/**
 * blk_rq_dma_unmap() - unmap a request, or say that it must be done run by run
 * @req: request
 * @dma_dev: device
 * @state: as blk_rq_dma_map_iter_start() left it; holds no range afterwards
 *
 * Context: any.
 * Return: true if nothing is left to do, false if each run has a mapping of its own that
 * must be undone, see blk_rq_dma_unmap_iter_start().
 */
bool blk_rq_dma_unmap(struct request *req, struct device *dma_dev,
		      struct dma_iova_state *state)
{
	if (state && dma_use_iova(state)) {
		dma_iova_destroy(dma_dev, state, dma_iova_size(state),
				 rq_dma_dir(req), 0);
		return true;
	}
	return !dma_need_unmap(dma_dev);
}
EXPORT_SYMBOL_GPL(blk_rq_dma_unmap);

static bool next_to_unmap(struct blk_dma_iter *iter, bool more)
{
	iter->len = iter->run.len;
	return more;
}

/**
 * blk_rq_dma_unmap_iter_start() - find the first mapping of a request mapped run by run
 * @req: request
 * @dma_dev: device
 * @iter: out: &blk_dma_iter.len is the mapping's length
 *
 * The mappings come in the order in which the segments came, one for each.
 *
 * Context: any.
 * Return: true if there is one.
 */
bool blk_rq_dma_unmap_iter_start(struct request *req, struct device *dma_dev,
				 struct blk_dma_iter *iter)
{
	return next_to_unmap(iter, first_run(req, iter, false));
}
EXPORT_SYMBOL_GPL(blk_rq_dma_unmap_iter_start);

/**
 * blk_rq_dma_unmap_iter_next() - undo the mapping at hand and find the next
 * @req: request
 * @dma_dev: device
 * @iter: the mapping at hand, moved on
 * @addr: DMA address that the segment had
 *
 * Context: any.
 * Return: true if there is a next.
 */
bool blk_rq_dma_unmap_iter_next(struct request *req, struct device *dma_dev,
				struct blk_dma_iter *iter, dma_addr_t addr)
{
	if (find_kind(iter, dma_dev, &iter->run) &&
	    iter->kind != PFN_KIND_P2P_BUS)
		dma_unmap_phys(dma_dev, addr, iter->run.len, rq_dma_dir(req),
			       attrs_of(iter->kind));
	return next_to_unmap(iter, next_run(req, iter));
}
EXPORT_SYMBOL_GPL(blk_rq_dma_unmap_iter_next);

/**
 * blk_rq_dma_sync_iter_next() - show the device what changed in a mapping, and find the next
 * @req: request
 * @dma_dev: device
 * @iter: the mapping at hand, as for blk_rq_dma_unmap_iter_next(), moved on
 * @addr: DMA address that the segment had
 *
 * Context: any.
 * Return: true if there is a next.
 */
bool blk_rq_dma_sync_iter_next(struct request *req, struct device *dma_dev,
			       struct blk_dma_iter *iter, dma_addr_t addr)
{
	if (!is_pci_p2pdma_page(iter->run.page))
		dma_sync_single_for_device(dma_dev, addr, iter->run.len,
					   rq_dma_dir(req));
	return next_to_unmap(iter, next_run(req, iter));
}
EXPORT_SYMBOL_GPL(blk_rq_dma_sync_iter_next);

#ifdef CONFIG_BLK_DEV_INTEGRITY
/**
 * blk_rq_integrity_dma_map_iter_start() - map the first segment of a request's integrity data
 * @req: request, with integrity data
 * @dma_dev: device
 * @iter: out: the segment at hand
 *
 * Context: any.
 * Return: true if there is one, else why not is in &blk_dma_iter.status.
 */
bool blk_rq_integrity_dma_map_iter_start(struct request *req,
					 struct device *dma_dev,
					 struct blk_dma_iter *iter)
{
	return first_run(req, iter, true) && map_run(req, dma_dev, iter);
}
EXPORT_SYMBOL_GPL(blk_rq_integrity_dma_map_iter_start);

/**
 * blk_rq_integrity_dma_unmap_iter_start() - find the first mapping of integrity data
 * @req: request
 * @dma_dev: device
 * @iter: out: as for blk_rq_dma_unmap_iter_start(); goes on with blk_rq_dma_unmap_iter_next()
 *
 * Context: any.
 * Return: true if there is one.
 */
bool blk_rq_integrity_dma_unmap_iter_start(struct request *req,
					   struct device *dma_dev,
					   struct blk_dma_iter *iter)
{
	return next_to_unmap(iter, first_run(req, iter, true));
}
EXPORT_SYMBOL_GPL(blk_rq_integrity_dma_unmap_iter_start);
#endif
