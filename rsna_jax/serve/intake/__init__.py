"""From the bytes of an upload to pixels, or to the reason why not."""
