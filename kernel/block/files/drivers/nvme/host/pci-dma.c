// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * From a request to the data pointer of an NVMe command.
 *
 * The block layer's iterator (linux/blk-mq-dma.h) maps the request and gives its DMA
 * segments; each goes into the command as soon as it is known, as PRPs or as SGL descriptors:
 *
 *  - PRPs name pages. The first may start inside its page, all others start a page. One or
 *    two fit into the command, more go into lists of pages.
 *  - An SGL descriptor names any bytes. One fits into the command, more go into lists.
 *
 * All lists a request may need are taken before the first entry is written, so that only
 * mapping can fail once there are entries. What is unmapped run by run finds its addresses in
 * the entries: a run starts a page, hence a PRP, and has an SGL descriptor of its own. The
 * first run's is also in the request, where there may be no entries yet.
 *
 * A controller sees only what the command points to, so the entries of an unsent command may
 * be in any state; unmapping reads none but those written.
 */

#include <linux/blk-integrity.h>
#include <linux/blk-mq-dma.h>
#include <linux/dmapool.h>
#include <linux/error-injection.h>
#include <linux/memremap.h>
#include <linux/module.h>

#include "pci-dma.h"

#define CREATE_TRACE_POINTS
#include "pci_trace.h"

static_assert(NVME_MAX_SEGS <= USHRT_MAX,
	      "the block layer counts segments in 16 bits");
static_assert(NVME_MAX_META_SEGS + 1 <= NVME_SMALL_LIST_SGES);
static_assert((NVME_MAX_SEGS - 1) <= NVME_MAX_LISTS * (NVME_LIST_PRPS - 1) + 1);

static unsigned int sgl_threshold = SZ_32K;
module_param(sgl_threshold, uint, 0644);
MODULE_PARM_DESC(
	sgl_threshold,
	"Use SGLs from this average segment size on; 0: only where PRPs will not do");

/**
 * nvme_dma_create() - make what a controller's requests are mapped with
 * @dma: it
 * @ctrl: the controller
 *
 * Return: 0 or -ENOMEM.
 */
int nvme_dma_create(struct nvme_dma *dma, struct nvme_ctrl *ctrl)
{
	size_t small_align = NVME_SMALL_LIST_SIZE;

	if (ctrl->quirks & NVME_QUIRK_DMAPOOL_ALIGN_512)
		small_align = 512;

	dma->ctrl = ctrl;
	dma->dev = ctrl->dev;
	dma->list_pool = dma_pool_create("prp list page", dma->dev,
					 NVME_CTRL_PAGE_SIZE,
					 NVME_CTRL_PAGE_SIZE, 0);
	if (!dma->list_pool)
		return -ENOMEM;
	dma->small_pool = dma_pool_create("prp list 256", dma->dev,
					  NVME_SMALL_LIST_SIZE, small_align, 0);
	if (!dma->small_pool) {
		dma_pool_destroy(dma->list_pool);
		return -ENOMEM;
	}
	return 0;
}

/**
 * nvme_dma_destroy() - undo nvme_dma_create()
 * @dma: no request is mapped with it any more
 */
void nvme_dma_destroy(struct nvme_dma *dma)
{
	dma_pool_destroy(dma->small_pool);
	dma_pool_destroy(dma->list_pool);
}

/**
 * nvme_dma_set_limits() - limit a controller's requests to what can be mapped
 * @ctrl: the controller; what it says of itself (MDTS) limits them further
 * @dev: the PCI function
 *
 * dma_max_mapping_size() is a limit where memory must be bounced. dma_opt_mapping_size() is
 * none: it is what the IOVA allocator caches, and a larger request takes its range from a
 * tree instead, once, which costs less than being split into several requests.
 */
void nvme_dma_set_limits(struct nvme_ctrl *ctrl, struct device *dev)
{
	ctrl->max_hw_sectors =
		min_t(size_t, NVME_MAX_BYTES, dma_max_mapping_size(dev)) >>
		SECTOR_SHIFT;
	ctrl->max_segments = NVME_MAX_SEGS;
	ctrl->max_integrity_segments = 1;
}

