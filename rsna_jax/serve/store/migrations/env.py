"""Runs Alembic's steps on the connection that `Database.migrate` hands over.

Everything is one transaction: a step that fails leaves the tables as they were.
"""

from alembic import context

from rsna_jax.serve.store import tables


def _run() -> None:
  context.configure(
    connection=context.config.attributes['connection'],
    target_metadata=tables.Base.metadata,
    render_as_batch=True,
    transactional_ddl=True,
    compare_server_default=True,
  )
  # The transaction is the caller's.
  context.run_migrations()


_run()
