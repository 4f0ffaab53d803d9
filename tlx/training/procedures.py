"""How runs come from their starting weights to their final ones: a class each."""

from typing import final

from tlx.data.splits import Split
from tlx.tasks.task import Collected
from tlx.training.effects import Averaging
from tlx.training.engine import pruning
from tlx.training.engine.course import Progress
from tlx.training.engine.fit import Conductor, fit
from tlx.training.engine.solve import solve
from tlx.training.logs import tables
from tlx.training.optimizers import Lbfgs
from tlx.training.session import Session, by_trainer


@final
class FitStages:
    """The procedure that trains by gradients, stage by stage."""

    def describe(self, session: Session) -> str:
        """Parameter groups of each stage."""
        return tables.groups_table(session.plan.recipe, session.plan.spans, session.module)

    def run(self, session: Session) -> Progress:
        """Trains the stages that are not done yet; raises what `fit` does."""
        plan, first = session.plan, session.share.rank == 0
        conductor = Conductor(
            session.module,
            plan.course,
            train_loader=plan.train_loader(session.share),
            val_loader=plan.eval_loader(plan.splits.val, session.share),
            folder=session.checkpoints,
            identity=session.identity,
            display=session.display,
            averaging=plan.effects.only(Averaging),
            recalibrate=session.recalibrate,
            pruner=pruning.hook(session.folder, every=plan.pace.eval_every) if first else None,
            reuse=session.reuse,
            on_oom=plan.run.trainer.on_oom,
        )
        return fit(session.trainer, conductor)

    def collect(self, session: Session, split: Split) -> Collected | None:
        """Outputs of a split, by the trainer."""
        return by_trainer(session, split)


@final
class SolveHead:
    """The procedure that solves a linear head on frozen features."""

    def __init__(self, exact: Lbfgs) -> None:
        """Keeps how it is solved."""
        self.exact = exact

    def describe(self, session: Session) -> str:
        """The penalties that are tried."""
        return tables.penalties(self.exact)

    def run(self, session: Session) -> Progress:
        """Solves the head; raises what `solve` does."""
        plan, reuse = session.plan, session.reuse
        assert reuse is not None, "cache=off is refused with this optimizer"
        return solve(
            session.trainer,
            session.module,
            exact=self.exact,
            course=plan.course,
            reuse=reuse,
            display=session.display,
            sparse=plan.model.backbone.sparse,
            recalibrate=session.recalibrate,
        )

    def collect(self, session: Session, split: Split) -> Collected | None:
        """Outputs of a split, by the trainer."""
        return by_trainer(session, split)
