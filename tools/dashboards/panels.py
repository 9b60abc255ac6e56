"""The kinds of panels, in one look for all dashboards, so that each says only what it shows."""

from __future__ import annotations

from string import ascii_uppercase
from typing import TYPE_CHECKING, TypeVar

from grafana_foundation_sdk.builders import (
    common,
    dashboard,
    heatmap,
    stat,
    statetimeline,
    table,
    text,
    timeseries,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as shapes
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from grafana_foundation_sdk.builders.prometheus import Dataquery
    from grafana_foundation_sdk.cog.variants import Dataquery as AnyQuery

GREEN, YELLOW, RED, BLUE, GREY = "green", "yellow", "red", "blue", "text"

SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
"""The data source that the dashboard's variable names."""

Panel = Builder[model.Panel]
"""Any panel, whatever its kind."""

Words = dict[int | str, tuple[str, str]]
"""What values are called, and their colours."""

STATES: Words = {
    0: ("down", RED),
    1: ("not ready", YELLOW),
    3: ("ready", GREEN),
    5: ("leads, not ready", YELLOW),
    7: ("leads", BLUE),
}
"""For what `queries.state` gives."""

BAD_IF_SO: Words = {0: ("no", GREEN), 1: ("yes", RED)}
GOOD_IF_SO: Words = {0: ("no", RED), 1: ("yes", GREEN)}

Kind = TypeVar(
    "Kind", timeseries.Panel, stat.Panel, statetimeline.Panel, heatmap.Panel, table.Panel
)


def _about(panel: Kind, title: str, description: str, queries: Iterable[Dataquery]) -> Kind:
    """What every panel says of itself, and what it asks."""
    lettered: list[Builder[AnyQuery]] = [
        query.ref_id(ascii_uppercase[place]) for place, query in enumerate(queries)
    ]
    return panel.title(title).description(description).datasource(SOURCE).targets(lettered)


def _steps(first: str, *others: tuple[float, str]) -> dashboard.ThresholdsConfig:
    """Colours: the first below all values, each other from its value on."""
    found = [model.Threshold(color=first)]
    found += [model.Threshold(value=value, color=color) for value, color in others]
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(found)


def _mappings(words: Words) -> list[model.ValueMapping]:
    results = {
        str(value): model.ValueMappingResult(text=word, color=color, index=index)
        for index, (value, (word, color)) in enumerate(words.items())
    }
    return [model.ValueMap(options=results)] if results else []


def graph(
    title: str, description: str, *queries: Dataquery, unit: str = "short", bad: float | None = None
) -> timeseries.Panel:
    """Lines over time, with a dashed one where it begins to be bad."""
    panel = _about(timeseries.Panel(), title, description, queries)
    if bad is not None:
        dashed = common.GraphThresholdsStyleConfig().mode(shapes.GraphThresholdsStyleMode.DASHED)
        panel.thresholds(_steps(GREEN, (bad, RED))).thresholds_style(dashed)
    legend = (
        common.VizLegendOptions()
        .show_legend(True)
        .display_mode(shapes.LegendDisplayMode.TABLE)
        .placement(shapes.LegendPlacement.BOTTOM)
        .calcs(["lastNotNull", "max"])
    )
    tooltip = (
        common.VizTooltipOptions()
        .mode(shapes.TooltipDisplayMode.MULTI)
        .sort(shapes.SortOrder.DESCENDING)
    )
    return (
        panel.unit(unit)
        .span(8)
        .height(8)
        .min(0)
        .fill_opacity(8)
        .show_points(shapes.VisibilityMode.NEVER)
        .legend(legend)
        .tooltip(tooltip)
    )


def figure(
    title: str,
    description: str,
    query: Dataquery,
    *colors: tuple[float, str],
    unit: str = "short",
    first: str = GREY,
    words: Words | None = None,
) -> stat.Panel:
    """One figure, in the colour that it deserves."""
    return (
        _about(stat.Panel(), title, description, [query])
        .unit(unit)
        .span(4)
        .height(4)
        .thresholds(_steps(first, *colors))
        .mappings(_mappings(words or {}))
        .color_mode(shapes.BigValueColorMode.VALUE)
        .graph_mode(shapes.BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )


def word(title: str, description: str, query: Dataquery) -> stat.Panel:
    """What the series is called, where that is what people want to know."""
    return figure(title, description, query).text_mode(shapes.BigValueTextMode.NAME)


def timeline(
    title: str, description: str, query: Dataquery, *, words: Words
) -> statetimeline.Panel:
    """What was so when: a bar for each series."""
    return (
        _about(statetimeline.Panel(), title, description, [query])
        .span(12)
        .height(8)
        .mappings(_mappings(words))
        .color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
        .thresholds(_steps(GREY))
        .show_value(shapes.VisibilityMode.AUTO)
        .merge_values(True)
        .legend(common.VizLegendOptions().show_legend(False))
    )


def heat(title: str, description: str, query: Dataquery) -> heatmap.Panel:
    """How many took how long, and when."""
    blue = heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Blues")
    return (
        _about(heatmap.Panel(), title, description, [query])
        .span(8)
        .height(8)
        .calculate(False)
        .color(blue.fill("dark-blue").exponent(0.5).steps(64))
        .y_axis(heatmap.YAxisConfig().unit("s"))
        .cell_gap(1)
    )


def grid(
    title: str, description: str, columns: Mapping[str, Dataquery], *, labels: Mapping[str, str]
) -> table.Panel:
    """A row for each value of the first label: these labels of it, and a column for each query."""
    values = [f"Value #{letter}" for letter in ascii_uppercase[: len(columns)]]
    shown = {**labels, **dict(zip(values, columns, strict=True))}
    joined = {"byField": next(iter(labels)), "mode": "outer"}
    return (
        _about(table.Panel(), title, description, columns.values())
        .span(24)
        .height(8)
        .transformations(_only(shown, model.DataTransformerConfig("joinByField", options=joined)))
    )


def listing(
    title: str, description: str, query: Dataquery, *, labels: Mapping[str, str]
) -> table.Panel:
    """The series themselves, a row each: these labels of them."""
    return (
        _about(table.Panel(), title, description, [query])
        .span(24)
        .height(8)
        .no_value("none")
        .transformations(_only(labels))
    )


def _only(
    fields: Mapping[str, str], *before: model.DataTransformerConfig
) -> list[model.DataTransformerConfig]:
    """Have a table show these fields alone, in this order, under these names."""
    include = {"include": {"names": list(fields)}}
    order = {field: index for index, field in enumerate(fields)}
    organize = {"indexByName": order, "renameByName": dict(fields)}
    return [
        *before,
        model.DataTransformerConfig("filterFieldsByName", options=include),
        model.DataTransformerConfig("organize", options=organize),
    ]


def prose(title: str, markdown: str) -> text.Panel:
    """Text for people."""
    return text.Panel().title(title).content(markdown).span(24).height(20)


def column(panel: table.Panel, name: str, properties: Mapping[str, object]) -> table.Panel:
    """Say how one column of a table is shown, by Grafana's names of properties."""
    return panel.override_by_name(
        name, [model.DynamicConfigValue(key, value) for key, value in properties.items()]
    )


def in_words(words: Words) -> dict[str, object]:
    """For `column`: its values are called so."""
    return {"mappings": _mappings(words), "custom.cellOptions": {"type": "color-text"}}
