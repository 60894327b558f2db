# shellcheck shell=bash
# For the tests of a namespace with protection information. The guest's part is
# integrity.py.

# integrity OPTION...: in a machine with these options; BLOCK is the size of a logical block.
integrity() {
	local seed=${TEST_SEED:-$RANDOM} share=1
	# Fewer checked accesses. Without dma-debug, which takes it for an overlap that the small
	# buffers of KASAN's kernel share cache lines.
	[ "$KERNEL" != debug ] || { share=4 && set -- "$@" --append "dma_debug=off kmemleak=off"; }
	echo "seed $seed (TEST_SEED sets it)"
	truncate -s 32M "$TEST_TMP/disk"
	ci/vm --kernel "$KERNEL" --timeout 230 --mem 1G --share ci/tests/nvme "$@" \
		--qemu "-blockdev raw,node-name=disk,file.driver=file,file.filename=$TEST_TMP/disk" \
		--qemu "-device nvme,id=ctrl,serial=integrity,mdts=9" \
		--qemu "-device nvme-ns,bus=ctrl,drive=disk,ms=8,pi=1,logical_block_size=${BLOCK:-512},physical_block_size=${BLOCK:-512}" \
		-- python3 -B integrity.py "$seed" "${BLOCK:-512}" "$share"
}
