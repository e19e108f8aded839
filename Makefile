# make demo   install into .venv and run the main job on real data
# make test   install into .venv and run all tests but the slow proofs
# make proofs  the slow tests that make test leaves out: among them the wheel, and docs/extend.md followed; a quarter of an hour
# make check  linter, types, architecture and fast tests, in under a minute
# make house  docs/house.md from the table that the architecture test holds the code to, and the tables of docs/commands.md
# make notebooks  runs docs/notebooks and writes what they show into them; minutes
# make bench  evofool beside pyribs, DEAP, neat-python and plain loops, into docs/benchmarks.*; an hour and a half
# make bench-watch  only how soon `evofool watch` shows a long run, and what it costs; ten minutes, into docs/benchmarks.json
# make bench-report  size of a report of a thousand classes, and how soon its gallery can be used; Markdown, minutes; needs chromium
# make chaos  kills, power loss, cut cables, hostile files by thousands; Markdown, docs/chaos.json; needs root, strace
# make gpu-check  is evofool right on this GPU? in under five minutes; docs/gpu.md. gpu-pack fetches what it needs elsewhere
# make results  writes docs/results.md from the tables in docs/results
# make figures  the runs on MNIST of docs/results.md; half an hour, into docs/results
# make figures-transfer  transfer between LeNets; a quarter of an hour, into docs/results
# make figures-reproduce  what evofool study reproduce finds, at its full budget; hours, into docs/results
# make figures-imagenet  efficientnet-lite0 on photographs and a thousand classes; ten minutes, into docs/results
# make figures-defaults  the defaults of the search beside others; hours, into docs/results
# make figures-families SQUEEZENET=FILE  transfer between four ImageNet networks, and ensembles; hours, into docs/results
# make figures-relatives  transfer between LeNet, MLP, ResNet, BagNets and heads; three quarters of an hour, into docs/results
# make figures-ascend  gradient ascent on SqueezeNet and efficientnet-lite0: hours, into docs/results
# make figures-lineage  goal switches, kin and likeness of elites: docs/lineage.md; an hour and a half, into docs/results
# make figures-ablate  what the confidence in elites rests on, MNIST and ImageNet; an hour and more for each run of ImageNet, into docs/results
# make figures-screens  the screenshots of docs/report.md; needs chromium
# make figures-fashion  fooling against training size, classes, width, labels; an hour and a quarter, into docs/results
# make test NEWEST=1  in a new venv with the newest versions there are instead of those of constraints.txt; likewise others
# make constraints  writes constraints.txt anew, from such a venv in which all tests passed
# make figures-retrain  networks that learn from what fooled those before them; about three CPU hours, into docs/results
PYTHON ?= python3
NEWEST ?=
VENV := $(if $(NEWEST),.venv-newest,.venv)
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Of torch there are builds for CPUs and for GPUs, each with packages of its own: it is left to the ranges of pyproject.toml.
OF_TORCH := ^(torch|torchvision|triton|nvidia-.*|cuda-.*)==

.PHONY: demo test proofs check house notebooks constraints bench bench-watch bench-report chaos gpu-check gpu-pack results figures figures-transfer figures-imagenet figures-defaults figures-families figures-relatives figures-fashion figures-screens figures-ascend figures-lineage figures-retrain figures-ablate figures-reproduce clean

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("evofool needs Python 3.11 or newer; say make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(if $(NEWEST),rm -rf $(VENV))
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check $(if $(NEWEST),,-c constraints.txt) -e '.[dev]'
	touch $@

weights/lenet.safetensors: | $(STAMP)
	$(BIN)/evofool targets train lenet --dataset mnist-5k --seed 1 --out $@

demo: $(STAMP)
	$(BIN)/evofool run quickstart
	$(BIN)/evofool export runs/quickstart --out runs/quickstart-pictures --sheet-only
	$(BIN)/evofool report runs/quickstart

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder -m "not proof"

proofs: $(STAMP)
	$(BIN)/python -m pytest -m proof

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 -m "not slow and not ray"

constraints:
	rm -rf .venv-newest
	$(MAKE) test NEWEST=1
	.venv-newest/bin/pip freeze --exclude-editable | grep -vE '$(OF_TORCH)' > constraints.txt

house: $(STAMP)
	$(BIN)/python tests/house.py
	$(BIN)/python tests/docs/command_page.py

notebooks: $(STAMP) weights/lenet.safetensors
	$(BIN)/python tests/docs/notebooks.py

bench: $(STAMP) weights/lenet.safetensors
	$(BIN)/python tests/benchmarks/bench.py

bench-watch: $(STAMP) weights/lenet.safetensors
	$(BIN)/python tests/benchmarks/bench.py --only watching

bench-report: $(STAMP)
	$(BIN)/python tests/benchmarks/report_page.py

chaos: $(STAMP)
	EVOFOOL_REQUIRE=all $(BIN)/python tests/chaos/run.py --out docs/chaos.json

gpu-check: $(STAMP) weights/lenet.safetensors
	tests/gpu/check.sh

# For a machine without a network: make gpu-pack FOR=3.12 HAVE="numpy pandas pyarrow"
FOR ?= $(shell $(PYTHON) -c 'import sys; print(*sys.version_info[:2], sep=".")')
gpu-pack: weights/lenet.safetensors
	$(BIN)/python tests/gpu/packages.py fetch --wheels tests/gpu/wheels --python $(FOR) --have $(HAVE)

results: $(STAMP)
	$(BIN)/python tests/figures/results.py

# Threads of a training that wait for each other asleep leave the cores to what runs beside it; the weights are the same.
figures figures-transfer figures-relatives figures-fashion figures-retrain: export OMP_WAIT_POLICY ?= PASSIVE

figures-reproduce: $(STAMP)
	$(BIN)/python tests/figures/reproduce.py

figures: $(STAMP)
	$(BIN)/python tests/figures/mnist.py

figures-transfer: $(STAMP)
	$(BIN)/python tests/figures/transfer.py

figures-imagenet: $(STAMP)
	$(BIN)/python tests/figures/imagenet.py

figures-defaults: $(STAMP)
	$(BIN)/pip install -q -c constraints.txt onnx onnxruntime
	$(BIN)/python tests/figures/defaults.py

weights/squeezenet.safetensors: | $(STAMP)
	$(BIN)/evofool targets import "$(SQUEEZENET)" --out $@

figures-families: $(STAMP) weights/squeezenet.safetensors
	$(BIN)/pip install -q -c constraints.txt onnx onnxruntime
	$(BIN)/python tests/figures/families.py

figures-relatives: $(STAMP)
	$(BIN)/python tests/figures/relatives.py

figures-fashion: $(STAMP)
	$(BIN)/python tests/figures/fashion.py

figures-ascend: $(STAMP) weights/squeezenet.safetensors
	$(BIN)/python tests/figures/ascend.py

figures-lineage: $(STAMP)
	$(BIN)/pip install -q -c constraints.txt onnx onnxruntime
	$(BIN)/python tests/figures/lineage.py

figures-retrain: $(STAMP) weights/lenet.safetensors
	$(BIN)/python tests/figures/retrain.py

figures-ablate: $(STAMP)
	$(BIN)/pip install -q -c constraints.txt onnx onnxruntime
	$(BIN)/python tests/figures/ablate.py $(SETS)

weights/second.safetensors: | $(STAMP)
	$(BIN)/evofool targets train lenet --dataset mnist-5k --seed 2 --out $@

figures-screens: $(STAMP) weights/second.safetensors
	$(BIN)/python tests/figures/screenshots.py

clean:
	rm -rf .venv .venv-newest build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
