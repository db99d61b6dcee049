"""`seamless models`: which version answers, who decided that, and how to change it."""

import getpass
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from governance.promotion_log import ENCODER, PACKAGED, PromotionEvent
from resources.settings import Environment, settings
from signals.tasks import TASKS

if TYPE_CHECKING:
    from resources.lakehouse.tables import Lakehouse
    from resources.registry.models import Registry
    from resources.registry.versions import ModelVersion

models_app = typer.Typer(help="See the registered models, and say which of them answer.", no_args_is_help=True)
ENVIRONMENTS: tuple[str, ...] = get_args(Environment)


def _known_task(task: str) -> str:
    if task not in TASKS:
        raise typer.BadParameter(f"there is no task {task!r}; there are {', '.join(TASKS)}")
    return task


def _known_model(name: str) -> str:
    return name if name == ENCODER else _known_task(name)


def _version(text: str) -> int:
    if text == "packaged":
        return PACKAGED
    if not text.isdigit() or int(text) == PACKAGED:
        raise typer.BadParameter(f"a version's number is expected, or packaged for the encoder; {text!r} is neither")
    return int(text)


Task = Annotated[str, typer.Argument(help="Task, such as iab_category.", callback=_known_task)]
Model = Annotated[
    str,
    typer.Argument(metavar="TASK|encoder", help="Task, such as iab_category, or the encoder.", callback=_known_model),
]
Why = Annotated[str, typer.Option("--why", help="Reason, which is kept.")]
By = Annotated[
    str | None, typer.Option("--by", help="Who does it, which is kept; the user of this machine if left out.")
]


@models_app.command("list")
def list_models() -> None:
    """List every registered version: which answers in which environment, and how good it is on held-out rows."""
    found = _registry()
    rows = [
        one for env in ENVIRONMENTS for name in (*TASKS, ENCODER) for one in found.for_environment(env).versions(name)
    ]
    if not rows:
        typer.echo("no models yet: `seamless run` trains them")
        return
    typer.echo(
        f"{'environment':<13}{'task':<14}{'version':>8}  {'answers':<14}{'gate':<9}{'metric':<14}{'value':>7}"
        f"{'calibration error':>19}  trained"
    )
    for one in rows:
        metric = TASKS[one.task].metric if one.task in TASKS else ""
        value, error = (
            f"{one.metrics[name]:.3f}" if name in one.metrics else "" for name in (metric, "calibration_error")
        )
        typer.echo(
            f"{one.name.removesuffix(f'.{one.task}'):<13}{one.task:<14}{one.version:>8}  {_answers(one):<14}"
            f"{_gate(one):<9}{metric:<14}{value:>7}{error:>19}  {one.trained_at:%Y-%m-%d %H:%M} UTC"
        )


@models_app.command("show")
def show_model(
    task: Model,
    version: Annotated[
        int | None,
        typer.Argument(help="Version; if left out the champion, or the newest encoder where the packaged one serves."),
    ] = None,
) -> None:
    """Show what is known of one version (figures, training, gate), and the task's traffic and history."""
    from resources.registry.versions import REFERENCE, promotion_log

    found = _registry()
    versions = found.versions(task)
    newest = versions[0] if versions and task == ENCODER and not found.serving_encoder() else None
    one = found.version(task, version) if version is not None else newest or found.champion(task)
    answers = _answers(one)
    typer.echo(f"{one.name} version {one.version}{f', {answers}' if answers else ''}")
    typer.echo(f"  {'environment':<24} {found.environment}")
    typer.echo(f"  {'trained':<24} {one.trained_at:%Y-%m-%d %H:%M:%S} UTC")
    typer.echo(f"  {'digest':<24} {one.digest}")
    for name, value in sorted(one.record.items()):
        if name != REFERENCE:
            typer.echo(f"  {name:<24} {value}")
    typer.echo(f"  {'gate':<24} {_gate(one)}{f': {one.verdict.why}' if one.verdict else ''}")
    for figure in one.verdict.figures if one.verdict else ():
        compared = "" if figure.champion is None else f"  champion {figure.champion:.3f}"
        between = "" if figure.low is None else f"  difference {figure.low:+.3f} to {figure.high:+.3f}"
        what = f"{figure.name} of {figure.part}"
        typer.echo(f"    {what:<30} {figure.challenger:.3f}{compared}{between}  ({figure.rows} rows)")
    typer.echo("  held-out figures")
    for name, value in sorted(one.metrics.items()):
        typer.echo(f"    {name:<22} {value:.3f}")
    typer.echo(f"  what answers now{', the packaged encoder' if newest else ''}")
    for other in versions:
        if _answers(other):
            typer.echo(f"    version {other.version}: {_answers(other)}")
    typer.echo("  history, newest first")
    for event in reversed(promotion_log(versions)):
        typer.echo(f"    {event.at:%Y-%m-%d %H:%M:%S} UTC  {_change(event)}, by {event.by}: {event.why}")


