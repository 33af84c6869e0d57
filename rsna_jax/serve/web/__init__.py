"""The application: requests, their limits, and the JSON interface."""
