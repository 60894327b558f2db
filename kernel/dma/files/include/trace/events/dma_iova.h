/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * The life of a two-step DMA range. IOVAs are absolute, sizes in bytes. A link names the
 * hull of what it linked and how many runs that was; an unlink names the hull of what it
 * cleared, after widening.
 */
/* Formatted by hand: to clang-format these macros are functions. */
/* clang-format off */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM dma_iova

#if !defined(_TRACE_DMA_IOVA_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_DMA_IOVA_H

#include <linux/device.h>
#include <linux/tracepoint.h>
#include <linux/types.h>

DECLARE_EVENT_CLASS(dma_iova_range,
	TP_PROTO(struct device *dev, dma_addr_t iova, size_t size),
	TP_ARGS(dev, iova, size),
	TP_STRUCT__entry(
		__string(device, dev_name(dev))
		__field(u64, iova)
		__field(u64, size)
	),
	TP_fast_assign(
		__assign_str(device);
		__entry->iova = iova;
		__entry->size = size;
	),
	TP_printk("%s iova=%llx size=%llx", __get_str(device), __entry->iova,
		  __entry->size)
);

DEFINE_EVENT(dma_iova_range, dma_iova_reserve,
	TP_PROTO(struct device *dev, dma_addr_t iova, size_t size),
	TP_ARGS(dev, iova, size));

DEFINE_EVENT(dma_iova_range, dma_iova_sync,
	TP_PROTO(struct device *dev, dma_addr_t iova, size_t size),
	TP_ARGS(dev, iova, size));

DEFINE_EVENT(dma_iova_range, dma_iova_unlink,
	TP_PROTO(struct device *dev, dma_addr_t iova, size_t size),
	TP_ARGS(dev, iova, size));

DEFINE_EVENT(dma_iova_range, dma_iova_free,
	TP_PROTO(struct device *dev, dma_addr_t iova, size_t size),
	TP_ARGS(dev, iova, size));

TRACE_EVENT(dma_iova_link,
	TP_PROTO(struct device *dev, dma_addr_t iova, size_t size, unsigned long runs,
		 int error),
	TP_ARGS(dev, iova, size, runs, error),
	TP_STRUCT__entry(
		__string(device, dev_name(dev))
		__field(u64, iova)
		__field(u64, size)
		__field(unsigned long, runs)
		__field(int, error)
	),
	TP_fast_assign(
		__assign_str(device);
		__entry->iova = iova;
		__entry->size = size;
		__entry->runs = runs;
		__entry->error = error;
	),
	TP_printk("%s iova=%llx size=%llx runs=%lu error=%d", __get_str(device),
		  __entry->iova, __entry->size, __entry->runs, __entry->error)
);

#endif /* _TRACE_DMA_IOVA_H */

#include <trace/define_trace.h>