/* Where a full list keeps the address of the next. */
static __le64 *next_list_addr(const struct nvme_dma_req *map, unsigned int i)
{
	struct nvme_sgl_desc *sges = map->lists[i];
	__le64 *prps = map->lists[i];

	return map->sgl ? &sges[NVME_LIST_SGES - 1].addr :
			  &prps[NVME_LIST_PRPS - 1];
}

static void free_lists(struct nvme_dma *dma, struct nvme_dma_req *map)
{
	dma_addr_t addr = map->list_addr, next = 0;
	unsigned int i;

	if (map->small) {
		dma_pool_free(dma->small_pool, map->lists[0], addr);
		return;
	}
	for (i = 0; i < map->nr_lists; i++, addr = next) {
		if (i + 1 < map->nr_lists)
			next = le64_to_cpu(*next_list_addr(map, i));
		dma_pool_free(dma->list_pool, map->lists[i], addr);
	}
}

/* A function of its own so that it can be made to fail (fail_function). */
static noinline void *nvme_dma_alloc_list(struct dma_pool *pool,
					  dma_addr_t *addr)
{
	return dma_pool_alloc(pool, GFP_ATOMIC, addr);
}
ALLOW_ERROR_INJECTION(nvme_dma_alloc_list, NULL);

/* Take lists for a number of entries, each list pointing to the next. */
static blk_status_t alloc_lists(struct nvme_dma *dma, struct nvme_dma_req *map,
				unsigned int entries)
{
	unsigned int small = map->sgl ? NVME_SMALL_LIST_SGES :
					NVME_SMALL_LIST_PRPS;
	unsigned int large = map->sgl ? NVME_LIST_SGES : NVME_LIST_PRPS;
	struct dma_pool *pool;
	unsigned int nr = 1;
	dma_addr_t addr;

	map->small = entries <= small;
	pool = map->small ? dma->small_pool : dma->list_pool;
	if (entries > large)
		nr = DIV_ROUND_UP(entries - 1, large - 1);
	if (WARN_ON_ONCE(nr > NVME_MAX_LISTS))
		return BLK_STS_IOERR;

	for (map->nr_lists = 0; map->nr_lists < nr; map->nr_lists++) {
		void *list = nvme_dma_alloc_list(pool, &addr);

		if (!list)
			goto err_free;
		map->lists[map->nr_lists] = list;
		if (map->nr_lists)
			*next_list_addr(map, map->nr_lists - 1) =
				cpu_to_le64(addr);
		else
			map->list_addr = addr;
	}
	return BLK_STS_OK;

err_free:
	if (map->nr_lists)
		free_lists(dma, map);
	map->nr_lists = 0;
	return BLK_STS_RESOURCE;
}

/**
 * struct prp_writer - where the next PRP goes
 * @at: there
 * @end: behind the last in this list, or behind the command's second PRP
 * @list: this list's index
 */
struct prp_writer {
	__le64 *at;
	__le64 *end;
	unsigned int list;
};

static void writer_set_list(struct prp_writer *writer,
			    const struct nvme_dma_req *map)
{
	writer->at = map->lists[writer->list];
	writer->end = writer->at + NVME_LIST_PRPS -
		      (writer->list + 1 < map->nr_lists);
}

static void write_prps(struct prp_writer *writer,
		       const struct nvme_dma_req *map, dma_addr_t addr,
		       unsigned int pages)
{
	__le64 *end;

	while (pages) {
		if (writer->at == writer->end) {
			writer->list++;
			writer_set_list(writer, map);
		}
		end = min(writer->end, writer->at + pages);
		pages -= end - writer->at;
		for (; writer->at < end;
		     writer->at++, addr += NVME_CTRL_PAGE_SIZE)
			*writer->at = cpu_to_le64(addr);
	}
}

/* Bytes up to the end of the page. */
static u32 page_rest(dma_addr_t addr)
{
	return NVME_CTRL_PAGE_SIZE - (addr & (NVME_CTRL_PAGE_SIZE - 1));
}

