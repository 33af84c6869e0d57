"""The first form of the tables."""

import sqlalchemy as sa
from alembic import op

revision = '0001'
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
  _create_people()
  _create_models()
  _create_submissions()
  _create_audit()


def downgrade() -> None:
  for name in (
    'audit_head',
    'audit',
    'submissions',
    'frozen_images',
    'images',
    'serving',
    'models',
    'dataset_members',
    'datasets',
    'sessions',
    'users',
  ):
    op.drop_table(name)


def _create_people() -> None:
  op.create_table(
    'users',
    sa.Column('id', sa.Integer(), nullable=False),
    sa.Column('name', sa.String(length=64), nullable=False),
    sa.Column('password_hash', sa.String(length=256), nullable=False),
    sa.Column('role', sa.String(length=16), nullable=False),
    sa.Column('disabled', sa.Boolean(), nullable=False),
    sa.Column('created_at', sa.String(length=32), nullable=False),
    sa.CheckConstraint(
      "role IN ('contributor', 'reviewer', 'administrator')", name='role'
    ),
    sa.PrimaryKeyConstraint('id'),
    sa.UniqueConstraint('name'),
  )
  op.create_table(
    'sessions',
    sa.Column('token_sha256', sa.String(length=64), nullable=False),
    sa.Column('user_id', sa.Integer(), nullable=False),
    sa.Column('csrf', sa.String(length=64), nullable=False),
    sa.Column('created_at', sa.String(length=32), nullable=False),
    sa.Column('expires_at', sa.String(length=32), nullable=False),
    sa.ForeignKeyConstraint(['user_id'], ['users.id'], ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('token_sha256'),
  )
  op.create_index('ix_sessions_user_id', 'sessions', ['user_id'])


def _create_models() -> None:
  op.create_table(
    'datasets',
    sa.Column('number', sa.Integer(), nullable=False),
    sa.Column('created_at', sa.String(length=32), nullable=False),
    sa.Column('sha256', sa.String(length=64), nullable=False),
    sa.Column('counts', sa.JSON(), nullable=False),
    sa.PrimaryKeyConstraint('number'),
  )
  op.create_table(
    'dataset_members',
    sa.Column('dataset_number', sa.Integer(), nullable=False),
    sa.Column('submission_id', sa.String(length=32), nullable=False),
    sa.Column('side', sa.String(length=16), nullable=False),
    sa.Column('density', sa.Integer()),
    sa.Column('cancer', sa.Integer()),
    sa.CheckConstraint("side IN ('train', 'validation')", name='side'),
    sa.CheckConstraint('cancer IS NULL OR cancer IN (0, 1)', name='cancer'),
    sa.CheckConstraint(
      'density IS NOT NULL OR cancer IS NOT NULL', name='label'
    ),
    sa.CheckConstraint(
      'density IS NULL OR density IN (1, 2, 3, 4)', name='density'
    ),
    sa.ForeignKeyConstraint(
      ['dataset_number'], ['datasets.number'], ondelete='CASCADE'
    ),
    sa.PrimaryKeyConstraint('dataset_number', 'submission_id'),
  )
  op.create_table(
    'models',
    sa.Column('number', sa.Integer(), nullable=False),
    sa.Column('folder', sa.String(length=255), nullable=False),
    sa.Column('weights_sha256', sa.String(length=64), nullable=False),
    sa.Column('parent', sa.Integer()),
    sa.Column('dataset_number', sa.Integer()),
    sa.Column('status', sa.String(length=16), nullable=False),
    sa.Column('scores', sa.JSON(), nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('created_at', sa.String(length=32), nullable=False),
    sa.Column('promoted_by', sa.String(length=64)),
    sa.Column('promoted_at', sa.String(length=32)),
    sa.CheckConstraint(
      "status IN ('candidate', 'promoted', 'refused')", name='status'
    ),
    sa.ForeignKeyConstraint(['dataset_number'], ['datasets.number']),
    sa.ForeignKeyConstraint(['parent'], ['models.number']),
    sa.PrimaryKeyConstraint('number'),
  )
  op.create_table(
    'serving',
    sa.Column('id', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('model_number', sa.Integer(), nullable=False),
    sa.Column('since', sa.String(length=32), nullable=False),
    sa.CheckConstraint('id = 1', name='one'),
    sa.ForeignKeyConstraint(['model_number'], ['models.number']),
    sa.PrimaryKeyConstraint('id'),
  )


def _create_submissions() -> None:
  op.create_table(
    'images',
    sa.Column('sha256', sa.String(length=64), nullable=False),
    sa.Column('pixel_sha256', sa.String(length=64), nullable=False),
    sa.Column('phash', sa.String(length=128), nullable=False),
    sa.Column('rows', sa.Integer(), nullable=False),
    sa.Column('columns', sa.Integer(), nullable=False),
    sa.Column('bytes', sa.Integer(), nullable=False),
    sa.Column('created_at', sa.String(length=32), nullable=False),
    sa.CheckConstraint('length(sha256) = 64', name='sha256'),
    sa.CheckConstraint('rows > 0 AND columns > 0 AND bytes > 0', name='size'),
    sa.PrimaryKeyConstraint('sha256'),
  )
  op.create_index('ix_images_pixel_sha256', 'images', ['pixel_sha256'])
  op.create_table(
    'frozen_images',
    sa.Column('number', sa.Integer(), nullable=False),
    sa.Column('source', sa.String(length=128), nullable=False),
    sa.Column('pixel_sha256', sa.String(length=64), nullable=False),
    sa.Column('phash', sa.String(length=128), nullable=False),
    sa.PrimaryKeyConstraint('number'),
  )
  op.create_index('ix_frozen_images_source', 'frozen_images', ['source'])
  op.create_table(
    'submissions',
    sa.Column('id', sa.String(length=32), nullable=False),
    sa.Column('image_sha256', sa.String(length=64), nullable=False),
    sa.Column('user_id', sa.Integer(), nullable=False),
    sa.Column('patient', sa.String(length=64), nullable=False),
    sa.Column('laterality', sa.String(length=1), nullable=False),
    sa.Column('view', sa.String(length=8), nullable=False),
    sa.Column('age', sa.Double()),
    sa.Column('implant', sa.Integer()),
    sa.Column('density', sa.Integer()),
    sa.Column('cancer', sa.Integer()),
    sa.Column('evidence', sa.String(length=8), nullable=False),
    sa.Column('confidence', sa.Integer(), nullable=False),
    sa.Column('text_checked', sa.Boolean(), nullable=False),
    sa.Column('note', sa.Text(), nullable=False),
    sa.Column('model_number', sa.Integer()),
    sa.Column('model_cancer', sa.Double()),
    sa.Column('model_density', sa.Integer()),
    sa.Column('disagreement', sa.Double(), nullable=False),
    sa.Column('status', sa.String(length=16), nullable=False),
    sa.Column('near_id', sa.String(length=32)),
    sa.Column('final_density', sa.Integer()),
    sa.Column('final_cancer', sa.Integer()),
    sa.Column('reviewer_id', sa.Integer()),
    sa.Column('reviewed_at', sa.String(length=32)),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('created_at', sa.String(length=32), nullable=False),
    sa.Column('side', sa.String(length=16)),
    sa.CheckConstraint("evidence IN ('biopsy', 'opinion')", name='evidence'),
    sa.CheckConstraint("laterality IN ('', 'L', 'R')", name='laterality'),
    sa.CheckConstraint(
      "side IS NULL OR side IN ('train', 'validation')", name='side'
    ),
    sa.CheckConstraint(
      "status <> 'accepted' OR (text_checked AND side IS NOT NULL"
      ' AND reviewer_id IS NOT NULL AND reviewed_at IS NOT NULL'
      ' AND (final_density IS NOT NULL OR final_cancer IS NOT NULL))',
      name='accepted',
    ),
    sa.CheckConstraint(
      "status IN ('pending', 'accepted', 'rejected', 'quarantined')",
      name='status',
    ),
    sa.CheckConstraint(
      "view IN ('', 'CC', 'MLO', 'AT', 'LM', 'ML', 'LMO')", name='view'
    ),
    sa.CheckConstraint('age IS NULL OR (age >= 0 AND age <= 120)', name='age'),
    sa.CheckConstraint('cancer IS NULL OR cancer IN (0, 1)', name='cancer'),
    sa.CheckConstraint('confidence IN (1, 2, 3, 4, 5)', name='confidence'),
    sa.CheckConstraint(
      'density IS NOT NULL OR cancer IS NOT NULL', name='label'
    ),
    sa.CheckConstraint(
      'density IS NULL OR density IN (1, 2, 3, 4)', name='density'
    ),
    sa.CheckConstraint(
      'disagreement >= 0 AND disagreement <= 1', name='disagreement'
    ),
    sa.CheckConstraint(
      'final_cancer IS NULL OR final_cancer IN (0, 1)', name='final_cancer'
    ),
    sa.CheckConstraint(
      'final_density IS NULL OR final_density IN (1, 2, 3, 4)',
      name='final_density',
    ),
    sa.CheckConstraint('implant IS NULL OR implant IN (0, 1)', name='implant'),
    sa.CheckConstraint('length(note) <= 500', name='note'),
    sa.CheckConstraint('length(patient) <= 64', name='patient'),
    sa.CheckConstraint(
      'model_cancer IS NULL OR (model_cancer >= 0 AND model_cancer <= 1)',
      name='model_cancer',
    ),
    sa.CheckConstraint(
      'model_density IS NULL OR model_density IN (1, 2, 3, 4)',
      name='model_density',
    ),
    sa.ForeignKeyConstraint(['image_sha256'], ['images.sha256']),
    sa.ForeignKeyConstraint(['model_number'], ['models.number']),
    sa.ForeignKeyConstraint(
      ['near_id'], ['submissions.id'], ondelete='SET NULL'
    ),
    sa.ForeignKeyConstraint(['reviewer_id'], ['users.id']),
    sa.ForeignKeyConstraint(['user_id'], ['users.id']),
    sa.PrimaryKeyConstraint('id'),
  )
  op.create_index('ix_submissions_created_at', 'submissions', ['created_at'])
  op.create_index(
    'ix_submissions_image_sha256', 'submissions', ['image_sha256']
  )
  op.create_index('ix_submissions_near_id', 'submissions', ['near_id'])
  op.create_index(
    'ix_submissions_status_disagreement',
    'submissions',
    ['status', 'disagreement'],
  )
  op.create_index('ix_submissions_user_id', 'submissions', ['user_id'])
  op.create_index(
    'uq_submissions_image',
    'submissions',
    ['image_sha256'],
    unique=True,
    sqlite_where=sa.text("status <> 'rejected'"),
    postgresql_where=sa.text("status <> 'rejected'"),
  )


def _create_audit() -> None:
  op.create_table(
    'audit',
    sa.Column('number', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('at', sa.String(length=32), nullable=False),
    sa.Column('actor', sa.String(length=80), nullable=False),
    sa.Column('action', sa.String(length=64), nullable=False),
    sa.Column('object', sa.String(length=128), nullable=False),
    sa.Column('details', sa.Text(), nullable=False),
    sa.Column('previous', sa.String(length=64), nullable=False),
    sa.Column('sha256', sa.String(length=64), nullable=False),
    sa.PrimaryKeyConstraint('number'),
  )
  op.create_table(
    'audit_head',
    sa.Column('id', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('count', sa.Integer(), nullable=False),
    sa.Column('sha256', sa.String(length=64), nullable=False),
    sa.CheckConstraint('id = 1', name='one'),
    sa.PrimaryKeyConstraint('id'),
  )
