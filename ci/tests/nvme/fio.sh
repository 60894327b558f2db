# shellcheck shell=bash
# For the tests of NVMe behind each IOMMU: fio writes with checksums, the data is
# read back and verified after the page cache and the controller's queues were
# through it; then one planted wrong byte must be found.

# The guest's part; the shell variable type names the IOMMU domain it must see.
fio_guest='
set -eu
job() {
	fio --name=verify --filename=/dev/nvme0n1 --direct=1 --ioengine=io_uring --iodepth=16 \
		--rw=randwrite --bsrange=4k-128k --bs_unaligned=0 --blockalign=4k --size=48M --norandommap=0 \
		--randseed="$seed" --verify=crc32c --verify_fatal=1 --verify_backlog=0 --minimal "$@"
}
device=$(readlink -f /sys/class/nvme/nvme0/device)
found=none
[ ! -e "$device/iommu_group" ] || found=$(cat "$device/iommu_group/type")
[ "$found" = "$type" ] || { echo "the IOMMU domain of nvme0 is $found instead of $type"; exit 1; }
before=$(awk "{print \$7}" /sys/block/nvme0n1/stat)
job --do_verify=1 >/dev/null
written=$(($(awk "{print \$7}" /sys/block/nvme0n1/stat) - before))
[ "$written" -ge 98304 ] || { echo "only $written sectors were written"; exit 1; }
job --verify_only=1 >/dev/null
printf "\377\0\377" | dd of=/dev/nvme0n1 bs=1 seek=20000003 conv=notrunc,fsync 2>/dev/null
if job --verify_only=1 >planted.log 2>&1; then
	echo "fio did not notice a planted wrong byte"
	exit 1
fi
grep -q "verify: bad magic header\|crc32c: verify failed" planted.log
echo "seed $seed: $((written / 2)) KiB verified, a planted byte found"
'

# verify_behind TYPE OPTION...: run it in a machine with these options.
verify_behind() {
	local type=$1 seed=${TEST_SEED:-$RANDOM}
	shift
	echo "seed $seed (TEST_SEED sets it)"
	ci/vm --kernel "$KERNEL" --timeout 170 --mem 1G --nvme 128M "$@" -- env type="$type" seed="$seed" sh -c "$fio_guest"
}
