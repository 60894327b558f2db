# shellcheck shell=bash
# For the tests of umem ODP: a machine with the device of drivers/infiniband/sw/odp_test, a device
# that takes pages over (test_hmm), swap, huge pages and a place for files that are written back.
# shellcheck disable=SC2034 # its variables are for the tests that source it

storer=(--qemu "-device iommu-testdev")

# odp COMMAND OPTION...: run COMMAND where the device is.
odp() {
	local command=$1
	shift
	ci/vm --kernel "$KERNEL" --mem 1G --timeout 580 "$@" -- env command="$command" \
		seed="${TEST_SEED:-$((RANDOM + 1))}" sh -ec '
modprobe zram
echo 512M >/sys/block/zram0/disksize
mkswap /dev/zram0 >/dev/null
swapon /dev/zram0
echo 16 >/proc/sys/vm/nr_hugepages
modprobe -a odp_test test_hmm
echo "# seed $seed (TEST_SEED sets it)"
eval "$command"'
}

