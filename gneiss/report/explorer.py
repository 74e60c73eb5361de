# /// script
# [tool.marimo.display]
# theme = "system"
# ///
"""The explorer: a marimo application, which `gneiss explore` serves; see `open_session` for its arguments."""

import marimo

app = marimo.App(width="medium", app_title="gneiss explore")


@app.cell
def _():
    import marimo as mo

    from gneiss import errors
    from gneiss.report import explorer_parts as parts
    from gneiss.report import exploring
    from gneiss.report.sweeping import knobs

    return errors, exploring, knobs, mo, parts


@app.cell
def _(exploring, mo, parts):
    session = exploring.open_session(mo.cli_args().to_dict())
    mo.Html(parts.heading(session))
    return (session,)


@app.cell
def _(session, mo):
    conditions = mo.ui.dictionary(
        {
            f"{phase.name}.rules.{rule}": mo.ui.text_area(condition, label=f"`{rule}`", rows=2, full_width=True)
            for phase in session.recipe.phases
            for rule, condition in phase.rules.items()
        }
        | {
            f"{phase.name}.keep": mo.ui.text_area(
                phase.decision.keep, label=f"`keep` of {phase.name}", rows=2, full_width=True
            )
            for phase in session.recipe.phases
            if phase.rules
        }
    )
    by = mo.ui.dropdown(session.groups, value=session.by, label="by")
    # Thresholds as they were moved last, so that an edited rule does not set back the others.
    moved: dict[str, float] = {}
    return by, conditions, moved


@app.cell
def _(by, conditions, errors, session, exploring, knobs, mo, parts):
    problem = None
    try:
        edited = session.edited(conditions.value)
        exploration = exploring.Exploration.of(session.run, edited, by=by.value, sources=session.sources)
        thresholds = knobs(edited)
    except errors.GneissError as error:
        problem = parts.problem(error)
    mo.stop(problem is not None, mo.Html(problem or ""))
    return edited, exploration, thresholds


@app.cell
def _(session, exploring, mo, moved, thresholds):
    def slider(name, knob):
        steps = exploring.positions(session.run, knob)
        start = min(steps, key=lambda step: abs(step - moved.get(name, knob.value)))
        return mo.ui.slider(
            steps=steps,
            value=start,
            label=f"`{name}`",
            full_width=True,
            on_change=lambda value: moved.update({name: value}),
        )

    sliders = mo.ui.dictionary({name: slider(name, knob) for name, knob in thresholds.items()})
    return (sliders,)


@app.cell
def _(edited, exploration, exploring, sliders, thresholds):
    recipe = exploring.moved_recipe(edited, thresholds, sliders.value)
    decided = exploration.after(recipe)
    return decided, recipe


@app.cell
def _(decided, exploration, mo, parts):
    mo.Html(parts.panel("<h2>Kept</h2>", parts.totals(exploration.before, decided)))
    return


@app.cell
def _(mo, parts, recipe, sliders, thresholds):
    mo.vstack(
        [
            mo.Html(parts.panel("<h2>Thresholds</h2>")),
            *(
                mo.vstack(
                    [
                        mo.Html(parts.panel(parts.condition(recipe, phase.name, rule))),
                        *(sliders[name] for name, knob in thresholds.items() if knob.rule == rule),
                    ]
                )
                for phase in recipe.phases
                for rule in phase.rules
            ),
        ]
    )
    return


@app.cell
def _(mo, thresholds):
    annotations = list(dict.fromkeys(knob.column for knob in thresholds.values()))
    annotation = mo.ui.dropdown(annotations, value=next(iter(annotations), None), label="annotation")
    return (annotation,)


@app.cell
def _(annotation, session, mo, parts, recipe):
    mo.vstack(
        [
            mo.Html(parts.panel("<h2>Distribution in the run</h2>")),
            annotation,
            parts.distribution(session.run, recipe, annotation.value) if annotation.value else "",
        ]
    )
    return


@app.cell
def _(by, decided, exploration, mo, parts):
    mo.vstack(
        [
            mo.Html(parts.panel("<h2>Kept documents by group</h2>")),
            by,
            mo.Html(parts.panel(parts.by_group(exploration.before, decided, by.value) if by.value else "")),
        ]
    )
    return


@app.cell
def _(exploration, session, mo, parts, recipe):
    mo.Html(
        parts.panel(
            "<h2>Documents that change sides</h2>",
            parts.changed(exploration.changes(recipe), session.sources),
        )
    )
    return


@app.cell
def _(conditions, mo, parts):
    mo.vstack([mo.Html(parts.panel("<h2>Edit the rules</h2>", parts.EDITING)), *conditions.elements.values()])
    return


@app.cell
def _(mo, parts, recipe):
    mo.vstack(
        [
            mo.Html(parts.panel("<h2>As a recipe</h2>", parts.as_yaml(recipe))),
            mo.download(recipe.to_yaml().encode(), "recipe.yaml", "application/yaml", label="Save as recipe"),
        ]
    )
    return


if __name__ == "__main__":
    app.run()
