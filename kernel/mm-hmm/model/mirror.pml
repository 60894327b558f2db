/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * The mirror's protocol between faults, invalidations and devices, for spin.
 *
 * Modelled: a page of a process, its page-table entry, and its word in the mirror's table.
 *  - Two threads fault for ever: mmu_interval_read_begin, walk, lock for write, retry check,
 *    publish, link, unlock. A fault may read, write, only look, or be for another page.
 *  - Two invalidations at a time, for ever, as in mm/mmu_notifier.c: raise the sequence, call
 *    the op, change the page table, end. A non-blockable one may be refused.
 *    The op: lock, set_seq, zap the device, unlink, flush the IOTLB, mark dirty, clear, unlock.
 *  - The data path holds the lock shared: a software device's reads and writes the page through
 *    the word, a real one's copies the rights of a MAPPED word into the device's own entry.
 *  - A device makes requests by its own entry at any time: that entry, then IOTLB or IOMMU
 *    entry, then page. It also makes rogue requests, past its own entry.
 *  - Writeback takes the dirty mark at any time.
 *
 * Abstracted, and why nothing is lost:
 *  - Sequence numbers are only compared for equality. The end of an invalidation renames them
 *    (last, older), so that runs are endless. A wrap within one fault is left out, and so are the
 *    notifier's insertion and removal: the mirror's user excludes faults from these.
 *  - A page has an age for a number: NOW is the one the process has, GONE any that it gave up. A
 *    frame that comes back counts as another page, which is stricter than comparing frames.
 *  - One word. Lock and sequence are the whole mirror's, so words only meet in that a fault links
 *    whatever is linkable in its block, and that a huge word goes with each of its pages. For
 *    these stand a fault that sees nothing, and an invalidation that changes nothing. A word whose
 *    link goes with a neighbour's (they share an entry, or become one huge block) stays present:
 *    what a fault may do under the lock stands for the invalidation that does it.
 *  - A fault that copies a page invalidates it from within its walk, where it holds nothing of
 *    ours: that is one of the two invalidations.
 *  - Any link may fail; the mirror of a software device is the runs in which all do. A fault that
 *    tries again after a failed link is two faults.
 *  - One request at a time: they meet in the IOTLB only, and what one leaves there stays.
 *  - Memory is sequentially consistent: the mirror's lock, the notifier's spinlock and that of
 *    the page table order all that is shared.
 *  - Zap waits for requests by the device's own entry, flush for all that are translated: that is
 *    what the hardware promises. Writeback does more than the kernel's, which invalidates first.
 *  - Steps are one where a lock hides what is between them from everyone else.
 *
 * Properties, with the tag that their assertions carry:
 *  reach    no access to a page that the process gave up, none beyond the rights it has, and
 *	     none at all from the return of the op to the end of the invalidation
 *  miss     the device's own entry never leads to an absent IOMMU entry (a DMA fault)
 *  publish  a word gets the page and no more than the rights that the page table has then
 *  table    at unlock there is an IOMMU entry if and only if the word is MAPPED, with its page
 *	     and rights, and the device's own entry says no more than a MAPPED word does
 *  upgrade  nothing is linked over an entry
 *  dirty    what a device wrote is marked dirty when the op returns
 *  No deadlock (invalid end states) and no livelock (non-progress cycles): a run without end
 *  has accesses, invalidations or completed faults without end. Retries have one cause,
 *  sub_seq, so faults that never complete need invalidations that never end. This takes the
 *  lock to be fair, as a rw_semaphore is.
 *
 * Every macro that #ifdef or #ifndef asks for breaks one rule, see README.md; but ENDLESS only
 * leaves out that everything may come to rest, which a search for deadlocks needs.
 */

/* Pages */
#define NONE 0
#define NOW 1
#define GONE 2

/* Sequence numbers: an older one, the last one, idle; IDLE + 1 is an invalidation's */
#define OLD 1
#define LAST 3
#define IDLE 4

typedef entry {
	byte page;
	bool write
}

#define set(e, p, w) e.page = p; e.write = w
#define clear(e) set(e, NONE, false)
#define grow_old(e) e.page = (e.page == NOW -> GONE : e.page)
#define gives(e, w) (e.page != NONE && (e.write || !(w)))

/* The process */
entry pte;
byte subs_seq = IDLE;		/* mm->notifier_subscriptions->invalidate_seq */
byte running;			/* active_invalidate_ranges */
byte quiet;			/* invalidations between the op's return and the end */

/* The mirror */
byte sub_seq = LAST;		/* interval_sub->invalidate_seq */
bool writer, reader;		/* who holds the lock */
entry word;
bool mapped, dirty;		/* tags of the word */

