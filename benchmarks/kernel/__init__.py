"""From run pressed to the first cell done, forked and not."""
