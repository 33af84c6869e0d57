"""Eight devices on the CPU for every test, set before anything uses JAX."""

import tempfile

import jax

# A setting of this process alone: what a test starts finds its own devices.
jax.config.update('jax_platforms', 'cpu')
jax.config.update('jax_num_cpu_devices', 8)

# Many tests compile the same program.
_CACHE = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
jax.config.update('jax_compilation_cache_dir', _CACHE.name)
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)