/* The faults */
byte begun[2] = OLD;		/* what read_begin returned */
entry seen[2];			/* the private scratch */

/* The data path */
entry held;			/* the word as it found it */

/* The hardware */
entry io, tlb;			/* IOMMU entry, IOTLB entry */
bool dev, dev_write;		/* the device's own entry */
bool asked;			/* the device has a request out by its own entry */
entry req;			/* a request between translation and page */

/* The page's content */
bool wrote;			/* written by a device, not saved yet */
bool marked;			/* set_page_dirty */

bool over;			/* nothing new begins: who is stuck shows as a deadlock */

inline down_write()
{
	!writer && !reader -> writer = true
}

inline up_write()
{
	atomic {
		assert(mapped == (io.page != NONE));				/* table */
		assert(!mapped || word.page == io.page && word.write == io.write); /* table */
		assert(!dev || mapped);						/* table */
		assert(!dev_write || word.write);				/* table */
		writer = false
	}
}

/* A device reads the page that E names, or writes it. */
inline access(e, store)
{
	assert(e.page == NOW && (pte.write || !(store)) && !quiet);		/* reach */
	wrote = wrote || store
}

/* The device forgets its entry and completes what it asked for by it. */
inline zap()
{
	atomic { dev = false; dev_write = false };
#ifndef ZAP_DOES_NOT_WAIT
	!asked
#endif
}

inline unlink()
{
	clear(io)
}

inline flush()
{
	atomic { clear(tlb) };
	req.page == NONE
}

inline link()
{
	atomic {
		assert(io.page == NONE);					/* upgrade */
		set(io, word.page, word.write);
		mapped = true
	}
}

inline mark_dirty()
{
	marked = marked || dirty || mapped && word.write
}

/* The rest of the op, behind down_write and set_seq. */
inline invalidate()
{
#ifdef MARK_BEFORE_FLUSH
	atomic { mark_dirty() };
#endif
	if
	:: mapped ->
#ifdef UNLINK_BEFORE_ZAP
		atomic { unlink() };
		zap();
#else
		zap();
		atomic { unlink() };
#endif
#ifndef FLUSH_AFTER_RETURN
		flush()
#endif
	:: !mapped
	fi;
	atomic {
#ifndef MARK_BEFORE_FLUSH
		mark_dirty();
#endif
		clear(word);
		mapped = false;
		dirty = false
	};
	atomic {
		up_write();
		assert(marked || !wrote);					/* dirty */
		quiet++
	}
}

/* mn_itree_inv_start_range(): subs_seq then stays as it is until the last invalidation ends. */
inline invalidate_start()
{
	running++;
	subs_seq = subs_seq | 1
}

/* mn_itree_inv_end(): the next even number is renamed to IDLE, the others accordingly. */
inline invalidate_end()
{
	running--;
	if
	:: running == 0 ->
		begun[0] = (begun[0] == sub_seq -> LAST : OLD);
		begun[1] = (begun[1] == sub_seq -> LAST : OLD);
		sub_seq = LAST;
		subs_seq = IDLE
	:: else
	fi
}

/* The process changes its page: another or none, fewer rights, or nothing. A page that goes takes
 * its content and its dirty mark along.
 */
inline change()
{
	if
	:: atomic {
		grow_old(word); grow_old(io); grow_old(tlb);
		grow_old(seen[0]); grow_old(seen[1]);
		grow_old(held); grow_old(req);
		wrote = false;
		marked = false;
		if
		:: clear(pte)
		:: set(pte, NOW, false)
		:: set(pte, NOW, true)
		fi
	   }
	:: pte.write = false
	:: true
	fi
}

