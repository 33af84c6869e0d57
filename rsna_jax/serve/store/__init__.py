"""The database, the pictures, the people and the models of a store."""
