"""`seamless models`: the registered versions, promotion, rollback and traffic."""

import getpass
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from governance.promotion_log import ENCODER, PACKAGED, PromotionEvent
from resources.settings import Environment, settings
from signals.tasks import TASKS

if TYPE_CHECKING:
    from resources.lakehouse.tables import Lakehouse
    from resources.registry.models import Registry
    from resources.registry.versions import ModelVersion

models_app = typer.Typer(help="Show the registered models, and choose which of them answer.", no_args_is_help=True)
ENVIRONMENTS: tuple[str, ...] = get_args(Environment)


def _check_task(task: str) -> str:
    if task not in TASKS:
        raise typer.BadParameter(f"there is no task {task!r}; there are {', '.join(TASKS)}")
    return task


def _check_model(name: str) -> str:
    return name if name == ENCODER else _check_task(name)


def _version(text: str) -> int:
    if text == "packaged":
        return PACKAGED
    if not text.isdigit() or int(text) == PACKAGED:
        raise typer.BadParameter(f"a version's number is expected, or packaged for the encoder; {text!r} is neither")
    return int(text)


Task = Annotated[str, typer.Argument(help="Task, such as iab_category.", callback=_check_task)]
Model = Annotated[
    str,
    typer.Argument(metavar="TASK|encoder", help="Task, such as iab_category, or the encoder.", callback=_check_model),
]
Why = Annotated[str, typer.Option("--why", help="Reason, for the history.")]
By = Annotated[str | None, typer.Option("--by", help="Person, for the history; the user of this machine if left out.")]


@models_app.command("list")
def list_models() -> None:
    """List every registered version: its environment, whether it answers, and its held-out figures."""
    registry = _registry()
    versions = [
        version
        for environment in ENVIRONMENTS
        for name in (*TASKS, ENCODER)
        for version in registry.for_environment(environment).versions(name)
    ]
    if not versions:
        typer.echo("no models yet: `seamless run` trains them")
        return
    typer.echo(
        f"{'environment':<13}{'task':<14}{'version':>8}  {'answers':<14}{'gate':<9}{'metric':<14}{'value':>7}"
        f"{'calibration error':>19}  trained"
    )
    for v in versions:
        metric = TASKS[v.task].metric if v.task in TASKS else ""
        value, error = (f"{v.metrics[name]:.3f}" if name in v.metrics else "" for name in (metric, "calibration_error"))
        typer.echo(
            f"{v.name.removesuffix(f'.{v.task}'):<13}{v.task:<14}{v.version:>8}  {_serving_state(v):<14}"
            f"{_gate(v):<9}{metric:<14}{value:>7}{error:>19}  {v.trained_at:%Y-%m-%d %H:%M} UTC"
        )


@models_app.command("show")
def show_model(
    task: Model,
    version: Annotated[
        int | None,
        typer.Argument(help="Version; if left out the champion, or the newest encoder where the packaged one serves."),
    ] = None,
) -> None:
    """Show one version (figures, training, gate), and the task's traffic and history."""
    from resources.registry.versions import REFERENCE, promotion_log

    registry = _registry()
    versions = registry.versions(task)
    newest = versions[0] if versions and task == ENCODER and not registry.serving_encoder() else None
    shown = registry.version(task, version) if version is not None else newest or registry.champion(task)
    state = _serving_state(shown)
    typer.echo(f"{shown.name} version {shown.version}{f', {state}' if state else ''}")
    typer.echo(f"  {'environment':<24} {registry.environment}")
    typer.echo(f"  {'trained':<24} {shown.trained_at:%Y-%m-%d %H:%M:%S} UTC")
    typer.echo(f"  {'digest':<24} {shown.digest}")
    for name, value in sorted(shown.record.items()):
        if name != REFERENCE:
            typer.echo(f"  {name:<24} {value}")
    typer.echo(f"  {'gate':<24} {_gate(shown)}{f': {shown.verdict.why}' if shown.verdict else ''}")
    for figure in shown.verdict.figures if shown.verdict else ():
        champion = "" if figure.champion is None else f"  champion {figure.champion:.3f}"
        interval = "" if figure.low is None else f"  difference {figure.low:+.3f} to {figure.high:+.3f}"
        metric = f"{figure.name} of {figure.part}"
        typer.echo(f"    {metric:<30} {figure.challenger:.3f}{champion}{interval}  ({figure.rows} rows)")
    typer.echo("  held-out figures")
    for name, value in sorted(shown.metrics.items()):
        typer.echo(f"    {name:<22} {value:.3f}")
    typer.echo(f"  what answers now{', the packaged encoder' if newest else ''}")
    for v in versions:
        if _serving_state(v):
            typer.echo(f"    version {v.version}: {_serving_state(v)}")
    typer.echo("  history, newest first")
    for event in reversed(promotion_log(versions)):
        typer.echo(f"    {event.at:%Y-%m-%d %H:%M:%S} UTC  {_change(event)}, by {event.by}: {event.why}")


@models_app.command("card")
def show_card(
    task: Model,
    version: Annotated[int | None, typer.Argument(help="Version; the champion if left out.")] = None,
) -> None:
    """Print the card of a version: its data, its figures by slice and its limits."""
    from resources.registry.card import card

    registry = _registry()
    typer.echo(card(registry.champion(task) if version is None else registry.version(task, version)), nl=False)