active [2] proctype fault()
{
end:	do
	:: !over ->
again:
#ifdef LOCK_OVER_WALK
		atomic { down_write() };
#endif
		/* mmu_interval_read_begin(): waits if its number is that of an invalidation */
		begun[_pid] = sub_seq;
		subs_seq != begun[_pid];
		/* hmm_range_fault(): faults in, sees the entry or nothing, or says -EBUSY */
		do
		:: atomic { pte.page == NONE -> set(pte, NOW, false) }
		:: atomic { pte.page == NONE -> set(pte, NOW, true) }
		:: atomic { pte.page != NONE && !pte.write -> pte.write = true }
		:: atomic { pte.page != NONE -> set(seen[_pid], pte.page, pte.write) };
#ifdef WALK_WRITES_TABLE
			if
			:: atomic { word.page == NONE ->
				set(word, seen[_pid].page, seen[_pid].write) }
			:: else
			fi;
#endif
			break
		:: break
#ifndef LOCK_OVER_WALK
		:: atomic { sub_seq != begun[_pid] -> begun[_pid] = OLD; goto again }
#endif
		od;
#ifndef LOCK_OVER_WALK
		atomic { down_write() };
#endif
		/* mmu_interval_read_retry() */
		if
#ifndef NO_RETRY
		:: atomic { sub_seq != begun[_pid] ->
			begun[_pid] = OLD;
			clear(seen[_pid])
		   };
			up_write();
			goto again
		:: atomic { sub_seq == begun[_pid] -> begun[_pid] = OLD }
#else
		:: begun[_pid] = OLD
#endif
		fi;
		/* publish what was seen: rights are added, never taken; DIRTY stays */
		if
		:: atomic { seen[_pid].page != NONE ->
			assert(seen[_pid].page == NOW && pte.page == NOW);	/* publish */
			assert(pte.write || !seen[_pid].write);			/* publish */
			assert(word.page != GONE)				/* publish */
		   };
			if
			:: mapped && seen[_pid].write && !word.write ->	/* linked read-only */
#ifndef UPGRADE_WITHOUT_ZAP
				zap();
#endif
#ifndef UPGRADE_WITHOUT_UNLINK
				atomic { unlink() };
				flush();
#endif
				mapped = false
			:: else
			fi;
			atomic {
#ifdef REFAULT_CLEARS_DIRTY
				dirty = false;
#endif
				word.page = seen[_pid].page;
#ifdef REFAULT_LOWERS_RIGHTS
				word.write = seen[_pid].write;
#else
				word.write = word.write || seen[_pid].write;
#endif
				clear(seen[_pid])
			}
		:: seen[_pid].page == NONE
		fi;
		/* a neighbour's link goes, and this one with it; rarely */
		if
		:: mapped ->
			zap();
			atomic { unlink() };
			flush();
#ifndef UNLINK_FORGETS_DIRTY
			dirty = dirty || word.write;
#endif
			mapped = false
		:: true
		fi;
		/* link what is linkable, which may fail */
		if
		:: word.page != NONE && !mapped -> link()
#ifdef MAPPED_THOUGH_NOT_LINKED
		:: word.page != NONE -> mapped = true
#endif
#ifdef ENDLESS_RETRY
		:: word.page != NONE && !mapped -> up_write(); goto again
#endif
		:: true
		fi;
progress:
		up_write()
	od
}

active [2] proctype process()
{
end:	do
	:: atomic { !over -> invalidate_start() };
progress:
		if
		:: true ->
			/* The op; its cur_seq is subs_seq, see invalidate_start(). */
#ifdef SEQ_OUTSIDE_LOCK
			atomic { down_write() };
			invalidate();
			sub_seq = subs_seq;
#else
			atomic { down_write(); sub_seq = subs_seq };
			invalidate();
#endif
			change();
			atomic { quiet--; invalidate_end() }
#ifdef FLUSH_AFTER_RETURN
			flush()
#endif
		:: atomic { invalidate_end() }				/* refused */
		fi
#ifndef ENDLESS
	:: over = true -> break
#endif
	od
}

active proctype data_path()
{
end:	do
	:: atomic { !over && !writer -> reader = true; set(held, word.page, word.write) };
#ifdef COPY_AFTER_UNLOCK
		reader = false;
#endif
progress:
		if
		:: atomic { held.page != NONE -> access(held, false) }
		:: atomic { held.write -> access(held, true) };
			dirty = true
		:: mapped ->
#ifdef DEVICE_FILLED_UNLOCKED
			reader = false;
#endif
			atomic { dev = true; dev_write = held.write }
		:: true
		fi;
		atomic { reader = false; clear(held) }
	od
}

/* The IOMMU answers a request. */
inline translate(store)
{
	if
	:: gives(tlb, store) -> set(req, tlb.page, store)
	:: else ->
		if
		:: gives(io, store) -> set(tlb, io.page, io.write); set(req, io.page, store)
		:: else
		fi
	fi
}

/* By its own entry; as a rogue, whatever the IOMMU lets through. */
active proctype device()
{
	bool write;

end:	do
	:: atomic { !over && dev -> asked = true };
		atomic {
			if
			:: dev_write -> write = true
			:: true
			fi;
			translate(write);
			assert(req.page != NONE);				/* miss */
			write = false
		};
progress:
		atomic { access(req, req.write); clear(req); asked = false }
	:: atomic { !over && (gives(tlb, false) || gives(io, false)) -> translate(false) };
progress_read:
		atomic { access(req, false); clear(req) }
	:: atomic { !over && (gives(tlb, true) || gives(io, true)) -> translate(true) };
progress_write:
		atomic { access(req, true); clear(req) }
	od
}

active proctype writeback()
{
end:	do
	:: atomic { !over && marked -> marked = false; wrote = false }
	od
}
