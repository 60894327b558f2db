# shellcheck shell=bash
# For the tests matrix-*: all ways to an NVMe disk with one thing between the
# controller and memory. The guest's part is matrix.py.

# matrix KIND OPTION...: in a machine with these options; BUS says where the controller is.
matrix() {
	local kind=$1 seed=${TEST_SEED:-$RANDOM} share=1
	shift
	# The debug kernel checks each access: fewer of them. The tests of a controller in trouble look
	# for leaks; after all of this it would take minutes.
	[ "$KERNEL" != debug ] || { share=4 && set -- "$@" --append kmemleak=off; }
	echo "seed $seed (TEST_SEED sets it)"
	truncate -s 64M "$TEST_TMP/disk"
	ci/vm --kernel "$KERNEL" --timeout 290 --mem 1G --share ci/tests/nvme "$@" \
		--qemu "-blockdev raw,node-name=matrix,file.driver=file,file.filename=$TEST_TMP/disk" \
		--qemu "-device nvme,serial=matrix,drive=matrix,bus=${BUS:-pcie.0},mdts=9" \
		-- python3 -B matrix.py "$kind" "$seed" "$share"
}
