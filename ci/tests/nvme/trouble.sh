# shellcheck shell=bash
# For the tests of a controller in trouble while it moves data behind a strict vIOMMU. The
# guest's part is trouble.py.

# trouble KIND[,KIND...] [OPTION...]: in a machine with these options; NAMESPACE has options of the
# disk, BUS is where the controller sits.
trouble() {
	local kind=$1 seed=${TEST_SEED:-$RANDOM}
	shift
	echo "seed $seed (TEST_SEED sets it)"
	truncate -s 64M "$TEST_TMP/disk"
	ci/vm --kernel "$KERNEL" --timeout 590 --mem 1G --share ci/tests/nvme "$@" \
		--qemu "-object throttle-group,id=speed,x-iops-total=${iops:-0}" \
		--qemu "-blockdev raw,node-name=file,file.driver=file,file.filename=$TEST_TMP/disk" \
		--qemu "-blockdev throttle,node-name=disk,throttle-group=speed,file=file" \
		--qemu "-device nvme,id=trouble,serial=trouble,mdts=9${BUS:+,bus=$BUS}" \
		--qemu "-device nvme-ns,bus=trouble,drive=disk${NAMESPACE:+,$NAMESPACE}" \
		-- python3 -B trouble.py "$kind" "$seed"
}
