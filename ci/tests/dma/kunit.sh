# shellcheck shell=bash
# For the tests of the two-step DMA core: its KUnit suites in a machine with the devices that
# they need, their results as KTAP. A case that is skipped there fails here.
# shellcheck disable=SC2034 # its variables are for the tests that source it

writer=(--qemu "-device iommu-testdev")
mover=(--qemu "-device edu,dma_mask=0xffffffffffffffff")
# A bridge hides from the IOMMU which of the devices behind it speaks.
group=(--qemu "-device pcie-pci-bridge,id=bridge" --qemu "-device iommu-testdev,bus=bridge,addr=1"
	--qemu "-device iommu-testdev,bus=bridge,addr=2")

# The search for leaks takes the debug kernel longer than most suites: those that run every suite
# and let every step fail have it.
no_leaks=(--append kmemleak=off)

basic="dma_iova dma_iova_ranges dma_iova_entries dma_iova_random dma_iova_together"

# kunit GLOB SUITES OPTION...: run what GLOB names at boot, print the results of SUITES.
kunit() {
	local glob=$1 suites=$2 seed=${TEST_SEED:-$((RANDOM + 1))} steps=1000 ranges=100000
	shift 2
	# Its checkers take a millisecond for a range.
	[ "$KERNEL" != debug ] || steps=150 ranges=2000
	echo "# seed $seed (TEST_SEED sets it)"
	# Failing allocations would end dma-debug's checks for the suites behind; misuse for its
	# reports cuts an entry on virtio-iommu, which warns as it should.
	local filter="module!=dma_iova_test_faults"
	[ "$glob" = dma_iova_debug ] || filter+=",module!=dma_iova_test_debug"
	ci/vm --kernel "$KERNEL" --mem 1G --timeout 280 \
		--append "kunit.enable=1 kunit.filter_glob=$glob kunit.filter=$filter" \
		--append "dma_iova_test.seed=$seed dma_iova_test.steps=$steps dma_iova_test.ranges=$ranges" "$@" -- \
		env suites="$suites" sh -ec 'for suite in $suites; do cat /sys/kernel/debug/kunit/$suite/results; done'
}