/* The PRP of the page that a byte of the request lies in. */
static dma_addr_t prp_of(struct request *req, const struct nvme_dma_req *map,
			 u32 offset)
{
	const union nvme_data_ptr *dptr = &nvme_req(req)->cmd->common.dptr;
	u32 index = (offset - page_rest(map->addr)) / NVME_CTRL_PAGE_SIZE;
	unsigned int list;
	__le64 *prps;

	if (!map->nr_lists)
		return le64_to_cpu(dptr->prp2);
	list = min_t(u32, index / (NVME_LIST_PRPS - 1), map->nr_lists - 1);
	prps = map->lists[list];
	return le64_to_cpu(prps[index - list * (NVME_LIST_PRPS - 1)]);
}

static dma_addr_t sge_of(const struct nvme_dma_req *map, unsigned int index)
{
	unsigned int list =
		min_t(u32, index / (NVME_LIST_SGES - 1), map->nr_lists - 1);
	struct nvme_sgl_desc *sges = map->lists[list];

	return le64_to_cpu(sges[index - list * (NVME_LIST_SGES - 1)].addr);
}

/* Undo the mappings of a request's first bytes. */
static void unmap_runs(struct nvme_dma *dma, struct request *req,
		       const struct nvme_dma_req *map, u32 bytes)
{
	struct blk_dma_iter iter;
	unsigned int index = 0;
	dma_addr_t addr;
	u32 offset, len;
	bool more;

	more = blk_rq_dma_unmap_iter_start(req, dma->dev, &iter);
	for (offset = 0; more && offset < bytes; offset += len, index++) {
		if (!offset)
			addr = map->addr;
		else
			addr = map->sgl ? sge_of(map, index) :
					  prp_of(req, map, offset);
		len = iter.len;
		more = blk_rq_dma_unmap_iter_next(req, dma->dev, &iter, addr);
	}
}

/* Undo what is mapped of a request that the iterator maps. */
static void unmap_iterated(struct nvme_dma *dma, struct request *req,
			   struct nvme_dma_req *map, u32 bytes)
{
	if (!blk_rq_dma_unmap(req, dma->dev, &map->iova))
		unmap_runs(dma, req, map, bytes);
	if (map->nr_lists)
		free_lists(dma, map);
}

/*
 * Whether a segment may follow the first bytes of a request, as the queue's limits promise.
 * Where it does not, its mapping stays: better lost than used.
 */
static bool fits(const struct blk_dma_iter *iter, u32 mapped, u32 total,
		 bool pages)
{
	u32 borders = mapped ? lower_32_bits(iter->addr) : 0;

	if (mapped + iter->len < total)
		borders |= lower_32_bits(iter->addr) + iter->len;
	return iter->len <= total - mapped &&
	       !(pages && borders & (NVME_CTRL_PAGE_SIZE - 1));
}

/* Describe the segment at hand and all that follow with PRPs. */
static blk_status_t map_prps(struct nvme_dma *dma, struct request *req,
			     struct nvme_dma_req *map,
			     struct blk_dma_iter *iter)
{
	union nvme_data_ptr *dptr = &nvme_req(req)->cmd->common.dptr;
	u32 total = blk_rq_payload_bytes(req), mapped = 0;
	u32 named = min(page_rest(iter->addr), total);
	struct prp_writer writer = {
		.at = &dptr->prp2,
		.end = &dptr->prp2 + 1,
	};
	u32 pages = DIV_ROUND_UP(total - named, NVME_CTRL_PAGE_SIZE);

