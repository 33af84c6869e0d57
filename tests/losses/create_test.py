"""What a config's loss adds up, and what it is divided by."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.utils import class_weight

from rsna_jax import auxiliary, config, errors, losses, schema
from rsna_jax.data.augment import mix
from rsna_jax.losses import pointwise, surrogates
from rsna_jax.options import loss as loss_options

N = 12


def make_config(**fields):
  c = config.default()
  for name, value in fields.items():
    c.update_from_flattened_dict({name.replace('__', '.'): value})
  config.validate(c)
  return c


def make_batch(target='cancer', names=(), seed=0):
  rng = np.random.default_rng(seed)
  counts = {target: schema.TARGETS[target]}
  counts |= {name: auxiliary.TARGETS[name] for name in names}
  outputs, batch = {}, {'weight': rng.uniform(size=N).astype(np.float32)}
  for name, count in counts.items():
    outputs[name] = rng.normal(size=(N, count)).astype(np.float32)
    labels = rng.integers(0, max(count, 2), N).astype(np.int32)
    if name == 'age':
      labels = rng.normal(size=N).astype(np.float32)
    batch[f'label_{name}'] = labels
    if name != target:
      batch[f'weight_{name}'] = (rng.uniform(size=N) < 0.6).astype(np.float32)
  return outputs, batch


@pytest.mark.parametrize('target', schema.TARGETS)
def test_one_target_is_the_weighted_mean_of_its_examples(target):
  c = make_config(
    data__target=target, loss__label_smoothing=0.1, loss__positive_weight=3.0
  )
  outputs, batch = make_batch(target)
  found = losses.create(c)(outputs, batch)
  assert list(found) == [target, 'total']
  assert found['total'].shape == () and found['total'].dtype == jnp.float32
  each = pointwise.cross_entropy(
    outputs[target],
    batch[f'label_{target}'],
    label_smoothing=0.1,
    positive_weight=3.0,
  )
  expected = np.average(each, weights=batch['weight'])
  np.testing.assert_allclose(list(found.values()), expected, rtol=1e-5)
  plain = losses.mean_loss(c, outputs[target], batch[f'label_{target}'])
  np.testing.assert_allclose(plain, np.mean(each), rtol=1e-5)


def test_fields_reach_the_loss_of_their_name():
  outputs, batch = make_batch()
  for fields in (
    {'loss__name': 'focal', 'loss__focal_gamma': 1.0},
    {'loss__name': 'focal', 'loss__focal_alpha': 0.0},
    {'loss__label_smoothing': 0.2, 'loss__smoothing': 'positives'},
    {'loss__class_weights': (1.0, 4.0)},
  ):
    found = losses.create(make_config(**fields))(outputs, batch)['total']
    of = {k.partition('__')[2]: v for k, v in fields.items()}
    function = losses.LOSSES[of.pop('name', 'cross_entropy')]
    each = function(outputs['cancer'], batch['label_cancer'], **of)
    expected = np.average(each, weights=batch['weight'])
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize('target', ['cancer', 'density_cancer'])
@pytest.mark.parametrize('name', losses.SURROGATES)
def test_a_surrogate_takes_its_share(name, target):
  outputs, batch = make_batch(target)
  found = losses.create(
    make_config(
      data__target=target, loss__surrogate=name, loss__surrogate_weight=0.3
    )
  )(outputs, batch)
  plain = losses.create(make_config(data__target=target))(outputs, batch)
  assert found[target] == plain[target]
  function = {
    'pf1': surrogates.soft_f1,
    'auc': surrogates.pairwise_logistic,
    'average_precision': surrogates.smooth_average_precision,
  }[name]
  expected = function(
    surrogates.cancer_logit(outputs[target]),
    batch[f'label_{target}'] % 2,
    batch['weight'],
    None,
  )
  np.testing.assert_allclose(found['surrogate'], expected, rtol=1e-6)
  np.testing.assert_allclose(
    found['total'], 0.7 * found[target] + 0.3 * expected, rtol=1e-6
  )
  alone = losses.create(
    make_config(
      data__target=target, loss__surrogate=name, loss__surrogate_weight=1.0
    )
  )(outputs, batch)
  np.testing.assert_allclose(alone['total'], expected, rtol=1e-6)


def test_auxiliary_targets_are_added_by_their_coefficients():
  names = tuple(auxiliary.TARGETS)
  coefficients = dict(zip(names, np.linspace(0.1, 2, len(names)), strict=True))
  c = make_config(
    **{f'loss__auxiliary__{k}': float(v) for k, v in coefficients.items()},
    loss__positive_weight=5.0,  # of the main target alone
  )
  assert loss_options.targets(c) == names
  outputs, batch = make_batch(names=names)
  found = losses.create(c)(outputs, batch)
  total = float(found['cancer'])
  for name in names:
    labels = batch[f'label_{name}']
    if name == 'age':
      error = np.abs(outputs[name][:, 0] - labels)
      each = np.where(error < 1, error**2 / 2, error - 0.5)
    else:
      each = pointwise.cross_entropy(outputs[name], labels)
    # A missing label has weight 0: the mean is of those that are known.
    known = batch[f'weight_{name}'] == 1
    assert 0 < known.sum() < N
    expected = np.asarray(each)[known].mean()
    np.testing.assert_allclose(found[name], expected, rtol=1e-5)
    total += coefficients[name] * expected
  np.testing.assert_allclose(found['total'], total, rtol=1e-5)


def test_without_any_label_a_target_teaches_nothing():
  c = make_config(loss__auxiliary__birads=1.0)
  outputs, batch = make_batch(names=('birads',))
  batch['weight_birads'] = np.zeros(N, np.float32)
  loss = losses.create(c)
  found = loss(outputs, batch)
  assert found['birads'] == 0 and found['total'] == found['cancer']
  slope = jax.grad(lambda x: loss(x, batch)['total'])
  slopes = jax.jit(slope)(outputs)
  assert (slopes['birads'] == 0).all() and (slopes['cancer'] != 0).any()


def test_parts_of_a_batch_add_up_to_the_whole():
  c = make_config(loss__auxiliary__birads=0.5, loss__auxiliary__age=2.0)
  outputs, batch = make_batch(names=('birads', 'age'))
  loss = losses.create(c)
  expected = loss(outputs, batch)
  parts = [
    loss(
      {k: v[part] for k, v in outputs.items()},
      {k: v[part] for k, v in batch.items()},
      whole=batch,
    )
    for part in (slice(0, 6), slice(6, N))
  ]
  for name in expected:
    np.testing.assert_allclose(
      parts[0][name] + parts[1][name], expected[name], rtol=1e-5
    )


def test_a_surrogate_of_parts_is_the_mean_of_those_of_the_parts():
  c = make_config(loss__surrogate='pf1', loss__surrogate_weight=1.0)
  outputs, batch = make_batch()
  loss = losses.create(c)
  found = expected = 0
  for part in (slice(0, 6), slice(6, N)):
    some = {k: v[part] for k, v in outputs.items()}
    rows = {k: v[part] for k, v in batch.items()}
    found += loss(some, rows, whole=batch)['total']
    share = rows['weight'].sum() / batch['weight'].sum()
    expected += share * loss(some, rows)['total']
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_what_a_network_sows_is_named_by_its_path():
  first, second = jnp.ones((2, 1)), jnp.zeros((2, 1))
  updates = {
    'batch_stats': {'norm': {'mean': first}},
    'supervision': {'branch': {'local': (first, second)}, 'all': (second,)},
    'penalty': {'branch': {'size': (jnp.ones(2),)}},
  }
  found = losses.sown(updates)
  assert sorted(found) == [
    'penalty/branch/size',
    'supervision/all',
    'supervision/branch/local',
    'supervision/branch/local_1',
  ]
  assert found['supervision/branch/local'] is first
  assert found['supervision/branch/local_1'] is second
  assert losses.sown({'batch_stats': {}}) == {}


def test_supervision_and_penalties_are_added_by_their_factors():
  c = make_config(
    loss__supervision=0.5,
    loss__penalty=0.1,
    loss__auxiliary__birads=2.0,
    loss__positive_weight=3.0,
  )
  outputs, batch = make_batch(names=('birads',))
  more, _ = make_batch(names=('birads',), seed=1)
  penalty = np.linspace(0, 1, N).astype(np.float32)
  loss = losses.create(c)
  found = loss(
    outputs
    | {
      'supervision/net/global': more['cancer'],
      'supervision/birads:local': more['birads'],
      'penalty/net/size': penalty,
    },
    batch,
  )
  plain, other = loss(outputs, batch), loss(more, batch)
  added = {
    'supervision/net/global': 0.5 * other['cancer'],
    'supervision/birads:local': 2.0 * 0.5 * other['birads'],
    'penalty/net/size': 0.1 * np.average(penalty, weights=batch['weight']),
  }
  np.testing.assert_allclose(
    found['total'], plain['total'] + sum(added.values()), rtol=1e-5
  )
  assert set(found) == {*plain, *added}


def test_mixed_rows_are_the_loss_of_the_mixed_label():
  """Cross-entropy is linear in the label, so both ways give one loss."""
  outputs, batch = make_batch()
  logits, labels = outputs['cancer'], batch['label_cancer']
  partner = labels[np.arange(N) ^ 1]
  lam = np.linspace(0.5, 1, N).astype(np.float32)
  batch = {
    'label_cancer': labels,
    'weight': np.ones(N, np.float32),
    'mix': lam,
    'partner_label_cancer': partner,
    'partner_weight': np.ones(N, np.float32),
  }
  found = losses.create(config.default())(*mix.unmix(outputs, batch))['total']
  p = 1 / (1 + np.exp(-logits[:, 0].astype(np.float64)))
  mixed = lam * labels + (1 - lam) * partner
  assert ((mixed > 0) & (mixed < 1)).any()
  expected = -(mixed * np.log(p) + (1 - mixed) * np.log(1 - p)).mean()
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_balanced_weights_are_scikit_learns():
  labels = np.array([0, 0, 0, 1, 2, 2, 5, 5, 5, 5])
  expected = class_weight.compute_class_weight(
    'balanced', classes=np.array([0, 1, 2, 5]), y=labels
  )
  found = losses.balanced(np.append(labels, -1), 8)
  assert len(found) == 8 and np.count_nonzero(found) == 4
  np.testing.assert_allclose(np.array(found)[[0, 1, 2, 5]], expected)
  assert losses.balanced(np.array([-1]), 2) == (0.0, 0.0)


def test_unknown_losses_and_surrogates_are_refused():
  c = config.default()
  c.loss.name = 'hinge'
  with pytest.raises(errors.ConfigError, match=r"loss.name='hinge': choose"):
    losses.create(c)
  c = config.default()
  c.loss.surrogate = 'f1'
  with pytest.raises(errors.ConfigError, match=r"surrogate='f1': choose auc"):
    losses.create(c)


def test_names_are_those_of_the_config():
  assert tuple(losses.LOSSES) == loss_options.LOSSES
  assert tuple(losses.SURROGATES) == loss_options.SURROGATES


@pytest.mark.parametrize(
  ('fields', 'said'),
  [
    ({'loss__smoothing': 'negatives'}, 'loss.smoothing'),
    ({'loss__surrogate': 'f2'}, "or '' for none"),
    ({'loss__surrogate_weight': 1.5}, 'from 0 to 1'),
    ({'loss__temperature': 0.0}, 'loss.temperature=0.0: more than 0'),
    ({'loss__focal_gamma': -1.0}, 'loss.focal_gamma=-1.0: not negative'),
    ({'loss__focal_alpha': 1.0}, 'loss.focal_alpha=1.0: from 0 to below 1'),
    ({'loss__class_weights': (1.0,) * 4}, '2 factors of 0 or more'),
    ({'loss__class_weights': (1.0, -1.0)}, '2 factors of 0 or more'),
    ({'loss__class_weights': (0.0, 0.0)}, '2 factors of 0 or more'),
    (
      {'data__target': 'density_cancer', 'loss__class_weights': (1.0, 2.0)},
      '8 factors of 0 or more',
    ),
    (
      {'data__target': 'density', 'loss__smoothing': 'positives'},
      'density has no positives',
    ),
    (
      {'data__target': 'density', 'loss__surrogate': 'auc'},
      'density has no positives',
    ),
    ({'loss__auxiliary__birads': -0.1}, 'loss.auxiliary.birads=-0.1'),
    ({'loss__auxiliary__age': float('inf')}, 'loss.auxiliary.age=inf'),
    (
      {'data__target': 'density_cancer', 'loss__auxiliary__density': 0.1},
      'predicts density already',
    ),
    (
      {'model__metadata': ('age', 'view'), 'loss__auxiliary__view': 0.1},
      'view is in model.metadata',
    ),
    (
      {'model__metadata': ('age',), 'loss__auxiliary__age': 0.1},
      'age is in model.metadata',
    ),
    (
      {'data__group': 'breast', 'loss__auxiliary__view': 0.1},
      'an example has images of several views',
    ),
  ],
)
def test_values_that_make_no_sense_are_refused(fields, said):
  with pytest.raises(errors.ConfigError) as found:
    make_config(**fields)
  assert said in str(found.value)
