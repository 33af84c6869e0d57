"""The pages for people: their routes, templates, texts and scripts."""