	dptr->prp1 = cpu_to_le64(iter->addr);
	dptr->prp2 = 0;
	if (pages > 1) {
		iter->status = alloc_lists(dma, map, pages);
		if (iter->status) {
			mapped = iter->len;
			goto err_unmap;
		}
		dptr->prp2 = cpu_to_le64(map->list_addr);
		writer_set_list(&writer, map);
	}
	do {
		if (WARN_ON_ONCE(!fits(iter, mapped, total, true))) {
			iter->status = BLK_STS_IOERR;
			goto err_unmap;
		}
		write_prps(&writer, map, iter->addr + named,
			   DIV_ROUND_UP(iter->len - named,
					NVME_CTRL_PAGE_SIZE));
		named = 0;
		mapped += iter->len;
		if (mapped == total)
			return BLK_STS_OK;
	} while (blk_rq_dma_map_iter_next(req, dma->dev, &map->iova, iter));

err_unmap:
	unmap_iterated(dma, req, map, mapped);
	return iter->status ?: BLK_STS_IOERR;
}

static void set_sge(struct nvme_sgl_desc *sge, dma_addr_t addr, u32 len,
		    u8 type)
{
	*sge = (struct nvme_sgl_desc){
		.addr = cpu_to_le64(addr),
		.length = cpu_to_le32(len),
		.type = type << 4,
	};
}

/* Say how long the lists of an SGL are, from the command on. */
static void link_sges(struct nvme_sgl_desc *head,
		      const struct nvme_dma_req *map, unsigned int entries)
{
	unsigned int i, room = NVME_LIST_SGES - 1;
	dma_addr_t addr = map->list_addr;

	for (i = 0; i + 1 < map->nr_lists && entries > room;
	     i++, entries -= room) {
		set_sge(head, addr, NVME_CTRL_PAGE_SIZE, NVME_SGL_FMT_SEG_DESC);
		head = (struct nvme_sgl_desc *)map->lists[i] + room;
		addr = le64_to_cpu(head->addr);
	}
	set_sge(head, addr, entries * sizeof(*head),
		NVME_SGL_FMT_LAST_SEG_DESC);
}

/* Describe the segment at hand and all that follow with SGL descriptors. */
static blk_status_t map_sges(struct nvme_dma *dma, struct request *req,
			     struct nvme_dma_req *map,
			     struct blk_dma_iter *iter)
{
	struct nvme_rw_command *cmd = &nvme_req(req)->cmd->rw;
	u32 total = blk_rq_payload_bytes(req), mapped = 0;
	unsigned int entries = blk_rq_nr_phys_segments(req);
	unsigned int list = 0, at = 0, index = 0;
	struct nvme_sgl_desc *sges;

	map->sgl = true;
	cmd->flags = NVME_CMD_SGL_METABUF;
	iter->status = alloc_lists(dma, map, entries);
	if (iter->status) {
		mapped = iter->len;
		goto err_unmap;
	}
	sges = map->lists[0];
	do {
		if (WARN_ON_ONCE(!fits(iter, mapped, total, false) ||
				 index == entries)) {
			iter->status = BLK_STS_IOERR;
			goto err_unmap;
		}
		if (at == NVME_LIST_SGES - 1 && list + 1 < map->nr_lists) {
			sges = map->lists[++list];
			at = 0;
		}
		set_sge(&sges[at++], iter->addr, iter->len,
			NVME_SGL_FMT_DATA_DESC);
		index++;
		mapped += iter->len;
		if (mapped == total) {
			link_sges(&cmd->dptr.sgl, map, index);
			return BLK_STS_OK;
		}
	} while (blk_rq_dma_map_iter_next(req, dma->dev, &map->iova, iter));

err_unmap:
	unmap_iterated(dma, req, map, mapped);
	return iter->status ?: BLK_STS_IOERR;
}

static bool metadata_uses_sgls(struct nvme_dma *dma, struct request *req)
{
	if (!nvme_ctrl_meta_sgl_supported(dma->ctrl))
		return false;
	return req->nr_integrity_segments > 1 ||
	       nvme_req(req)->flags & NVME_REQ_USERCMD;
}

/* The admin queue and some controllers know no SGLs. */
static bool may_use_sgls(struct nvme_dma *dma, struct request *req)
{
	return nvme_ctrl_sgl_supported(dma->ctrl) &&
	       req->q != dma->ctrl->admin_q;
}

