// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Copyright (c) 2026 The Twostep authors
/*
 * umem-walk: random life of memory that a device pages in on demand.
 *
 *	umem-walk [-s SEED] [-n STEPS] [-t THREADS] [-v] [-k anonymous|shared|huge]
 *
 * Each step does something to some pages: the device or the process reads or writes,
 * or the pages are freed, swapped out, moved, split, collapsed, protected, unmapped, given to
 * a child. After each step all pages are compared with the page table (see umem.h), and
 * the pages at hand with the values they must have. Needs root, the module odp_test, and
 * swap space for some of it. -v takes the device with virtual DMA.
 *
 * With threads, some of them use the device and the others take pages away, without
 * comparing the page table; then each page belongs to one thread of the first kind, which
 * knows its value, and takers only do what keeps values.
 *
 * Output: the seed, how often what was done, what the kernel counted meanwhile, "fine"; or
 * what was wrong, with status 1.
 */
#define _GNU_SOURCE
#include <getopt.h>
#include <pthread.h>

#include "umem.h"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif
#ifndef MADV_COLD
#define MADV_COLD 20
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE 101
#endif

/* Four 2 MiB blocks and a bit at either end. */
#define PAGES (4 * 512 + 37)
#define SKEW 19

/* Soft-offlined pages are lost to the machine. */
#define MAX_OFFLINED 64

enum kind { ANONYMOUS, SHARED, HUGE_PAGES };

static const char *const kind_names[] = { "anonymous", "shared", "huge" };

struct walk {
	struct area area;
	enum kind kind;
	uint64_t random;
	uint32_t flags;
	unsigned int offlined;
};

static uint64_t draw(struct walk *walk)
{
	walk->random ^= walk->random << 13;
	walk->random ^= walk->random >> 7;
	walk->random ^= walk->random << 17;
	return walk->random;
}

static size_t below(struct walk *walk, size_t n)
{
	return (draw(walk) >> 16) % n;
}

/* Some neighbours: often few, sometimes whole blocks. */
static size_t some_pages(struct walk *walk, size_t *first)
{
	size_t nr = below(walk, 4) ? 1 + below(walk, 12) :
				     1 + below(walk, 1200);

	*first = below(walk, PAGES);
	if (!below(walk, 4))
		*first = (*first + SKEW) / 512 * 512 - SKEW;
	if (*first >= PAGES)
		*first = 0;
	return nr < PAGES - *first ? nr : PAGES - *first;
}

static void forget_values(struct walk *walk, size_t first, size_t nr)
{
	if (walk->kind == SHARED)
		return;
	memset(walk->area.value + first, 0, nr * sizeof(*walk->area.value));
}

static void device_stores(struct walk *walk, size_t first, size_t nr)
{
	size_t end = first + (nr < 40 ? nr : 40);

	for (; first < end; first++)
		odp_store(&walk->area, first, draw(walk));
}

static void device_loads(struct walk *walk, size_t first, size_t nr)
{
	size_t end = first + (nr < 40 ? nr : 40);

	for (; first < end; first++)
		check_value(&walk->area, first);
}

static void device_faults(struct walk *walk, size_t first, size_t nr)
{
	odp_fault(&walk->area, first, nr, below(walk, 2));
}

static void device_prefetches(struct walk *walk, size_t first, size_t nr)
{
	int ret = __odp_fault(
		&walk->area, first, nr, below(walk, 2),
		below(walk, 2) ? ODP_TEST_PREFETCH : ODP_TEST_SNAPSHOT, NULL);

	if (ret)
		wrong("prefetch: %s", strerror(-ret));
}

static void process_writes(struct walk *walk, size_t first, size_t nr)
{
	for (size_t i = first; i < first + nr; i++) {
		walk->area.value[i] = draw(walk);
		*cpu_value(&walk->area, i) = walk->area.value[i];
	}
}

static void advise(struct walk *walk, size_t first, size_t nr, int advice)
{
	madvise(area_at(&walk->area, first), nr * PAGE, advice);
}

static void dontneed(struct walk *walk, size_t first, size_t nr)
{
	advise(walk, first, nr, MADV_DONTNEED);
	forget_values(walk, first, nr);
}

static void pageout(struct walk *walk, size_t first, size_t nr)
{
	advise(walk, first, nr, MADV_PAGEOUT);
}

/* The whole block at hand, or its neighbour that is all inside: else nothing would come of it. */
static void collapse(struct walk *walk, size_t first, size_t)
{
	size_t block = (first + SKEW) / 512;
	const size_t behind = (PAGES + SKEW) / 512;

	block = block < 1 ? 1 : block >= behind ? behind - 1 : block;
	first = block * 512 - SKEW;
	advise(walk, first, 512, MADV_HUGEPAGE);
	advise(walk, first, 512, MADV_COLLAPSE);
}

