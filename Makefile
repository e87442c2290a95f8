# make demo [URL=https://…]   make test [ARGS="-k name"]   make lint   make bench
# Without make: sh scripts/demo and so on.

.PHONY: demo test lint bench

demo test lint bench:
	@sh scripts/$@ $(ARGS)
