from tests.support.notebook import in_a_cell
from tuner.terminal.notebook import display, in_notebook, show_page


def test_only_a_kernel_is_a_notebook():
    assert not in_notebook()
    with in_a_cell(kernel=False):
        assert not in_notebook()
    with in_a_cell():
        assert in_notebook()


def test_a_name_replaces_what_it_showed():
    with in_a_cell() as cell:
        display("1", "<p>1</p>", "a")
        display("2", "<p>2</p>")
        display("3", "<p>3</p>", "a", update=True)
    assert [bundle["text/plain"] for bundle in cell.shown] == ["3", "2"]


def test_a_page_is_framed_by_its_address_below_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with in_a_cell() as cell:
        show_page(tmp_path / "runs" / 'a"b.html')
    (bundle,) = cell.shown
    assert 'src="runs/a&quot;b.html"' in bundle["text/html"]
    assert bundle["text/plain"] == f'Report: {tmp_path}/runs/a"b.html'
