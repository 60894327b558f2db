# The verbs of the project; `make help` says what each does. Everything real is in ci/.
# setpriv: what runs ends with make, however make ends.
LAB := setpriv --pdeathsig KILL ci/lab/enter
export KERNEL SUITE TESTS JOBS TEST_SEED MUTANTS

.PHONY: help run check bench list shell kernel gdb series deb mutants clean
help:    ; @cat ci/help
run:     ; @$(LAB) python3 -m twostep.run
check:   ; @$(LAB) python3 -m twostep.check
list:    ; @$(LAB) python3 -m twostep.check --list
shell:   ; @ci/vm --tty --rxe --nvme 1G --timeout 86400 --kernel $(or $(KERNEL),twostep) -- bash -l
kernel:  ; @$(LAB) python3 -m twostep.build $(or $(KERNEL),twostep)
gdb:     ; @$(LAB) python3 -m twostep.gdb
series:  ; @TWOSTEP_AUTHOR="$$(git -c user.useConfigOnly=true var GIT_AUTHOR_IDENT 2>/dev/null)" $(LAB) python3 -m twostep.series
bench:   ; @TWOSTEP_BENCH="$(BENCH)" TWOSTEP_BASELINE="$(BASELINE)" $(LAB) python3 -m twostep.bench
mutants: ; @$(LAB) python3 -m twostep.mutants
deb:     ; @$(LAB) python3 -m twostep.deb
clean:   ; @$(LAB) rm -rf build