/*
 * A user's own command may move more than its buffer, and an SGL is what stops the controller
 * at the end: the second PRP of two pages would be taken for a list. Data and integrity data
 * are described alike.
 */
static __always_inline bool must_use_sgls(struct nvme_dma *dma,
					  struct request *req)
{
	/* What is asked of every request first: nothing of the controller. */
	if (likely(!(nvme_req(req)->flags & NVME_REQ_USERCMD) &&
		   req->nr_integrity_segments <= 1))
		return false;
	return may_use_sgls(dma, req) &&
	       (metadata_uses_sgls(dma, req) ||
		nvme_req(req)->flags & NVME_REQ_USERCMD);
}

/*
 * Several segments: SGLs where these are long and one list has them all. PRPs take half the
 * room, and chains of SGL lists are what controllers know least.
 */
static bool shall_use_sgls(struct nvme_dma *dma, struct request *req,
			   unsigned int segments)
{
	unsigned int threshold = READ_ONCE(sgl_threshold);

	if (must_use_sgls(dma, req))
		return true;
	return threshold && may_use_sgls(dma, req) &&
	       segments <= NVME_LIST_SGES &&
	       DIV_ROUND_UP(blk_rq_payload_bytes(req), segments) >= threshold;
}

/**
 * enum nvme_one_segment - how one segment is described
 * @NVME_ONE_PRPS: with the command's PRPs
 * @NVME_ONE_SGE: with the command's SGL descriptor
 * @NVME_ONE_LIST: with PRPs that need a list
 */
enum nvme_one_segment {
	NVME_ONE_PRPS,
	NVME_ONE_SGE,
	NVME_ONE_LIST,
};

/* Asked once for a request: the threshold may change at any time. */
static __always_inline enum nvme_one_segment
choose_for_one(struct nvme_dma *dma, struct request *req, u64 addr, u32 len)
{
	if (must_use_sgls(dma, req))
		return NVME_ONE_SGE;
	if (len <= page_rest(addr) + NVME_CTRL_PAGE_SIZE)
		return NVME_ONE_PRPS;
	return READ_ONCE(sgl_threshold) && may_use_sgls(dma, req) ?
		       NVME_ONE_SGE :
		       NVME_ONE_LIST;
}

/* Put one segment into the command. */
static void describe_one(struct request *req, dma_addr_t addr, u32 len,
			 enum nvme_one_segment how)
{
	struct nvme_rw_command *cmd = &nvme_req(req)->cmd->rw;
	u32 first = page_rest(addr);

	if (how == NVME_ONE_SGE) {
		cmd->flags = NVME_CMD_SGL_METABUF;
		set_sge(&cmd->dptr.sgl, addr, len, NVME_SGL_FMT_DATA_DESC);
		return;
	}
	cmd->dptr.prp1 = cpu_to_le64(addr);
	cmd->dptr.prp2 = len > first ? cpu_to_le64(addr + first) : 0;
}

/* One segment of ordinary memory that needs no list: most requests. */
static blk_status_t map_one(struct nvme_dma *dma, struct request *req,
			    struct nvme_dma_req *map,
			    const struct bio_vec *bvec,
			    enum nvme_one_segment how)
{
	map->addr = dma_map_bvec(dma->dev, bvec, rq_dma_dir(req), 0);
	if (dma_mapping_error(dma->dev, map->addr))
		return BLK_STS_RESOURCE;
	map->len = bvec->bv_len;
	describe_one(req, map->addr, map->len, how);
	return BLK_STS_OK;
}

/* What the block layer's iterator maps. */
static noinline blk_status_t map_iterated(struct nvme_dma *dma,
					  struct request *req,
					  struct nvme_dma_req *map, bool peer)
{
	enum nvme_one_segment how;
	struct blk_dma_iter iter;

