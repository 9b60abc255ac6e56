# Everything runs in .venv, which the targets make and keep up to date themselves.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INVENTORY ?= inventories/local
PLAYBOOK = $(BIN)/ansible-playbook --inventory $(INVENTORY) $(ARGS)
export PYTHON

.DEFAULT_GOAL := help
.PHONY: help deploy upgrade rollback restart verify status rotate backup restore collection test lint bench simulate faults coldstarts teardown

help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16
	@echo
	@echo "ARGS is handed to ansible-playbook, INVENTORY names another inventory, PYTHON another Python:"
	@echo "    make deploy ARGS='--check --diff'"

deploy: $(VENV)/.deploy ## Deploy three nodes on this machine, or bring them up to date
	@$(PLAYBOOK) playbooks/deploy.yml

upgrade: $(VENV)/.deploy ## Bring the running cluster to the release of this clone, one node at a time
	@$(PLAYBOOK) playbooks/upgrade.yml

rollback: $(VENV)/.deploy ## Bring the running cluster back to the release before, one node at a time
	@$(PLAYBOOK) playbooks/rollback.yml

restart: $(VENV)/.deploy ## Restart the nodes of the running cluster, one at a time
	@$(PLAYBOOK) playbooks/restart.yml

verify: $(VENV)/.deploy ## Prove the running cluster: formation, a file from every node to every node, failover
	@$(PLAYBOOK) playbooks/verify.yml

status: $(VENV)/.deploy ## Show the nodes of the running cluster
	@$(PLAYBOOK) playbooks/status.yml

rotate: $(VENV)/.deploy ## Give the nodes new certificates, one node at a time
	@$(PLAYBOOK) playbooks/rotate_certificates.yml

backup: $(VENV)/.deploy ## Make a backup with restic; the repository is to be given in ARGS
	@$(PLAYBOOK) playbooks/backup.yml

restore: $(VENV)/.deploy ## Restore everything or pickbox_restore_path from a backup; asks
	@$(PLAYBOOK) playbooks/restore.yml

teardown: $(VENV)/.deploy ## Stop and remove the nodes; their files stay
	@$(PLAYBOOK) playbooks/teardown.yml

collection: $(VENV)/.deploy ## Build the artifact of the collection, which needs no clone, in dist/
	@PATH="$(CURDIR)/$(BIN):$$PATH" tools/collection dist

test: $(VENV)/.develop ## Run all checks and tests, on clusters of their own
	@PATH="$(CURDIR)/$(BIN):$$PATH" tools/test

lint: $(VENV)/.develop ## Run the linters and the type checker
	@PATH="$(CURDIR)/$(BIN):$$PATH" tools/lint

simulate: $(VENV)/.develop ## Simulate clusters with faults from new seeds, for ten minutes
	@PATH="$(CURDIR)/$(BIN):$$PATH" tools/simulate $(ARGS)

bench: $(VENV)/.develop ## Measure three nodes of its own on this machine; takes some minutes
	@$(BIN)/python bench/run.py

SECONDS ?= 3600

faults: $(VENV)/.develop ## Break clusters in every known way for an hour (or SECONDS=), and judge them
	@cd tests && PYTHONPATH=../node_service:.:integration ../$(BIN)/python -m faults.run --seconds $(SECONDS) $(ARGS)

coldstarts: $(VENV)/.develop ## Start 100 new clusters in random order, each of them twice
	@cd tests && PYTHONPATH=../node_service:.:integration ../$(BIN)/python -m faults.cold_starts $(ARGS)

$(VENV)/.deploy: pyproject.toml tools/venv
	@tools/venv $(VENV) deploy
	@touch $@

$(VENV)/.develop: pyproject.toml tools/venv
	@tools/venv $(VENV) deploy test lint
	@touch $@ $(VENV)/.deploy