@models_app.command("promote")
def promote(
    task: Model,
    to: Annotated[Environment, typer.Option("--to", help="Environment in which it is to answer.")],
    version: Annotated[
        int | None,
        typer.Option("--version", help="Version in the environment that ENVIRONMENT names; its champion if left out."),
    ] = None,
    why: Why = "by hand",
    by: By = None,
) -> None:
    """Make a version that has passed the gate the champion of an environment; its tested files are copied there.

    The encoder takes along the heads that were fitted and gated under it.
    """
    from resources.registry import encoder_promotion, promotion

    here, who = _registry(), _who(by)
    one = here.champion(task) if version is None else here.version(task, version)
    there = here.for_environment(to)
    if task == ENCODER:
        made = encoder_promotion.promote(one, here, there, _lakehouse(), by=who, why=why)
    else:
        _require_ready(here, one, there)
        made = one if to == here.environment else here.copy_to(there, one)
        promotion.promote(there, task, made.version, by=who, why=why)
    typer.echo(f"{made.name} version {made.version} is champion in {to}: digest {made.digest[:16]}…, as it was tested")


@models_app.command("rollback")
def rollback(
    task: Model,
    to: Annotated[
        int | None,
        typer.Option(
            "--to",
            parser=_version,
            metavar="VERSION|packaged",
            help="Version to go back to, packaged for the encoder's first; the champion before this one if left out.",
        ),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(
            "--without",
            metavar="TASK",
            callback=lambda tasks: [_known_task(task) for task in tasks or ()],
            help="For the encoder: a task that may go unanswered until it is trained under the earlier one.",
        ),
    ] = None,
    why: Why = "by hand",
    by: By = None,
) -> None:
    """Make an earlier version the champion again: batch answers by it at once, the stream in seconds."""
    from resources.registry import encoder_promotion, promotion

    found, who = _registry(), _who(by)
    if without and task != ENCODER:
        raise typer.BadParameter("it goes with the encoder: a task's own rollback leaves no other unanswered")
    if task == ENCODER:
        tables = _lakehouse()
        target, was = encoder_promotion.roll_back(found, to, tables, by=who, why=why, without=without or ())
    else:
        target = promotion.previous_champion(found, task) if to is None else to
        _require_ready(found, found.version(task, target), found)
        was = promotion.roll_back(found, task, target, by=who, why=why)
    typer.echo(f"{found.environment}.{task}: {_name(target)} is champion, {_name(was)} was")


@models_app.command("traffic")
def traffic(
    task: Task,
    challenger: Annotated[int | None, typer.Option("--challenger", help="Version that is tried.")] = None,
    share: Annotated[
        float | None,
        typer.Option("--share", min=0.0, max=1.0, help="Part of the documents that it answers, such as 0.1."),
    ] = None,
    shadow: Annotated[bool, typer.Option("--shadow", help="Ask it about every document; it answers none.")] = False,
    off: Annotated[bool, typer.Option("--off", help="End the trial: the champion answers all.")] = False,
    why: Why = "by hand",
    by: By = None,
) -> None:
    """Try a challenger beside the champion, on a share of the documents or in shadow; a document keeps its arm."""
    if [share is not None, shadow, off].count(True) != 1 or (challenger is None) != off or share == 0:
        raise typer.BadParameter("give --challenger VERSION with --share PART (above 0) or --shadow, or --off alone")
    from resources.registry import promotion

    found = _registry()
    if challenger is not None:
        _require_ready(found, found.version(task, challenger), found)
    promotion.set_traffic(found, task, challenger, share or 0.0, by=_who(by), why=why)
    champion = found.champion(task).version
    given = "" if challenger is None else f", {_share(share or 0.0)} version {challenger}"
    typer.echo(f"{found.environment}.{task}: version {champion} is champion{given}")


def _registry() -> "Registry":
    from resources.registry.models import registry

    return registry(settings())


def _lakehouse() -> "Lakehouse":
    from resources.lakehouse.tables import lakehouse

    return lakehouse(settings())


def _require_ready(found: "Registry", one: "ModelVersion", there: "Registry") -> None:
    """Refuse what could not score in an environment, before it is to answer there."""
    from resources.encoder import Encoder
    from resources.registry.errors import NotPassedError

    if one.encoder != there.serving_encoder():
        raise NotPassedError(
            f"{one} is of another encoder than the one that serves in "
            f"{there.environment}: `seamless models promote encoder` takes its heads along"
        )
    encoder = Encoder(registry=there, lakehouse=_lakehouse())
    found.load(one, encoder.transform_id, encoder.comparisons())


def _who(by: str | None) -> str:
    try:
        return by or getpass.getuser()
    except (KeyError, OSError):
        raise typer.BadParameter("this machine's user has no name: say who does it", param_hint="--by") from None


def _answers(one: "ModelVersion") -> str:
    return "champion" if one.champion else "" if one.share is None else _share(one.share)


def _share(share: float) -> str:
    return f"{share:.0%} of traffic" if share else "shadow"


def _gate(one: "ModelVersion") -> str:
    return "unjudged" if one.verdict is None else "passed" if one.verdict.passed else "failed"


def _change(event: PromotionEvent) -> str:
    if event.action == "traffic":
        return f"version {event.version} challenges: {'ended' if event.share is None else _share(event.share)}"
    before = "the first" if event.before is None else f"instead of {_name(event.before)}"
    return f"{event.action} to {_name(event.version)}, {before}"


def _name(version: int) -> str:
    return "the packaged encoder" if version == PACKAGED else f"version {version}"
