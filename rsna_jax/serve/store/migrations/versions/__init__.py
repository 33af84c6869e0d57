"""One file a step; `down_revision` is the step before."""