	if (!blk_rq_dma_map_iter_start(req, dma->dev, &map->iova, &iter))
		return iter.status ?: BLK_STS_IOERR;
	map->addr = iter.addr;
	if (iter.len == blk_rq_payload_bytes(req)) {
		if (!dma_use_iova(&map->iova) && !peer)
			map->len = iter.len;
		how = choose_for_one(dma, req, iter.addr, iter.len);
		if (how == NVME_ONE_LIST)
			return map_prps(dma, req, map, &iter);
		describe_one(req, iter.addr, iter.len, how);
		return BLK_STS_OK;
	}
	if (shall_use_sgls(dma, req, blk_rq_nr_phys_segments(req)))
		return map_sges(dma, req, map, &iter);
	return map_prps(dma, req, map, &iter);
}

/**
 * nvme_dma_map_data() - map a request's data and describe it in its command
 * @dma: the controller's
 * @req: request with data; its command is set up
 * @map: out: how it is mapped, for nvme_dma_unmap_data()
 *
 * Context: any.
 * Return: BLK_STS_OK, or why not; then nothing is mapped.
 */
blk_status_t nvme_dma_map_data(struct nvme_dma *dma, struct request *req,
			       struct nvme_dma_req *map)
{
	struct bio_vec bvec = req_bvec(req);
	bool peer = is_pci_p2pdma_page(bvec.bv_page);
	enum nvme_one_segment how = NVME_ONE_LIST;
	blk_status_t status;

	map->len = 0;
	map->nr_lists = 0;
	map->small = false;
	map->sgl = false;
	nvme_req(req)->cmd->common.flags &= ~NVME_CMD_SGL_ALL;

	if (blk_rq_nr_phys_segments(req) == 1 && !peer)
		how = choose_for_one(dma, req, bvec.bv_offset, bvec.bv_len);
	if (how != NVME_ONE_LIST)
		status = map_one(dma, req, map, &bvec, how);
	else
		status = map_iterated(dma, req, map, peer);
	trace_nvme_dma_map(req, map, status);
	return status;
}

/**
 * nvme_dma_unmap_data() - undo nvme_dma_map_data()
 * @dma: the controller's
 * @req: request, not completed yet
 * @map: how it is mapped
 *
 * Context: any.
 */
void nvme_dma_unmap_data(struct nvme_dma *dma, struct request *req,
			 struct nvme_dma_req *map)
{
	if (!map->len) {
		unmap_iterated(dma, req, map, blk_rq_payload_bytes(req));
		return;
	}
	if (dma_need_unmap(dma->dev))
		dma_unmap_page(dma->dev, map->addr, map->len, rq_dma_dir(req));
	if (map->nr_lists)
		free_lists(dma, map);
}

/* DMA address of one of a request's integrity segments. */
static dma_addr_t meta_addr_of(const struct nvme_dma_req *map, unsigned int i)
{
	return map->meta_list ? le64_to_cpu(map->meta_list[i + 1].addr) :
				map->meta_addr;
}

/* Undo the mappings of a request's first integrity segments. */
static void unmap_metadata_runs(struct nvme_dma *dma, struct request *req,
				const struct nvme_dma_req *map,
				unsigned int segments)
{
	struct blk_dma_iter iter;
	unsigned int i;
	bool more;

	if (!dma_need_unmap(dma->dev))
		return;
	more = blk_rq_integrity_dma_unmap_iter_start(req, dma->dev, &iter);
	for (i = 0; more && i < segments; i++)
		more = blk_rq_dma_unmap_iter_next(req, dma->dev, &iter,
						  meta_addr_of(map, i));
}

/*
 * The first descriptor points to the others; a single one takes its place. Sets @segments to
 * how many there are.
 */
