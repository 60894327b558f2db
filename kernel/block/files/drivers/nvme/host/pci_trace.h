/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * What nvme-pci decided for a request's data: how it is mapped, how it is described.
 */

/* clang-format off */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM nvme_pci

#if !defined(_NVME_PCI_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _NVME_PCI_TRACE_H

#include <linux/tracepoint.h>

#include "pci-dma.h"

TRACE_EVENT(nvme_dma_map,
	TP_PROTO(struct request *req, const struct nvme_dma_req *map, blk_status_t status),
	TP_ARGS(req, map, status),
	TP_STRUCT__entry(
		__field(int, ctrl_id)
		__field(int, qid)
		__field(int, tag)
		__field(u32, bytes)
		__field(u16, segments)
		__field(u8, lists)
		__field(bool, sgl)
		__field(bool, iova)
		__field(bool, one)
		__field(int, error)
	),
	TP_fast_assign(
		__entry->ctrl_id = nvme_req(req)->ctrl->instance;
		__entry->qid = nvme_req_qid(req);
		__entry->tag = req->tag;
		__entry->bytes = blk_rq_payload_bytes(req);
		__entry->segments = blk_rq_nr_phys_segments(req);
		__entry->lists = map->nr_lists;
		__entry->sgl = nvme_req(req)->cmd->common.flags & NVME_CMD_SGL_ALL;
		__entry->iova = !map->len && dma_use_iova(&map->iova);
		__entry->one = map->len;
		__entry->error = blk_status_to_errno(status);
	),
	TP_printk("nvme%d: qid=%d, tag=%d, bytes=%u, segments=%u, %s, lists=%u, mapped=%s, error=%d",
		__entry->ctrl_id, __entry->qid, __entry->tag, __entry->bytes,
		__entry->segments, __entry->sgl ? "sgl" : "prp", __entry->lists,
		__entry->one ? "one" : __entry->iova ? "iova" : "runs", __entry->error)
);

TRACE_EVENT(nvme_dma_map_metadata,
	TP_PROTO(struct request *req, unsigned int segments, blk_status_t status),
	TP_ARGS(req, segments, status),
	TP_STRUCT__entry(
		__field(int, ctrl_id)
		__field(int, qid)
		__field(int, tag)
		__field(u16, segments)
		__field(bool, sgl)
		__field(int, error)
	),
	TP_fast_assign(
		__entry->ctrl_id = nvme_req(req)->ctrl->instance;
		__entry->qid = nvme_req_qid(req);
		__entry->tag = req->tag;
		__entry->segments = segments;
		__entry->sgl = nvme_req(req)->cmd->common.flags & NVME_CMD_SGL_METASEG;
		__entry->error = blk_status_to_errno(status);
	),
	TP_printk("nvme%d: qid=%d, tag=%d, segments=%u, %s, error=%d",
		__entry->ctrl_id, __entry->qid, __entry->tag, __entry->segments,
		__entry->sgl ? "sgl" : "address", __entry->error)
);

#endif /* _NVME_PCI_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE pci_trace

/* This part must be outside protection */
#include <trace/define_trace.h>