static void set_huge(struct walk *walk, size_t first, size_t nr)
{
	advise(walk, first, nr,
	       below(walk, 2) ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

/* Until something is written there the kernel may drop a page's content. */
static void lazily_free(struct walk *walk, size_t first, size_t nr)
{
	size_t i;

	if (walk->kind != ANONYMOUS)
		return;
	advise(walk, first, nr, MADV_FREE);
	if (below(walk, 2))
		pageout(walk, first, nr);
	for (i = first; i < first + nr; i++) {
		uint64_t value = *cpu_value(&walk->area, i);

		if (value && value != walk->area.value[i])
			wrong("page %zu holds %llx", i,
			      (unsigned long long)value);
		/* From here on it must stay. */
		walk->area.value[i] = value;
		*cpu_value(&walk->area, i) = value;
	}
}

static void soft_offline(struct walk *walk, size_t first, size_t nr)
{
	if (walk->offlined++ < MAX_OFFLINED && nr)
		advise(walk, first, 1, MADV_SOFT_OFFLINE);
}

static void compact(struct walk *, size_t, size_t)
{
	write_file("/proc/sys/vm/compact_memory", "1");
}

static void split(struct walk *walk, size_t first, size_t nr)
{
	write_file("/sys/kernel/debug/split_huge_pages", "%d,0x%lx,0x%lx",
		   getpid(), (unsigned long)area_at(&walk->area, first),
		   (unsigned long)area_at(&walk->area, first + nr));
}

static void reclaim(struct walk *, size_t, size_t nr)
{
	write_file("/sys/fs/cgroup/umem-walk/memory.reclaim", "%zu", nr * PAGE);
}

static void protect(struct walk *walk, size_t first, size_t nr)
{
	char *mem = area_at(&walk->area, first);
	uint64_t value = 1;
	int ret;

	if (mprotect(mem, nr * PAGE, PROT_READ))
		wrong("mprotect: %m");
	check(&walk->area);
	ret = __odp_device(&walk->area, first, true, &value);
	if (!ret)
		wrong("the device wrote where the process may not");
	check_value(&walk->area, first);
	if (mprotect(mem, nr * PAGE, PROT_READ | PROT_WRITE))
		wrong("mprotect: %m");
}

static void unmap(struct walk *walk, size_t first, size_t nr)
{
	char *mem = area_at(&walk->area, first);
	uint64_t value = 0;

	if (walk->kind != ANONYMOUS)
		return;
	munmap(mem, nr * PAGE);
	check(&walk->area);
	if (!__odp_device(&walk->area, first, false, &value))
		wrong("the device read what is not mapped");
	if (mmap(mem, nr * PAGE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		wrong("mmap: %m");
	forget_values(walk, first, nr);
}

/* mremap() takes a part of one mapping: how many of the pages lie in the first one's. */
static size_t pages_of_mapping(const char *mem, size_t nr)
{
	unsigned long start, end, at = (unsigned long)mem;
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512];

	if (!maps)
		wrong("/proc/self/maps: %m");
	while (fgets(line, sizeof(line), maps))
		if (sscanf(line, "%lx-%lx", &start, &end) == 2 && start <= at &&
		    at < end && (end - at) / PAGE < nr)
			nr = (end - at) / PAGE;
	fclose(maps);
	return nr;
}

static void move_away_and_back(struct walk *walk, size_t first, size_t nr)
{
	char *mem = area_at(&walk->area, first), *to;
	uint64_t value = 0;

	nr = pages_of_mapping(mem, nr);
	to = mmap(NULL, nr * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		  0);
	if (to == MAP_FAILED ||
	    mremap(mem, nr * PAGE, nr * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
		   to) == MAP_FAILED)
		wrong("mremap: %m");
	check(&walk->area);
	if (!__odp_device(&walk->area, first, false, &value))
		wrong("the device read what was moved away");
	if (mremap(to, nr * PAGE, nr * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
		   mem) == MAP_FAILED)
		wrong("mremap back: %m");
}

/* A child has what was there when it was born, whatever the device does meanwhile. */
static void fork_child(struct walk *walk, size_t first, size_t nr)
{
	struct area *area = &walk->area;
	int go[2], status;
	pid_t child;

	if (walk->kind == SHARED)
		return;
	if (pipe(go))
		wrong("pipe: %m");
	child = fork();
	if (!child) {
		char byte;

		if (read(go[0], &byte, 1) != 1)
			_exit(2);
		for (size_t i = 0; i < PAGES; i++)
			if (*cpu_value(area, i) != area->value[i])
				_exit(1);
		_exit(0);
	}
	check(area);
	device_stores(walk, first, nr);
	check(area);
	if (write(go[1], "", 1) != 1 || waitpid(child, &status, 0) != child ||
	    status)
		wrong("the child saw something else");
	close(go[0]);
	close(go[1]);
}

static void register_anew(struct walk *walk, size_t, size_t)
{
	odp_release(&walk->area);
	odp_register(&walk->area, walk->flags);
}

static const struct deed {
	const char *name;
	void (*act)(struct walk *walk, size_t first, size_t nr);
	unsigned int weight;
	bool keeps; /* values; for threads */
} deeds[] = {
	{ "device stores", device_stores, 16, false },
	{ "device loads", device_loads, 16, false },
	{ "device faults", device_faults, 16, false },
	{ "device prefetches", device_prefetches, 8, false },
	{ "process writes", process_writes, 8, false },
	{ "dontneed", dontneed, 8, false },
	{ "pageout", pageout, 8, true },
	{ "free", lazily_free, 4, false },
	{ "collapse", collapse, 4, true },
	{ "huge or not", set_huge, 2, true },
	{ "soft offline", soft_offline, 2, true },
	{ "compact", compact, 1, true },
	{ "split", split, 4, true },
	{ "reclaim", reclaim, 4, true },
	{ "protect", protect, 4, false },
	{ "unmap", unmap, 4, false },
	{ "mremap", move_away_and_back, 4, false },
	{ "fork", fork_child, 3, false },
	{ "register anew", register_anew, 1, false },
};

/*
 * madvise() may do nothing and say nothing. What of a walk's deeds the kernel must have counted
 * (/proc/vmstat), else they did not happen. Huge pages are there by the dozen only where they
 * were asked for, and what threads come to is up to the scheduler.
 */
static const struct effect {
	const char *name;
	bool huge_only;
} effects[] = {
	{ "pswpout", false },		{ "pswpin", false },
	{ "pgmigrate_success", false }, { "thp_collapse_alloc", true },
	{ "thp_split_page", true },
};

/* A short walk may not come to each of them. */
#define STEPS_WITH_EFFECT 1000

static void count_effects(uint64_t *counts)
{
	for (size_t i = 0; i < COUNT(effects); i++)
		counts[i] = file_counter("/proc/vmstat", effects[i].name);
}

static void judge_effects(const struct walk *walk, const uint64_t *before,
			  unsigned long steps, bool threads)
{
	uint64_t after[COUNT(effects)];

	count_effects(after);
	snprintf(doing, sizeof(doing), "%lu steps", steps);
	for (size_t i = 0; i < COUNT(effects); i++) {
		const struct effect *effect = &effects[i];

		printf("# %s: %llu\n", effect->name,
		       (unsigned long long)(after[i] - before[i]));
		if (after[i] > before[i] || steps < STEPS_WITH_EFFECT ||
		    (effect->huge_only &&
		     (walk->kind != HUGE_PAGES || threads)))
			continue;
		wrong("%s did not move", effect->name);
	}
}

static const struct deed *draw_deed(struct walk *walk, bool keeps)
{
	unsigned int sum = 0, at;
	size_t i;

	for (i = 0; i < COUNT(deeds); i++)
		sum += keeps && !deeds[i].keeps ? 0 : deeds[i].weight;
	at = below(walk, sum);
	for (i = 0;; i++) {
		if (keeps && !deeds[i].keeps)
			continue;
		if (at < deeds[i].weight)
			return &deeds[i];
		at -= deeds[i].weight;
	}
}

static void step(struct walk *walk, unsigned long number, unsigned long *counts)
{
	const struct deed *deed = draw_deed(walk, false);
	size_t first, nr = some_pages(walk, &first);

	snprintf(doing, sizeof(doing), "step %lu: %s of %zu pages at %zu",
		 number, deed->name, nr, first);
	deed->act(walk, first, nr);
	counts[deed - deeds]++;
	check(&walk->area);
	for (size_t i = 0; i < 4; i++)
		check_value(&walk->area, first + below(walk, nr));
}

static void map_walk(struct walk *walk)
{
	int fd = -1, flags = MAP_PRIVATE | MAP_ANONYMOUS;

	if (walk->kind == SHARED) {
		fd = memfd_create("umem-walk", MFD_CLOEXEC);
		if (fd < 0 || ftruncate(fd, PAGES * PAGE))
			wrong("no shared memory: %m");
		flags = MAP_SHARED;
	}
	walk->area = map_area(PAGES, SKEW, flags, fd);
	if (walk->kind == HUGE_PAGES)
		madvise(walk->area.mem, PAGES * PAGE, MADV_HUGEPAGE);
	odp_register(&walk->area, walk->flags);
}

/**
 * struct part - a thread that uses the device for every nr-th page
 * @walk: a copy of its own, but for the values
 * @number: the first page
 * @of: how many such threads
 * @steps: how long, at least
 */
struct part {
	struct walk walk;
	unsigned int number, of;
	unsigned long steps;
};

/* What the threads that take pages away have come to; the others wait for their share of it. */
static unsigned long taken;
static bool taking = true;
#define STEPS_PER_TAKE 50

static void *use_device(void *arg)
{
	struct part *part = arg;
	struct area *area = &part->walk.area;
	size_t page;

	for (unsigned long i = 0;
	     i < part->steps || __atomic_load_n(&taken, __ATOMIC_RELAXED) <
					part->steps / STEPS_PER_TAKE;
	     i++) {
		page = below(&part->walk, PAGES / part->of) * part->of +
		       part->number;
		if (below(&part->walk, 2))
			odp_store(area, page, draw(&part->walk));
		else if (odp_load(area, page) != area->value[page])
			wrong("thread %u: page %zu has another value",
			      part->number, page);
	}
	return NULL;
}

static void *take_pages(void *arg)
{
	struct part *part = arg;
	size_t first, nr;

	while (__atomic_load_n(&taking, __ATOMIC_RELAXED)) {
		nr = some_pages(&part->walk, &first);
		draw_deed(&part->walk, true)->act(&part->walk, first, nr);
		__atomic_fetch_add(&taken, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void run_threads(struct walk *walk, unsigned int users,
			unsigned long steps)
{
	unsigned int all = users + 2, i;
	struct part *parts = calloc(all, sizeof(*parts));
	pthread_t *threads = calloc(all, sizeof(*threads));

	snprintf(doing, sizeof(doing), "%u threads", users);
	for (i = 0; i < all; i++) {
		parts[i] = (struct part){
			.walk = *walk, .number = i, .of = users, .steps = steps
		};
		parts[i].walk.random = draw(walk) | 1;
		if (pthread_create(&threads[i], NULL,
				   i < users ? use_device : take_pages,
				   &parts[i]))
			wrong("no thread");
	}
	for (i = 0; i < all; i++) {
		if (i == users)
			__atomic_store_n(&taking, false, __ATOMIC_RELAXED);
		pthread_join(threads[i], NULL);
	}
	printf("# pages were taken away %lu times\n", taken);
	check(&walk->area);
	for (i = 0; i < PAGES; i++)
		check_value(&walk->area, i);
}

/* A group of its own, so that reclaim takes our pages and nobody else's. */
static void join_group(void)
{
	write_file("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
	mkdir("/sys/fs/cgroup/umem-walk", 0755);
	write_file("/sys/fs/cgroup/umem-walk/cgroup.procs", "%d", getpid());
}

int main(int argc, char **argv)
{
	struct walk walk = { .flags = ODP_TEST_WRITE };
	unsigned long seed = time(NULL), steps = 1000,
		      counts[COUNT(deeds)] = {};
	uint64_t before[COUNT(effects)];
	unsigned int users = 0;
	int option;

	while ((option = getopt(argc, argv, "s:n:t:vk:")) != -1) {
		if (option == 's')
			seed = strtoul(optarg, NULL, 0);
		else if (option == 'n')
			steps = strtoul(optarg, NULL, 0);
		else if (option == 't')
			users = strtoul(optarg, NULL, 0);
		else if (option == 'v')
			walk.flags |= ODP_TEST_VIRT;
		else if (option == 'k')
			while (strcmp(kind_names[walk.kind], optarg))
				if (++walk.kind == COUNT(kind_names))
					return 2;
		if (option == '?')
			return 2;
	}
	printf("# seed %lu\n", seed);
	walk.random = seed * 0x9e3779b97f4a7c15ULL | 1;
	join_group();
	odp_open();
	map_walk(&walk);
	count_effects(before);
	if (users)
		run_threads(&walk, users, steps);
	for (unsigned long i = 0; !users && i < steps; i++)
		step(&walk, i, counts);
	for (size_t i = 0; !users && i < COUNT(deeds); i++)
		printf("# %s: %lu\n", deeds[i].name, counts[i]);
	judge_effects(&walk, before, steps, users);
	odp_release(&walk.area);
	printf("fine\n");
	return 0;
}