static blk_status_t map_metadata_sges(struct nvme_dma *dma, struct request *req,
				      struct nvme_dma_req *map,
				      unsigned int *segments)
{
	struct nvme_rw_command *cmd = &nvme_req(req)->cmd->rw;
	struct nvme_sgl_desc *sges;
	struct blk_dma_iter iter;
	unsigned int nr = 0;
	bool more;

	sges = nvme_dma_alloc_list(dma->small_pool, &map->meta_addr);
	if (!sges)
		return BLK_STS_RESOURCE;
	map->meta_list = sges;

	for (more = blk_rq_integrity_dma_map_iter_start(req, dma->dev, &iter);
	     more && nr < NVME_MAX_META_SEGS;
	     more = blk_rq_integrity_dma_map_iter_next(req, dma->dev, &iter))
		set_sge(&sges[++nr], iter.addr, iter.len,
			NVME_SGL_FMT_DATA_DESC);
	if (WARN_ON_ONCE(more) || iter.status || !nr)
		goto err_unmap;

	if (nr == 1)
		sges[0] = sges[1];
	else
		set_sge(&sges[0], map->meta_addr + sizeof(*sges),
			nr * sizeof(*sges), NVME_SGL_FMT_LAST_SEG_DESC);
	cmd->flags = NVME_CMD_SGL_METASEG;
	cmd->metadata = cpu_to_le64(map->meta_addr);
	*segments = nr;
	return BLK_STS_OK;

err_unmap:
	unmap_metadata_runs(dma, req, map, nr);
	dma_pool_free(dma->small_pool, sges, map->meta_addr);
	return iter.status ?: BLK_STS_IOERR;
}

/* A controller without SGLs for it takes one segment, and is given no more. */
static blk_status_t map_metadata_address(struct nvme_dma *dma,
					 struct request *req,
					 struct nvme_dma_req *map)
{
	struct blk_dma_iter iter;

	map->meta_list = NULL;
	if (!blk_rq_integrity_dma_map_iter_start(req, dma->dev, &iter))
		return iter.status ?: BLK_STS_IOERR;
	map->meta_addr = iter.addr;
	nvme_req(req)->cmd->rw.metadata = cpu_to_le64(iter.addr);
	return BLK_STS_OK;
}

/**
 * nvme_dma_map_metadata() - map a request's integrity data and describe it in its command
 * @dma: the controller's
 * @req: request with integrity data, whose other data is mapped
 * @map: out: how it is mapped, for nvme_dma_unmap_metadata()
 *
 * Context: any.
 * Return: BLK_STS_OK, or why not; then no integrity data is mapped.
 */
blk_status_t nvme_dma_map_metadata(struct nvme_dma *dma, struct request *req,
				   struct nvme_dma_req *map)
{
	unsigned int segments = 1;
	blk_status_t status;

	if (metadata_uses_sgls(dma, req))
		status = map_metadata_sges(dma, req, map, &segments);
	else
		status = map_metadata_address(dma, req, map);
	trace_nvme_dma_map_metadata(req, segments, status);
	return status;
}

/**
 * nvme_dma_sync_metadata() - show the device integrity data that changed after it was mapped
 * @dma: the controller's
 * @req: request that is about to be sent
 * @map: how it is mapped
 *
 * Starting a request rewrites its reference tags (blk_integrity_prepare()), which a bounce
 * buffer or a device that does not snoop would not see.
 *
 * Context: any.
 */
void nvme_dma_sync_metadata(struct nvme_dma *dma, struct request *req,
			    const struct nvme_dma_req *map)
{
	struct blk_dma_iter iter;
	unsigned int i;
	bool more;

	if (rq_dma_dir(req) != DMA_TO_DEVICE || !dma_dev_need_sync(dma->dev))
		return;
	more = blk_rq_integrity_dma_unmap_iter_start(req, dma->dev, &iter);
	for (i = 0; more; i++)
		more = blk_rq_dma_sync_iter_next(req, dma->dev, &iter,
						 meta_addr_of(map, i));
}

/**
 * nvme_dma_unmap_metadata() - undo nvme_dma_map_metadata()
 * @dma: the controller's
 * @req: request, not completed yet
 * @map: how it is mapped
 *
 * Context: any.
 */
void nvme_dma_unmap_metadata(struct nvme_dma *dma, struct request *req,
			     struct nvme_dma_req *map)
{
	unmap_metadata_runs(dma, req, map,
			    map->meta_list ? NVME_MAX_META_SEGS : 1);
	if (map->meta_list)
		dma_pool_free(dma->small_pool, map->meta_list, map->meta_addr);
}
