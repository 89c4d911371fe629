"""What a run gives back shows itself in a notebook, whatever its report is."""

from pathlib import Path

from nngpt_ext import RunResult


class Shown:
    def _repr_html_(self) -> str:
        return "<b>own</b>"


def test_a_result_shows_its_report_and_where_it_is() -> None:
    shown = RunResult(Path("runs/<a>"), Shown(), None, None)._repr_html_()
    assert shown == "<b>own</b>\n<p>The run is in <code>runs/&lt;a&gt;</code></p>"
    plain = RunResult(Path("runs/a"), {"a": "<1>"}, None, None)._repr_html_()
    assert plain.startswith("<pre>{&#x27;a&#x27;: &#x27;&lt;1&gt;&#x27;}</pre>")