@models_app.command("sign")
def sign() -> None:
    """Sign the versions of this environment that have no signature of MODEL_KEY, if their files are unchanged."""
    registry = _registry()
    if registry.key is None:
        raise typer.BadParameter("no key is set: MODEL_KEY")
    for versions in registry.versions_by_task(every_encoder=True).values():
        for version in versions:
            if not registry.is_signed(version):
                registry.sign(version)
                typer.echo(f"signed {version}")


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

    source, person = _registry(), _person(by)
    tested = source.champion(task) if version is None else source.version(task, version)
    target = source.for_environment(to)
    if task == ENCODER:
        champion = encoder_promotion.promote(tested, source, target, _lakehouse(), by=person, why=why)
    else:
        _require_ready(source, tested, target)
        champion = tested if to == source.environment else source.copy_to(target, tested)
        promotion.promote(target, task, champion.version, by=person, why=why)
    typer.echo(
        f"{champion.name} version {champion.version} is champion in {to}: digest {champion.digest[:16]}…, "
        "as it was tested"
    )


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
            callback=lambda tasks: [_check_task(task) for task in tasks or ()],
            help="For the encoder: a task that may go unanswered until it is trained under the earlier one.",
        ),
    ] = None,
    why: Why = "by hand",
    by: By = None,
) -> None:
    """Make an earlier version the champion again, for batch at once and for the stream in seconds."""
    from resources.registry import encoder_promotion, promotion

    registry, person = _registry(), _person(by)
    if without and task != ENCODER:
        raise typer.BadParameter("it goes with the encoder: a task's own rollback leaves no other unanswered")
    if task == ENCODER:
        target, replaced = encoder_promotion.roll_back(
            registry, to, _lakehouse(), by=person, why=why, without=without or ()
        )
    else:
        target = promotion.previous_champion(registry, task) if to is None else to
        _require_ready(registry, registry.version(task, target), registry)
        replaced = promotion.roll_back(registry, task, target, by=person, why=why)
    typer.echo(f"{registry.environment}.{task}: {_name(target)} is champion, {_name(replaced)} was")


@models_app.command("add-image")
def add_image(
    path: Annotated[
        Path, typer.Argument(metavar="FILE.onnx", help="Model of pictures; FILE.json beside it describes it.")
    ],
) -> None:
    """Have a model of pictures answer beside the packaged one, if both together pass the gate on labelled pictures."""
    from platform_assets.models.heads import train_and_promote
    from resources.encoder import encoder
    from resources.registry.errors import NotPassedError
    from signals.models.pictures import AddedModel

    task = TASKS["image_threat"]
    try:
        AddedModel(path, task.labels).check()
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    serving = encoder(settings())
    heads = _registry().for_encoder(serving.digest)
    registered, verdict = train_and_promote(task, _lakehouse(), serving, heads, added=path)
    if not verdict.passed:
        raise NotPassedError(f"{registered} does not serve: {verdict.why}")
    typer.echo(f"{registered} is champion, with {path.name} beside the packaged classifier: {verdict.why}")


@models_app.command("traffic")
def traffic(
    task: Task,
    challenger: Annotated[int | None, typer.Option("--challenger", help="Version that is tried.")] = None,
    share: Annotated[
        float | None,
        typer.Option("--share", min=0.0, max=1.0, help="Part of the documents that it answers, such as 0.1."),
    ] = None,
    shadow: Annotated[bool, typer.Option("--shadow", help="Score every document with it, but serve none.")] = False,
    off: Annotated[bool, typer.Option("--off", help="End the trial: the champion answers all.")] = False,
    why: Why = "by hand",
    by: By = None,
) -> None:
    """Try a challenger beside the champion, on a share of the documents or in shadow; a document keeps its arm."""
    if [share is not None, shadow, off].count(True) != 1 or (challenger is None) != off or share == 0:
        raise typer.BadParameter("give --challenger VERSION with --share PART (above 0) or --shadow, or --off alone")
    from resources.registry import promotion

    registry = _registry()
    if challenger is not None:
        _require_ready(registry, registry.version(task, challenger), registry)
    promotion.set_traffic(registry, task, challenger, share or 0.0, by=_person(by), why=why)
    champion = registry.champion(task).version
    trial = "" if challenger is None else f", {_share(share or 0.0)} version {challenger}"
    typer.echo(f"{registry.environment}.{task}: version {champion} is champion{trial}")


def _registry() -> "Registry":
    from resources.registry.models import registry

    return registry(settings())


def _lakehouse() -> "Lakehouse":
    from resources.lakehouse.tables import lakehouse

    return lakehouse(settings())


def _require_ready(source: "Registry", version: "ModelVersion", target: "Registry") -> None:
    """Refuse a version that could not score in the target's environment."""
    from resources.encoder import encoder
    from resources.registry.errors import NotPassedError

    if version.encoder != target.serving_encoder():
        raise NotPassedError(
            f"{version} is of another encoder than the one that serves in "
            f"{target.environment}: `seamless models promote encoder` takes its heads along"
        )
    serving = replace(encoder(settings()), registry=target)
    source.load(version, serving.transform_id, serving.comparisons())


def _person(by: str | None) -> str:
    try:
        return by or getpass.getuser()
    except (KeyError, OSError):
        raise typer.BadParameter("this machine's user has no name: name a person", param_hint="--by") from None


def _serving_state(version: "ModelVersion") -> str:
    return "champion" if version.champion else "" if version.share is None else _share(version.share)


def _share(share: float) -> str:
    return f"{share:.0%} of traffic" if share else "shadow"


def _gate(version: "ModelVersion") -> str:
    return "unjudged" if version.verdict is None else "passed" if version.verdict.passed else "failed"


def _change(event: PromotionEvent) -> str:
    if event.action == "traffic":
        return f"version {event.version} challenges: {'ended' if event.share is None else _share(event.share)}"
    before = "the first" if event.before is None else f"instead of {_name(event.before)}"
    return f"{event.action} to {_name(event.version)}, {before}"


def _name(version: int) -> str:
    return "the packaged encoder" if version == PACKAGED else f"version {version}"
