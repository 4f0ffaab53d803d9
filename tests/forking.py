"""The one server that tests fork processes from, with everything imported that any of them needs.

There is one server a test session, and the list that was set last is the one that it preloads.
"""

import multiprocessing

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        *("tlx.train.train", "timm", "sklearn.datasets", "pytorch_lightning", "tlx.frozen.store"),
        *("tlx.backbones.transformers.text", "transformers.models.bert.modeling_bert"),
        *("tlx.sweeps.search", "optuna.storages._rdb.storage"),
        "sqlalchemy.dialects.postgresql.psycopg",
    ]
)
