# One door to everything a developer, a packager or CI does here. Each target is a script of the same name.
#
# Variables, on the command line or in the environment (their defaults stand in scripts/lib.sh):
#   PG                   PostgreSQL major that is built and tested (15); check-pg has 17 and 18 where Debian 12 does not
#   PG_CONFIG            server that install and installcheck serve (pg_config on PATH); demo, check and bench
#                        use a private copy of the system's server and never touch the original
#   DESTDIR              staging folder of install
#   VECTOR_EMBED_CACHE   downloads and build products (~/.cache/vector_embed)
#   VECTOR_EMBED_PREFIX  private server copies and throwaway clusters (/var/tmp/vector_embed-UID)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup build install demo check check-lint check-unit check-install check-sql check-e2e check-examples \
        check-clients check-pg check-cassert lint installcheck bench golden clean

help:	## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup:	## install what is missing: Debian packages (root only), ONNX Runtime (also with OpenVINO), the model, pgvector, clients to test
	@scripts/setup clients

build:	## compile the extension and the engine (release)
	@scripts/setup
	@scripts/build

install:	## build and install into PG_CONFIG's server: library, SQL, engine, ONNX Runtime, model (DESTDIR)
	@scripts/download onnxruntime model
	@scripts/build
	@scripts/install

demo:	## a damaged Chroma directory moves to PostgreSQL and is searched, on a throwaway cluster (KEEP=1 keeps it)
	@scripts/demo

check:	## everything that must pass, with PostgreSQL 15; CI also runs check-pg PG=18
	@scripts/check

# One phase of check, with the preparations it needs.
check-lint check-unit check-install check-sql check-e2e check-examples check-clients:
	@scripts/check $(@:check-%=%)

check-pg:	## the SQL and end-to-end tests with PG=17 or PG=18, on Debian's packages of it (root)
	@scripts/check-pg

check-cassert:	## the SQL tests, and those of batches, with a PostgreSQL 15 that checks its assertions, built from source
	@scripts/check-cassert

lint:	## cargo fmt --check and clippy, warnings denied
	@scripts/setup
	@scripts/lint

installcheck:	## SQL regression tests against the running, installed server (PG_CONFIG, PGHOST, PGPORT, PGUSER)
	@scripts/regress

bench:	## the measurements of benches/
	@scripts/bench

golden:	## make the golden vectors anew with sentence-transformers (a 6 GB environment)
	@scripts/golden

clean:	## remove what was made for PG: build products, private server, clusters, check-pg's folder; downloads stay
	@scripts/clean
