"""Eight devices on the CPU for every test, set before anything uses JAX."""

import jax

# A setting of this process alone: what a test starts finds its own devices.
jax.config.update('jax_platforms', 'cpu')
jax.config.update('jax_num_cpu_devices', 8)
