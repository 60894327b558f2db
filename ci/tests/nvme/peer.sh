# shellcheck shell=bash
# For the tests of I/O to a peer's memory, from one NVMe controller to the memory buffer of
# another. The guest's part is peer.py.

# peer KIND OPTION...: in a machine with these options; BUS and OTHER_BUS say where the
# controllers are.
peer() {
	local kind=$1 seed=${TEST_SEED:-$RANDOM} disk
	shift
	echo "seed $seed (TEST_SEED sets it)"
	for disk in client provider; do
		truncate -s 16M "$TEST_TMP/$disk"
		set -- "$@" --qemu "-blockdev raw,node-name=$disk,file.driver=file,file.filename=$TEST_TMP/$disk"
	done
	ci/vm --kernel "$KERNEL" --timeout 110 --mem 1G --share ci/tests/nvme "$@" \
		--qemu "-device nvme,serial=client,drive=client,bus=${BUS:-pcie.0},mdts=9" \
		--qemu "-device nvme,serial=provider,drive=provider,bus=${OTHER_BUS:-pcie.0},mdts=9,cmb_size_mb=16" \
		-- python3 -B peer.py "$kind" "$seed"
}

# below_switch KIND OPTION...: the same with both controllers below one switch.
below_switch() {
	BUS=below0 OTHER_BUS=below1 peer "$@" \
		--qemu "-device pcie-root-port,id=root,bus=pcie.0,chassis=1,slot=1,pref64-reserve=256M" \
		--qemu "-device x3130-upstream,id=up,bus=root" \
		--qemu "-device xio3130-downstream,id=below0,bus=up,chassis=2,slot=0" \
		--qemu "-device xio3130-downstream,id=below1,bus=up,chassis=3,slot=1"
}
