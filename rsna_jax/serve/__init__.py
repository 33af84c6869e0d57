"""The web page, its JSON interface, the store of submissions and retraining."""
