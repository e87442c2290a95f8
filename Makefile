# make demo [URL=https://…]   make test [ARGS="-k name"]   make test-logind   make lint   make bench   make bench-scale
# make campaign-attack [ROUNDS=100000]   make campaign-kill [N=500 SEED=…]   make campaign-history [N=300]   make campaign-defects
# make campaign-upload [N=200 SEED=…]   make campaign-model [N=100000]   make fuzz [EACH=60 TARGETS="head redirect"]
# Without make: sh scripts/demo and so on.

.PHONY: demo test test-logind lint bench bench-scale campaign-attack campaign-kill campaign-upload campaign-history campaign-model campaign-defects fuzz

demo test test-logind lint bench bench-scale campaign-attack campaign-kill campaign-upload campaign-history campaign-model campaign-defects fuzz:
	@sh scripts/$@ $(ARGS)
