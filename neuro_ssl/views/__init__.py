"""Views: random versions of a volume, made in batches on whatever device the batch is on.

Every family of views (`family.Views`) is a module `forward(volume_B1zyx, keys_B2) -> view_B1zyx`; `keys` (see
`random.view_keys`) say which random numbers each sample gets, so that a view depends on (seed, epoch, draw, view) and
on nothing else.
"""
